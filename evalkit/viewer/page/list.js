/* A list of any length, of which only what is in the window exists; and one sample as a row of it. */
"use strict";

(function () {
  const { html, useState, useEffect, useLayoutEffect, useRef, visible, isNumber, scaled, Line, Thumb, Key } = evalkit;

  const CHUNK = 500;
  const TALLEST = 16e6; // pixels that every browser can scroll
  const BEYOND = 600; // pixels above and below the window that are drawn too
  const PRINTED = 60; // rows on paper

  /** A sample's record: {value} once its chunk is there. */
  evalkit.useRecord = function (task, index) {
    const { value, error } = evalkit.useData(index === null ? null : `samples/${task}/${Math.floor(index / CHUNK)}`);
    return { value: value && value[index % CHUNK], error };
  };

  evalkit.prefetch = function (task, index) {
    evalkit.load(`samples/${task}/${Math.floor(index / CHUNK)}`).catch(() => {});
  };

  function usePrinting() {
    const [printing, set] = useState(false);
    useEffect(() => {
      const [on, off] = [() => set(true), () => set(false)];
      addEventListener("beforeprint", on);
      addEventListener("afterprint", off);
      return () => {
        removeEventListener("beforeprint", on);
        removeEventListener("afterprint", off);
      };
    }, []);
    return printing;
  }

  /**
   * `count` items of `height` pixels, `across` beside each other; `item(k)` draws the k-th. `active` is kept in
   * the window, and has the focus once the reader has moved to it.
   */
  evalkit.VirtualList = function ({ count, height, across, item, active, label }) {
    const box = useRef(null);
    const [span, setSpan] = useState([0, 30]);
    const printing = usePrinting();
    const lines = Math.min(Math.ceil(count / across), Math.floor(TALLEST / height));

    const look = () => {
      if (!box.current) return;
      const top = -box.current.getBoundingClientRect().top;
      const from = Math.max(0, Math.floor((top - BEYOND) / height));
      const to = Math.min(lines, Math.ceil((top + innerHeight + BEYOND) / height));
      setSpan((old) => (old[0] === from && old[1] === to ? old : [from, to]));
    };
    useLayoutEffect(look, [count, height, across]);
    useEffect(() => {
      addEventListener("scroll", look, { passive: true });
      addEventListener("resize", look);
      return () => {
        removeEventListener("scroll", look);
        removeEventListener("resize", look);
      };
    }, [lines, height]);

    const moved = useRef(false); // the focus follows once, and is not taken from elsewhere later
    useLayoutEffect(() => {
      if (active === null || active === undefined || active >= count) return;
      moved.current = true;
      const top = box.current.getBoundingClientRect().top + Math.floor(active / across) * height;
      const head = 130; // what stands above the list
      if (top < head || top + height > innerHeight - 10) scrollBy(0, top - Math.max(head, innerHeight / 3));
      look();
    }, [active]);
    useEffect(() => {
      const found = moved.current && box.current.querySelector('[data-active="yes"] a');
      if (!found) return;
      moved.current = false;
      found.focus({ preventScroll: true });
    }, [active, span[0]]);

    const [from, to] = printing ? [0, Math.min(lines, Math.ceil(PRINTED / across))] : span;
    const drawn = [];
    for (let k = from * across; k < Math.min(to * across, count); k++) {
      const place = { top: `${Math.floor(k / across) * height}px`, height: `${height}px`, left: `${((k % across) * 100) / across}%`, width: `${100 / across}%` };
      drawn.push(html`<li key=${k} style=${place} aria-setsize=${count} aria-posinset=${k + 1} data-active=${k === active ? "yes" : "no"}>${item(k)}</li>`);
    }
    return html`<ol class="virtual ${across > 1 ? "grid" : ""}" ref=${box} role="list" aria-label=${label} style=${{ height: `${lines * height}px` }}>${drawn}</ol>
      ${lines * across < count && html`<p class="warn">The first ${(lines * across).toLocaleString("en")} are listed; narrow the filter to see the others.</p>`}
      <p class="print-only">${Math.min(PRINTED, count)} of ${count.toLocaleString("en")} samples are printed.</p>`;
  };

  /** Right, wrong or nothing that can be said, in a sign and in words. */
  evalkit.Verdict = function ({ table, index, run, words }) {
    const right = table.columns.get(`right:${run}`);
    const score = table.columns.get(`score:${run}`);
    const said = right && !Number.isNaN(right.values[index]) ? right.values[index] : null;
    const number = score && !Number.isNaN(score.values[index]) ? scaled(score.values[index], score) : null;
    const word = said === 1 ? "right" : said === 0 ? "wrong" : null;
    if (word === null && number === null) return null;
    return html`<span class="verdict ${word || ""}">${word && html`<span aria-hidden="true">${word === "right" ? "✓" : "✗"}</span>`}
      ${words && word ? word : word && html`<span class="for-readers">${word}</span>`} ${number !== null && html`<span class="score">${number}</span>`}</span>`;
  };

  evalkit.Row = function ({ task, table, index, runs, href, tall }) {
    const { value: record, error } = evalkit.useRecord(task, index);
    const id = evalkit.ids(table)[index];
    const marks = evalkit.marks.useMarks();
    const kept = marks.get(evalkit.report.tasks[task].name, id);
    if (error) return html`<div class="sample-row"><span class="warn">${error}</span></div>`;
    if (!record) return html`<a class="sample-row loading" href=${href}><span class="thumb"></span><span class="soft">${visible(id, 60)}</span></a>`;
    return html`<a class="sample-row ${tall ? "tile" : ""}" href=${href}>
      <${Thumb} record=${record} />
      <span class="words">
        <span class="head"><bdi class="id">${visible(id, 60)}</bdi>${record.group && html` <span class="group">${visible(record.group, 30)}</span>`}${kept.marked && html` <span class="marked" title="marked">★<span class="for-readers">marked</span></span>`}${kept.note && html` <span title="has a note">✎</span>`}</span>
        <span class="question"><${Line} text=${record.question || record.prompt} none="" /></span>
        <span class="answer"><${Key} run="target" /> <${Line} text=${targetText(record.target)} none=${evalkit.report.redacted ? "(left out)" : "–"} /></span>
        ${runs.map((run) => html`<span class="answer">${html`<${Key} run=${run} />`} ${record.runs[run]
          ? html`<${evalkit.Verdict} table=${table} index=${index} run=${run} /> <${Line} text=${answerText(record.runs[run])} none=${evalkit.nothing()} />`
          : html`<span class="none">not answered</span>`}</span>`)}
      </span></a>`;
  };

  /** What stands where a model said nothing, or what it said was left out. */
  evalkit.nothing = () => (evalkit.report.redacted ? "(left out)" : "(answered nothing)");

  /** Equal texts once, with how often, the most frequent first. */
  function tally(texts) {
    const counts = new Map();
    for (const text of texts) counts.set(String(text), (counts.get(String(text)) || 0) + 1);
    return [...counts].sort((x, y) => y[1] - x[1]);
  }

  /** What boxes and masks are called: "2 × dog, person". */
  function named({ boxes, masks }) {
    const labels = (boxes || []).length ? boxes.map((b) => b[4]) : (masks || []).map((m) => m.label);
    return tally(labels.filter(Boolean)).map(([label, n]) => (n > 1 ? `${n} × ${label}` : label)).join(", ");
  }

  function targetText(target) {
    if (!(target.texts || []).length) return named(target) || drawnOnly(target);
    return tally(target.texts).map(([text, n]) => (n > 1 ? `${text} (${n})` : text)).join(" · ");
  }

  /** Of location tokens a list shows what they name; the sample itself shows all. */
  const answerText = (answer) => named(answer) || answer.answer;

  /** Boxes and masks without names, counted. */
  function drawnOnly({ boxes, masks }) {
    const parts = [(boxes || []).length && evalkit.plural(boxes.length, "box", "boxes"), (masks || []).length && evalkit.plural(masks.length, "mask")];
    return parts.filter(Boolean).join(", ");
  }

  Object.assign(evalkit, { tally, namedShapes: named, countedShapes: drawnOnly });
})();
