/* A task's columns: typed arrays over one unzipped block, one value a sample. Knows no address and no page. */
"use strict";

(function () {
  const ARRAYS = { Float32Array, Uint16Array, Uint32Array };
  const opened = new Map();

  /** A promise of the task's columns; the same one for whoever asks. */
  evalkit.columns = function (task) {
    if (!opened.has(task)) {
      const promise = evalkit.load(`columns/${task}`).then((packed) => open(packed, evalkit.report.tasks[task]));
      promise.catch(() => opened.delete(task));
      opened.set(task, promise);
    }
    return opened.get(task);
  };

  async function open({ head, data }, task) {
    const block = await evalkit.unzip(data);
    const table = { n: head.n, names: [], columns: new Map() };
    for (const column of head.columns) {
      const made = view(column, block, head.n);
      if (column.name.startsWith("score:")) Object.assign(made, { scale: task.scale, digits: task.digits });
      table.columns.set(column.name, made);
      table.names.push(column.name);
    }
    return table;
  }

  function view(column, block, n) {
    const made = { ...column };
    if (column.kind === "text") made.values = new Uint8Array(block, column.offset, column.length);
    else if (column.kind === "codes") {
      made.starts = new Uint32Array(block, column.offset, n + 1);
      made.values = new ARRAYS[column.type](block, column.values.offset, made.starts[n]);
    } else made.values = new ARRAYS[column.type](block, column.offset, n);
    if (column.kind === "code") made.none = column.type === "Uint16Array" ? 0xffff : 0xffffffff;
    if (column.labels) made.codeOf = new Map(column.labels.map((label, i) => [String(label), i]));
    return made;
  }

  /** Every sample's id, read when first needed. */
  evalkit.ids = function (table) {
    if (!table.ids) {
      const column = table.columns.get("id");
      const text = new TextDecoder().decode(column.values);
      const lines = text.split("\n");
      table.ids = text.includes("\\") ? lines.map(unescaped) : lines;
    }
    return table.ids;
  };

  /** Ids hold line breaks as \n and \r, and a backslash twice. */
  const unescaped = (line) =>
    line.includes("\\") ? line.replace(/\\([nr\\])/g, (_, c) => ({ n: "\n", r: "\r", "\\": "\\" })[c]) : line;

  evalkit.placeOf = (table, id) => evalkit.ids(table).indexOf(id);

  /** A hook: {table} once the columns are there, {error} when they are not. */
  evalkit.useColumns = function (task) {
    const [state, set] = evalkit.useState({ task: null });
    evalkit.useEffect(() => {
      let current = true;
      evalkit.columns(task).then(
        (table) => current && set({ task, table }),
        (error) => current && set({ task, error: error.message }),
      );
      return () => {
        current = false;
      };
    }, [task]);
    return state.task === task ? state : {};
  };

  /** Lower-cased text of every sample, for search; a promise. */
  const texts = new Map();
  evalkit.texts = function (task) {
    if (!texts.has(task)) {
      const promise = evalkit
        .load(`text/${task}`)
        .then(evalkit.unzip)
        .then((block) => JSON.parse(new TextDecoder().decode(block)));
      promise.catch(() => texts.delete(task));
      texts.set(task, promise);
    }
    return texts.get(task);
  };
})();
