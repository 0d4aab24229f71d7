/* A task's samples: what the address selects, as a list, or one of them. */
"use strict";

(function () {
  const { html, useState, useEffect, useMemo, visible, isNumber, count, plural, scaled } = evalkit;
  const { Panel, Quick, Chips, Sort, VirtualList, Row, RunName } = evalkit;

  const WIDEST = 1500; // pixels, as the style has it
  const MOST_RUNS = 4; // answers in a row of the list

  /** Lower-cased text once the address asks for it. */
  function useTexts(task, wanted) {
    const [state, set] = useState({ task: null });
    useEffect(() => {
      let current = true;
      if (wanted && state.task !== task) {
        evalkit.texts(task).then(
          (texts) => current && set({ task, texts }),
          (error) => current && set({ task, error: error.message }),
        );
      }
      return () => {
        current = false;
      };
    }, [task, wanted]);
    return state.task === task ? state : {};
  }

  function useWidth() {
    const [width, set] = useState(innerWidth);
    useEffect(() => {
      const changed = () => set(innerWidth);
      addEventListener("resize", changed);
      return () => removeEventListener("resize", changed);
    }, []);
    return width;
  }

  evalkit.Samples = function ({ task, query }) {
    const summary = evalkit.report.tasks[task];
    const { table, error } = evalkit.useColumns(task);
    const { texts, error: textError } = useTexts(task, Boolean(query.text));
    const marks = evalkit.marks.useMarks();
    evalkit.useData(`task/${task}`); // names of the matrix's cells
    const spelled = evalkit.address.spell({ ...query, sample: undefined, run: undefined, view: undefined });
    const marked = query.marked ? [...marks.of(summary.name).keys()].join("\n") : "";
    const selected = useMemo(() => {
      if (!table) return null;
      return evalkit.select(table, query, {
        text: texts || null,
        marked: new Set(marks.of(summary.name).keys()),
        lowerIsBetter: summary.lower_is_better,
      });
    }, [table, spelled, texts, marked]);
    if (error) return html`<h1 tabindex="-1">${visible(summary.name)}</h1><${evalkit.Failed} error=${error} />`;
    if (!table) return html`<h1 tabindex="-1">${visible(summary.name)}</h1><p class="waiting" role="status">Loading …</p>`;
    evalkit.taskShown = task;
    const runs = evalkit.runsOf(task);
    const run = runs.includes(Number(query.run)) ? Number(query.run) : runs.length ? runs[0] : 0;
    const set = (next, instead) => evalkit.address.go(evalkit.address.samples(task, "", { ...next, sample: undefined }), instead);
    const common = { task, table, query, selected, run, set, summary };
    if (query.sample !== undefined) return html`<${evalkit.Sample} ...${common} />`;
    return html`<${List} ...${common} busy=${query.text && !texts && !textError} textError=${textError} />`;
  };

  let last = { key: "", at: null }; // the sample that was open, to come back to it

  evalkit.leaveAt = (key, at) => {
    last = { key, at };
  };
  evalkit.listKey = (task, query) => `${task}?${evalkit.address.spell({ ...query, sample: undefined })}`;

  function List({ task, table, query, selected, run, set, summary, busy, textError }) {
    const { samples, unknown } = selected;
    const key = evalkit.listKey(task, query);
    const [active, setActive] = useState(last.key === key ? last.at : null);
    const width = useWidth();
    const grid = query.view === "grid";
    const phone = width < 700;
    const place = Math.min(width, WIDEST) - (phone ? 40 : 340);
    const across = grid ? Math.max(1, Math.floor(place / 230)) : 1;
    const runs = evalkit.runsOf(task).slice(0, MOST_RUNS);
    const height = grid ? 216 + 23 * (runs.length + 3) : Math.max(120, 24 + 23 * (runs.length + 3));
    useEffect(() => setActive(last.key === key ? last.at : null), [key]);
    const href = (k) => evalkit.address.samples(task, "", { ...query, sample: evalkit.ids(table)[samples[k]] });
    const move = (by) => () => samples.length > 0 && setActive(active === null ? 0 : Math.max(0, Math.min(samples.length - 1, active + by)));
    evalkit.useKeys({
      j: move(1), ArrowDown: move(grid ? across : 1), k: move(-1), ArrowUp: move(grid ? -across : -1),
      x: () => {
        if (active === null) return false;
        const id = evalkit.ids(table)[samples[active]];
        evalkit.marks.change(summary.name, id, { marked: !evalkit.marks.get(summary.name, id).marked });
      },
      "/": () => {
        const field = document.getElementById("search");
        if (!field) return false;
        const hidden = field.closest("details");
        if (hidden) hidden.open = true;
        field.focus();
      },
    }); // prettier-ignore
    const other = evalkit.runsOf(task).find((r) => r !== run) ?? null;
    const panel = html`<${Panel} task=${task} table=${table} query=${query} selected=${selected} run=${run} set=${set} busy=${busy} />`;
    return html`
      <h1 tabindex="-1"><a href="#/task/${task}">${visible(summary.name)}</a>: samples</h1>
      <${Quick} task=${task} table=${table} query=${query} run=${run} other=${other} set=${set} />
      <div class="browse">
        ${phone
          ? html`<details class="panel"><summary>Filters</summary>${panel}</details>`
          : html`<section class="panel" aria-label="Filters">${panel}</section>`}
        <section class="found" aria-label="Samples">
          <${Chips} table=${table} query=${query} set=${set} unknown=${unknown} selected=${selected} />
          ${textError && html`<${evalkit.Failed} error=${textError} />`}
          <div class="row spread"><p role="status" class="counted"><b>${count(samples.length)}</b> of ${plural(table.n, "sample")}<${Means} table=${table} samples=${samples} summary=${summary} /></p>
            <div class="row"><${Sort} table=${table} query=${query} set=${set} />
              <button aria-pressed=${String(grid)} onClick=${() => set({ ...query, view: grid ? "" : "grid" }, true)}>Pictures</button></div></div>
          <${evalkit.OnlySome} task=${summary} />
          ${samples.length === 0 && html`<p class="empty">${evalkit.partly(summary) ? "No sample that is shown passes these filters." : "No sample passes these filters."}</p>`}
          <${VirtualList} count=${samples.length} height=${height} across=${across} active=${active} label="Samples"
            item=${(k) => html`<${Row} task=${task} table=${table} index=${samples[k]} runs=${runs} href=${href(k)} tall=${grid} />`} />
        </section>
      </div>`;
  }

  /** The mean of what is selected, beside the whole's: what a filter says about the runs. */
  function Means({ table, samples, summary }) {
    const means = evalkit.runs
      .map((_, run) => [run, evalkit.mean(table, `score:${run}`, samples)])
      .filter(([, mean]) => mean);
    if (!means.length) return html`<span class="means">${evalkit.runsOf(evalkit.report.tasks.indexOf(summary)).map((run) => html`<${RunName} run=${run} />`)}</span>`;
    return html`<span class="means" title="mean of these samples' own scores">${means.map(([run, { value }]) => html`<span><${RunName} run=${run} /> ${scaled(value, summary)}</span>`)}</span>`;
  }
})();
