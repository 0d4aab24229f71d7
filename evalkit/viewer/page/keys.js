/* Single-key shortcuts, and the page that lists them. They can be turned off, for those whose tools type letters. */
"use strict";

(function () {
  const { html, useEffect, useLayoutEffect, useRef, useState } = evalkit;
  const OFF = "evalkit shortcuts off";
  const GROUPS = [
    ["Everywhere", [["?", "this list"], ["/", "search the samples' text"]]],
    ["List of samples", [["j or ↓", "next sample"], ["k or ↑", "previous sample"], ["Enter", "open it"], ["x", "mark it"]]],
    ["One sample", [
      ["j or →", "next sample"], ["k or ←", "previous sample"], ["Esc or u", "back to the list"],
      ["t", "target on or off"], ["1 to 9", "a run on or off"], ["b", "boxes on or off"], ["m", "masks on or off"],
      ["l", "labels on or off"], ["+ and −", "zoom"], ["0", "fit the picture"], ["x", "mark"], ["n", "write a note"],
    ]],
  ]; // prettier-ignore

  let off = false;
  try {
    off = localStorage.getItem(OFF) === "yes";
  } catch {
    /* storage is denied: on */
  }

  const typing = (target) => target.closest && target.closest("input, textarea, select, dialog, [contenteditable]");

  /** Calls actions[key] while the component is there; a key in a field is the field's. */
  evalkit.useKeys = function (actions) {
    const current = useRef(actions);
    current.current = actions;
    useLayoutEffect(() => {
      const pressed = (event) => {
        if (event.ctrlKey || event.metaKey || event.altKey || event.defaultPrevented) return;
        if (typing(event.target)) {
          if (event.key === "Escape" && !event.target.closest("dialog")) event.target.blur();
          return;
        }
        if (off && event.key.length === 1) return;
        const action = current.current[event.key];
        if (action && action(event) !== false) event.preventDefault();
      };
      addEventListener("keydown", pressed);
      return () => removeEventListener("keydown", pressed);
    }, []);
  };

  evalkit.Help = function ({ onClose }) {
    const box = useRef(null);
    const [disabled, set] = useState(off);
    useEffect(() => box.current.showModal(), []);
    const turn = (event) => {
      off = event.target.checked;
      set(off);
      try {
        localStorage.setItem(OFF, off ? "yes" : "no");
      } catch {
        /* for this visit only */
      }
    };
    return html`<dialog ref=${box} class="help" aria-labelledby="help-title" onClose=${onClose}>
      <div class="row spread"><h2 id="help-title">Keyboard</h2>
        <button onClick=${() => box.current.close()}>Close</button></div>
      ${GROUPS.map(([title, keys]) => html`<h3>${title}</h3>
        <dl class="keys">${keys.map(([key, what]) => html`<div><dt><kbd>${key}</kbd></dt><dd>${what}</dd></div>`)}</dl>`)}
      <p><label><input type="checkbox" checked=${disabled} onChange=${turn} /> Single letters do nothing (arrows, Enter and Esc stay)</label></p>
    </dialog>`;
  };
})();
