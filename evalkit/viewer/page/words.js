/* Text as it is shown: what models and datasets say stays text, and what would not be seen is made visible.
 * Numbers in the form that tables use.
 */
"use strict";

(function () {
  const { html, useState } = evalkit;

  /* Control characters (tab and newline apart), invisible and direction-turning characters, tags, halves of
   * pairs. Zero-width joiners belong to many scripts and to emoji: they count only after ASCII. */
  const HIDDEN = new RegExp(
    "[\\u0000-\\u0008\\u000b-\\u001f\\u007f-\\u009f\\u00ad\\u061c\\u180e\\u200b\\u200e\\u200f\\u2028-\\u202e" +
      "\\u2060-\\u206f\\ufeff\\ufff9-\\ufffb\\u{e0000}-\\u{e007f}\\ud800-\\udfff]" +
      "|(?<=^|[\\u0000-\\u007f])[\\u200c\\u200d]",
    "gu",
  );
  const NAMES = new Map([
    [0x202a, "left-to-right embedding"], [0x202b, "right-to-left embedding"], [0x202c, "end of direction"],
    [0x202d, "left-to-right override"], [0x202e, "right-to-left override"], [0x2066, "left-to-right isolate"],
    [0x2067, "right-to-left isolate"], [0x2068, "isolate"], [0x2069, "end of isolate"],
    [0x200b, "zero-width space"], [0x200c, "zero-width non-joiner"], [0x200d, "zero-width joiner"],
    [0x200e, "left-to-right mark"], [0x200f, "right-to-left mark"], [0x61c, "Arabic letter mark"],
    [0xfeff, "byte order mark"], [0xad, "soft hyphen"], [0x1b, "escape"], [0, "null"], [0xd, "carriage return"],
  ]); // prettier-ignore

  function code(character) {
    const point = character.codePointAt(0);
    return "U+" + point.toString(16).toUpperCase().padStart(4, "0");
  }

  /** What stands for it: few fonts have pictures of control characters, all have its number. */
  const picture = (character) => `⟨${code(character)}⟩`;

  function describe(character) {
    const name = NAMES.get(character.codePointAt(0));
    return `${code(character)}${name ? " " + name : ""}`;
  }

  /** Plain text with everything hidden made visible: for titles, labels and drawings. */
  function visible(value, limit) {
    const text = value === null || value === undefined ? "" : String(value);
    const cut = limit && text.length > limit ? text.slice(0, limit - 1) + "…" : text;
    return cut.replace(HIDDEN, picture);
  }

  /** The same as nodes: hidden characters are marked and say what they are. */
  function nodes(text) {
    const parts = [];
    let from = 0;
    for (const found of text.matchAll(HIDDEN)) {
      if (found.index > from) parts.push(text.slice(from, found.index));
      parts.push(html`<span class="hidden-char" title=${describe(found[0])}>${picture(found[0])}</span>`);
      from = found.index + found[0].length;
      if (parts.length > 4000) break; // of so many nobody reads on; the rest as plain text
    }
    if (from < text.length) parts.push(from ? visible(text.slice(from)) : text);
    return parts;
  }

  const LONGEST = 2000;

  /** What a model or a dataset says, as it is: lines kept, long ones cut until asked for. */
  function Text({ text, none = "–", limit = LONGEST }) {
    const [whole, show] = useState(false);
    const all = text === null || text === undefined ? "" : String(text);
    if (!all) return html`<span class="none">${none}</span>`;
    const cut = !whole && all.length > limit;
    return html`<bdi class="said" dir="auto">${nodes(cut ? all.slice(0, limit) : all)}</bdi>${
      cut && html`<span>… </span><button class="link" onClick=${() => show(true)}>
        Show all ${all.length.toLocaleString("en")} characters</button>`}`;
  }

  /** One line of it, for lists. */
  function Line({ text, limit = 160, none = "–" }) {
    const all = text === null || text === undefined ? "" : String(text);
    if (!all) return html`<span class="none">${none}</span>`;
    return html`<bdi>${nodes(all.slice(0, limit).trimEnd().replace(/[ \t]*\n\s*/g, " ⏎ "))}${all.length > limit ? "…" : ""}</bdi>`;
  }

  const isNumber = (value) => typeof value === "number" && Number.isFinite(value);

  function number(value, digits = 2) {
    if (!isNumber(value)) return "–";
    return value.toLocaleString("en", { minimumFractionDigits: digits, maximumFractionDigits: digits });
  }

  /** Three significant digits, no exponent for what people read often. */
  function short(value) {
    if (!isNumber(value)) return "–";
    if (Number.isInteger(value)) return value.toLocaleString("en");
    return value.toLocaleString("en", { maximumSignificantDigits: 3 });
  }

  /** A raw number as its scale and digits say. */
  function scaled(value, how) {
    if (!isNumber(value)) return "–";
    const scale = (how && how.scale) || 1;
    return how && isNumber(how.digits) ? number(value * scale, how.digits) : short(value * scale);
  }

  function signed(value, how) {
    if (!isNumber(value)) return "–";
    return (value > 0 ? "+" : value < 0 ? "−" : "±") + scaled(Math.abs(value), how);
  }

  function duration(seconds) {
    if (!isNumber(seconds)) return "–";
    if (seconds < 90) return `${short(seconds)} s`;
    const minutes = Math.round(seconds / 60);
    return minutes < 90 ? `${minutes} min` : `${Math.floor(minutes / 60)} h ${minutes % 60} min`;
  }

  function bytes(count) {
    if (!isNumber(count)) return "–";
    return count < 1e9 ? `${short(count / 1e6)} MB` : `${short(count / 1e9)} GB`;
  }

  const share = (part, whole) => (whole ? `${number((100 * part) / whole, part && part < whole / 1000 ? 2 : 1)} %` : "–");
  const count = (n) => (isNumber(n) ? n.toLocaleString("en") : "–");
  const capital = (text) => text.charAt(0).toUpperCase() + text.slice(1);
  const plural = (n, one, many = one + "s") => `${count(n)} ${n === 1 ? one : many}`;

  /* A report may show fewer samples than its figures are of. */
  const partly = ({ n, shown }) => isNumber(shown) && shown < n;
  const samplesShown = (task) => `${count(task.shown)} of ${plural(task.n, "sample")}`;

  function OnlySome({ task }) {
    if (!partly(task)) return null;
    return html`<p class="soft only-some">${samplesShown(task)} are shown. Figures are of all: a link opens those of its samples that are shown.</p>`;
  }

  Object.assign(evalkit, {
    visible, Text, Line, isNumber, number, short, scaled, signed, duration, bytes, share, count, plural, capital, partly, samplesShown,
    OnlySome,
  }); // prettier-ignore
})();
