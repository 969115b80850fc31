// Attention: a small map for every head of every layer, a large one of the chosen head, and the text under the mouse.
// data.weights: one byte a weight (255 is 1), layers · heads · T · T of them, in base64.
export default function ({ parentElement, data }) {
  const root = parentElement.querySelector(".heads");
  const { tokens, layers, heads } = data;
  const size = tokens.length;
  const bytes = Uint8Array.from(atob(data.weights), (character) => character.charCodeAt(0));
  const state = root.version === data.version ? root.state : { layer: data.layer, head: data.head, query: size - 1 };
  root.version = data.version;
  root.state = state;
  const ink = getComputedStyle(root).getPropertyValue("--st-primary-color").trim() || "#33658a";
  const [red, green, blue] = rgb(ink);
  root.replaceChildren();

  const grid = make("div", "grid", undefined, root);
  const detail = make("div", "detail", undefined, root);
  drawGrid();
  const title = make("div", "title", undefined, detail);
  const large = make("canvas", "large", undefined, detail);
  make("div", "note under", "Downwards: the token that looks. Across: what it looks at. Darker is more", detail);
  const side = make("div", "side", undefined, root);
  make("div", "note", "Point at a token: what it looks at lights up", side);
  const text = make("div", "text", undefined, side);
  const list = make("div", "list", undefined, side);
  const nodes = tokens.map((token, i) => {
    const node = make("span", "token", token.replaceAll("\n", "⏎\n") || "·", text);
    node.onmouseenter = () => point(i);
    node.onclick = () => point(i);
    return node;
  });
  large.onmousemove = (event) => point(Math.min(size - 1, Math.floor((event.offsetY / large.clientHeight) * size)));
  choose(state.layer, state.head);

  function weight(layer, head, query, key) {
    return bytes[((layer * heads + head) * size + query) * size + key] / 255;
  }

  function rgb(colour) {
    const probe = document.createElement("canvas").getContext("2d");
    probe.fillStyle = colour;
    probe.fillRect(0, 0, 1, 1);
    return probe.getImageData(0, 0, 1, 1).data;
  }

  function paint(canvas, layer, head) {
    canvas.width = size;
    canvas.height = size;
    const image = new ImageData(size, size);
    for (let query = 0; query < size; query += 1) {
      for (let key = 0; key <= query; key += 1) {
        const opacity = Math.sqrt(weight(layer, head, query, key)); // small weights are seen too
        image.data.set([red, green, blue, Math.round(10 + 245 * opacity)], 4 * (query * size + key));
      }
    }
    canvas.getContext("2d").putImageData(image, 0, 0);
  }

  function drawGrid() {
    const side = Math.max(26, Math.min(74, Math.floor(300 / heads)));
    grid.style.gridTemplateColumns = `auto repeat(${heads}, ${side}px)`;
    make("span", "", "", grid);
    for (let head = 0; head < heads; head += 1) make("span", "label", heads > 6 ? `${head + 1}` : `head ${head + 1}`, grid);
    for (let layer = layers - 1; layer >= 0; layer -= 1) {
      make("span", "label row", heads > 6 ? `${layer + 1}` : `layer ${layer + 1}`, grid);
      for (let head = 0; head < heads; head += 1) {
        const thumb = make("canvas", "thumb", undefined, grid);
        thumb.style.width = thumb.style.height = `${side}px`;
        thumb.dataset.at = `${layer}.${head}`;
        thumb.title = `layer ${layer + 1}, head ${head + 1}`;
        thumb.onclick = () => choose(layer, head);
        paint(thumb, layer, head);
      }
    }
  }

  function choose(layer, head) {
    Object.assign(state, { layer, head });
    for (const thumb of grid.querySelectorAll(".thumb")) thumb.classList.toggle("chosen", thumb.dataset.at === `${layer}.${head}`);
    title.textContent = `Layer ${layer + 1}, head ${head + 1}`;
    paint(large, layer, head);
    point(Math.min(state.query, size - 1));
  }

  function point(query) {
    state.query = query;
    nodes.forEach((node, key) => {
      const share = key <= query ? weight(state.layer, state.head, query, key) : 0;
      node.style.background = `rgba(${red}, ${green}, ${blue}, ${(0.75 * Math.sqrt(share)).toFixed(3)})`;
      node.classList.toggle("query", key === query);
      node.classList.toggle("later", key > query);
    });
    list.replaceChildren();
    make("div", "note", `“${visible(tokens[query])}” looks at`, list);
    const seen = tokens.map((token, key) => [key <= query ? weight(state.layer, state.head, query, key) : -1, token, key]);
    seen.sort((a, b) => b[0] - a[0]);
    for (const [share, token, key] of seen.slice(0, 5).filter(([found]) => found > 0.004)) {
      const row = make("div", "seen", undefined, list);
      const bar = make("span", "bar", undefined, row);
      bar.style.width = `${100 * share}%`;
      make("span", "word", visible(token), row);
      const back = query - key;
      make("span", "number", `${(100 * share).toFixed(0)} % · ${back === 0 ? "itself" : `${back} back`}`, row);
    }
  }
}
