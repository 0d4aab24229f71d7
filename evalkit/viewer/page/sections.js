/* The sections of a task's page: histograms, bars, matrices, curves, tables. Every bar, cell and point is a link to
 * its samples.
 */
"use strict";

(function () {
  const { html, useState, visible, isNumber, scaled, signed, count, plural, short } = evalkit;
  const { Legend, Strip, Bars, Axis, Mark, RunName, Key, scale, holding, at, tick, colourOf, nameOf } = evalkit;

  const open = (task, filter, more) => (filter ? evalkit.address.samples(task, filter, more) : null);

  /** A cell's content, as a link where it has samples; `n` says how many it opens. */
  function Opens({ href, label, n, children }) {
    if (!href) return children;
    const opens = isNumber(n) ? `opens ${plural(n, "sample")}` : undefined;
    return html`<a href=${href} title=${opens} aria-label=${label && opens ? `${label}, ${opens}` : label}>${children}</a>`;
  }

  /** A chart is one stop of the Tab key; arrows lead from bar to bar and from point to point. */
  function arrows(event) {
    const by = { ArrowRight: 1, ArrowDown: 1, ArrowLeft: -1, ArrowUp: -1 }[event.key];
    if (!by || event.ctrlKey || event.metaKey || event.altKey) return;
    const links = [...event.currentTarget.querySelectorAll("a[href]:not([data-empty])")];
    const next = links[links.indexOf(document.activeElement) + by];
    event.preventDefault();
    if (next) next.focus();
  }

  function Histogram({ section, task, columns }) {
    const { edges, series } = section;
    const shown = series.filter((s) => s.counts.length);
    const most = scale(0, Math.max(1, ...shown.flatMap((s) => s.counts)), 4);
    const s = { low: edges[0], high: edges[edges.length - 1] };
    const how = section.scale || section.digits !== undefined ? section : columns(section.column);
    const every = Math.max(1, Math.ceil((edges.length - 1) / 5));
    const bottom = 150;
    const level = (n) => bottom - ((bottom - 10) * n) / most.high;
    const y = (n) => bottom - (n ? Math.max(2, ((bottom - 10) * n) / most.high) : 0);
    const start = shown.findIndex((one) => one.counts.some((n) => n));
    return html`
      <${Legend} runs=${shown.map((x) => x.run).filter((r) => isNumber(r))} />
      <div class="curve"><div class="y-axis levels" aria-hidden="true">
        <svg width="40" height="176">${most.ticks.map((t) => html`<text x="36" y=${level(t) + 4} text-anchor="end">${count(t)}</text>`)}</svg></div>
      <div class="area"><svg class="chart" width="100%" height="176" role="group" aria-label=${visible(section.title)} onKeyDown=${arrows}>
        ${most.ticks.map((t) => html`<line class="grid" x1="0" x2="100%" y1=${level(t)} y2=${level(t)} />`)}
        ${shown.flatMap((one, k) =>
          one.counts.map((n, bin) => {
            const column = columnOf(section.column, one.run);
            const to = bin === one.counts.length - 1 ? `..=${edges[bin + 1]}` : `..${edges[bin + 1]}`;
            const left = at(s, edges[bin]);
            const width = (at(s, edges[bin + 1]) - left) / shown.length;
            const who = isNumber(one.run) ? nameOf(one.run) + ": " : "";
            const label = `${who}${plural(n, "sample")}, ${scaled(edges[bin], how)} to ${scaled(edges[bin + 1], how)}`;
            return html`<a href=${open(task, `${encodeURIComponent(column)}=${edges[bin]}${to}`)} aria-label=${label}
              data-empty=${n ? undefined : "yes"} tabindex=${k === start && one.counts.findIndex((m) => m) === bin ? 0 : -1}><title>${label}</title>
              <rect class="hit" x="${left + k * width}%" width="${width}%" y="0" height=${bottom} />
              <rect class="bar ${colourOf(isNumber(one.run) ? one.run : 0)}" x="${left + (k + 0.06) * width}%"
                width="${width * 0.88}%" y=${y(n)} height=${bottom - y(n)} /></a>`;
          }),
        )}
        <line class="base" x1="0" x2="100%" y1=${bottom} y2=${bottom} />
        ${edges.map((e, k) =>
          (k % every === 0 && edges.length - 1 - k >= every * 0.7) || k === edges.length - 1
            ? html`<text x="${at(s, e)}%" y="168" text-anchor=${k === 0 ? "start" : k === edges.length - 1 ? "end" : "middle"}>${scaled(e, how)}</text>`
            : null,
        )}
      </svg></div></div>`;
  }

  /** `score:0` of `score` and run 0; a column that is named whole, or of all runs, stays. */
  const columnOf = (name, run) => (isNumber(run) && !/:\d+$/.test(name) ? `${name}:${run}` : name);

  const MANY = 25;

  /** Rows without any value (kinds of error of a score that has no price for them) by how many samples they have. */
  function priced(section, how) {
    if (section.rows.some((row) => row.values.some(Boolean)) || !section.rows.some((row) => Array.isArray(row.n))) return [section, how];
    const rows = section.rows.map((row) => ({ ...row, values: row.n.map((n) => (isNumber(n) ? { value: n } : null)) }));
    return [{ ...section, rows, unit: "samples" }, { digits: 0 }];
  }

  function BarRows({ section: given, task, how: ofGiven }) {
    const [all, showAll] = useState(false);
    const [section, how] = priced(given, ofGiven);
    const { rows, diverging } = section;
    const values = rows.flatMap((row) => row.values).filter((v) => v && isNumber(v.value));
    const numbers = values.flatMap((v) => [v.value, v.low, v.high]);
    const dots = values.some((v) => isNumber(v.low));
    const s = holding(dots && !diverging ? numbers : [0, ...numbers], 5);
    const has = (row, run) => row.values[run] || (Array.isArray(row.n) && row.n[run]);
    const runs = evalkit.runs.map((_, run) => run).filter((run) => rows.some((row) => has(row, run)));
    const few = Math.min(MANY, Math.max(8, Math.floor(75 / runs.length)));
    const shown = all ? rows : rows.slice(0, few);
    const write = diverging ? signed : scaled;
    return html`
      <${Legend} runs=${runs} />
      <${evalkit.Scroll}><table class="bars" aria-label=${visible(section.title)}>
        <thead><tr><th scope="col">${visible(section.of || "")}</th><th scope="col" class="n">n</th>
          <th scope="col" class="plot">${visible(section.unit || "")}</th>
          ${runs.map((run) => html`<th scope="col" class="n">${runs.length > 1 ? html`<${Key} run=${run} /><span class="for-readers">${nameOf(run)}</span>` : "value"}</th>`)}
        </tr></thead>
        <tbody>${shown.map((row) => {
          const href = typeof row.filter === "string" ? open(task, row.filter) : null;
          const counted = (run) => (Array.isArray(row.n) ? row.n[run] : row.n);
          const own = (run) => (Array.isArray(row.filter) && counted(run) ? open(task, row.filter[run]) : null);
          const hrefs = evalkit.runs.map((_, run) => own(run) || (href && open(task, row.filter, { run: String(run) })));
          return html`<tr>
            <th scope="row" title=${row.about ? visible(row.about) : undefined}><${Opens} href=${href} n=${row.opens ?? row.n}><bdi>${visible(row.label, 60)}</bdi></${Opens}></th>
            <td class="n">${counts(row.n, runs)}</td>
            <td class="plot">${dots
              ? runs.map((run) => row.values[run] && html`<${Strip} scale=${s} run=${run} ...${row.values[run]} zero=${diverging} href=${hrefs[run]} height=${20} />`)
              : html`<${Bars} scale=${s} values=${row.values} runs=${runs} hrefs=${hrefs} />`}</td>
            ${runs.map((run) => {
              const v = row.values[run];
              const interval = v && isNumber(v.low) ? `${write(v.low, how)} to ${write(v.high, how)}` : null;
              return html`<td class="n" title=${interval}><${Opens} href=${own(run)} n=${counted(run)} label=${own(run) ? `${visible(row.label)}, ${nameOf(run)}${v ? `: ${write(v.value, how)}` : ""}` : null}>${v ? write(v.value, how) : "–"}</${Opens}></td>`;
            })}
          </tr>`;
        })}</tbody>
        <tfoot aria-hidden="true"><tr><td></td><td></td><td class="plot"><${Axis} scale=${s} how=${how} /></td>${runs.map(() => html`<td></td>`)}</tr></tfoot>
      </table></${evalkit.Scroll}>
      ${rows.length > few && html`<button class="link" onClick=${() => showAll(!all)}>${all ? "Show fewer" : `Show all ${count(rows.length)} rows`}</button>`}`;
  }

  /** One number for all runs, or each run's own. */
  function counts(n, runs) {
    if (!Array.isArray(n)) return isNumber(n) ? count(n) : "";
    return runs.map((run) => (isNumber(n[run]) ? count(n[run]) : "–")).join(" · ");
  }

  /** The classes of a matrix that matter most: those with the largest counts off the diagonal. */
  function mostConfused({ rows, columns, cells }, kept) {
    const weight = rows.map((label, r) => cells[r].reduce((sum, n, c) => sum + (columns[c] === label ? 0 : n), 0));
    columns.forEach((label, c) => {
      const r = rows.indexOf(label);
      if (r >= 0) weight[r] += cells.reduce((sum, row, k) => sum + (k === r ? 0 : row[c]), 0);
    });
    const order = rows.map((_, r) => r).sort((x, y) => weight[y] - weight[x]).slice(0, kept);
    return new Set(order.map((r) => rows[r]));
  }

  function Matrix({ section, task, labelOf }) {
    const [all, showAll] = useState(false);
    const { rows, columns, cells, opens, filters, run } = section;
    const many = rows.length > MANY && !all;
    const kept = many ? mostConfused(section, 15) : null;
    const show = (label, others) => !kept || kept.has(label) || !others.includes(label);
    const largest = Math.max(1, ...cells.flat());
    const cell = (r, c) => {
      const n = cells[r][c];
      const label = `${visible(rows[r])} answered as ${visible(columns[c])}: ${count(n)}`;
      const code = r * columns.length + c;
      const name = n && filters ? labelOf(filters, code) || `#${code}` : "";
      const href = name ? open(task, `${encodeURIComponent(filters)}=${encodeURIComponent(name)}`) : null;
      const depth = n ? 8 + 42 * Math.sqrt(n / largest) : 0;
      return html`<td class="cell ${rows[r] === columns[c] ? "same" : ""}" style=${{ "--depth": `${depth.toFixed(0)}%` }}>
        <${Opens} href=${href} label=${label} n=${opens[r][c]}><span title=${label}>${n ? count(n) : "·"}</span></${Opens}></td>`;
    };
    const shown = columns.map((label, c) => [label, c]).filter(([label]) => show(label, rows));
    return html`
      ${isNumber(run) && evalkit.runs.length > 1 && html`<p class="legend"><${RunName} run=${run} /></p>`}
      <${evalkit.Scroll} also="tall" label=${visible(section.title)}><table class="matrix" aria-label=${visible(section.title)}>
        <thead><tr><th scope="col" class="corner">target ↓, answer →</th>
          ${shown.map(([label]) => html`<th scope="col"><span title=${visible(label)}>${visible(label, 24)}</span></th>`)}</tr></thead>
        <tbody>${rows.map((label, r) => show(label, columns) && html`<tr>
          <th scope="row"><span title=${visible(label)}>${visible(label, 24)}</span></th>${shown.map(([, c]) => cell(r, c))}</tr>`)}</tbody>
      </table></${evalkit.Scroll}>
      ${rows.length > MANY && html`<button class="link" onClick=${() => showAll(!all)}>${all
        ? "Show the classes that are confused most"
        : `Show all ${count(rows.length)} rows; these are the most confused`}</button>`}`;
  }

  const HEIGHT = 230;

  function Curve({ section, task }) {
    const { x, y, series } = section;
    const points = series.flatMap((one) => one.points);
    const sx = section.diagonal ? scale(0, 1, 5) : holding(points.map((p) => p[0]), 5);
    const sy = section.diagonal ? scale(0, 1, 5) : holding(points.flatMap((p) => [p[1], p[2], p[3]]), 5); // prettier-ignore
    const up = (v) => 100 - at(sy, v);
    const px = (v) => 8 + ((HEIGHT - 16) * up(v)) / 100;
    const start = (series[0].filters || []).findIndex(Boolean);
    const unit = (p) => `${(at(sx, p[0]) / 100).toFixed(4)},${(px(p[1]) / HEIGHT).toFixed(4)}`;
    return html`
      ${(series.length > 1 || visible(series[0].name)) && html`<p class="legend">${series.map((one) => html`<span class="run-name"><${Key} run=${one.run ?? 0} /> <span>${visible(one.name) || nameOf(one.run)}</span></span>`)}</p>`}
      <div class="curve">
        <div class="y-axis" aria-hidden="true"><span class="y-label">${visible(y.label)}</span>
          <svg width="44" height=${HEIGHT}>${sy.ticks.map((t) => html`<text x="40" y=${px(t) + 4} text-anchor="end">${tick(sy, t, y)}</text>`)}</svg></div>
        <div class="area">
          <svg class="chart" width="100%" height=${HEIGHT} role="group" aria-label="${visible(section.title)}: ${visible(y.label)} against ${visible(x.label)}" onKeyDown=${arrows}>
            ${sy.ticks.map((t) => html`<line class="grid" x1="0" x2="100%" y1=${px(t)} y2=${px(t)} />`)}
            ${section.diagonal && html`<line class="zero" x1="${at(sx, 0)}%" y1=${px(0)} x2="${at(sx, 1)}%" y2=${px(1)} />`}
            <svg x="0" y="0" width="100%" height=${HEIGHT} viewBox="0 0 1 1" preserveAspectRatio="none">
              ${series.map((one) => html`<polyline class="line ${colourOf(one.run ?? 0)}" points=${one.points.filter((p) => isNumber(p[1])).map(unit).join(" ")} />`)}
            </svg>
            ${series.map((one, s) => one.points.map((p, k) => html`<${Point} p=${p} one=${one} k=${k} first=${s === 0 && k === start} task=${task} section=${section} series=${series.length} sx=${sx} px=${px} />`))}
          </svg>
          <${Axis} scale=${sx} how=${x} /><p class="x-label">${visible(x.label)}</p>
        </div>
      </div>`;
  }

  function Point({ p, one, k, first, task, section, series, sx, px }) {
    const href = one.filters ? open(task, one.filters[k]) : null;
    if (!isNumber(p[1])) return null;
    const interval = isNumber(p[2]) ? ` (${scaled(p[2], section.y)} to ${scaled(p[3], section.y)})` : "";
    const who = visible(one.name) || (series > 1 ? nameOf(one.run) : "");
    const opens = href && one.n ? `; opens ${plural(one.n[k], "sample")}` : "";
    const note = !href && one.notes && one.notes[k] ? `; ${visible(one.notes[k])}` : "";
    const label = `${who ? who + ": " : ""}${visible(section.x.label)} ${scaled(p[0], section.x)}, ${visible(section.y.label)} ${scaled(p[1], section.y)}${interval}${opens}${note}`;
    const drawn = html`${isNumber(p[2]) && html`<line class="whisker ${colourOf(one.run ?? 0)}" x1="${at(sx, p[0])}%" x2="${at(sx, p[0])}%" y1=${px(p[2])} y2=${px(p[3])} />`}
      <g class=${one.points.length > 15 ? "many" : ""}><title>${label}</title><${Mark} x=${at(sx, p[0])} y=${px(p[1])} run=${one.run ?? 0} /></g>`;
    return href
      ? html`<a href=${href} aria-label=${label} tabindex=${first ? 0 : -1}><circle class="hit" cx="${at(sx, p[0])}%" cy=${px(p[1])} r="11" />${drawn}</a>`
      : note ? html`<g role="img" aria-label=${label}>${drawn}</g>` : drawn;
  }

  function Table({ section, task }) {
    const [all, showAll] = useState(false);
    const { head, rows, filters, opens } = section;
    const text = (value) => (isNumber(value) ? short(value) : visible(value, 200));
    return html`<${evalkit.Scroll}><table class="plain" aria-label=${visible(section.title)}>
      <thead><tr>${head.map((label) => html`<th scope="col">${visible(label)}</th>`)}</tr></thead>
      <tbody>${(all ? rows : rows.slice(0, MANY)).map((row, r) => html`<tr>${row.map((value, c) => {
        const href = c === 0 && filters ? open(task, filters[r]) : null;
        const shown = html`<${Opens} href=${href} label=${text(row[0]) + " " + text(row[1])} n=${opens && opens[r]}><bdi>${text(value)}</bdi></${Opens}>`;
        return c === 0 ? html`<th scope="row">${shown}</th>` : html`<td class=${isNumber(value) ? "n" : ""}>${shown}</td>`;
      })}</tr>`)}</tbody></table></${evalkit.Scroll}>
      ${rows.length > MANY && html`<button class="link" onClick=${() => showAll(!all)}>${all ? "Show fewer" : `Show all ${count(rows.length)} rows`}</button>`}`;
  }

  /** One section of any kind; `columns(name)` gives how a column's numbers are written, `labelOf(name, code)` a label. */
  function Section({ section, task, how, columns, labelOf }) {
    const own = section.scale !== undefined || section.digits !== undefined ? section : section.raw ? null : how;
    const body = {
      histogram: () => html`<${Histogram} section=${section} task=${task} columns=${columns} />`,
      bars: () => html`<${BarRows} section=${section} task=${task} how=${own} />`,
      matrix: () => html`<${Matrix} section=${section} task=${task} labelOf=${labelOf} />`,
      curve: () => html`<${Curve} section=${section} task=${task} />`,
      table: () => html`<${Table} section=${section} task=${task} />`,
    }[section.kind];
    if (!body) return null;
    const crowded = section.kind === "bars" && evalkit.runsOf(task).length > 4;
    const wide = crowded || (section.kind === "matrix" && section.columns.length > 12) ? "wide" : "";
    return html`<section class="card ${wide}"><h2>${visible(section.title)}</h2>
      ${section.about && html`<p class="about">${visible(section.about)}</p>`}${body()}</section>`;
  }

  Object.assign(evalkit, { Section, Curve, Opens });
})();
