// The page: controls, keyboard, and what follows from them.

import { BadInput, Newest, Server, saveBlob } from "./api.js";
import { Scene } from "./scene.js";
import { bindKeys } from "./keys.js";
import { charges, downloads, fieldList, levelSlider, panels, scales, status } from "./panels.js";
import { angleText, atomName, isovalue, levelAt } from "./text.js";
import { Sketch } from "./sketch.js";

const $ = (id) => document.getElementById(id);
const server = new Server();
const scene = new Scene($("canvas"));
const LEARNED = ["f_plus", "f_minus", "atomic_mean_bohr3"];  // labels that the server computes when asked for
const CELLS = ["cells-a", "cells-b", "cells-c"];
const ELEMENTS = ["H", "C", "N", "O", "F", "P", "S", "Cl"];

export const app = {
  scene, server,
  state: null,          // what the server last told
  field: "density",     // "density", "coloured", "none" or the name of a field
  levels: {},           // isovalue of each field, and opacity
  opacities: {},
  selection: [],
  element: "C",
  sketching: false,
  roundTrip: 0,
  working: 0,           // requests on their way
  frames: 0,            // messages drawn so far
};
window.denser = app;    // for the console, and for tests

// Messages beside the action

export function tell(where, text = "") {
  document.querySelector(`.message[data-for="${where}"]`).textContent = text;
}

// What the page asks for

export const COLOURED = { name: "coloured", label: "Density with potential", unit: "e/bohr^3", level: 0.001, low: 0.0002, high: 0.1, signed: false };

export function offers() {
  const fields = app.state ? app.state.fields : [];
  if (fields[0]?.name === "values") return fields;  // a file of something else than a density
  return [...fields.slice(0, 1), COLOURED, ...fields.slice(1)];
}

export function offer(name = app.field) {
  return offers().find((o) => o.name === name);
}

export function level(name = app.field) {
  return app.levels[name] ?? offer(name)?.level ?? 0.1;
}

// What is read by its colours, or small, is less transparent.
export function opacity() {
  const solid = ["coloured", "nci"].includes(app.field) || app.field.startsWith("orbital:");
  return app.opacities[app.field] ?? (solid ? 0.86 : 0.62);
}

export function show() {
  const wanted = {};
  if (app.field !== "none") {
    wanted.surface = { field: app.field, level: level() };
    if (app.field === "coloured") Object.assign(wanted.surface, { field: "density", colour: "potential" });
  }
  if ($("slice").checked) {
    const field = $("slice-field").value || "density";
    const same = field === app.field ? level() : offer(field)?.level ?? 0.1;
    wanted.slice = {
      field, plane: $("plane").value, offset: $("offset").value / 10, atoms: app.selection.slice(0, 3),
      level: field === "density" ? 0.1 : same,
    };
  }
  wanted.points = $("points").checked;
  if (LEARNED.includes($("labels").value)) wanted.atoms = { values: $("labels").value };
  if (app.state?.structure?.cell) {
    wanted.cells = { atoms: $("cell-atoms").value, repeat: CELLS.map((id) => +$(id).value) };
  }
  return wanted;
}

async function timed(work) {
  const start = performance.now();
  try {
    busy(true);
    return await work();
  } finally {
    app.roundTrip = performance.now() - start;
    busy(false);
  }
}

let slowTimer = 0;
function busy(on) {
  app.working += on ? 1 : -1;
  clearTimeout(slowTimer);
  if (on) slowTimer = setTimeout(status, 250);
  else status();
}

// Draw a message of the server.
function receive(message, recentre = false) {
  if (!message) return;
  if (message.state) app.state = message.state;
  const { charges: shared } = app.seconds || {};
  app.seconds = message.state || shared === undefined ? message.seconds : { charges: shared, ...message.seconds };
  if (message.state) {
    const atoms = app.state.structure;
    app.selection = app.selection.filter((i) => atoms && i < atoms.symbols.length);
    scene.setAtoms(atoms, $("style").value);
    if (recentre) scene.resetView();
  }
  scene.setLayers(message, opacity(), $("mesh").checked);
  scales(message);
  for (const layer of ["surface", "slice", "points", "cells", "atoms"]) tell(layer, message.problems[layer]);
  $("points-text").textContent = message.extras.points?.text || "";
  if (message.extras.points_wanted) findPoints();
  if (message.state) panels();
  if (app.state.charges_wanted) findCharges();
  marks();
  scene.render();
  status();
  app.frames += 1;
}

// Charges follow the density.
async function findCharges() {
  if (app.sharing) return;
  app.sharing = true;
  try {
    const found = await server.charges();
    app.sharing = false;
    if (found.revision === app.state.revision) {
      Object.assign(app.state, { charges: found.charges, charges_wanted: false });
      app.seconds.charges = found.seconds;
      charges();
      marks();
      scene.render();
      status();
    } else if (app.state.charges_wanted) findCharges();
  } catch (error) {
    if (!(error instanceof BadInput)) throw error;
    tell("charges", error.message);
  }
  app.sharing = false;
}

