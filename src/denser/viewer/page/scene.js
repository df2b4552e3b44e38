// Atoms, surfaces and what is drawn with them, through 3Dmol. Lengths in angstrom.

const xyz = (p) => ({ x: p[0], y: p[1], z: p[2] });

function turned(q, p, back = false) {
  let [x, y, z, w] = q;
  if (back) [x, y, z] = [-x, -y, -z];
  const t = [2 * (y * p[2] - z * p[1]), 2 * (z * p[0] - x * p[2]), 2 * (x * p[1] - y * p[0])];
  return [
    p[0] + w * t[0] + y * t[2] - z * t[1],
    p[1] + w * t[1] + z * t[0] - x * t[2],
    p[2] + w * t[2] + x * t[1] - y * t[0],
  ];
}

const points = (array, unit = 1) => {
  const out = new Array(array.length / 3);
  for (let i = 0; i < out.length; i++) {
    out[i] = { x: array[3 * i] / unit, y: array[3 * i + 1] / unit, z: array[3 * i + 2] / unit };
  }
  return out;
};

// Larger structures have lines for bonds, so that they turn without a wait, and no more labels.
const MANY = 2500;

export class Scene {
  constructor(element) {
    this.element = element;
    this.viewer = $3Dmol.createViewer(element, { antialias: true, backgroundAlpha: 1 });
    this.viewer.setZoomLimits(4, 600);
    this.atoms = null;
    this.model = null;
    this.shapes = { layers: [], marks: [], dipole: [], points: [] };
    this.selected = [];
    this.values = null;  // numbers of the atoms that colour them
    this.theme("light");
    new ResizeObserver(() => this.viewer.resize()).observe(element);
  }

  theme(name) {
    this.dark = name === "dark";
    this.viewer.setBackgroundColor(this.dark ? "#101216" : "#ffffff");
    this.viewer.render();
  }

  render() {
    this.viewer.render();
  }

  // Atoms

  setAtoms(atoms, style) {
    this.atoms = atoms;
    this.style = style;
    if (this.model) this.viewer.removeModel(this.model);
    this.model = null;
    this.clear("cell");
    if (!atoms) return;
    this.model = this.viewer.addModel();
    const bonds = atoms.symbols.map(() => []);
    for (const [i, j] of atoms.bonds) {
      bonds[i].push(j);
      bonds[j].push(i);
    }
    this.model.addAtoms(
      atoms.symbols.map((elem, i) => ({
        elem, ...xyz(atoms.positions[i]), serial: i, index: i, bonds: bonds[i],
        bondOrder: bonds[i].map(() => 1), properties: {},
      })),
    );
    if (atoms.cell) this.addCell(atoms.cell);
    this.applyStyle();
  }

  addCell(cell) {
    const [a, b, c] = cell;
    const sum = (...v) => xyz([0, 1, 2].map((k) => v.reduce((s, u) => s + u[k], 0)));
    const shape = this.shape("cell", { color: "#8a93a3", wireframe: true });
    for (const [u, v, w] of [[a, b, c], [b, c, a], [c, a, b]]) {
      for (const at of [[], [v], [w], [v, w]]) {
        shape.addLine({ start: sum([0, 0, 0], ...at), end: sum(u, ...at) });
      }
    }
  }

  applyStyle() {
    const looks = {
      ball: (c) => ({ stick: { radius: 0.11, ...c }, sphere: { scale: 0.24, ...c } }),
      stick: (c) => ({ stick: { radius: 0.14, ...c } }),
      sphere: (c) => ({ sphere: { scale: 0.62, ...c } }),
      line: (c) => ({ line: { linewidth: 2, ...c } }),
    };
    if (!this.model) return;
    const style = this.atoms.symbols.length > MANY ? "line" : this.style;
    const most = Math.max(...(this.values || []).map(Math.abs)) || 1;
    const colour = ({ serial }) => {
      const [x, c] = [(this.values[serial] || 0) / most, (share) => Math.round(255 * (1 - Math.abs(share)))];
      return x > 0 ? `rgb(${c(x)},${c(0.7 * x)},255)` : `rgb(255,${c(0.7 * x)},${c(x)})`;
    };
    this.model.setStyle({}, looks[style](this.values ? { colorfunc: colour } : { colorscheme: "Jmol" }));
    if (this.selected.length) {
      this.model.setStyle({ serial: this.selected }, looks[this.style]({ color: "#ffb000" }));
    }
  }

