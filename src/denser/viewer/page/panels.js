// The panels on both sides: what the server told, as tables and lists.

import { app, choose, COLOURED, level, offer, offers, opacity, tell } from "./main.js";
import { fillTable, isovalue, sliderAt, sourceText } from "./text.js";

const $ = (id) => document.getElementById(id);

export function panels() {
  const { state } = app;
  const atoms = state.structure;
  $("empty").hidden = !!atoms;
  $("formula").innerHTML = atoms ? atoms.formula.replace(/(\d+)/g, "<sub>$1</sub>") : "No molecule";
  document.title = atoms ? `${atoms.formula} - denser` : "denser";
  $("charge-row").hidden = !atoms;
  $("charge").textContent = atoms && atoms.charge > 0 ? `+${atoms.charge}` : atoms?.charge ?? 0;
  tell("molecule", state.problem);
  fillTable($("values"), state.numbers.map((r) => [r.label, r.value, r.unit, r.source]));
  $("source-text").innerHTML = sourceText(state);
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
  if (app.field !== "none" && !offer()) app.field = "density";
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
    button.innerHTML = k < 9 ? `<kbd>${k + 1}</kbd>` : "";
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
  $("slice-field").value = slices.some((o) => o.name === kept) ? kept : "density";
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
}

export function charges() {
  const { charges: table, charge_kinds: kinds, structure } = app.state;
  tell("charges", table.problem);
  const schemes = Object.keys(kinds).filter((s) => table[s]);
  const rows = [];
  if (structure && schemes.length) {
    rows.push(`<tr><th>Atom</th>${schemes.map((s) => `<th class="n">${kinds[s]}</th>`).join("")}</tr>`);
    structure.symbols.forEach((symbol, i) => {
      const values = schemes.map((s) => `<td class="n">${table[s][i].toFixed(3)}</td>`).join("");
      rows.push(`<tr data-atom="${i}"><td>${symbol}${i + 1}</td>${values}</tr>`);
    });
  }
  $("charges").innerHTML = rows.join("");
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
  if (!state || !state.structure) return void ($("status").textContent = "");
  const parts = [];
  if (state.grid) {
    const source = state.draft ? "<b>draft</b>" : `<b>${state.source}</b>`;
    parts.push(source, `${Math.round(app.roundTrip)} ms`);
    parts.push(`grid ${state.grid.shape.join(" x ")}, ${state.grid.spacing_angstrom.toFixed(3)} \u00c5`);
  }
  $("status").innerHTML = (app.working ? '<span class="busy"></span>' : "") + parts.join(" &middot; ");
  const seconds = app.seconds || {};
  const names = { density: "density", charges: "charges", surfaces: "surfaces and slices", "critical points": "critical points", "one step": "one-step calculation" };
  const rows = Object.entries(names).filter(([k]) => seconds[k] !== undefined)
    .map(([k, label]) => [label, seconds[k] < 1 ? Math.round(1000 * seconds[k]) : seconds[k].toFixed(2), seconds[k] < 1 ? "ms" : "s"]);
  rows.push(["last answer, all in all", Math.round(app.roundTrip), "ms"]);
  fillTable($("times"), rows);
}

export function scales(message) {
  const bar = (scale) => {
    const stops = scale.colours.map((c) => `rgb(${c.join(",")})`).join(",");
    const number = (x) => String(+x.toPrecision(3));
    const middle = scale.low < 0 ? "<span>0</span>" : "";
    return `<div>${scale.label} <span class="unit">${scale.unit}</span></div>`
      + `<div class="colours" style="background:linear-gradient(90deg,${stops})"></div>`
      + `<div class="ends"><span>${number(scale.low)}</span>${middle}<span>${number(scale.high)}</span></div>`
      + (scale.other || scale.steps ? `<div class="ends">${scale.other || `${scale.steps} scale`}</div>` : "");
  };
  const o = offer();
  let html = message.scales.surface ? bar(message.scales.surface) : "";
  if (!html && o?.signed && message.layers.some((l) => l.role === "surface")) {
    html = `<div>${o.label}</div><div class="key"><i style="background:rgb(217,41,36)"></i>+${isovalue(level(), o)}</div>`
      + `<div class="key"><i style="background:rgb(33,84,217)"></i>\u2212${isovalue(level(), o)}</div>`;
  }
  $("scale").innerHTML = html;
  $("scale").hidden = !html;
  $("slice-scale").hidden = !message.scales.slice;
  if (message.scales.slice) $("slice-scale").innerHTML = bar(message.scales.slice);
}
