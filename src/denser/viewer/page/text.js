// Numbers and texts as people read them.

// An element with properties and children. Children that are not elements become text: names of
// files, models and molecules are never read as HTML.
export function element(tag, properties = {}, ...children) {
  const made = Object.assign(document.createElement(tag), properties);
  made.append(...children);
  return made;
}

export function levelAt(position, offer) {
  return +(offer.low * (offer.high / offer.low) ** (position / 1000)).toPrecision(3);
}

export function sliderAt(level, offer) {
  return Math.round((1000 * Math.log(level / offer.low)) / Math.log(offer.high / offer.low));
}

export function isovalue(level, offer) {
  return `${+level.toPrecision(3)} ${offer.unit === "1" ? "" : offer.unit.replace("^3", "\u00b3").replace("^5", "\u2075").replace("^-3/2", "^(-3/2)")}`.trim();
}

// Rows of [label, value, unit, source].
export function fillTable(table, rows) {
  table.replaceChildren(...rows.map(([label, value, unit = "", source = ""]) => {
    const row = element("tr", {},
      element("td", {}, label),
      element("td", { className: "n" },
        element("span", { className: "value" }, value), " ",
        element("span", { className: "unit" }, unit)),
    );
    if (source) {
      row.dataset.source = source;
      row.title = `from the ${source === "one step" ? "one-step calculation" : source}`;
    }
    return row;
  }));
}

// Where the numbers come from, one line for each source.
export function sourceLines(state) {
  if (!state.grid) return [];
  const where = {
    prediction: `\u25cf predicted by the model \u2018${state.model.name}\u2019`,
    file: "\u25cb from the file",
    "free atoms": "\u25cf superposition of free atoms, while you drag",
  }[state.source];
  return [where, ...(state.has_kohn_sham ? ["\u25a0 from the one-step calculation"] : [])];
}

// A formula with its numbers as subscripts.
export function formulaParts(formula) {
  return formula.split(/(\d+)/).map((part) => (/\d/.test(part) ? element("sub", {}, part) : part));
}

const minus = (a, b) => a.map((x, k) => x - b[k]);
const dot = (a, b) => a.reduce((s, x, k) => s + x * b[k], 0);
const cross = (a, b) => [a[1] * b[2] - a[2] * b[1], a[2] * b[0] - a[0] * b[2], a[0] * b[1] - a[1] * b[0]];
const size = (a) => Math.sqrt(dot(a, a));

// Element and number of an atom; copies in other cells have the number of the first.
export function atomName(atoms, i) {
  return `${atoms.symbols[i]}${(i % atoms.n_atoms) + 1}`;
}

// Distance of two atoms, angle of three, dihedral of four.
export function angleText(atoms, selection) {
  const p = selection.map((i) => atoms.positions[i]);
  const names = selection.map((i) => atomName(atoms, i)).join("\u2013");
  const degrees = (x) => `${((180 * x) / Math.PI).toFixed(1)}\u00b0`;
  if (p.length === 1) return `${names}  (${p[0].map((x) => x.toFixed(3)).join(", ")}) \u00c5`;
  if (p.length === 2) return `${names}  ${size(minus(p[0], p[1])).toFixed(3)} \u00c5`;
  if (p.length === 3) {
    const [u, v] = [minus(p[0], p[1]), minus(p[2], p[1])];
    return `${names}  ${degrees(Math.acos(Math.max(-1, Math.min(1, dot(u, v) / size(u) / size(v)))))}`;
  }
  if (p.length === 4) {
    const [a, b, c] = [minus(p[1], p[0]), minus(p[2], p[1]), minus(p[3], p[2])];
    const [n, m] = [cross(a, b), cross(b, c)];
    return `${names}  ${degrees(Math.atan2(size(b) * dot(a, m), dot(n, m)))}`;
  }
  return "";
}
