/* Which samples pass the conditions of an address, in which order, and what the other choices would leave.
 *
 * A condition is {column, value, not}. Conditions on one column are alternatives, columns hold together. Numbers:
 * `a..b` (b excluded), `a..=b`, `a..`, `..b`, `a`; codes: their label, or `#` and their number where they have
 * none; any kind: `any`, `none`. Bounds are compared as the 32-bit
 * numbers that the columns hold.
 */
"use strict";

(function () {
  const NUMBER = "(-?\\d+(?:\\.\\d+)?(?:e[-+]?\\d+)?)";
  const RANGE = new RegExp(`^${NUMBER}?\\.\\.(=)?${NUMBER}?$`, "i");
  const ONE = new RegExp(`^${NUMBER}$`, "i");

  /** {from, to, closed} of `0..0.5`; null where it is no range. */
  function range(value) {
    const text = String(value).trim();
    const found = RANGE.exec(text) || (ONE.test(text) ? [text, text, "=", text] : null);
    if (!found) return null;
    const from = found[1] === undefined ? -Infinity : Math.fround(Number(found[1]));
    const to = found[3] === undefined ? Infinity : Math.fround(Number(found[3]));
    return { from, to, closed: Boolean(found[2]) || found[3] === undefined };
  }

  /** A test of one sample's number by a condition's value; null where the value makes no sense. */
  function test(column, value) {
    const { values } = column;
    if (column.kind === "number") {
      if (value === "any") return (i) => !Number.isNaN(values[i]);
      if (value === "none") return (i) => Number.isNaN(values[i]);
      const r = range(value);
      if (!r) return null;
      return r.closed ? (i) => values[i] >= r.from && values[i] <= r.to : (i) => values[i] >= r.from && values[i] < r.to;
    }
    if (column.kind === "codes") return testCodes(column, value);
    const known = column.codeOf ? column.codeOf.get(value) : undefined;
    if (column.kind === "flags") {
      if (known !== undefined) return (i) => ((values[i] >>> known) & 1) === 1;
      return value === "any" ? (i) => values[i] !== 0 : value === "none" ? (i) => values[i] === 0 : null;
    }
    if (column.kind === "code") {
      if (known !== undefined) return (i) => values[i] === known;
      return value === "any" ? (i) => values[i] !== column.none : value === "none" ? (i) => values[i] === column.none : null;
    }
    return null;
  }

  function testCodes({ values, starts, codeOf }, value) {
    let wanted = codeOf ? codeOf.get(value) : undefined;
    if (wanted === undefined && /^#\d+$/.test(value)) wanted = Number(value.slice(1));
    if (wanted !== undefined) {
      return (i) => {
        for (let k = starts[i]; k < starts[i + 1]; k++) if (values[k] === wanted) return true;
        return false;
      };
    }
    if (value === "any") return (i) => starts[i + 1] > starts[i];
    return value === "none" ? (i) => starts[i + 1] === starts[i] : null;
  }

  /** For `gained`: the better quality of an image's boxes, else right under b and not under a, else the better
   *  score, as Flips of compared.py. */
  function flip(table, spelled, lowerIsBetter) {
    const found = /^(\d+)-(\d+):(gained|lost|both)$/.exec(spelled || "");
    if (!found) return null;
    const [, a, b, which] = found;
    const there = (key) => table.columns.get(`${key}:${a}`) && table.columns.get(`${key}:${b}`);
    const name = ["quality", "right"].find(there) || "score";
    const first = table.columns.get(`${name}:${a}`);
    const second = table.columns.get(`${name}:${b}`);
    if (!first || !second) return null;
    const sign = name === "score" && lowerIsBetter ? -1 : 1;
    const [x, y] = [first.values, second.values];
    if (which === "gained") return (i) => sign * (y[i] - x[i]) > 0;
    if (which === "lost") return (i) => sign * (y[i] - x[i]) < 0;
    return (i) => x[i] < y[i] || x[i] > y[i];
  }

  /** One mask a group of conditions: [{column, mask}]; conditions that make no sense are in `unknown`. */
  function masks(table, query, extra) {
    const { n } = table;
    const groups = new Map();
    const unknown = [];
    for (const condition of query.conditions) {
      const column = table.columns.get(condition.column);
      const passes = column && test(column, condition.value);
      if (!passes) {
        unknown.push(condition);
        continue;
      }
      const key = (condition.not ? "!" : "") + condition.column;
      if (!groups.has(key)) groups.set(key, { column: condition.column, not: condition.not, tests: [] });
      groups.get(key).tests.push(passes);
    }
    const made = [];
    for (const { column, not, tests } of groups.values()) {
      const mask = new Uint8Array(n);
      for (const passes of tests) for (let i = 0; i < n; i++) if (passes(i)) mask[i] = 1;
      if (not) for (let i = 0; i < n; i++) mask[i] ^= 1;
      made.push({ column: not ? "!" + column : column, mask });
    }
    for (const [name, passes] of extra) {
      const mask = new Uint8Array(n);
      for (let i = 0; i < n; i++) if (passes(i)) mask[i] = 1;
      made.push({ column: name, mask });
    }
    return { made, unknown };
  }

  /** How many masks each sample fails, and the one it fails where it is only one (for counts of choices). */
  function failures(n, made) {
    const fails = new Uint8Array(n);
    const which = new Uint8Array(n);
    made.forEach(({ mask }, k) => {
      for (let i = 0; i < n; i++) {
        if (!mask[i]) {
          fails[i]++;
          which[i] = k;
        }
      }
    });
    return { fails, which };
  }

  /**
   * The samples of a query. `given` holds what is outside the columns: {text: [lower-cased] | null,
   * marked: Set of ids | null, lowerIsBetter}.
   */
  evalkit.select = function (table, query, given) {
    const extra = [];
    const flips = flip(table, query.flip, given.lowerIsBetter);
    if (flips) extra.push(["flip", flips]);
    if (query.text && given.text) {
      const wanted = query.text.toLowerCase();
      extra.push(["text", (i) => given.text[i].includes(wanted)]);
    }
    if (query.marked && given.marked) {
      const ids = evalkit.ids(table);
      extra.push(["marked", (i) => given.marked.has(ids[i])]);
    }
    const { made, unknown } = masks(table, query, extra);
    if (query.flip && !flips) unknown.push({ column: "flip", value: query.flip });
    const { fails, which } = failures(table.n, made);
    let size = 0;
    for (let i = 0; i < table.n; i++) if (!fails[i]) size++;
    const found = new Uint32Array(size);
    for (let i = 0, k = 0; i < table.n; i++) if (!fails[i]) found[k++] = i;
    return { samples: ordered(table, found, query.sort), unknown, fails, which, names: made.map((m) => m.column) };
  };

  /** Numbers to sort by, of a real column or of `gap:a-b`, the difference between two runs' scores. */
  function keys(table, name) {
    const gap = /^gap:(\d+)-(\d+)$/.exec(name);
    if (gap) {
      const [a, b] = [table.columns.get(`score:${gap[1]}`), table.columns.get(`score:${gap[2]}`)];
      if (!a || !b) return null;
      return a.values.map((x, i) => Math.abs(x - b.values[i]));
    }
    const column = table.columns.get(name);
    if (!column) return null;
    if (column.kind === "number") return column.values;
    if (column.kind !== "code" || !column.labels) return null;
    const rank = new Float32Array(column.labels.length);
    column.labels.map((label, i) => [String(label), i]).sort((x, y) => (x[0] < y[0] ? -1 : 1)).forEach(([, i], k) => (rank[i] = k)); // prettier-ignore
    return Float32Array.from(column.values, (c) => (c === column.none ? NaN : rank[c]));
  }

  function ordered(table, found, sort) {
    const cut = sort ? sort.lastIndexOf(":") : -1;
    if (cut < 0) return found;
    const by = keys(table, sort.slice(0, cut));
    if (!by) return found;
    const sign = sort.slice(cut + 1) === "desc" ? -1 : 1;
    const known = found.filter((i) => !Number.isNaN(by[i]));
    const rest = found.filter((i) => Number.isNaN(by[i])); // without a number: last, whichever the direction
    known.sort((x, y) => sign * (by[x] - by[y]) || x - y);
    const all = new Uint32Array(found.length);
    all.set(known);
    all.set(rest, known.length);
    return all;
  }

  /**
   * How many samples each label of a column would leave, its own conditions apart: counts by label's number.
   */
  evalkit.choices = function (table, name, selected) {
    const column = table.columns.get(name);
    const counts = new Uint32Array(column.labels.length);
    const own = selected.names.indexOf(name);
    const { values, starts, kind, none } = column;
    for (let i = 0; i < table.n; i++) {
      const f = selected.fails[i];
      if (f > 1 || (f === 1 && selected.which[i] !== own)) continue;
      if (kind === "code") {
        if (values[i] !== none) counts[values[i]]++;
      } else if (kind === "flags") {
        for (let bits = values[i], k = 0; bits; bits >>>= 1, k++) if (bits & 1) counts[k]++;
      } else {
        for (let k = starts[i]; k < starts[i + 1]; k++) {
          if (values.indexOf(values[k], starts[i]) === k) counts[values[k]]++; // a sample once a label
        }
      }
    }
    return counts;
  };

  /** The mean of a number's column over some samples, those without a number left out. */
  evalkit.mean = function (table, name, samples) {
    const column = table.columns.get(name);
    if (!column) return null;
    let sum = 0;
    let n = 0;
    for (const i of samples) {
      const v = column.values[i];
      if (!Number.isNaN(v)) {
        sum += v;
        n++;
      }
    }
    return n ? { value: sum / n, n } : null;
  };

  evalkit.range = range;
})();
