/* The page's frame: header, navigation, the page that the address names, light and dark. */
"use strict";

(function () {
  const { html, useState, useEffect, useRef, visible, plural } = evalkit;
  const THEME = "evalkit theme";

  evalkit.Lost = () => html`<h1 tabindex="-1">Nothing here</h1><p>This address names no page of this report. <a href="#/">To the overview</a></p>`;
  evalkit.Failed = ({ error }) => html`<p class="failed" role="alert">${visible(error)}</p>`;

  function page(address) {
    const { Overview, Task, Samples, Compare, CompareAll, Trend, Notes, Lost } = evalkit;
    if (address.task !== undefined && !evalkit.report.tasks[address.task]) return html`<${Lost} />`;
    switch (address.page) {
      case "overview": return html`<${Overview} />`;
      case "task": return html`<${Task} key=${address.task} task=${address.task} />`;
      case "samples": return html`<${Samples} key=${address.task} task=${address.task} query=${address.query} />`;
      case "compare": return address.number === undefined ? html`<${CompareAll} />` : html`<${Compare} key=${address.number} number=${address.number} />`;
      case "trend": return html`<${Trend} />`;
      case "marks": return html`<${Notes} />`;
      default: return html`<${Lost} />`;
    } // prettier-ignore
  }

  /** What makes another page: a filter or the next sample doesn't. */
  const place = (address) => [address.page, address.task, address.number, address.query.sample !== undefined].join("/");

  function titleOf(address) {
    const task = address.task !== undefined && evalkit.report.tasks[address.task];
    const parts = [address.query.sample, task && task.name, address.page === "overview" ? null : address.page === "task" ? null : address.page, evalkit.report.title];
    return parts.filter(Boolean).map((part) => visible(part, 60)).join(" · ");
  }

  function App() {
    const address = evalkit.address.useAddress();
    const main = useRef(null);
    const first = useRef(true);
    const [help, setHelp] = useState(false);
    evalkit.useKeys({ "?": () => setHelp(true) });
    useEffect(() => {
      document.title = titleOf(address);
    });
    useEffect(() => {
      if (first.current) {
        first.current = false;
        return;
      }
      const back = address.page === "samples" && address.query.sample === undefined;
      const head = main.current.querySelector("h1");
      if (!back) scrollTo(0, 0); // the list finds its own place
      if (head && !back) head.focus({ preventScroll: true });
    }, [place(address)]);
    return html`
      <a class="skip" href="#main" onClick=${(e) => { e.preventDefault(); const head = main.current.querySelector("h1"); (head || main.current).focus(); }}>Skip to the content</a>
      <${Header} address=${address} onHelp=${() => setHelp(true)} />
      <main id="main" ref=${main} tabindex="-1">${page(address)}</main>
      ${help && html`<${evalkit.Help} onClose=${() => setHelp(false)} />`}`;
  }

  function Header({ address, onHelp }) {
    const { report } = evalkit;
    const marks = evalkit.marks.useMarks();
    const link = (href, label, here) => html`<a href=${href} aria-current=${here ? "page" : undefined}>${label}</a>`;
    const here = address.task;
    return html`<header><nav aria-label="Pages">
        ${link("#/", "Overview", address.page === "overview")}
        ${report.tasks.length <= 4
          ? report.tasks.map((task, t) => link(`#/task/${t}`, html`<bdi>${visible(task.name, 30)}</bdi>`, here === t))
          : html`<label><span class="for-readers">Task</span><select value=${here === undefined ? "" : String(here)} onChange=${(e) => e.target.value && evalkit.address.go(`#/task/${e.target.value}`)}>
              <option value="">Tasks …</option>${report.tasks.map((task, t) => html`<option value=${String(t)} selected=${here === t}>${visible(task.name, 60)}</option>`)}</select></label>`}
        ${here !== undefined && link(`#/task/${here}/samples`, "Samples", address.page === "samples")}
        ${(report.comparisons || []).length > 0 && link(report.comparisons.length === 1 ? "#/compare/0" : "#/compare", report.comparisons.length === 1 ? "Comparison" : "Comparisons", address.page === "compare")}
        ${report.trend && link("#/trend", "Trend", address.page === "trend")}
        ${link("#/marks", html`Marks${marks.total() ? html` <span class="badge">${marks.total()}</span>` : ""}`, address.page === "marks")}
      </nav><div class="row"><${Theme} /><button class="quiet" onClick=${onHelp} aria-label="Keyboard help" title="keyboard (?)">?</button></div></header>`;
  }

  function Theme() {
    const [theme, set] = useState(document.documentElement.dataset.theme || "");
    const change = (event) => {
      const chosen = event.target.value;
      set(chosen);
      apply(chosen);
      try {
        localStorage.setItem(THEME, chosen);
      } catch {
        /* for this visit only */
      }
    };
    return html`<label><span class="for-readers">Colours</span><select class="quiet" value=${theme} onChange=${change}>
      ${[["", "Auto"], ["light", "Light"], ["dark", "Dark"]].map(([value, label]) => html`<option value=${value} selected=${value === theme}>${label}</option>`)}</select></label>`;
  }

  function apply(theme) {
    if (theme) document.documentElement.dataset.theme = theme;
    else delete document.documentElement.dataset.theme;
  }

  try {
    apply(localStorage.getItem(THEME) || "");
  } catch {
    /* as the system has it */
  }
  async function open() {
    const app = document.getElementById("app");
    try {
      const report = await evalkit.load("report");
      evalkit.report = { comparisons: [], ...report };
      evalkit.runs = report.runs;
      evalkit.marks.open(report.title);
      app.replaceChildren();
      preact.render(html`<${App} />`, app);
      evalkit.drawn = performance.now();
    } catch (error) {
      app.textContent = error.message;
    }
  }

  // In a single file these scripts stand in the head and the data below them.
  if (document.readyState === "loading") addEventListener("DOMContentLoaded", open);
  else open();
})();
