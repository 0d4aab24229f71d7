/* What the samples can be narrowed by: quick views, search, and a field for each column that the task has. */
"use strict";

(function () {
  const { html, useState, useEffect, useRef, visible, isNumber, count, scaled, Key, nameOf } = evalkit;

  const FEW = 8; // choices shown before "more"
  const FIRST = ["score", "right", "state", "error", "group", "class", "said", "iou"];
  const APART = new Set(["id", "cluster", "pair", "right"]); // not narrowed by a field of their own

  const base = (name) => name.split(":")[0];
  const rank = (name) => (FIRST.indexOf(base(name)) + FIRST.length + 1) % (FIRST.length + 1);
  const has = (query, column, value) => query.conditions.some((c) => c.column === column && c.value === value && !c.not);

  /** A query with a condition put in or taken out. */
  function toggled(query, column, value) {
    const rest = query.conditions.filter((c) => !(c.column === column && c.value === value && !c.not));
    if (rest.length === query.conditions.length) rest.push({ column, value, not: false });
    return { ...query, conditions: rest };
  }

  /** A query with one condition alone on a column; none where `value` is empty. */
  function only(query, column, value) {
    const rest = query.conditions.filter((c) => c.column !== column);
    if (value) rest.push({ column, value, not: false });
    return { ...query, conditions: rest };
  }

  /** Ready-made views; each replaces the conditions that are there. */
  function quick(table, run, other, lowerIsBetter) {
    const there = (name) => table.columns.has(name);
    const flag = (name, label) => {
      const column = table.columns.get(name);
      const bit = column ? (column.labels || []).indexOf(label) : -1;
      return bit >= 0 && column.values.some((flags) => (flags >>> bit) & 1);
    };
    const any = (name) => there(name) && table.columns.get(name).values.some((v) => !Number.isNaN(v));
    const views = [["All", ""]];
    if (there(`right:${run}`)) views.push(["Wrong", `right:${run}=0`]);
    else if (there(`score:${run}`)) views.push(["Worst first", `sort=score:${run}:${lowerIsBetter ? "desc" : "asc"}`]);
    if (flag(`state:${run}`, "invalid")) views.push(["Invalid", `state:${run}=invalid`]);
    if (flag(`state:${run}`, "cut")) views.push(["Cut", `state:${run}=cut`]);
    if (other !== null && there(`score:${run}`) && there(`score:${other}`)) {
      const [a, b] = [Math.min(run, other), Math.max(run, other)];
      views.push(["Gained", `flip=${a}-${b}:gained`], ["Lost", `flip=${a}-${b}:lost`]);
      views.push(["Largest disagreement", `sort=gap:${a}-${b}:desc`]);
    }
    if (any(`margin:${run}`)) views.push(["Close calls", `margin:${run}=any&sort=margin:${run}:asc`]);
    if (any("suspect")) views.push(["Suspects", "suspect=any&sort=suspect:desc"]);
    views.push(["Marked", "marked=yes"]);
    return views;
  }

  const bare = (query) => evalkit.address.spell({ ...query, sample: undefined, run: undefined, view: undefined });

  function Quick({ task, table, query, run, other, set }) {
    const summary = evalkit.report.tasks[task];
    const current = bare(query);
    return html`<nav class="quick" aria-label="Ready-made views">${quick(table, run, other, summary.lower_is_better).map(([label, spelled]) => {
      const wanted = { ...evalkit.address.parse(spelled), run: query.run, view: query.view };
      return html`<a class="chip" href=${evalkit.address.samples(task, "", wanted)} aria-current=${bare(wanted) === current ? "true" : undefined}>${label}</a>`;
    })}</nav>`;
  }

  /** Check boxes with counts, the most frequent first. */
  function Choices({ table, name, title, query, selected, set }) {
    const [all, showAll] = useState(false);
    const [find, setFind] = useState("");
    const column = table.columns.get(name);
    const counts = evalkit.choices(table, name, selected);
    const chosen = (label) => has(query, name, String(label));
    const order = column.labels
      .map((label, i) => [String(label), counts[i]])
      .filter(([label, n]) => n || chosen(label))
      .filter(([label]) => !find || label.toLowerCase().includes(find.toLowerCase()))
      .sort((x, y) => y[1] - x[1]);
    if (!order.length && !find) return null;
    const shown = all ? order.slice(0, 300) : order.filter(([label], k) => k < FEW || chosen(label));
    return html`<fieldset><legend>${title}</legend>
      ${all && order.length + FEW > 20 && html`<input type="search" class="find" placeholder="Find …" aria-label="Find in ${title}" value=${find} onInput=${(e) => setFind(e.target.value)} />`}
      ${shown.map(([label, n]) => html`<label class="choice"><input type="checkbox" checked=${chosen(label)} onChange=${() => set(toggled(query, name, label))} />
        <bdi>${visible(label, 40)}</bdi> <span class="n">${count(n)}</span></label>`)}
      ${column.labels.length > FEW && (order.length > FEW || all) && html`<button class="link" onClick=${() => showAll(!all)}>${all ? "Fewer" : `${count(order.length - shown.length)} more …`}</button>`}
    </fieldset>`;
  }

  /** From and to, in the numbers that people read (× scale). */
  function Range({ table, name, title, query, set }) {
    const column = table.columns.get(name);
    const factor = column.scale || 1;
    const condition = query.conditions.find((c) => c.column === name && !c.not);
    const there = condition && evalkit.range(condition.value);
    const show = (v) => (there && Number.isFinite(v) ? String(+(v * factor).toPrecision(6)) : "");
    const change = (which) => (event) => {
      const typed = event.target.value.trim();
      const ends = { from: there && Number.isFinite(there.from) ? there.from : null, to: there && Number.isFinite(there.to) ? there.to : null };
      ends[which] = typed === "" || Number.isNaN(Number(typed)) ? null : Number(typed) / factor;
      const spell = (v) => (v === null ? "" : String(+v.toPrecision(7)));
      set(only(query, name, ends.from === null && ends.to === null ? "" : `${spell(ends.from)}..${ends.to === null ? "" : "="}${spell(ends.to)}`));
    };
    return html`<fieldset class="range"><legend>${title}</legend>
      <label>from <input type="number" step="any" value=${show(there && there.from)} onChange=${change("from")} /></label>
      <label>to <input type="number" step="any" value=${show(there && there.to)} onChange=${change("to")} /></label></fieldset>`;
  }

  function Search({ query, set, busy }) {
    const [typed, setTyped] = useState(query.text || "");
    const timer = useRef(0);
    useEffect(() => setTyped(query.text || ""), [query.text]);
    const change = (event) => {
      const text = event.target.value;
      setTyped(text);
      clearTimeout(timer.current);
      timer.current = setTimeout(() => set({ ...query, text }, true), 200);
    };
    return html`<label class="field">Search prompts, answers, targets
      <input type="search" id="search" value=${typed} onInput=${change} /></label>${busy && html`<p class="soft" role="status">Loading the text …</p>`}`;
  }

  const TITLES = {
    score: "score", state: "state", error: "kind of error", group: "group", class: "class in the target", said: "class in the answer",
    iou: "IoU", quality: "quality of the boxes", length: "answer length", margin: "margin", confidence: "confidence", size: "box area, share of the picture", images: "pictures",
    suspect: "suspicion",
  }; // prettier-ignore
  const titleOf = (column) => visible(column.title || TITLES[base(column.name)] || base(column.name));

  function Panel({ task, table, query, selected, run, set, busy }) {
    const runs = evalkit.runsOf(task);
    const names = table.names
      .filter((name) => !APART.has(base(name)))
      .filter((name) => {
        const column = table.columns.get(name);
        return !isNumber(column.run ?? null) || column.run === run;
      })
      .sort((x, y) => rank(x) - rank(y));
    const rare = names.filter((name) => table.columns.get(name).kind === "number" && base(name) !== "score");
    const field = (name) => {
      const column = table.columns.get(name);
      if (column.kind === "number") return html`<${Range} key=${name} table=${table} name=${name} title=${titleOf(column)} query=${query} set=${set} />`;
      if (!column.labels || column.kind === "text") return null;
      return html`<${Choices} key=${name} table=${table} name=${name} title=${titleOf(column)} query=${query} selected=${selected} set=${set} />`;
    };
    const open = rare.some((name) => query.conditions.some((c) => c.column === name));
    return html`
      ${!evalkit.report.redacted && html`<${Search} query=${query} set=${set} busy=${busy} />`}
      ${runs.length > 1 && html`<label class="field">Fields are of run
        <select value=${String(run)} onChange=${(e) => set({ ...query, run: e.target.value }, true)}>${runs.map((r) => html`<option value=${String(r)} selected=${r === run}>${nameOf(r)}</option>`)}</select></label>`}
      ${runs.length > 1 && html`<${Flip} query=${query} set=${set} runs=${runs} />`}
      ${names.filter((name) => !rare.includes(name)).map(field)}
      ${rare.length > 0 && html`<details open=${open}><summary>More numbers</summary>${rare.map(field)}</details>`}`;
  }

  /** Flips between any two runs. */
  function Flip({ query, set, runs }) {
    const found = /^(\d+)-(\d+):(\w+)$/.exec(query.flip || "");
    const [a, b, which] = found ? [Number(found[1]), Number(found[2]), found[3]] : [runs[0], runs[1], ""];
    const change = (x, y, kind) => set({ ...query, flip: kind && x !== y ? `${x}-${y}:${kind}` : "" });
    const pick = (value, label, act) => html`<label>${label} <select value=${String(value)} onChange=${(e) => act(Number(e.target.value))}>
      ${runs.map((r) => html`<option value=${String(r)} selected=${r === value}>${nameOf(r)}</option>`)}</select></label>`;
    return html`<fieldset class="flip"><legend>flips between two runs</legend>
      <label>show <select value=${which} onChange=${(e) => change(a, b, e.target.value)}>
        ${[["", "all samples"], ["gained", "gained"], ["lost", "lost"], ["both", "gained or lost"]].map(([value, label]) => html`<option value=${value} selected=${value === which}>${label}</option>`)}</select></label>
      ${runs.length > 2 && html`${pick(a, "from", (x) => change(x, b, which || "both"))}${pick(b, "to", (y) => change(a, y, which || "both"))}`}</fieldset>`;
  }

  /** The conditions in force, each with a button that takes it away. */
  function Chips({ table, query, set, unknown, selected }) {
    const chips = query.conditions.map((c) => [describe(table, c), { ...query, conditions: query.conditions.filter((d) => d !== c) }, unknown.includes(c)]);
    const flips = /^(\d+)-(\d+):(\w+)$/.exec(query.flip || "");
    if (query.flip) {
      const bad = unknown.some((c) => c.column === "flip");
      const words = flips ? `${flips[3] === "both" ? "gained or lost" : flips[3]} from ${nameOf(Number(flips[1]))} to ${nameOf(Number(flips[2]))}` : query.flip;
      chips.push([visible(words), { ...query, flip: "" }, bad]);
    }
    if (query.text) chips.push([`text: ${visible(query.text, 40)}`, { ...query, text: "" }, false]);
    if (query.marked) chips.push(["marked", { ...query, marked: "" }, false]);
    if (!chips.length) return null;
    return html`<ul class="chips" aria-label="Filters in force">${chips.map(([label, without, bad]) => html`<li class=${bad ? "bad" : ""}><bdi>${label}</bdi>${bad && html` <small>(unknown here, ignored)</small>`}
      <button aria-label="Remove filter: ${label}" onClick=${() => set(without)}>×</button></li>`)}
      ${chips.length > 1 && html`<li class="plain"><button class="link" onClick=${() => set({ conditions: [], sort: query.sort, run: query.run, view: query.view })}>Clear all</button></li>`}</ul>`;
  }

  function describe(table, { column: name, value, not }) {
    const column = table.columns.get(name);
    const run = column && isNumber(column.run ?? null) && evalkit.runs.length > 1 ? `${nameOf(column.run)}, ` : "";
    const title = column ? titleOf(column) : visible(name);
    const no = not ? "not " : "";
    if (base(name) === "right") return `${run}${no}${value === "1" ? "right" : value === "0" ? "wrong" : value}`;
    if (base(name) === "pair" && column) return `${run}${no}${pairWords(column, value)}`;
    const r = column && column.kind === "number" ? evalkit.range(value) : null;
    if (column && (value === "any" || value === "none")) return `${run}${(value === "any") !== not ? "with" : "without"} ${title}`;
    if (!r) return `${run}${title}: ${no}${visible(value, 60)}`;
    const end = (v) => scaled(v, { scale: column.scale });
    if (r.from === r.to) return `${run}${title}: ${no}${end(r.from)}`;
    if (r.to === Infinity) return `${run}${title}: ${no}${end(r.from)} or more`;
    if (r.from === -Infinity) return `${run}${title}: ${no}${r.closed ? "up to" : "below"} ${end(r.to)}`;
    return `${run}${title}: ${no}${end(r.from)} to ${end(r.to)}`;
  }

  /** A cell of the matrix in words, from the task's sections where they are loaded. */
  function pairWords(column, value) {
    if (column.labels) return visible(value);
    const task = evalkit.ready(`task/${evalkit.taskShown}`);
    const matrix = task && task.sections.find((s) => s.kind === "matrix" && s.filters === column.name);
    if (!matrix || !/^#\d+$/.test(value)) return `cell ${visible(value)} of the matrix`;
    const [code, k] = [Number(value.slice(1)), matrix.columns.length];
    return `${visible(matrix.rows[Math.floor(code / k)])} → ${visible(matrix.columns[code % k])}`;
  }

  /** How the list is ordered. */
  function Sort({ table, query, set }) {
    const options = [["", "order of the dataset"]];
    const runs = evalkit.runs.map((_, r) => r);
    for (const name of table.names) {
      const column = table.columns.get(name);
      if (column.kind !== "number" || base(name) === "right") continue;
      const who = isNumber(column.run ?? null) && runs.length > 1 ? `, ${nameOf(column.run)}` : "";
      options.push([`${name}:asc`, `${titleOf(column)}${who}: lowest first`], [`${name}:desc`, `${titleOf(column)}${who}: highest first`]);
    }
    for (const a of runs) {
      for (const b of runs) {
        if (a < b && table.columns.has(`score:${a}`) && table.columns.has(`score:${b}`) && runs.length < 5) {
          options.push([`gap:${a}-${b}:desc`, `largest disagreement${runs.length > 2 ? ` of ${nameOf(a)} and ${nameOf(b)}` : ""}`]);
        }
      }
    }
    const current = query.sort || "";
    if (!options.some(([value]) => value === current)) options.push([current, visible(current)]);
    return html`<label class="sort">Order <select value=${current} onChange=${(e) => set({ ...query, sort: e.target.value })}>
      ${options.map(([value, label]) => html`<option value=${value} selected=${value === current}>${label}</option>`)}</select></label>`;
  }

  Object.assign(evalkit, { Panel, Quick, Chips, Sort });
})();
