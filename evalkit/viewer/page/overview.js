/* The first page: what to look at, the scores with their intervals, the comparisons, what each run is. */
"use strict";

(function () {
  const { html, visible, isNumber, scaled, signed, count, share, short, duration, bytes, plural } = evalkit;
  const { Strip, Axis, RunName, Key, holding, Opens, nameOf } = evalkit;
  const MAIN = 3; // how many lines of a list are shown before it is opened

  function Overview() {
    const { report } = evalkit;
    return html`
      <h1 tabindex="-1">${visible(report.title)}</h1>
      <p class="about">${plural(report.runs.length, "run")} on ${plural(report.tasks.length, "task")}${report.made ? `, made ${visible(report.made)}` : ""}${report.evalkit ? ` by evalkit ${visible(report.evalkit)}` : ""}</p>
      <${Notices} report=${report} />
      <${First} list=${report.look_first || []} />
      <section aria-labelledby="scores"><h2 id="scores">Scores</h2>
        <p class="about">The mark is the score, the line its 95 % interval. Where intervals overlap much, the order of two
          runs is no finding: see their comparison.${hasPublished(report) ? " The diamond and its upright line are the published value." : ""}</p>
        <div class="tasks">${report.tasks.map((task, t) => html`<${Forest} task=${task} t=${t} />`)}</div>
      </section>
      ${(report.comparisons || []).length > 0 && html`<${evalkit.Comparisons} list=${report.comparisons} />`}
      <${Runs} runs=${report.runs} />
      <${Licences} tasks=${report.tasks} />
      ${report.command && html`<details class="quiet"><summary>How this report was made</summary><pre>${visible(report.command)}</pre></details>`}`;
  }

  const hasPublished = (report) => report.tasks.some((task) => (task.published || []).length);

  function Notices({ report }) {
    const licence = [].concat(report.licence || []).filter(Boolean);
    const lines = [
      report.tasks.some(evalkit.partly) && `Only some samples can be opened: ${report.tasks.filter(evalkit.partly).map((task) => `${evalkit.samplesShown(task)} of ${task.name}`).join(", ")}. Figures are of all: a link opens those of its samples that are shown.`,
      report.redacted && "Redacted: prompts, answers and targets were left out of this report.",
      report.images === false && "Pictures were left out of this report; boxes and masks are drawn on an empty ground.",
      ...licence.map((text) => `Licence: ${text}`),
    ].filter(Boolean);
    return lines.length ? html`<ul class="notices">${lines.map((text) => html`<li>${visible(text)}</li>`)}</ul>` : null;
  }

  function First({ list }) {
    if (!list.length) return null;
    return html`<section class="first" aria-labelledby="first"><h2 id="first">Look at this first</h2>
      <ol>${list.map(({ text, link }) => html`<li>${link
        ? html`<a href=${evalkit.address.within(link)}>${visible(text)}</a>`
        : visible(text)}</li>`)}</ol></section>`;
  }

  /** One task: every run and every published value on one scale. */
  function Forest({ task, t }) {
    const published = task.published || [];
    const numbers = [...task.scores.filter(Boolean), ...published].flatMap((s) => [s.value, s.low, s.high]);
    const s = holding(numbers, 4);
    const lines = published.map((p) => p.value);
    const known = task.scores.filter(Boolean);
    return html`<article class="card forest" aria-labelledby="task-${t}">
      <h3 id="task-${t}"><a href="#/task/${t}">${visible(task.name)}</a></h3>
      <p class="about">${visible(task.about)}</p>
      <${evalkit.Scroll}><table aria-label=${`Scores of ${visible(task.name)}`}>
        <thead><tr><th scope="col">Run</th>
          <th scope="col" class="plot">${visible(task.metric)}${task.lower_is_better ? " (lower is better)" : ""}</th>
          <th scope="col" class="n">Score</th><th scope="col" class="n">95 % interval</th><th scope="col" class="n">Samples</th>
          <th scope="col" class="n">Invalid</th><th scope="col" class="n">Cut</th></tr></thead>
        <tbody>
          ${task.scores.map((score, run) => score && html`<${Score} score=${score} run=${run} task=${task} t=${t} scale=${s} published=${lines} />`)}
          ${published.map((p) => html`<tr class="published-row"><th scope="row"><svg class="key" width="30" height="14" aria-hidden="true"><line class="published" x1="15" x2="15" y1="0" y2="14" /><svg class="diamond" x="15" y="7" overflow="visible"><path d="M0-6L6 0L0 6L-6 0Z" /></svg></svg>
              <span title=${visible(p.source)}>${visible(p.model)} <small>published</small></span></th>
            <td class="plot"><${Strip} scale=${s} ...${p} published=${lines} /></td>
            <td class="n" data-label="">${scaled(p.value, task)}</td><td class="n" data-label="">${isNumber(p.low) ? `${scaled(p.low, task)} to ${scaled(p.high, task)}` : ""}</td><td></td><td></td><td></td></tr>`)}
        </tbody>
        <tfoot aria-hidden="true"><tr><td></td><td class="plot"><${Axis} scale=${s} how=${task} /></td><td></td><td></td><td></td><td></td><td></td></tr></tfoot>
      </table></${evalkit.Scroll}>
      <${Remarks} task=${task} />
      <p class="row"><a href="#/task/${t}">Where it goes wrong</a><a href="#/task/${t}/samples">${known.length ? evalkit.partly(task) ? evalkit.samplesShown(task) : `All ${count(task.n)} samples` : "Samples"}</a></p>
    </article>`;
  }

  function Score({ score, run, task, t, scale, published }) {
    const n = score.n || 0;
    const worst = isNumber(score.value)
      ? evalkit.address.samples(t, "", { sort: `score:${run}:${task.lower_is_better ? "desc" : "asc"}`, run: String(run) })
      : null;
    const rate = (part, flag) => html`<td class="n" data-label=${flag}><${Opens} href=${part ? evalkit.address.samples(t, `state:${run}=${flag}`) : null}>${isNumber(part) ? share(part, n) : "–"}</${Opens}></td>`;
    return html`<tr class=${score.comparable ? "apart" : ""}>
      <th scope="row"><${RunName} run=${run} />${score.comparable && html` <span class="warn" title=${visible(score.comparable)}>not comparable</span>`}</th>
      <td class="plot"><${Strip} scale=${scale} value=${score.value} low=${score.low} high=${score.high} run=${run} published=${published} href=${worst} /></td>
      <td class="n strong" data-label=""><${Opens} href=${worst} label="${nameOf(run)}: ${scaled(score.value, task)}, opens its samples, the worst first">${scaled(score.value, task)}</${Opens}></td>
      <td class="n" data-label="">${isNumber(score.low) ? `${scaled(score.low, task)} to ${scaled(score.high, task)}` : "–"}</td>
      <td class="n" data-label="samples">${count(score.n)}${score.coverage && score.coverage !== "all" ? html` <small>${visible(score.coverage)}</small>` : ""}</td>
      ${rate(score.invalid, "invalid")}${rate(score.cut, "cut")}</tr>`;
  }

  function Remarks({ task }) {
    const lines = task.scores.flatMap((score, run) =>
      score
        ? [score.why, ...(score.doubts || []), score.comparable && `Not comparable: ${score.comparable}`, ...(score.stamps || []), ...[].concat(score.remarks || [])]
            .filter(Boolean)
            .map((text) => [run, text])
        : [],
    );
    if (!lines.length) return null;
    const item = ([run, text]) => html`<li class=${task.scores[run].doubts?.includes(text) ? "warn" : ""}>${evalkit.runs.length > 1 && html`<${RunName} run=${run} />: `}${visible(text)}</li>`;
    return html`<ul class="remarks">${lines.slice(0, MAIN).map(item)}</ul>
      ${lines.length > MAIN && html`<details class="remarks"><summary>${plural(lines.length - MAIN, "more remark")}</summary><ul>${lines.slice(MAIN).map(item)}</ul></details>`}`;
  }

  function Runs({ runs }) {
    return html`<section aria-labelledby="runs"><h2 id="runs">Runs</h2><${evalkit.Scroll} also="card"><table class="plain" aria-label="Runs">
      <thead><tr><th scope="col">Run</th><th scope="col">Model</th><th scope="col" class="n">Resolution</th><th scope="col">Precision</th>
        <th scope="col" class="n">Time</th><th scope="col" class="n">Samples a second</th><th scope="col" class="n">Memory</th></tr></thead>
      <tbody>${runs.map((run, r) => html`<tr><th scope="row"><${RunName} run=${r} /></th>
        <td class="wrap"><bdi>${visible(run.model)}</bdi><${Partial} list=${run.partial || []} /></td>
        <td class="n">${run.resolution ?? "–"}</td><td>${visible(run.precision) || "–"}</td><td class="n">${duration(run.seconds)}</td>
        <td class="n">${isNumber(run.samples_per_second) ? short(run.samples_per_second) : "–"}</td><td class="n">${bytes(run.memory_bytes)}</td></tr>`)}</tbody></table></${evalkit.Scroll}>
      <${Identities} runs=${runs} /></section>`;
  }

  /** What is partial or doubtful about a run. */
  function Partial({ list }) {
    const line = (text) => html`<small class="warn block">${visible(text)}</small>`;
    return html`${list.slice(0, MAIN).map(line)}${list.length > MAIN && html`<details><summary><small>${count(list.length - MAIN)} more</small></summary>${list.slice(MAIN).map(line)}</details>`}`;
  }

  /** Whose pictures and annotations these are, for who passes them on. */
  function Licences({ tasks }) {
    const known = new Map();
    for (const { name, license } of tasks) if (license) known.set(license, [...(known.get(license) || []), name]);
    if (!known.size) return null;
    return html`<section aria-labelledby="licences"><h2 id="licences">Licences of the data</h2>
      <${Pairs} pairs=${[...known].map(([license, names]) => [names.join(", "), license])} /></section>`;
  }

  /** What made each run's text, side by side; what differs comes first. */
  function Identities({ runs }) {
    const labels = [...new Set(runs.flatMap((run) => (run.identity || []).map(([label]) => label)))];
    if (!labels.length) return null;
    const maps = runs.map((run) => new Map(run.identity || []));
    const rows = labels.map((label) => ({ label, values: maps.map((m) => m.get(label)), same: new Set(maps.map((m) => m.get(label))).size === 1 }));
    const ordered = [...rows.filter((row) => !row.same), ...rows.filter((row) => row.same)];
    return html`<details class="quiet"><summary>What made the answers: weights, prompts, precision and all else${runs.length > 1 ? "; what differs comes first" : ""}</summary>
      <${evalkit.Scroll} also="card"><table class="plain identity" aria-label="What each run is"><thead><tr><th scope="col"></th>${runs.map((_, r) => html`<th scope="col"><${RunName} run=${r} /></th>`)}</tr></thead>
      <tbody>${ordered.map(({ label, values, same }) => html`<tr class=${same ? "" : "differing"}><th scope="row">${visible(label)}</th>
        ${same && values.length > 1 ? html`<td class="wrap" colspan=${values.length}><${evalkit.Text} text=${values[0]} limit=${400} /></td>` : values.map((value) => html`<td class="wrap"><${evalkit.Text} text=${value} limit=${400} /></td>`)}</tr>`)}</tbody></table></${evalkit.Scroll}></details>`;
  }

  /** Labels and values, as a list. */
  function Pairs({ pairs }) {
    return html`<dl class="pairs">${(pairs || []).map(([label, value]) => html`<div><dt>${visible(label)}</dt><dd><${evalkit.Text} text=${value} limit=${600} /></dd></div>`)}</dl>`;
  }

  Object.assign(evalkit, { Overview, Pairs, Remarks });
})();
