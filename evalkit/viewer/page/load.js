/* Data comes as script files that call evalkit.put(key, value): a page opened from disk may not fetch.
 *
 * evalkit.load(key) injects the script once and gives a promise of its value. What was put before anyone asked
 * (a report in a single file) is there at once.
 */
"use strict";

var evalkit = window.evalkit || {};
window.evalkit = evalkit;

(function () {
  const waiting = new Map(); // key -> {promise, resolve, reject}
  const chunks = []; // keys of samples in order of their last use: only so many records are kept
  const KEPT = 120; // more than rows are ever drawn at once, each of which may be in another chunk

  /** "samples/0/12" is in data/0/samples/12.js, "columns/0" in data/0/columns.js, "report" in data/report.js. */
  function path(key) {
    const [kind, task, part] = key.split("/");
    if (task === undefined) return `data/${kind}.js`;
    return part === undefined ? `data/${task}/${kind}.js` : `data/${task}/${kind}/${part}.js`;
  }

  function entry(key) {
    let found = waiting.get(key);
    if (!found) {
      found = { done: false };
      found.promise = new Promise((resolve, reject) => {
        found.resolve = resolve;
        found.reject = reject;
      });
      found.promise.catch(() => {}); // whoever asked hears of it
      waiting.set(key, found);
    }
    return found;
  }

  evalkit.put = function (key, value) {
    const found = entry(key);
    found.done = true;
    found.value = value;
    found.resolve(value);
  };

  evalkit.load = function (key) {
    const found = entry(key);
    if (key.startsWith("samples/")) remember(key);
    if (found.done || found.asked) return found.promise;
    found.asked = true;
    const script = document.createElement("script");
    script.src = path(key);
    script.addEventListener("load", () => {
      script.remove();
      if (!found.done) fail(key, found, "holds no data for this page");
    });
    script.addEventListener("error", () => {
      script.remove();
      fail(key, found, "is missing or cannot be read: copy the whole folder, not index.html alone");
    });
    document.head.append(script);
    return found.promise;
  };

  /** What is there already, without waiting; undefined otherwise. */
  evalkit.ready = function (key) {
    const found = waiting.get(key);
    return found && found.done ? found.value : undefined;
  };

  function fail(key, found, why) {
    waiting.delete(key); // asked again, it is tried again
    found.reject(new Error(`${path(key)} ${why}`));
  }

  function remember(key) {
    const at = chunks.indexOf(key);
    if (at >= 0) chunks.splice(at, 1);
    chunks.push(key);
    if (chunks.length > KEPT) {
      const oldest = chunks.shift();
      const found = waiting.get(oldest);
      if (found && found.asked && found.done) waiting.delete(oldest); // can be read again from its file
    }
  }

  /** Bytes of base64 text that was gzipped. */
  evalkit.unzip = async function (text) {
    const packed = Uint8Array.fromBase64 ? Uint8Array.fromBase64(text) : decode(text);
    const stream = new Blob([packed]).stream().pipeThrough(new DecompressionStream("gzip"));
    return new Response(stream).arrayBuffer();
  };

  function decode(text) {
    const raw = atob(text);
    const bytes = new Uint8Array(raw.length);
    for (let i = 0; i < raw.length; i++) bytes[i] = raw.charCodeAt(i);
    return bytes;
  }

  /* The page's own names for what it is drawn with. */
  evalkit.html = window.htm && window.htm.bind(window.preact.h);
  Object.assign(evalkit, window.preactHooks);

  /** A component's view of one key: {value} once it is there, {error} when it cannot be read, {} until then. */
  evalkit.useData = function (key) {
    const [state, set] = evalkit.useState({ key: null });
    evalkit.useEffect(() => {
      let current = true;
      if (key !== null && evalkit.ready(key) === undefined) {
        evalkit.load(key).then(
          (value) => current && set({ key, value }),
          (error) => current && set({ key, error: error.message }),
        );
      }
      return () => {
        current = false;
      };
    }, [key]);
    if (key === null) return {};
    const there = evalkit.ready(key);
    if (there !== undefined) return { value: there };
    return state.key === key ? state : {};
  };
})();
