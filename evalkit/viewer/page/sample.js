/* One sample: its pictures with what was drawn on them, what was asked, what each run answered and why it scored so. */
"use strict";

(function () {
  const { html, useState, useEffect, useRef, visible, isNumber, scaled, short, count } = evalkit;
  const { Text, Picture, Layers, RunName, Key, Verdict } = evalkit;

  const ZOOMS = [1, 1.5, 2, 3, 4, 6, 8];

  evalkit.Sample = function ({ task, table, query, selected, summary }) {
    const index = evalkit.placeOf(table, query.sample);
    const { samples } = selected;
    const at = index < 0 ? -1 : samples.indexOf(index);
    const { value: record, error } = evalkit.useRecord(task, index < 0 ? null : index);
    const [zoom, setZoom] = useState(0);
    const list = evalkit.address.samples(task, "", { ...query, sample: undefined });
    const to = (k) => evalkit.address.samples(task, "", { ...query, sample: evalkit.ids(table)[samples[k]] });
    const step = (by) => () => {
      // By the address, not by what is drawn: keys may come faster than pages.
      const here = samples.indexOf(evalkit.placeOf(table, evalkit.address.read(location.hash).query.sample));
      const next = here < 0 ? 0 : here + by;
      if (next >= 0 && next < samples.length) evalkit.address.go(to(next), true);
    };
    const back = () => evalkit.address.go(list);
    const mark = () => evalkit.marks.change(summary.name, query.sample, { marked: !evalkit.marks.get(summary.name, query.sample).marked });
    const closer = (by) => () => setZoom((z) => Math.max(0, Math.min(ZOOMS.length - 1, z + by)));
    const layer = (what) => () => evalkit.toggleLayer(what);
    const keys = {
      j: step(1), ArrowRight: unlessScrolled(step(1)), k: step(-1), ArrowLeft: unlessScrolled(step(-1)), Escape: back, u: back,
      t: layer("target"), b: layer("boxes"), m: layer("masks"), l: layer("labels"), "+": closer(1), "=": closer(1), "-": closer(-1),
      0: () => setZoom(0), x: mark,
      n: () => document.getElementById("note") && document.getElementById("note").focus(),
    }; // prettier-ignore
    for (let r = 0; r < Math.min(9, evalkit.runs.length); r++) keys[String(r + 1)] = layer(r);
    evalkit.useKeys(keys);
    useEffect(() => {
      if (at >= 0) evalkit.leaveAt(evalkit.listKey(task, query), at);
      for (const k of [at + 1, at - 1]) if (at >= 0 && k >= 0 && k < samples.length) evalkit.prefetch(task, samples[k]);
    }, [task, at]);

    const bar = html`<nav class="row spread pager" aria-label="From sample to sample">
      <a class="button quiet" href=${list}>← List</a>
      <span class="row"><a class="button" rel="prev" aria-disabled=${String(at <= 0)} href=${at > 0 ? to(at - 1) : undefined}>Previous <kbd>k</kbd></a>
      <span class="soft" role="status">${at < 0 ? "not in this selection" : `${count(at + 1)} of ${count(samples.length)}`}</span>
      <a class="button" rel="next" aria-disabled=${String(at + 1 >= samples.length)} href=${at + 1 < samples.length ? to(at + 1) : undefined}>Next <kbd>j</kbd></a></span>
      <${CopyLink} /></nav>`;
    if (index < 0) {
      return html`<h1 tabindex="-1">No such sample</h1><p>This report has no sample <bdi>${visible(query.sample, 80)}</bdi> in ${visible(summary.name)}.</p><p><a href=${list}>To the list</a></p>`;
    }
    return html`${bar}
      <h1 tabindex="-1" class="sample-title"><a href="#/task/${task}" class="soft">${visible(summary.name)}</a> <bdi>${visible(query.sample, 120)}</bdi></h1>
      ${error && html`<${evalkit.Failed} error=${error} />`}
      ${!record && !error && html`<p class="waiting" role="status">Loading …</p>`}
      ${record && html`<div class="sample ${evalkit.worthDrawing(record) && record.images.length ? "" : "alone"}">
        <div class="pictures">
          <${Pictures} record=${record} zoom=${ZOOMS[zoom]} closer=${closer} fit=${() => setZoom(0)} />
        </div>
        <div class="facts-side">
          <${Asked} record=${record} />
          <${Target} target=${record.target} />
          ${record.runs.map((answer, run) => html`<${Answer} key=${run} answer=${answer} run=${run} table=${table} index=${index} summary=${summary} />`)}
          <${Note} key=${query.sample} task=${summary.name} id=${query.sample} />
        </div></div>`}`;
  };

  /** In a picture that is larger than its frame, the arrows move the picture. */
  const unlessScrolled = (action) => (event) => (event.target.closest && event.target.closest(".zoomed") ? false : action());

  function Pictures({ record, zoom, closer, fit }) {
    if (!record.images.length) return html`<p class="soft">This sample has no picture.</p>`;
    if (!evalkit.worthDrawing(record)) return html`<p class="soft">Pictures were left out of this report.</p>`;
    return html`<div class="row spread tools"><${Layers} record=${record} />
        <div class="row zoom" role="group" aria-label="Zoom"><button aria-label="Smaller" onClick=${closer(-1)}>−</button>
          <button onClick=${fit} title="fit (0)">${zoom === 1 ? "Fit" : `${zoom} ×`}</button><button aria-label="Larger" onClick=${closer(1)}>+</button></div></div>
      <div class="frames ${record.images.length > 1 ? "several" : ""}">
      ${record.images.map((image, k) => html`<figure key=${image.name || k}><${Picture} record=${record} index=${k} zoom=${zoom} />
        <figcaption class="soft"><bdi>${visible(image.name, 120)}</bdi> ${image.width} × ${image.height}${image.drawn && `; as the model was shown it: ${visible(image.drawn)}`}</figcaption></figure>`)}</div>`;
  }

  function Asked({ record }) {
    return html`<section aria-label="What was asked">
      ${record.group && html`<p><span class="group">${visible(record.group, 80)}</span></p>`}
      ${record.question && html`<p class="asked"><${Text} text=${record.question} /></p>`}
      ${record.prompt && html`<details open=${!record.question}><summary>Prompt</summary><pre class="prompt"><${Text} text=${record.prompt} /></pre></details>`}</section>`;
  }

  function Target({ target }) {
    const boxes = target.boxes || [];
    const masks = target.masks || [];
    return html`<section class="who target" aria-labelledby="target-head"><h2 id="target-head"><${Key} run="target" /> Target</h2>
      ${(target.texts || []).length > 0 && html`<ul class="texts">${evalkit.tally(target.texts).map(([text, n]) => html`<li><${Text} text=${text} />${n > 1 && html` <span class="soft">× ${n}</span>`}</li>`)}</ul>`}
      ${!(target.texts || []).length && !boxes.length && !masks.length && html`<p class="none">${evalkit.report.redacted ? "(left out)" : "(none)"}</p>`}
      <${Shapes} boxes=${boxes} masks=${masks} />
      <${evalkit.Pairs} pairs=${target.other} /></section>`;
  }

  /** Boxes and masks in words: for who can't see them, and to copy. */
  function Shapes({ boxes, masks }) {
    if (!boxes.length && !masks.length) return null;
    const names = evalkit.namedShapes({ boxes, masks });
    const words = evalkit.countedShapes({ boxes, masks });
    const round = (v) => Math.round(v);
    return html`<details class="shapes-list"><summary>${words}${names ? html`: <bdi>${visible(names, 200)}</bdi>` : ""}</summary><ul>
      ${boxes.slice(0, 100).map((b) => html`<li><bdi>${visible(b[4], 60) || "box"}</bdi>${isNumber(b[5]) ? ` ${b[5].toFixed(2)}` : ""}: x ${round(b[0])} to ${round(b[2])}, y ${round(b[1])} to ${round(b[3])}</li>`)}
      ${boxes.length > 100 && html`<li>and ${count(boxes.length - 100)} more</li>`}
      ${masks.slice(0, 100).map((m) => html`<li>mask <bdi>${visible(m.label, 60)}</bdi></li>`)}</ul></details>`;
  }

  function Answer({ answer, run, table, index, summary }) {
    const head = `run-${run}-head`;
    if (!answer) return html`<section class="who ${evalkit.colourOf(run)}"><h2><${RunName} run=${run} /></h2><p class="none">This run has no answer to it.</p></section>`;
    const scores = (answer.scores || []).map(([metric, value]) => [metric, metric === summary.metric ? scaled(value, summary) : short(value)]);
    const odd = answer.stop && !["end", "eos", "stop"].includes(answer.stop);
    return html`<section class="who ${evalkit.colourOf(run)}" aria-labelledby=${head}>
      <h2 id=${head} class="row spread"><${RunName} run=${run} /><${Verdict} table=${table} index=${index} run=${run} words=${true} /></h2>
      <div class="answered"><${Text} text=${answer.answer} none=${evalkit.nothing()} /></div>
      ${answer.invalid && html`<p class="warn">Invalid: <${Text} text=${answer.invalid} limit=${400} /></p>`}
      ${answer.remark && html`<p class="warn"><${Text} text=${answer.remark} limit=${400} /></p>`}
      ${odd && html`<p class="warn">${answer.stop === "length" ? "Cut off: it reached the most new tokens that are allowed" : `Stopped by: ${visible(answer.stop)}`}</p>`}
      ${answer.parsed && answer.parsed !== answer.answer && html`<p><span class="soft">read as</span> <${Text} text=${answer.parsed} limit=${600} /></p>`}
      <${Fields} fields=${answer.fields} />
      ${(answer.why || []).length > 0 && html`<h3>Why this score</h3><${evalkit.Pairs} pairs=${answer.why} />`}
      ${scores.length > 0 && html`<ul class="facts small">${scores.map(([metric, value]) => html`<li><span class="soft">${visible(metric)}</span> <b>${value}</b></li>`)}
        ${isNumber(answer.margin) && html`<li><span class="soft">smallest margin</span> <b>${short(answer.margin)}</b></li>`}</ul>`}
      <${Shapes} boxes=${answer.boxes || []} masks=${answer.masks || []} /></section>`;
  }

  /** Fields of a structured answer beside the target's. */
  function Fields({ fields }) {
    if (!fields || !fields.length) return null;
    return html`<${evalkit.Scroll}><table class="plain fields" aria-label="Fields of the answer"><thead><tr><th scope="col">Field</th><th scope="col">Target</th><th scope="col">Answer</th><th scope="col"><span class="for-readers">Right</span></th></tr></thead>
      <tbody>${fields.slice(0, 200).map(([path, target, answer, ok]) => html`<tr class=${ok ? "" : "differs"}><th scope="row"><bdi>${visible(path, 80)}</bdi></th>
        <td class="wrap"><${Text} text=${target} limit=${300} /></td><td class="wrap"><${Text} text=${answer} limit=${300} /></td><td>${ok ? "✓" : "✗"}<span class="for-readers">${ok ? "right" : "wrong"}</span></td></tr>`)}</tbody></table></${evalkit.Scroll}>`;
  }

  function Note({ task, id }) {
    const marks = evalkit.marks.useMarks();
    const kept = marks.get(task, id);
    const change = (what) => (event) => marks.change(task, id, { [what]: event.target.value });
    return html`<section class="note" aria-labelledby="note-head"><h2 id="note-head" class="row spread"><span>Your mark</span>
      <button aria-pressed=${String(Boolean(kept.marked))} onClick=${() => marks.change(task, id, { marked: !kept.marked })}>${kept.marked ? "★ Marked" : "☆ Mark"} <kbd>x</kbd></button></h2>
      <label class="field">Note <kbd>n</kbd><textarea id="note" rows="2" value=${kept.note} onInput=${change("note")}></textarea></label>
      <label class="field">Corrected label<textarea rows="1" value=${kept.corrected} onInput=${change("corrected")}></textarea></label>
      <p class="soft">Kept in this browser; <a href="#/marks">take all as files</a></p></section>`;
  }

  function CopyLink() {
    const [state, set] = useState("");
    const field = useRef(null);
    const copy = async () => {
      try {
        await navigator.clipboard.writeText(location.href);
        set("copied");
        setTimeout(() => set(""), 2000);
      } catch {
        set("by hand"); // the browser does not let the page: it is selected for the reader
      }
    };
    useEffect(() => {
      if (state === "by hand" && field.current) field.current.select();
    }, [state]);
    return state === "by hand"
      ? html`<input ref=${field} readonly class="link-field" aria-label="Link to this sample" value=${location.href} onBlur=${() => set("")} />`
      : html`<button class="quiet" onClick=${copy}>${state === "copied" ? "Link copied" : "Copy link"}</button>`;
  }
})();
