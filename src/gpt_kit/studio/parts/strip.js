// A text as tokens. Each is coloured by how probable it was; a click (or an arrow key) shows its rivals, and one of them can be taken.
// Texts are set as text: nothing here builds markup from data.
const STOPS = [ // log10 of the probability, red, green, blue, opacity: unlikely glows, likely is calm
  [-4, 222, 84, 58, 0.62], [-2, 238, 150, 60, 0.5], [-1, 240, 200, 105, 0.42], [-0.3, 150, 200, 182, 0.42], [0, 72, 158, 160, 0.5],
];
const HUES = [205, 32, 150, 280, 350, 90];

function shade(p) {
  if (p === null || p === undefined) return "transparent";
  const x = Math.max(-4, Math.log10(Math.max(p, 1e-9)));
  const i = Math.max(0, STOPS.findIndex((stop) => x <= stop[0]) - 1);
  const [a, b] = [STOPS[i], STOPS[i + 1]];
  const share = Math.min(1, Math.max(0, (x - a[0]) / (b[0] - a[0])));
  const [red, green, blue, opacity] = [1, 2, 3, 4].map((k) => a[k] + (b[k] - a[k]) * share);
  return `rgba(${red.toFixed(0)}, ${green.toFixed(0)}, ${blue.toFixed(0)}, ${opacity.toFixed(3)})`;
}

export default function ({ parentElement, data, setTriggerValue }) {
  const root = parentElement.querySelector(".strip");
  const tokens = data.tokens;
  if (root.version !== data.version) {
    root.version = data.version;
    root.selected = data.selected;
  }
  root.replaceChildren();
  root.classList.toggle("below", data.panel === "below");
  const text = make("div", "text", undefined, root);
  text.tabIndex = 0;
  text.setAttribute("aria-label", "The text, token by token. Arrow keys go from one to the next");
  const panel = make("div", "panel", undefined, root);
  const nodes = tokens.map((token, i) => drawToken(token, i));
  text.onkeydown = (event) => {
    const step = { ArrowRight: 1, ArrowLeft: -1 }[event.key];
    if (!step || !tokens.length) return;
    event.preventDefault();
    select(Math.min(tokens.length - 1, Math.max(0, (root.selected ?? 0) + step)));
  };
  select(root.selected);

  function drawToken(token, i) {
    const node = make("span", `token ${token.kind}`, undefined, text);
    const lines = token.text.split("\n");
    lines.forEach((line, k) => {
      if (k > 0) {
        make("span", "faint", "⏎", node);
        make("br", "", undefined, node);
      }
      if (line) node.appendChild(document.createTextNode(line));
    });
    if (token.text === "") make("span", "faint", "·", node);
    node.style.background = data.mode === "cut" ? `hsla(${HUES[i % HUES.length]}, 62%, 58%, 0.28)` : shade(token.p);
    node.title = data.mode === "cut" ? `id ${token.id}` : token.p === null ? "" : percent(token.p);
    node.onclick = () => select(i);
    return node;
  }

  function select(i) {
    nodes.forEach((node, k) => node.classList.toggle("selected", k === i));
    root.selected = i;
    panel.replaceChildren();
    if (data.mode !== "cut") drawLegend();
    if (i === null || i === undefined || !tokens[i]) {
      make("p", "hint", data.hint, panel);
      return;
    }
    const token = tokens[i];
    make("div", "name", visible(token.text), panel);
    make("div", "facts", facts(token, i), panel);
    if (token.rivals.length) drawRivals(token, i);
    if (data.mode === "cut") make("p", "hint", "Colours only tell neighbours apart. A dot begins a character that a later token completes.", panel);
  }

  function facts(token, i) {
    const parts = [`token ${i + 1}`, `id ${token.id}`];
    if (data.mode === "cut") parts.push(token.note);
    else if (token.p === null) parts.push("nothing before it");
    else parts.push(percent(token.p), `${Math.max(0, -Math.log2(Math.max(token.p, 1e-38))).toFixed(1)} bits of surprise`);
    return parts.join("  ·  ");
  }

  function drawLegend() {
    const legend = make("div", "legend", undefined, panel);
    for (let k = 0; k <= 96; k += 1) { // as much room for each stretch of the scale
      const [i, share] = [Math.min(3, Math.floor(k / 24)), k / 24 - Math.min(3, Math.floor(k / 24))];
      const exponent = STOPS[i][0] + (STOPS[i + 1][0] - STOPS[i][0]) * share;
      make("span", "", undefined, legend).style.background = shade(10 ** exponent);
    }
    const words = make("div", "scale", undefined, panel);
    for (const word of ["0.01 %", "1 %", "10 %", "50 %", "100 %"]) make("span", "", word, words);
  }

  function drawRivals(token, i) {
    make("div", "heading", data.can_take ? "What could stand here. Take one, and the text goes on from it" : "What could stand here", panel);
    const rows = token.rivals.slice();
    if (token.p !== null && !rows.some((rival) => rival.id === token.id)) rows.push({ id: token.id, text: token.text, p: token.p, far: true });
    for (const rival of rows) {
      const own = rival.id === token.id;
      if (rival.far) make("div", "gap", "⋮", panel);
      const row = make("button", own ? "rival own" : "rival", undefined, panel);
      row.type = "button";
      row.title = `id ${rival.id}`;
      const bar = make("span", "bar", undefined, row);
      bar.style.width = `${Math.max(0.5, 100 * rival.p)}%`;
      bar.style.background = shade(rival.p);
      make("span", "word", visible(rival.text), row);
      make("span", "number", percent(rival.p), row);
      row.disabled = own || !data.can_take;
      row.onclick = () => setTriggerValue("take", { at: i, token: rival.id });
    }
  }
}
