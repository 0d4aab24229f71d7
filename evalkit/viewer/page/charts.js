/* Parts of drawings: scales, marks of runs, strips and axes. Widths are shares (%) of the place there is, heights
 * and letters are pixels: nothing is squeezed on a phone. Each run has its own colour, line and shape.
 */
"use strict";

(function () {
  const { html, useRef, useState, useLayoutEffect, visible, isNumber } = evalkit;

  /** From `low` to `high` in about `wanted` round steps: {low, high, ticks, digits}. */
  function scale(low, high, wanted = 5) {
    if (!(high - low > 1e-9 * Math.abs(high))) {
      const around = Math.abs(high || 1) * 0.1;
      [low, high] = [low >= 0 ? Math.max(0, low - around) : low - around, high + around]; // no scores below 0
    }
    const power = 10 ** Math.floor(Math.log10((high - low) / wanted));
    const step = [1, 2, 2.5, 5, 10].map((m) => m * power).find((s) => (high - low) / s <= wanted) || 10 * power;
    const first = Math.floor(low / step + 1e-9);
    const last = Math.ceil(high / step - 1e-9);
    const ticks = [];
    for (let k = first; k <= last; k++) ticks.push(k * step);
    const digits = Math.max(0, Math.min(6, -Math.floor(Math.log10(step) + 1e-9) + (step / power === 2.5 ? 1 : 0)));
    return { low: first * step, high: last * step, ticks, digits };
  }

  const at = (s, value) => Math.min(100, Math.max(0, (100 * (value - s.low)) / (s.high - s.low)));

  /** The scale that holds all given numbers; what is no number is left out. */
  function holding(values, wanted) {
    const known = values.filter(isNumber);
    return known.length ? scale(Math.min(...known), Math.max(...known), wanted) : scale(0, 1, wanted);
  }

  const SHAPES = [
    html`<circle r="5" />`,
    html`<rect x="-4.5" y="-4.5" width="9" height="9" />`,
    html`<path d="M0-5.5L5.2 4H-5.2Z" />`,
    html`<path d="M0 5.5L5.2-4H-5.2Z" />`,
    html`<path d="M-6 0L-3-5H3L6 0L3 5H-3Z" />`,
    html`<path d="M-2-5.5H2V-2H5.5V2H2V5.5H-2V2H-5.5V-2H-2Z" />`,
  ];

  const colourOf = (run) => `c${(evalkit.runs[run] ? (evalkit.runs[run].colour ?? run) : run) % 8}`;

  /** A run's short name; of a long one both ends, which tell checkpoints of one family apart. */
  function nameOf(run) {
    if (!evalkit.runs[run]) return `run ${run}`;
    const name = visible(evalkit.runs[run].short || evalkit.runs[run].name);
    return name.length > 34 ? `${name.slice(0, 15)}…${name.slice(-17)}` : name;
  }

  /** The runs that have a task's answers. */
  const runsOf = (task) => evalkit.runs.map((_, run) => run).filter((run) => evalkit.report.tasks[task].scores[run]);


  /** A run's shape at `x` (%) and `y` (pixels). */
  function Mark({ x, y, run }) {
    return html`<svg class="mark ${colourOf(run)}" x="${x}%" y=${y} overflow="visible">
      ${SHAPES[run % SHAPES.length]}
    </svg>`;
  }

  /** A run's (or the target's) colour, line and shape, as legends show it. */
  function Key({ run }) {
    const target = run === "target";
    return html`<svg class="key ${target ? "target" : colourOf(run)}" width="30" height="14" aria-hidden="true">
      <line class="stroke" x1="1" x2="29" y1="7" y2="7" />
      ${!target && html`<svg x="15" y="7" overflow="visible" class="mark">${SHAPES[run % SHAPES.length]}</svg>`}
    </svg>`;
  }

  function RunName({ run }) {
    const whole = evalkit.runs[run] ? visible(evalkit.runs[run].name) : "";
    return html`<span class="run-name" title=${whole}><${Key} run=${run} /> <span>${nameOf(run)}</span></span>`;
  }

  function Legend({ runs }) {
    if (evalkit.runs.length < 2) return null;
    return html`<p class="legend">${runs.map((run) => html`<${RunName} run=${run} />`)}</p>`;
  }

  /**
   * Where a value lies, with its interval: one line of a forest plot. `href` is for the pointer: the number
   * beside it, or the name, is the same link for keyboard and screen reader.
   */
  function Strip({ scale: s, value, low, high, run, published, zero, href, height = 26 }) {
    const y = height / 2;
    const strip = html`<svg class="strip" width="100%" height=${height} aria-hidden="true">
      ${s.ticks.map((t) => html`<line class="grid" x1="${at(s, t)}%" x2="${at(s, t)}%" y1="0" y2=${height} />`)}
      ${zero && html`<line class="zero" x1="${at(s, 0)}%" x2="${at(s, 0)}%" y1="0" y2=${height} />`}
      ${(published || []).map(
        (p) => html`<line class="published" x1="${at(s, p)}%" x2="${at(s, p)}%" y1="0" y2=${height} />`,
      )}
      ${isNumber(low) && isNumber(high) && html`<line
        class="whisker ${run === undefined ? "" : colourOf(run)}"
        x1="${at(s, low)}%" x2="${at(s, high)}%" y1=${y} y2=${y} />`}
      ${isNumber(value) &&
      (run === undefined
        ? html`<svg class="diamond" x="${at(s, value)}%" y=${y} overflow="visible"><path d="M0-6L6 0L0 6L-6 0Z" /></svg>`
        : html`<${Mark} x=${at(s, value)} y=${y} run=${run} />`)}
    </svg>`;
    return href ? html`<a class="over" href=${href} tabindex="-1" aria-hidden="true">${strip}</a>` : strip;
  }

  /** Bars from zero, one a run of `runs`, below each other; `values` and `hrefs` (as of Strip) are of all runs. */
  function Bars({ scale: s, values, runs, hrefs, height = 16 }) {
    const origin = at(s, Math.max(s.low, 0));
    return html`<svg class="strip" width="100%" height=${height * runs.length} aria-hidden="true">
      ${s.ticks.map((t) => html`<line class="grid" x1="${at(s, t)}%" x2="${at(s, t)}%" y1="0" y2="100%" />`)}
      ${runs.map((run, k) => {
        const v = values[run];
        if (!v || !isNumber(v.value)) return null;
        const x = at(s, v.value);
        const y = k * height;
        const bar = html`<rect class="bar ${colourOf(run)}" x="${Math.min(x, origin)}%" width="${Math.abs(x - origin)}%"
            y=${y + 3} height=${height - 6} />
          ${isNumber(v.low) && isNumber(v.high) && html`<line class="whisker over" x1="${at(s, v.low)}%"
            x2="${at(s, v.high)}%" y1=${y + height / 2} y2=${y + height / 2} />`}`;
        return hrefs && hrefs[run]
          ? html`<a href=${hrefs[run]} tabindex="-1"><rect class="hit" x="0" width="100%" y=${y} height=${height} />${bar}</a>`
          : bar;
      })}
    </svg>`;
  }

  /** The numbers below a strip; the outermost stay inside. */
  function Axis({ scale: s, how }) {
    const last = s.ticks.length - 1;
    return html`<svg class="axis" width="100%" height="16" aria-hidden="true">
      ${s.ticks.map(
        (t, k) => html`<text class=${k === 0 || k === last || (last % 2 === 0 && k === last / 2) ? "" : "between"} x="${at(s, t)}%" y="12"
          text-anchor=${k === 0 ? "start" : k === last ? "end" : "middle"}>${tick(s, t, how)}</text>`,
      )}
    </svg>`;
  }

  function tick(s, value, how) {
    const factor = (how && how.scale) || 1;
    const digits = Math.max(0, s.digits - Math.round(Math.log10(factor)));
    return (value * factor).toLocaleString("en", { minimumFractionDigits: digits, maximumFractionDigits: digits });
  }

  /** What may be wider than its place: reached by keyboard when it is. */
  function Scroll({ also = "", label = "table, scrolls", children }) {
    const box = useRef(null);
    const [over, set] = useState(false);
    useLayoutEffect(() => {
      const look = () => box.current && set(box.current.scrollWidth > box.current.clientWidth + 1 || box.current.scrollHeight > box.current.clientHeight + 1);
      const watch = new ResizeObserver(look);
      watch.observe(box.current);
      look();
      return () => watch.disconnect();
    }, []);
    const reach = over ? { tabindex: 0, role: "region", "aria-label": label } : {};
    return html`<div class="scroll ${also}" ref=${box} ...${reach}>${children}</div>`;
  }

  Object.assign(evalkit, {
    Scroll, scale, holding, at, Mark, Key, RunName, Legend, Strip, Bars, Axis, tick, colourOf, nameOf, runsOf,
  }); // prettier-ignore
})();
