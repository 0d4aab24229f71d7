/* How the scores went while a model was trained: one curve a task. */
"use strict";

(function () {
  const { html, visible, isNumber, scaled, duration, count, plural } = evalkit;

  function Trend() {
    const { trend, tasks } = evalkit.report;
    if (!trend || !trend.tasks.length) return html`<${evalkit.Lost} />`;
    return html`<h1 tabindex="-1">Trend</h1>
      <p class="about">The score of each checkpoint by its step, with its 95 % interval. A point opens the samples of its run, the worst first, where this report holds them.</p>
      <div class="sections">${trend.tasks.map((one) => {
        const t = tasks.findIndex((task) => task.name === one.name);
        return html`<${TrendTask} one=${one} t=${t} task=${tasks[t] || { scale: 100, digits: 1 }} />`;
      })}</div>`;
  }

  /** Why a point opens nothing. */
  function absent(p) {
    return p.place ? `not in this report: ${p.place}` : "its run is not in this report";
  }

  function TrendTask({ one, t, task }) {
    const how = { label: visible(one.metric) || "score", scale: task.scale, digits: task.digits };
    const filter = (run) => `length:${run}=any&sort=score:${run}:${task.lower_is_better ? "desc" : "asc"}&run=${run}`;
    const section = {
      title: one.name,
      x: { label: "step", digits: 0 },
      y: how,
      series: [{
        name: "", run: 0, points: one.points.map((p) => [p.step, p.value, p.low, p.high]),
        filters: one.points.map((p) => (isNumber(p.run) && t >= 0 ? filter(p.run) : null)),
        n: one.points.map((p) => p.n),
        notes: one.points.map((p) => (isNumber(p.run) && t >= 0 ? "" : absent(p))),
      }],
    }; // prettier-ignore
    const missing = one.points.filter((p) => !(isNumber(p.run) && t >= 0));
    const costs = one.points.some((p) => isNumber(p.cost_seconds));
    return html`<section class="card"><h2>${t >= 0 ? html`<a href="#/task/${t}">${visible(one.name)}</a>` : visible(one.name)}${one.metric && html` <small>${visible(one.metric)}</small>`}</h2>
      <${evalkit.Curve} section=${section} task=${t} />
      ${missing.length > 0 && html`<p class="about">${plural(missing.length, "point")} of ${count(one.points.length)} ${missing.length === 1 ? "is of a run that is" : "are of runs that are"} not in this report and ${missing.length === 1 ? "opens" : "open"} no samples: build it of these runs too.</p>`}
      <details class="quiet"><summary>As a table</summary><table class="plain" aria-label=${`Scores by step: ${visible(one.name)}`}><thead><tr><th scope="col" class="n">Step</th><th scope="col" class="n">Score</th><th scope="col">95 % interval</th><th scope="col">Samples</th>${costs && html`<th scope="col" class="n">Took</th>`}</tr></thead>
      <tbody>${one.points.map((p) => html`<tr><th scope="row" class="n">${count(p.step)}</th><td class="n">${scaled(p.value, how)}</td><td>${isNumber(p.low) ? `${scaled(p.low, how)} to ${scaled(p.high, how)}` : "–"}</td><td>${isNumber(p.run) && t >= 0 ? html`<a href=${`#/task/${t}/samples?${filter(p.run)}`}>${plural(p.n, "sample")}</a>` : visible(absent(p))}</td>${costs && html`<td class="n">${duration(p.cost_seconds)}</td>`}</tr>`)}</tbody></table></details></section>`;
  }

  evalkit.Trend = Trend;
})();
