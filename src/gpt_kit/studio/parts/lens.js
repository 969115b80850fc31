// The logit lens: a column for each token, a row for each layer, in every cell what the model would have said next, had it stopped there.
export default function ({ parentElement, data }) {
  const root = parentElement.querySelector(".lens");
  const { tokens, rows } = data;
  const state = root.version === data.version ? root.state : { column: Math.max(0, tokens.length - 2) };
  root.version = data.version;
  root.state = state;
  root.replaceChildren();
  const scroll = make("div", "scroll", undefined, root);
  const table = make("table", "", undefined, scroll);
  const detail = make("div", "detail", undefined, root);
  rows.slice().reverse().forEach((row) => { // the answer on top, as the stream rises
    const line = make("tr", "", undefined, table);
    make("th", "", row.name, line);
    row.cells.forEach((cell, column) => {
      const [word, p] = cell.choices[0];
      const node = make("td", cell.right ? "right" : "", visible(word), line);
      node.style.setProperty("--share", `${Math.round(70 * Math.sqrt(p))}%`);
      node.title = `${visible(word)}  ${percent(p)}`;
      node.dataset.column = column;
      node.onclick = () => choose(column);
    });
  });
  const foot = make("tr", "foot", undefined, table);
  make("th", "", "the text", foot);
  tokens.forEach((token, column) => {
    const node = make("td", "", visible(token), foot);
    node.dataset.column = column;
    node.onclick = () => choose(column);
  });
  choose(state.column);
  table.querySelector("tr.foot td.chosen")?.scrollIntoView({ block: "nearest", inline: "center" });

  function choose(column) {
    state.column = column;
    for (const node of table.querySelectorAll("td")) node.classList.toggle("chosen", Number(node.dataset.column) === column);
    detail.replaceChildren();
    const next = tokens[column + 1];
    make("div", "note", `After “${visible(tokens[column])}”` + (next === undefined ? ", where the text ends" : `, where the text has “${visible(next)}”`), detail);
    const columns = make("div", "columns", undefined, detail);
    for (const row of rows) {
      const box = make("div", "box", undefined, columns);
      const cell = row.cells[column];
      make("div", "head", row.name, box);
      for (const [word, p] of cell.choices) {
        const line = make("div", next === word ? "choice right" : "choice", undefined, box);
        make("span", "bar", undefined, line).style.width = `${100 * p}%`;
        make("span", "word", visible(word), line);
        make("span", "number", percent(p), line);
      }
      make("div", "following", cell.following === null ? "" : `what follows: ${percent(cell.following)}`, box);
    }
  }
}
