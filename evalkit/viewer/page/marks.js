/* Marks, notes and corrections that a reader leaves on samples: kept by the browser, taken away as files. */
"use strict";

(function () {
  let name = "evalkit";
  let all = new Map(); // task's name -> Map(id -> {marked, note, corrected})
  const listeners = new Set();

  function open(title) {
    name = `evalkit marks: ${title}`;
    try {
      const kept = JSON.parse(localStorage.getItem(name) || "[]");
      all = new Map(kept.map(([task, samples]) => [task, new Map(samples)]));
    } catch {
      all = new Map(); // storage is denied or not ours
    }
  }

  function keep() {
    try {
      localStorage.setItem(name, JSON.stringify([...all].map(([task, samples]) => [task, [...samples]])));
    } catch {
      evalkit.marks.lost = true; // said on the page of marks
    }
    for (const listener of listeners) listener();
  }

  const of = (task) => all.get(task) || new Map();
  const get = (task, id) => of(task).get(id) || { marked: false, note: "", corrected: "" };

  function change(task, id, what) {
    const next = { ...get(task, id), ...what };
    if (!all.has(task)) all.set(task, new Map());
    if (next.marked || next.note || next.corrected) all.get(task).set(id, next);
    else all.get(task).delete(id);
    keep();
  }

  function clear(task) {
    all.delete(task);
    keep();
  }

  /** A hook: draws again when marks change. */
  function useMarks() {
    const [, again] = evalkit.useState(0);
    evalkit.useEffect(() => {
      const listener = () => again((k) => k + 1);
      listeners.add(listener);
      return () => listeners.delete(listener);
    }, []);
    return evalkit.marks;
  }

  /** One id a line. An id with a line of its own cannot be asked for so, and is left out. */
  const ids = (task) => [...of(task).keys()].filter((id) => id === id.trim() && id && !/\n/.test(id));

  function idsText(task) {
    const lines = ids(task);
    return lines.length ? lines.join("\n") + "\n" : "";
  }

  const labels = (task) =>
    [...of(task)]
      .map(([id, { note, corrected }]) => JSON.stringify({ id, note: note || "", corrected: corrected || null }) + "\n")
      .join("");

  function download(file, text) {
    const link = document.createElement("a");
    link.href = URL.createObjectURL(new Blob([text], { type: "text/plain;charset=utf-8" }));
    link.download = file;
    link.click();
    setTimeout(() => URL.revokeObjectURL(link.href), 10000);
  }

  const total = () => [...all.values()].reduce((n, samples) => n + samples.size, 0);
  evalkit.marks = { open, of, get, change, clear, useMarks, ids, idsText, labels, download, total, lost: false };
})();
