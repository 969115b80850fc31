// What all elements of the page share; stands before each of them. Data is set as text, never as markup.
function make(kind, className, text, parent) {
  const node = document.createElement(kind);
  node.className = className;
  if (text !== undefined) node.textContent = text;
  if (parent) parent.appendChild(node);
  return node;
}

// White space and control characters as signs, for a token that stands alone.
function visible(text) {
  if (text === "") return "·";
  const signs = { "\n": "⏎", "\t": "⇥", " ": "␣" };
  return text.replace(/[\u0000-\u0020\u007f]/g, (c) => signs[c] ?? `\\x${c.charCodeAt(0).toString(16).padStart(2, "0")}`);
}

function percent(p) {
  if (p >= 0.9995) return "100 %";
  if (p < 0.0001) return "< 0.01 %";
  return `${(100 * p).toFixed(p < 0.01 ? 2 : 1)} %`;
}

