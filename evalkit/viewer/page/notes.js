/* The page of marks: what a reader marked and noted, and the files to take away. */
"use strict";

(function () {
  const { html, visible, plural, count } = evalkit;

  function Notes() {
    const marks = evalkit.marks.useMarks();
    const tasks = evalkit.report.tasks.map((task, t) => [task, t]).filter(([task]) => marks.of(task.name).size);
    return html`<h1 tabindex="-1">Marks and notes</h1>
      <p class="about">Kept by this browser, for this report. ids.txt is what <code>evalkit run --ids ids.txt</code> takes; labels.jsonl holds notes
        and corrected labels, one sample a line.</p>
      ${marks.lost && html`<p class="warn">This browser keeps nothing for this page: download the files before you close it.</p>`}
      ${!tasks.length && html`<p>Nothing is marked yet. Open a sample and press <kbd>x</kbd>, or write a note beneath it.</p>`}
      ${tasks.map(([task, t]) => html`<${OfTask} task=${task} t=${t} marks=${marks} />`)}`;
  }

  function OfTask({ task, t, marks }) {
    const samples = [...marks.of(task.name)];
    const left = samples.length - marks.ids(task.name).length;
    const several = evalkit.report.tasks.length > 1;
    const file = (name) => (several ? `${task.name.replace(/[^\w.-]+/g, "_")}-${name}` : name);
    return html`<section class="card wide"><h2>${visible(task.name)}</h2>
      <p class="row actions">
        <button onClick=${() => marks.download(file("ids.txt"), marks.idsText(task.name))}>Download ids.txt</button>
        <button onClick=${() => marks.download(file("labels.jsonl"), marks.labels(task.name))}>Download labels.jsonl</button>
        <button class="quiet" onClick=${() => confirm(`Remove ${plural(samples.length, "mark")} of ${task.name}?`) && marks.clear(task.name)}>Remove all</button></p>
      ${left > 0 && html`<p class="warn">${plural(left, "id")} cannot stand on a line of its own and is only in labels.jsonl.</p>`}
      <${evalkit.Scroll}><table class="plain" aria-label="Marked samples"><thead><tr><th scope="col">Sample</th><th scope="col">Note</th><th scope="col">Corrected</th><th scope="col"><span class="for-readers">Remove</span></th></tr></thead>
      <tbody>${samples.slice(0, 500).map(([id, kept]) => html`<tr>
        <th scope="row"><a href=${evalkit.address.samples(t, "", { marked: "yes", sample: id })}><bdi>${visible(id, 60)}</bdi></a></th>
        <td class="wrap"><${evalkit.Text} text=${kept.note} none="" limit=${300} /></td><td class="wrap"><${evalkit.Text} text=${kept.corrected} none="" limit=${300} /></td>
        <td><button class="link" aria-label="Remove ${visible(id)}" onClick=${() => marks.change(task.name, id, { marked: false, note: "", corrected: "" })}>Remove</button></td></tr>`)}</tbody></table></${evalkit.Scroll}>
      ${samples.length > 500 && html`<p class="soft">${count(samples.length - 500)} more are in the files.</p>`}</section>`;
  }

  evalkit.Notes = Notes;
})();
