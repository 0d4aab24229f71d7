/* Addresses: what stands after # names a page, its filters, its order and its sample; a link shows the same again. */
"use strict";

(function () {
  const OWN = new Set(["flip", "text", "sort", "sample", "marked", "run", "view"]);

  const decode = (text) => {
    try {
      return decodeURIComponent(text.replace(/\+/g, "%20"));
    } catch {
      return text; // a % that begins nothing
    }
  };

  /* Readable where it may be: what cannot be mistaken for the address's own signs stays as it is. */
  const encode = (text) =>
    encodeURIComponent(text).replace(/%(3A|2F|2C|24|40)/g, (_, hex) => String.fromCharCode(parseInt(hex, 16)));

  /** {conditions: [{column, value, not}], flip, text, sort, sample, marked, run, view} of `a=1&!b=2`. */
  function parse(spelled) {
    const query = { conditions: [] };
    for (const part of (spelled || "").split("&")) {
      if (!part) continue;
      const cut = part.indexOf("=");
      const key = decode(cut < 0 ? part : part.slice(0, cut));
      const value = cut < 0 ? "any" : decode(part.slice(cut + 1));
      if (OWN.has(key)) query[key] = value;
      else if (key.startsWith("!")) query.conditions.push({ column: key.slice(1), value, not: true });
      else query.conditions.push({ column: key, value, not: false });
    }
    return query;
  }

  function spell(query) {
    const parts = query.conditions.map(
      ({ column, value, not }) => `${not ? "!" : ""}${encode(column)}=${encode(value)}`,
    );
    for (const key of OWN) {
      const value = query[key];
      if (value !== undefined && value !== null && value !== "") parts.push(`${key}=${encode(String(value))}`);
    }
    return parts.join("&");
  }

  /** The number of a task that an address names by its number or, as tables and CI do, by its name. */
  function numbered(text) {
    if (/^\d+$/.test(text)) return Number(text);
    let name = text;
    try {
      name = decodeURIComponent(text);
    } catch {
      /* a name with a percent sign */
    }
    return evalkit.report ? evalkit.report.tasks.findIndex((task) => task.name === name) : -1;
  }

  /** {page, task, number, query} of an address. */
  function read(hash) {
    const text = (hash || "").replace(/^#/, "");
    const cut = text.indexOf("?");
    const path = (cut < 0 ? text : text.slice(0, cut)).split("/").filter(Boolean);
    const query = parse(cut < 0 ? "" : text.slice(cut + 1));
    if (!path.length) return { page: "overview", query };
    if (path[0] === "task" && path[1]) {
      const task = numbered(path[1]);
      const page = path[2] === undefined ? "task" : path[2] === "samples" ? "samples" : "lost";
      return task < 0 ? { page: "lost", query } : { page, task, query };
    }
    if (path[0] === "compare" && /^\d+$/.test(path[1] || "")) return { page: "compare", number: Number(path[1]), query };
    if (["compare", "trend", "marks"].includes(path[0]) && path.length === 1) return { page: path[0], query };
    return { page: "lost", query };
  }

  /** The address of a task's samples by a filter as sections spell it, with more conditions of one's own. */
  function samples(task, filter, more) {
    const query = { ...parse(filter), ...more };
    const spelled = spell(query);
    return `#/task/${task}/samples${spelled ? "?" + spelled : ""}`;
  }

  function useAddress() {
    const [hash, set] = evalkit.useState(location.hash);
    evalkit.useEffect(() => {
      const changed = () => set(location.hash);
      addEventListener("hashchange", changed);
      changed();
      return () => removeEventListener("hashchange", changed);
    }, []);
    return evalkit.useMemo(() => read(hash), [hash]);
  }

  /** `instead`: the way back does not stop here (from sample to sample, while typing). */
  function go(address, instead) {
    if (address === location.hash) return;
    if (instead) location.replace(address);
    else location.hash = address.slice(1);
  }

  /** A link from the data: only within this page. */
  const within = (link) => "#" + String(link || "/").replace(/^#/, "");

  evalkit.address = { read, parse, spell, samples, useAddress, go, within };
})();
