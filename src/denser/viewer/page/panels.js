// The panels on both sides: what the server told, as tables and lists.

import { app, choose, COLOURED, level, offer, offers, opacity, tell } from "./main.js";
import { element, fillTable, formulaParts, isovalue, sliderAt, sourceLines } from "./text.js";

const $ = (id) => document.getElementById(id);

export function panels() {
  const { state } = app;
  const atoms = state.structure;
  $("empty").hidden = !!atoms;
  $("formula").replaceChildren(...(atoms ? formulaParts(atoms.formula) : ["No molecule"]));
  document.title = atoms ? `${atoms.formula} - denser` : "denser";
  $("charge-row").hidden = !atoms;
  $("cells").hidden = !atoms?.cell;
  $("charge").textContent = atoms && atoms.charge > 0 ? `+${atoms.charge}` : atoms?.charge ?? 0;
  tell("molecule", state.problem);
  fillTable($("values"), state.numbers.map((r) => [r.label, r.error ? `${r.value} \u00b1 ${r.error}` : r.value, r.unit, r.source]));
  $("source-text").replaceChildren(...sourceLines(state).map((line) => element("div", {}, line)));
  $("notes").replaceChildren(...[...state.warnings, ...state.notes].map((note) => element("li", {}, note)));
  $("undo").disabled = !state.can_undo;
  $("redo").disabled = !state.can_redo;
  $("one-step").disabled = !state.grid || state.draft || app.stepping;
  $("one-step").textContent = app.stepping ? "Calculating ..." : "Calculate energy and orbitals";
  player();
  fieldList();
  labelKinds();
  charges();
  downloads();
}

function player() {
  const { items, item } = app.state;
  $("player").hidden = items.length < 2;
  const names = items.map((i) => i.name).join("\n");
  if ($("item").dataset.names !== names) {
    $("item").dataset.names = names;
    $("item").replaceChildren(...items.map((i, k) => new Option(i.name, k)));
  }
  $("item").value = item;
}

export function fieldList() {
  const all = offers();
  const orbitals = all.filter((o) => o.name.startsWith("orbital:"));
  if (app.field !== "none" && !offer()) app.field = all[0].name;
  const entries = all.filter((o) => !o.name.startsWith("orbital:"));
  if (orbitals.length) entries.push({ name: app.orbital || "orbital:homo", label: "Orbitals (one step)" });
  entries.push({ name: "none", label: "No surface" });
  const buttons = entries.map((o, k) => {
    const button = document.createElement("button");
    button.type = "button";
    button.setAttribute("role", "radio");
    button.dataset.field = o.name;
    button.title = o.label;
    button.setAttribute("aria-checked", o.name === app.field);
    if (k < 9) button.append(element("kbd", {}, k + 1));
    button.append(o.label);
    button.onclick = () => choose(o.name);
    return button;
  });
  $("fields").replaceChildren(...buttons);
  $("orbital-row").hidden = !app.field.startsWith("orbital:");
  $("orbital").replaceChildren(...orbitals.map((o) => new Option(o.label, o.name)));
  $("orbital").value = app.field;
  const slices = all.filter((o) => o !== COLOURED && o.name !== "nci");
  const kept = $("slice-field").value;
  $("slice-field").replaceChildren(...slices.map((o) => new Option(o.label, o.name)));
  $("slice-field").value = slices.some((o) => o.name === kept) ? kept : slices[0].name;
  levelSlider();
}

export function levelSlider() {
  const o = offer();
  $("opacity").value = 100 * opacity();
  $("opacity-text").textContent = `${Math.round(100 * opacity())} %`;
  $("level").disabled = !o;
  if (!o) return void ($("level-text").textContent = "");
  $("level").value = sliderAt(level(), o);
  $("level-text").textContent = isovalue(level(), o);
}

// The kinds of charges that atoms can be labelled with.
function labelKinds() {
  const known = [...$("labels").options].map((o) => o.value);
  for (const [name, heading] of Object.entries(app.state.charge_kinds)) {
    if (!known.includes(name)) $("labels").append(new Option(`${heading} charges`, name));
  }
  $("labels").querySelector("[value=wrong]").hidden = !app.state.wrong_electrons_e;
}