  setStyle(style) {
    this.style = style;
    this.applyStyle();
  }

  // Colour the atoms by numbers, from white to blue (positive) or red; null: by elements.
  setColours(values) {
    if (String(this.values) === String(values)) return;
    this.values = values;
    this.applyStyle();
  }

  // Put atoms elsewhere without asking anybody.
  movePreview(indices, positions) {
    indices.forEach((i, k) => { this.atoms.positions[i] = positions[k]; });
    this.setAtoms(this.atoms, this.style);
  }

  // Corners of the cell; none for a molecule.
  corners() {
    if (!this.atoms.cell) return [];
    const [a, b, c] = this.atoms.cell;
    return [0, 1, 2, 3, 4, 5, 6, 7].map((n) => a.map(
      (_, k) => (n & 1 ? a[k] : 0) + (n & 2 ? b[k] : 0) + (n & 4 ? c[k] : 0),
    ));
  }

  resetView() {
    if (!this.atoms) return;
    this.viewer.zoomTo();
    const view = this.viewer.getView();
    const all = [...this.atoms.positions, ...this.corners()];
    const middle = [0, 1, 2].map((k) => {
      const along = all.map((p) => p[k]);
      return -(Math.min(...along) + Math.max(...along)) / 2;
    });
    this.viewer.setView([...(this.atoms.cell ? middle : view.slice(0, 3)), view[3], ...this.atoms.view]);
    // Fill the canvas with the atoms and what surrounds them.
    const { width, height } = this.element.getBoundingClientRect();
    for (let k = 0; k < 3; k++) {
      const places = this.screen([...this.atoms.positions, ...this.corners()]);
      const rim = 2 * 2.1 * this.pixelsPerAngstrom(this.atoms.positions[0]);
      const extent = (axis) => Math.max(...places.map((p) => p[axis])) - Math.min(...places.map((p) => p[axis])) + rim;
      this.viewer.zoom(Math.min(width / extent("x"), (0.92 * height) / extent("y")));
    }
  }

  // Surfaces and lines

  clear(group) {
    for (const shape of this.shapes[group] || []) this.viewer.removeShape(shape);
    this.shapes[group] = [];
  }

  shape(group, options) {
    const shape = this.viewer.addShape(options);
    this.shapes[group].push(shape);
    return shape;
  }

  setLayers(message, opacity, mesh) {
    this.clear("layers");
    this.message = message;
    this.opacity = opacity;
    this.mesh = mesh;
    const { layers, arrays, extras } = message;
    for (const layer of layers) {
      const surface = layer.role === "surface";
      const colour = new $3Dmol.Color(...layer.colour);
      const spec = {
        vertexArr: points(arrays[layer.vertices]),
        normalArr: points(arrays[layer.vertices + 1], 127),
        faceArr: Array.from(arrays[layer.vertices + 2]),
        color: colour,
      };
      if (layer.colours !== undefined) {
        const rgb = arrays[layer.colours];
        spec.color = new Array(rgb.length / 3);
        for (let i = 0; i < spec.color.length; i++) {
          spec.color[i] = new $3Dmol.Color(rgb[3 * i] / 255, rgb[3 * i + 1] / 255, rgb[3 * i + 2] / 255);
        }
      }
      const options = { opacity: surface ? opacity : 0.93, wireframe: surface && mesh, color: spec.color };
      this.shape("layers", options).addCustom(spec);
    }
    if (extras.contours !== undefined) {
      const lines = arrays[extras.contours];
      const shape = this.shape("layers", { color: "#20242c", wireframe: true });
      for (let i = 0; i < lines.length; i += 6) {
        shape.addLine({ start: xyz(lines.slice(i, i + 3)), end: xyz(lines.slice(i + 3, i + 6)) });
      }
    }
    this.setPoints(extras.points);
  }

  restyle(opacity, mesh) {
    if (this.message) this.setLayers(this.message, opacity, mesh);
  }