// Critical points take seconds: the page goes on meanwhile.
async function findPoints() {
  if (app.seeking) return;
  app.seeking = true;
  $("points-text").textContent = "Searching ...";
  try {
    const message = await server.points(show());
    app.seeking = false;
    if (message.extras.points || message.extras.points_wanted) receive(message);
  } catch (error) {
    if (!(error instanceof BadInput)) throw error;
    $("points-text").textContent = "";
    tell("points", error.message);
  }
  app.seeking = false;
}

// Drawing again: the newest wish wins, and what was wished with it is not lost.
const drawing = new Newest(async (task) => {
  try {
    const message = await timed(() => server.draw(task.body));
    tell(task.where);
    receive(message, task.recentre);
  } catch (error) {
    if (!(error instanceof BadInput)) throw error;
    tell(task.where, error.message);
    if (task.body.edit && !task.body.draft) await settle();
  }
  status();
});

// After a refused edit: what the server still holds.
async function settle() {
  try {
    receive(await server.draw({ show: show() }));
  } catch { /* told already */ }
}

export function redraw(where = "surface") {
  return drawing.push({ where, body: { show: show(), light: true } });
}

export function edit(change, where = "sketch", options = {}) {
  const body = { edit: { hydrogens: $("hydrogens").checked, ...change }, show: show(), draft: !!options.draft };
  return drawing.push({ where, body, ...options });
}

// The field on the surface

export function choose(name) {
  app.field = name;
  if (name.startsWith("orbital:")) app.orbital = name;
  fieldList();
  downloads();
  return redraw("surface");
}

// Selection, labels, measurement

export function marks() {
  const { state, selection } = app;
  const atoms = state?.structure;
  const kind = $("labels").value;
  let texts = [];
  let values = null;
  if (atoms && kind === "symbols") texts = atoms.symbols;
  else if (atoms && kind === "indices") texts = atoms.symbols.map((_, i) => atomName(atoms, i));
  else if (atoms) {
    const learned = LEARNED.includes(kind) ? scene.message?.extras.atoms?.[kind] : null;
    const known = kind === "wrong" ? state.wrong_electrons_e : state.charges[kind] || learned;
    const digits = { wrong: 3, atomic_mean_bohr3: 1 }[kind] ?? 2;
    const sign = (x) => (state.charges[kind] && x > 0 ? "+" : "");
    if (known) values = atoms.symbols.map((_, i) => known[i % atoms.n_atoms]);
    texts = (values || []).map((x) => sign(x) + x.toFixed(digits));
  }
  scene.setColours($("colour-atoms").checked ? values : null);
  const lines = selection.length > 4 ? [] : selection.slice(1).map((to, k) => ({ from: selection[k], to }));
  scene.setLabels(texts, selection, lines);
  scene.setDipole(state?.dipole, $("dipole").checked);
  const text = atoms ? angleText(atoms, selection) : "";
  $("measure").textContent = text;
  $("measure").hidden = !text;
  document.querySelectorAll("#charges tr[data-atom]").forEach((row) => {
    row.classList.toggle("selected", selection.some((i) => i % atoms.n_atoms === +row.dataset.atom));
  });
  sketch?.update();
}

export function select(atom, extend = true) {
  if (atom < 0) app.selection = [];
  else if (app.selection.includes(atom)) app.selection = app.selection.filter((i) => i !== atom);
  else app.selection = extend ? [...app.selection.slice(-3), atom] : [atom];
  marks();
  scene.render();
  if ($("slice").checked && $("plane").value === "atoms") redraw("slice");
}

export const sketch = new Sketch(app, { edit, marks, select, tell });

// Controls

$("level").oninput = () => {
  app.levels[app.field] = levelAt(+$("level").value, offer());
  $("level-text").textContent = isovalue(level(), offer());
  redraw("surface");
};
$("opacity").oninput = () => {
  app.opacities[app.field] = $("opacity").value / 100;
  restyle();
};
$("mesh").onchange = restyle;
function restyle() {
  levelSlider();
  scene.restyle(opacity(), $("mesh").checked);
  scene.render();
}
$("orbital").onchange = () => choose($("orbital").value);
$("slice").onchange = () => {
  $("slice-options").hidden = !$("slice").checked;
  redraw("slice");
};
for (const id of ["plane", "slice-field"]) $(id).onchange = () => redraw("slice");
$("offset").oninput = () => {
  $("offset-text").textContent = `${($("offset").value / 10).toFixed(1)} \u00c5`;
  redraw("slice");
};
$("style").onchange = () => { scene.setStyle($("style").value); marks(); scene.render(); };
$("colour-atoms").onchange = $("dipole").onchange = () => { marks(); scene.render(); };
$("labels").onchange = () => { marks(); scene.render(); redraw("atoms"); };
$("points").onchange = () => redraw("points");
for (const id of ["cell-atoms", ...CELLS]) {
  $(id).onchange = () => {
    app.selection = [];
    drawing.push({ where: "cells", body: { show: show() }, recentre: true });
  };
}
$("smiles-form").onsubmit = (event) => {
  event.preventDefault();
  app.selection = [];
  edit({ op: "smiles", smiles: $("smiles").value }, "open", { recentre: true });
};
document.querySelectorAll("[data-example]").forEach((button) => {
  button.onclick = () => {
    $("smiles").value = button.dataset.example;
    $("smiles-form").requestSubmit();
  };
});
$("undo").onclick = () => edit({ op: "undo" });
$("redo").onclick = () => edit({ op: "redo" });
$("charge-down").onclick = () => edit({ op: "charge", value: app.state.structure.charge - 1 }, "molecule");
$("charge-up").onclick = () => edit({ op: "charge", value: app.state.structure.charge + 1 }, "molecule");
$("reset").onclick = () => { scene.resetView(); scene.render(); };
$("charges").onclick = (event) => {
  const row = event.target.closest("tr[data-atom]");
  if (row) select(+row.dataset.atom);
};

