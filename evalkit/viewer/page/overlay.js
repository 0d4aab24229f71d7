/* A sample's picture with the target's and each run's boxes and masks drawn over it. What is drawn is one choice for
 * all samples: who (target, runs), and what (boxes, masks, labels).
 */
"use strict";

(function () {
  const { html, useState, useEffect, useRef, useLayoutEffect, visible, isNumber, colourOf } = evalkit;

  const layers = { target: true, hidden: new Set(), boxes: true, masks: true, labels: true };
  const listeners = new Set();

  function toggle(what) {
    if (typeof what === "number") {
      if (!layers.hidden.delete(what)) layers.hidden.add(what);
    } else layers[what] = !layers[what];
    for (const listener of listeners) listener();
  }

  function useLayers() {
    const [, again] = useState(0);
    useEffect(() => {
      const listener = () => again((k) => k + 1);
      listeners.add(listener);
      return () => listeners.delete(listener);
    }, []);
    return layers;
  }

  /** Only pictures of this folder or inside the page: a record names no other address. */
  const safe = (src) => (typeof src === "string" && /^(thumbs\/|data:image\/)/.test(src) && !src.includes("..") ? src : null);

  /** [{who, run, boxes, masks}], the target first, hidden ones left out. */
  function drawn(record, shown) {
    const all = [];
    if (shown.target) all.push({ who: "target", boxes: record.target.boxes || [], masks: record.target.masks || [] });
    record.runs.forEach((answer, run) => {
      if (answer && !shown.hidden.has(run)) {
        all.push({ who: colourOf(run), run, boxes: answer.boxes || [], masks: answer.masks || [] });
      }
    });
    return all;
  }

  const area = ([x0, y0, x1, y1]) => Math.abs((x1 - x0) * (y1 - y0));

  /** Shapes in the picture's own pixels; `unit` is how many of them a pixel of the screen is. */
  function Shapes({ record, shown, unit, labels }) {
    const image = record.images[0];
    const parts = drawn(record, shown);
    return html`<svg class="shapes" viewBox="0 0 ${image.width} ${image.height}" aria-hidden="true">
      ${shown.masks && parts.map(({ who, masks }) => masks.map((m) => html`<g class=${who}>
        <path class="mask" d=${m.path} fill-rule="evenodd" /><path class="casing" d=${m.path} /><path class="stroke" d=${m.path} /></g>`))}
      ${shown.boxes && parts.map(({ who, boxes }) => [...boxes].sort((a, b) => area(b) - area(a)).map((b) => {
        const place = { x: Math.min(b[0], b[2]), y: Math.min(b[1], b[3]), width: Math.abs(b[2] - b[0]), height: Math.abs(b[3] - b[1]) };
        return html`<g class=${who}><rect class="casing" ...${place} /><rect class="stroke" ...${place} /></g>`;
      }))}
      ${shown.labels && labels && tags(parts, image, unit, shown).map(({ who, text, size, ...place }) => html`<g class="tag ${who}">
        <rect ...${place} rx=${size * 0.15} /><text x=${place.x + size * 0.3} y=${place.y + size} style=${{ fontSize: `${size}px` }} textLength=${place.width - size * 0.6} lengthAdjust="spacingAndGlyphs">${text}</text></g>`)}
    </svg>`;
  }

  const MOST_TAGS = 60; // of more, letters alone would be seen

  /** Where labels stand: the target's above their boxes, the runs' below, moved until they don't lie on each other. */
  function tags(parts, image, unit, shown) {
    const size = 12 * unit;
    const height = size * 1.3;
    const placed = [];
    for (const part of parts) {
      const boxes = shown.boxes ? part.boxes : [];
      const masks = shown.masks && !boxes.length ? part.masks.map((m) => [...start(m.path), m.label, null]) : [];
      for (const [x0, y0, x1, y1, label, score] of [...boxes, ...masks].filter((b) => b[4])) {
        const text = visible(label, 28) + (isNumber(score) ? ` ${score.toFixed(2)}` : "");
        const width = size * (0.6 * text.length + 0.6);
        const down = part.run === undefined ? -1 : 1;
        const x = Math.max(0, Math.min(part.run === undefined ? x0 : x1 - width, image.width - width));
        const inside = (y) => Math.max(0, Math.min(y, image.height - height));
        let y = inside(part.run === undefined ? y0 - height : y1);
        const free = () => !placed.some((p) => x < p.x + p.width && p.x < x + width && y < p.y + height && p.y < y + height);
        for (let tries = 0; tries < 5 && !free(); tries++) y = inside(y + down * height);
        placed.push({ who: part.who, text, size, x, y, width, height });
      }
    }
    return placed.length > MOST_TAGS ? [] : placed;
  }

  /** The first point of a path, as a box without extent. */
  function start(path) {
    const found = /(-?[\d.]+)[ ,]+(-?[\d.]+)/.exec(path || "");
    const [x, y] = found ? [Number(found[1]), Number(found[2])] : [0, 0];
    return [x, y, x, y];
  }

  function Missing({ image }) {
    return html`<div class="no-picture" role="img" aria-label="picture ${visible(image.name)}, not in this report">
      <span>${evalkit.report.images === false ? "pictures were left out of this report" : visible(image.missing, 200) || "no picture"}</span></div>`;
  }

  /** Whether there is anything to see: in a report without pictures, only shapes. */
  const worthDrawing = (record) =>
    evalkit.report.images !== false || [record.target, ...record.runs].some((p) => p && ((p.boxes || []).length || (p.masks || []).length)); // prettier-ignore

  /** A small picture with its shapes, in a place of fixed size. */
  function Thumb({ record }) {
    const shown = useLayers();
    const image = record.images[0];
    if (!image || !worthDrawing(record)) return null;
    const src = safe(image.src);
    return html`<span class="thumb">
      ${src ? html`<img src=${src} alt="" loading="lazy" decoding="async" />` : html`<span class="no-picture small"></span>`}
      <${Shapes} record=${record} shown=${shown} unit=${Math.max(image.width / 120, image.height / 90)} labels=${false} />
      ${record.images.length > 1 && html`<span class="count">${record.images.length}</span>`}
    </span>`;
  }

  /** A picture as large as there is place, times `zoom`; dragged when it is larger. */
  function Picture({ record, index, zoom }) {
    const shown = useLayers();
    const frame = useRef(null);
    const [place, setPlace] = useState(0);
    const image = record.images[index];
    useLayoutEffect(() => {
      const watch = new ResizeObserver(() => setPlace(frame.current ? frame.current.clientWidth : 0));
      watch.observe(frame.current);
      setPlace(frame.current.clientWidth);
      return () => watch.disconnect();
    }, []);
    const middle = useRef([0.5, 0.5]); // what is in the middle stays there when the picture is zoomed
    useLayoutEffect(() => {
      const box = frame.current;
      box.scrollLeft = middle.current[0] * box.scrollWidth - box.clientWidth / 2;
      box.scrollTop = middle.current[1] * box.scrollHeight - box.clientHeight / 2;
    }, [zoom]);
    const scrolled = ({ currentTarget: box }) => {
      middle.current = [(box.scrollLeft + box.clientWidth / 2) / box.scrollWidth, (box.scrollTop + box.clientHeight / 2) / box.scrollHeight];
    };
    const ratio = image.width / image.height || 1;
    const fitted = Math.min(place, ratio * Math.max(240, innerHeight * 0.72));
    const width = fitted * zoom;
    const src = safe(image.src);
    return html`<div class="frame ${zoom > 1 ? "zoomed" : ""}" ref=${frame} onScroll=${scrolled} tabindex="0" role="group"
        aria-label="Picture ${index + 1} of ${record.images.length}" onPointerDown=${zoom > 1 ? drag : undefined}>
      <div class="stage" style=${{ width: `${width}px`, height: `${width / ratio}px` }}>
        ${src
          ? html`<img src=${src} alt=${`picture ${visible(image.name) || index + 1}`} draggable=${false} />`
          : html`<${Missing} image=${image} />`}
        ${index === 0 && width > 0 && html`<${Shapes} record=${record} shown=${shown} unit=${image.width / width} labels=${true} />`}
      </div></div>`;
  }

  function drag(event) {
    const frame = event.currentTarget;
    const from = { x: event.clientX + frame.scrollLeft, y: event.clientY + frame.scrollTop };
    frame.setPointerCapture(event.pointerId);
    const move = (e) => {
      frame.scrollLeft = from.x - e.clientX;
      frame.scrollTop = from.y - e.clientY;
    };
    const end = () => {
      frame.removeEventListener("pointermove", move);
      frame.removeEventListener("pointerup", end);
      frame.removeEventListener("pointercancel", end);
    };
    frame.addEventListener("pointermove", move);
    frame.addEventListener("pointerup", end);
    frame.addEventListener("pointercancel", end);
  }

  /** Buttons that show and hide; their keys are written on them. */
  function Layers({ record }) {
    const shown = useLayers();
    const parts = [record.target, ...record.runs.filter(Boolean)];
    const boxes = parts.some((p) => (p.boxes || []).length);
    const masks = parts.some((p) => (p.masks || []).length);
    if (!boxes && !masks) return null;
    const button = (on, what, key, children) => html`<button class="layer" aria-pressed=${String(Boolean(on))}
      aria-keyshortcuts=${key} onClick=${() => toggle(what)}>${children} <kbd>${key}</kbd></button>`;
    return html`<div class="layers" role="group" aria-label="What is drawn">
      ${button(shown.target, "target", "t", html`<${evalkit.Key} run="target" /> target`)}
      ${record.runs.map((answer, run) => answer && button(!shown.hidden.has(run), run, String(run + 1),
        html`<${evalkit.Key} run=${run} /> ${evalkit.nameOf(run)}`))}
      ${boxes && button(shown.boxes, "boxes", "b", "boxes")}
      ${masks && button(shown.masks, "masks", "m", "masks")}
      ${button(shown.labels, "labels", "l", "labels")}
    </div>`;
  }

  Object.assign(evalkit, { Thumb, Picture, Layers, worthDrawing, toggleLayer: toggle });
})();
