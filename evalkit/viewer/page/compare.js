/* Two runs on one task: the difference, what was gained and lost, the groups that moved, the most telling samples. */
"use strict";

(function () {
  const { html, useState, visible, isNumber, signed, count, useColumns } = evalkit;
  const { RunName, Strip, Axis, holding, Opens, nameOf } = evalkit;

  const FEW = 12; // groups shown at first
  const filterOf = (t, a, b, which) => evalkit.address.samples(t, "", { flip: `${a}-${b}:${which}` });
  const p = (value) => (!isNumber(value) ? "–" : value < 0.001 ? "< 0.001" : value.toFixed(3));
  const interval = (c, how) => (isNumber(c.low) ? `${signed(c.low, how)} to ${signed(c.high, how)}` : "–");

  /** All comparisons in one table. */
  function Comparisons({ list }) {
    return html`<section aria-labelledby="comparisons"><h2 id="comparisons">Comparisons</h2>
      <p class="about">The second run less the first, on the samples that both answered.</p>
      <${evalkit.Scroll} also="card"><table class="plain" aria-label="Comparisons">
        <thead><tr><th scope="col">Task</th><th scope="col">From</th><th scope="col">To</th><th scope="col" class="n">Difference</th>
          <th scope="col" class="n">95 % interval</th><th scope="col" class="n">p</th><th scope="col" class="n">Gained</th><th scope="col" class="n">Lost</th><th scope="col">Finding</th></tr></thead>
        <tbody>${list.map((c, i) => {
          const task = evalkit.report.tasks[c.task];
          return html`<tr><th scope="row"><a href="#/compare/${i}">${visible(task.name)}</a></th>
            <td><${RunName} run=${c.a} /></td><td><${RunName} run=${c.b} /></td>
            <td class="n strong">${signed(c.difference, task)}</td><td class="n">${interval(c, task)}</td><td class="n">${p(c.p)}</td>
            <td class="n">${isNumber(c.gained) ? html`<a href=${filterOf(c.task, c.a, c.b, "gained")}>${count(c.gained)}</a>` : "–"}</td>
            <td class="n">${isNumber(c.lost) ? html`<a href=${filterOf(c.task, c.a, c.b, "lost")}>${count(c.lost)}</a>` : "–"}</td>
            <td class="wrap">${visible(verdict(c))}</td></tr>`;
        })}</tbody></table></${evalkit.Scroll}></section>`;
  }

  /** "ft is better": a verdict is about the second run. */
  function heading(c) {
    const words = visible(verdict(c));
    return /^(better|worse)/.test(words) ? `${nameOf(c.b)} is ${words}` : evalkit.capital(words);
  }

  const verdict = (c) => c.verdict || (c.significant ? "differs" : "no difference shown");

  function Compare({ number }) {
    const c = evalkit.report.comparisons[number];
    if (!c) return html`<${evalkit.Lost} />`;
    const task = evalkit.report.tasks[c.task];
    const s = holding([0, c.difference, c.low, c.high], 5);
    return html`
      <h1 tabindex="-1">${evalkit.nameOf(c.a)} and ${evalkit.nameOf(c.b)} on <a href="#/task/${c.task}">${visible(task.name)}</a></h1>
      <p class="about">${visible(task.metric)}; the second less the first${task.lower_is_better ? "; lower is better" : ""}</p>
      <${evalkit.OnlySome} task=${task} />
      <section class="card wide"><h2>${heading(c)}</h2>
        <p class="big">${signed(c.difference, task)} <span class="soft">95 % interval ${interval(c, task)}; p ${p(c.p)}</span></p>
        <${Strip} scale=${s} value=${c.difference} low=${c.low} high=${c.high} run=${c.b} zero=${true} /><${Axis} scale=${s} how=${task} />
        ${(c.notes || []).map((text) => html`<p class="soft">${visible(text)}</p>`)}</section>
      <div class="sections">
        <${Flips} c=${c} />
        <${Groups} c=${c} task=${task} />
      </div>
      <${Telling} c=${c} />`;
  }

  function Flips({ c }) {
    if (!isNumber(c.gained)) return null;
    const counted = isNumber(c.both_right);
    const link = (conditions, n) => html`<${Opens} href=${n ? evalkit.address.samples(c.task, conditions) : null}><b>${count(n)}</b></${Opens}>`;
    const flip = (which, n) => html`<${Opens} href=${n ? filterOf(c.task, c.a, c.b, which) : null}><b>${count(n)}</b></${Opens}>`;
    return html`<section class="card"><h2>Gained and lost</h2>
      <p class="about">${counted ? "How many samples each run has right." : "How many samples score better or worse."} Open a number to see them.</p>
      ${counted
        ? html`<${evalkit.Scroll}><table class="flips" aria-label="Gained and lost"><thead><tr><td></td><th scope="col"><${RunName} run=${c.b} /><br />right</th><th scope="col"><${RunName} run=${c.b} /><br />wrong</th></tr></thead>
          <tbody><tr><th scope="row"><${RunName} run=${c.a} /> right</th><td>${link(`right:${c.a}=1&right:${c.b}=1`, c.both_right)}<br />both right</td><td class="lost">${flip("lost", c.lost)}<br />lost</td></tr>
          <tr><th scope="row"><${RunName} run=${c.a} /> wrong</th><td class="gained">${flip("gained", c.gained)}<br />gained</td><td>${link(`right:${c.a}=0&right:${c.b}=0`, c.both_wrong)}<br />both wrong</td></tr></tbody></table></${evalkit.Scroll}>`
        : html`<table class="flips" aria-label="Gained and lost"><tbody><tr><th scope="row">better</th><td class="gained">${flip("gained", c.gained)}</td></tr>
          <tr><th scope="row">worse</th><td class="lost">${flip("lost", c.lost)}</td></tr><tr><th scope="row">the same</th><td>${count(c.same)}</td></tr></tbody></table>`}
      <p><a href=${evalkit.address.samples(c.task, "", { sort: `gap:${c.a}-${c.b}:desc` })}>Largest disagreement first</a></p></section>`;
  }

  function Groups({ c, task }) {
    const groups = c.groups || [];
    const [all, showAll] = useState(false);
    if (!groups.length) return null;
    const s = holding([0, ...groups.flatMap((g) => [g.difference, g.low, g.high])], 5);
    return html`<section class="card"><h2>Groups that moved</h2><p class="about">The same difference within each group, with its interval.</p>
      <${evalkit.Scroll}><table class="bars" aria-label="Differences by group"><thead><tr><th scope="col">Group</th><th scope="col" class="n">n</th><th scope="col" class="plot">difference</th><th scope="col" class="n"></th></tr></thead>
      <tbody>${(all ? groups : groups.slice(0, FEW)).map((g) => html`<tr><th scope="row"><${Opens} href=${g.filter ? evalkit.address.samples(c.task, g.filter) : null}><bdi>${visible(g.name, 60)}</bdi></${Opens}></th>
        <td class="n">${count(g.n)}</td><td class="plot"><${Strip} scale=${s} value=${g.difference} low=${g.low} high=${g.high} run=${c.b} zero=${true} href=${g.filter ? evalkit.address.samples(c.task, g.filter) : null} /></td>
        <td class="n" title=${interval(g, task)}>${signed(g.difference, task)}</td></tr>`)}</tbody>
      <tfoot aria-hidden="true"><tr><td></td><td></td><td class="plot"><${Axis} scale=${s} how=${task} /></td><td></td></tr></tfoot></table></${evalkit.Scroll}>
      ${groups.length > FEW && html`<button class="link" onClick=${() => showAll(!all)}>${all ? "Show fewer" : `Show all ${count(groups.length)} groups`}</button>`}</section>`;
  }

  function Telling({ c }) {
    const { table, error } = useColumns(c.task);
    if (error) return html`<${evalkit.Failed} error=${error} />`;
    if (!table || !(c.telling || []).length) return null;
    return html`<section aria-labelledby="telling"><h2 id="telling">The most telling samples</h2>
      <p class="about">Where the two runs differ most.</p>
      <ul class="tiles">${c.telling.map((i) => html`<li><${evalkit.Row} task=${c.task} table=${table} index=${i} runs=${[c.a, c.b]}
        href=${evalkit.address.samples(c.task, "", { sort: `gap:${c.a}-${c.b}:desc`, sample: evalkit.ids(table)[i] })} /></li>`)}</ul></section>`;
  }

  /** The page that lists them, for reports of many. */
  function CompareAll() {
    return html`<h1 tabindex="-1">Comparisons</h1><${Comparisons} list=${evalkit.report.comparisons || []} />`;
  }

  Object.assign(evalkit, { Comparisons, Compare, CompareAll });
})();