$("one-step").onclick = async () => {
  app.stepping = true;
  tell("one-step");
  panels();
  try {
    const message = await server.oneStep(show());
    app.stepping = false;
    receive(message);
  } catch (error) {
    if (!(error instanceof BadInput)) throw error;
    tell("one-step", error.message);
  } finally {
    app.stepping = false;
    panels();
    status();
  }
};

// Files

async function openFile(file) {
  if (!file) return;
  tell("open");
  try {
    app.selection = [];
    receive(await timed(() => server.open(file, show())), true);
  } catch (error) {
    if (!(error instanceof BadInput)) throw error;
    tell("open", error.message);
  }
}
$("open").onclick = () => $("file").click();
$("file").onchange = async () => {
  await openFile($("file").files[0]);
  $("file").value = "";
};
let inside = 0;
const stop = (event) => event.preventDefault();
window.addEventListener("dragenter", (event) => { stop(event); $("drop").hidden = ++inside < 1; });
window.addEventListener("dragleave", () => { if (--inside < 1) $("drop").hidden = true; });
window.addEventListener("dragover", stop);
window.addEventListener("drop", (event) => {
  stop(event);
  inside = 0;
  $("drop").hidden = true;
  openFile(event.dataTransfer.files[0]);
});

$("download").onclick = async (event) => {
  const what = event.target.dataset?.file;
  if (!what) return;
  tell("download");
  try {
    if (server.folder) tell("download", `Saved as ${(await server.save(what)).saved}`);
    else await server.download(what);
  } catch (error) {
    if (!(error instanceof BadInput)) throw error;
    tell("download", error.message);
  }
};
$("png").onclick = () => {
  const bytes = Uint8Array.from(atob(scene.png().split(",")[1]), (c) => c.charCodeAt(0));
  saveBlob(new Blob([bytes], { type: "image/png" }), `${app.state?.stem || "view"}.png`);
};
document.addEventListener("click", (event) => {
  if (!$("download").contains(event.target)) $("download").open = false;
});

// Frames

export async function go(step, draft = false) {
  const n = app.state.items.length;
  const item = (app.state.item + step + n) % n;
  await edit({ op: "open", item }, "open", { draft, recentre: false });
}
let playing = false;
async function play() {
  playing = !playing;
  $("play").textContent = playing ? "Stop" : "Play";
  while (playing) {
    const pause = new Promise((resolve) => setTimeout(resolve, 120));
    await go(1, true);
    await pause;
  }
  await go(0);
}
$("previous").onclick = () => go(-1);
$("next").onclick = () => go(1);
$("play").onclick = () => { if (playing) { playing = false; $("play").textContent = "Play"; } else play(); };
$("item").onchange = () => edit({ op: "open", item: +$("item").value }, "open", { recentre: true });

// Theme, help, keyboard

function theme(name) {
  document.documentElement.dataset.theme = name;
  localStorage.setItem("denser-theme", name);
  scene.theme(name);
  if (app.state) { marks(); scene.setPoints(scene.message?.extras.points); scene.render(); }
}
$("theme").onclick = () => theme(document.documentElement.dataset.theme === "dark" ? "light" : "dark");
$("help-button").onclick = () => $("help").showModal();

bindKeys();

// Begin

$("elements").replaceChildren(...ELEMENTS.map((symbol) => {
  const button = document.createElement("button");
  button.textContent = symbol;
  button.setAttribute("role", "radio");
  button.onclick = () => sketch.pick(symbol);
  return button;
}));
const dark = matchMedia("(prefers-color-scheme: dark)").matches;
theme(localStorage.getItem("denser-theme") || (dark ? "dark" : "light"));
try {
  await server.begin();
  await drawing.push({ where: "open", body: { show: show() }, recentre: true });
  if (!app.state.structure) sketch.toggle(true);
} catch (error) {
  tell("open", error.message);
  if (!(error instanceof BadInput)) console.error(error);
}
app.ready = true;