export function charges() {
  const { charges: table, charge_kinds: kinds, structure } = app.state;
  tell("charges", table.problem);
  const schemes = Object.keys(kinds).filter((s) => table[s]);
  const rows = [];
  if (structure && schemes.length) {
    const n = { className: "n" };
    rows.push(element("tr", {}, element("th", {}, "Atom"), ...schemes.map((s) => element("th", n, kinds[s]))));
    structure.symbols.slice(0, structure.n_atoms).forEach((symbol, i) => {
      const values = schemes.map((s) => element("td", n, table[s][i].toFixed(3)));
      const row = element("tr", {}, element("td", {}, `${symbol}${i + 1}`), ...values);
      row.dataset.atom = i;
      rows.push(row);
    });
  }
  $("charges").replaceChildren(...rows);
}

export function downloads() {
  const o = offer();
  $("download-field").textContent = o ? (app.field === "coloured" ? "Electrostatic potential" : o.label) : "Density";
  const name = { coloured: "esp", none: "density" }[app.field] || app.field;
  $("download-formats").replaceChildren(
    ...app.server.formats.map((suffix) => {
      const button = document.createElement("button");
      button.textContent = suffix;
      button.dataset.file = `field/${name}${suffix}`;
      return button;
    }),
  );
}

export function status() {
  const { state } = app;
  if (!state || !state.structure) return void $("status").replaceChildren();
  const { grid } = state;
  const parts = app.working ? [element("span", { className: "busy" })] : [];
  parts.push(element("b", {}, !grid ? "no density" : state.draft ? "draft" : state.source));
  if (grid) {
    parts.push(` \u00b7 ${Math.round(app.roundTrip)} ms \u00b7 grid ${grid.shape.join(" x ")}, ${grid.spacing_angstrom.toFixed(3)} \u00c5`);
  }
  $("status").replaceChildren(...parts);
  const seconds = app.seconds || {};
  const names = { density: "density", charges: "charges", surfaces: "surfaces and slice", "critical points": "critical points", "one step": "one-step calculation" };
  const rows = Object.entries(names).filter(([k]) => seconds[k] !== undefined)
    .map(([k, label]) => [label, seconds[k] < 1 ? Math.round(1000 * seconds[k]) : seconds[k].toFixed(2), seconds[k] < 1 ? "ms" : "s"]);
  rows.push(["last response, total", Math.round(app.roundTrip), "ms"]);
  fillTable($("times"), rows);
}

const rgb = (colour) => `rgb(${colour.map((c) => Math.round(c)).join(",")})`;

// A colour scale with its label, its ends and what else is to be said of it.
function bar({ label, unit, colours, low, high, notes }) {
  const number = (x) => element("span", {}, +x.toPrecision(3));
  const scale = element("div", { className: "colours" });
  scale.style.background = `linear-gradient(90deg,${colours.map(rgb).join(",")})`;
  return [
    element("div", {}, `${label} `, element("span", { className: "unit" }, unit)),
    scale,
    element("div", { className: "ends" }, number(low), ...(low < 0 ? [number(0)] : []), number(high)),
    ...notes.map((note) => element("div", { className: "note" }, note)),
  ];
}

// The two colours of a field with a sign.
function key(message) {
  const o = offer();
  const surfaces = message.layers.filter((l) => l.role === "surface");
  if (!o?.signed || !surfaces.length) return [];
  const row = ({ colour, sign }) => {
    const swatch = element("i");
    swatch.style.background = rgb(colour.map((c) => 255 * c));
    const [name, mark] = sign > 0 ? ["blue", "+"] : ["red", "\u2212"];
    return element("div", { className: "key" }, swatch, `${name}: ${mark}${isovalue(level(), o)}`);
  };
  return [element("div", {}, o.label), ...surfaces.map(row)];
}

export function scales(message) {
  const { surface, slice } = message.scales;
  const legend = surface ? bar(surface) : key(message);
  $("scale").replaceChildren(...legend);
  $("scale").hidden = !legend.length;
  $("slice-scale").replaceChildren(...(slice ? bar(slice) : []));
  $("slice-scale").hidden = !slice;
}
