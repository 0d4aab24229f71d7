/* A task's page: its scores, where they go wrong, how they were measured. */
"use strict";

(function () {
  const { html, visible, isNumber, scaled, count, useData, useColumns } = evalkit;
  const { RunName, Section, Pairs } = evalkit;

  function Task({ task: t }) {
    const summary = evalkit.report.tasks[t];
    const { value, error } = useData(`task/${t}`);
    const { table } = useColumns(t);
    const how = { scale: summary.scale, digits: summary.digits };
    const columns = (name) => {
      const column = table && (table.columns.get(name) || table.columns.get(`${name}:0`));
      return column && (column.scale || column.digits !== undefined) ? column : name === "score" ? how : null;
    };
    const labelOf = (name, code) => {
      const column = table && table.columns.get(name);
      return column && column.labels ? column.labels[code] : undefined;
    };
    return html`
      <h1 tabindex="-1">${visible(summary.name)}</h1>
      <p class="about">${visible(summary.about)}</p>
      <ul class="facts">${summary.scores.map((score, run) => score && html`<li><${RunName} run=${run} />
        <b>${scaled(score.value, how)}</b>
        ${isNumber(score.low) && html`<span class="soft">${scaled(score.low, how)} to ${scaled(score.high, how)}</span>`}</li>`)}
        <li class="soft">${visible(summary.metric)}</li></ul>
      <p class="row actions"><a class="button" href="#/task/${t}/samples">${evalkit.partly(summary) ? `Look at ${evalkit.samplesShown(summary)}` : `Look at all ${count(summary.n)} samples`}</a>
        ${evalkit.report.comparisons.map((c, i) => c.task === t && html`<a class="button quiet" href="#/compare/${i}">Compare ${evalkit.nameOf(c.a)} and ${evalkit.nameOf(c.b)}</a>`)}</p>
      <${evalkit.OnlySome} task=${summary} />
      <${evalkit.Remarks} task=${summary} />
      ${error && html`<${evalkit.Failed} error=${error} />`}
      ${value && html`
        <div class="sections">${(value.sections || []).map((section) => html`<${Section} section=${section} task=${t} how=${how} columns=${columns} labelOf=${labelOf} />`)}</div>
        <${Figures} summary=${summary} how=${how} />
        <${Measured} task=${value} />`}
      ${!value && !error && html`<p class="waiting" role="status">Loading …</p>`}`;
  }

  /** Every metric of every run, and what a metric says beside its figure. */
  function Figures({ summary, how }) {
    const runs = evalkit.runs.map((_, run) => run).filter((run) => summary.scores[run]);
    const of = (run) => summary.scores[run].metrics || [];
    const metrics = [...new Set(runs.flatMap((run) => of(run).map((m) => m.metric)))];
    const details = metrics.flatMap((metric) => {
      const found = runs.map((run) => (of(run).find((m) => m.metric === metric) || {}).details || {});
      return [...new Set(found.flatMap(Object.keys))].map((name) => [metric, name, found.map((d) => d[name])]);
    });
    if (metrics.length < 2 && !details.length) return null;
    const head = (first) => html`<thead><tr>${first.map((label) => html`<th scope="col">${label}</th>`)}${runs.map((run) => html`<th scope="col" class="n"><${RunName} run=${run} /></th>`)}</tr></thead>`;
    const figure = (m) => (m ? html`<b>${scaled(m.value, how)}</b>${isNumber(m.low) && html` <span class="soft">${scaled(m.low, how)} to ${scaled(m.high, how)}</span>`}` : "–");
    return html`<section class="card wide" aria-labelledby="figures"><h2 id="figures">All figures</h2>
      <${evalkit.Scroll}><table class="plain" aria-label="Scores by metric">${head(["Metric"])}<tbody>${metrics.map((metric) => html`<tr><th scope="row">${visible(metric)}</th>
        ${runs.map((run) => html`<td class="n">${figure(of(run).find((m) => m.metric === metric))}</td>`)}</tr>`)}</tbody></table></${evalkit.Scroll}>
      ${details.length > 0 && html`<details class="quiet"><summary>What the metrics say beside it, as it is stored (shares from 0 to 1)</summary>
        <${evalkit.Scroll}><table class="plain" aria-label="Further figures">${head(["Metric", "Figure"])}<tbody>${details.map(([metric, name, values]) => html`<tr><th scope="row">${visible(metric)}</th><td>${visible(name)}</td>
          ${values.map((v) => html`<td class="n">${isNumber(v) ? v.toPrecision(4) : "–"}</td>`)}</tr>`)}</tbody></table></${evalkit.Scroll}></details>`}</section>`;
  }

  /* What parts of a signature are called. */
  const WORDS = new Map([
    ["metric", "main metric"], ["parser", "answers are read by"], ["targets", "digest of the targets"], ["n", "samples"],
    ["interval", "interval by"], ["evalkit", "version of evalkit"], ["tools", "computed with"], ["decoder", "digest of the mask decoder"],
  ]); // prettier-ignore

  function Measured({ task }) {
    const site = /^https?:\/\//.test(task.homepage || "") ? task.homepage : null;
    const signed = (task.signature_words || []).filter(([label]) => label !== "task" && label !== "v");
    const pairs = [
      ["task", `${task.name}${task.version ? `, version ${task.version}` : ""}`],
      ["licence", task.license],
      ["protocol", task.protocol],
      ["all metrics", (task.metrics || []).length > 1 ? task.metrics.join("\n") : null],
      ...signed.map(([label, value]) => [WORDS.get(label) || label, value]),
      ["signature", task.signature],
    ].filter(([, value]) => value !== null && value !== undefined && value !== "");
    return html`<section class="card wide measured" aria-labelledby="measured"><h2 id="measured">How it was measured</h2>
      <${Pairs} pairs=${pairs} />
      ${site && html`<p>Dataset: <a href=${site} rel="noopener noreferrer">${visible(site)}</a></p>`}
      <h3>Prompt</h3><pre class="prompt"><${evalkit.Text} text=${task.prompt} /></pre>
      ${task.exact_prompt && task.exact_prompt !== task.prompt && html`<h3>The first sample's prompt, exactly</h3><pre class="prompt"><${evalkit.Text} text=${task.exact_prompt} /></pre>`}
    </section>`;
  }

  evalkit.Task = Task;
})();