  setPoints(found) {
    this.clear("points");
    if (!found) return;
    const paths = this.shape("points", { color: this.dark ? "#f0d28a" : "#7a5200" });
    for (const path of found.paths) {
      for (let i = 1; i < path.length; i++) {
        paths.addCylinder({
          start: xyz(path[i - 1]), end: xyz(path[i]), radius: 0.035, fromCap: 1, toCap: 1,
          color: this.dark ? "#f0d28a" : "#7a5200",
        });
      }
    }
    for (const point of found.points) {
      this.shape("points", { color: point.colour })
        .addSphere({ center: xyz(point.position), radius: 0.13, color: point.colour });
    }
  }

  setDipole(dipole, shown) {
    this.clear("dipole");
    if (!shown || !dipole || dipole.norm < 0.005) return;
    const length = Math.min(Math.max(0.8 * dipole.norm, 0.8), 5);
    const half = dipole.vector.map((d) => (0.5 * d * length) / dipole.norm);
    const colour = this.dark ? "#f5c04a" : "#c47f00";
    this.shape("dipole", { color: colour }).addArrow({
      start: xyz(dipole.centre.map((c, k) => c - half[k])),
      end: xyz(dipole.centre.map((c, k) => c + half[k])),
      radius: 0.07, radiusRatio: 2.6, mid: 1 - 0.45 / length, color: colour,
    });
  }

  // Labels and marks

  setLabels(texts, selection, lines) {
    this.viewer.removeAllLabels();
    this.clear("marks");
    if (!this.atoms) return;
    const at = (i) => xyz(this.atoms.positions[i]);
    const look = {
      fontSize: 12, fontColor: this.dark ? "#ffffff" : "#151a22", alignment: "center",
      backgroundColor: this.dark ? "#10131a" : "#ffffff", backgroundOpacity: 0.72, inFront: true,
    };
    const shown = texts.map((text, i) => (text ? i : -1)).filter((i) => i >= 0).slice(0, MANY);
    shown.forEach((i) => this.viewer.addLabel(texts[i], { ...look, position: at(i) }));
    if (String(this.selected) !== String(selection)) {
      this.selected = [...selection];
      this.applyStyle();
    }
    for (const line of lines) {
      const ends = { start: at(line.from), end: at(line.to) };
      this.shape("marks", { color: "#c47f00" })
        .addCylinder({ ...ends, radius: 0.03, dashed: true, color: "#c47f00" });
    }
  }

  // Places on the screen

  screen(positions) {
    return this.viewer.modelToScreen(positions.map(xyz));
  }

  // The atom under a place of the page, the nearest to the eye of those within its disc.
  pick(x, y) {
    if (!this.atoms) return -1;
    const view = this.viewer.getView();
    const q = view.slice(4);
    const places = this.screen(this.atoms.positions);
    const scale = this.pixelsPerAngstrom(this.atoms.positions[0]);
    let best = -1;
    let nearest = -Infinity;
    this.atoms.positions.forEach((p, i) => {
      const reach = Math.max(9, scale * (this.style === "sphere" ? 0.9 : 0.1 + 0.42 * this.atoms.radii[i]));
      if (Math.hypot(places[i].x - x, places[i].y - y) > reach) return;
      const depth = turned(q, p)[2];
      if (depth > nearest) [best, nearest] = [i, depth];
    });
    return best;
  }

  pixelsPerAngstrom(position) {
    const right = this.axes()[0];
    const [a, b] = this.screen([position, position.map((c, k) => c + 0.1 * right[k])]);
    return Math.hypot(a.x - b.x, a.y - b.y) / 0.1;
  }

  // Directions of the screen, right and up, in the model's frame.
  axes() {
    const q = this.viewer.getView().slice(4);
    return [turned(q, [1, 0, 0], true), turned(q, [0, 1, 0], true)];
  }

  // Move a position by pixels in the plane of the screen.
  shifted(position, dx, dy, origin = position) {
    const [right, up] = this.axes();
    const scale = this.pixelsPerAngstrom(origin);
    return position.map((c, k) => c + (dx * right[k] - dy * up[k]) / scale);
  }

  png() {
    this.viewer.render();
    return this.viewer.pngURI();
  }
}
