// The keyboard.

import { app, go, select, sketch } from "./main.js";
import { element } from "./text.js";

const $ = (id) => document.getElementById(id);

const toggle = (id) => () => { $(id).checked = !$(id).checked; $(id).onchange(); };
const KEYS = {
  "?": ["this help", () => $("help").showModal()],
  e: ["switch sketching on or off", () => sketch.toggle()],
  o: ["open a file", () => $("open").click()],
  r: ["centre the view", () => $("reset").click()],
  l: ["next labels", () => {
    $("labels").selectedIndex = ($("labels").selectedIndex + 1) % $("labels").length;
    $("labels").onchange();
  }],
  s: ["show or hide the slice", toggle("slice")],
  d: ["show or hide the dipole arrow", toggle("dipole")],
  p: ["show or hide critical points and bond paths", toggle("points")],
  m: ["wire mesh on or off", toggle("mesh")],
  "+": ["larger isovalue", () => nudge(25)],
  "-": ["smaller isovalue", () => nudge(-25)],
  c: ["sketch: change the selected atoms", () => sketch.change()],
  a: ["sketch: add an atom to the selected one", () => sketch.add()],
  f: ["sketch: clean up the geometry", () => sketch.clean()],
  Delete: ["sketch: remove the selected atoms", () => sketch.remove()],
  "[": ["sketch: rotate about the selected bond", () => sketch.turn(-5)],
  "]": ["sketch: rotate the other way", () => sketch.turn(5)],
  t: ["light or dark background", () => $("theme").click()],
  ArrowLeft: ["previous frame", () => app.state.items.length > 1 && go(-1)],
  ArrowRight: ["next frame", () => app.state.items.length > 1 && go(1)],
  " ": ["play the frames", () => app.state.items.length > 1 && $("play").click()],
  Escape: ["clear the selection", () => { select(-1); $("download").open = false; }],
};
const NAMES = { " ": "Space", ArrowLeft: "\u2190", ArrowRight: "\u2192", Delete: "Del", Escape: "Esc" };
const HELP = [
  ["1 - 9", "choose the surface"], ["Ctrl+Z", "undo; with Shift: redo"],
  ...Object.entries(KEYS).map(([key, [text]]) => [NAMES[key] || key.toUpperCase(), text]),
];

function nudge(by) {
  if ($("level").disabled) return;
  $("level").value = +$("level").value + by;
  $("level").oninput();
}

export function bindKeys() {
  document.addEventListener("keydown", pressed);
  $("keys").replaceChildren(
    element("tr", {}, element("th", { colSpan: 2 }, "Keys")),
    ...HELP.map((cells) => element("tr", {}, ...cells.map((text) => element("td", {}, text)))),
  );
}

function pressed(event) {
  const typing = event.target.matches?.("input[type=text], input[type=number], select, dialog *");
  if (typing || !app.state) return;
  if ((event.ctrlKey || event.metaKey) && event.key.toLowerCase() === "z") {
    event.preventDefault();
    return void $(event.shiftKey ? "redo" : "undo").click();
  }
  if (event.ctrlKey || event.metaKey || event.altKey) return;
  if (event.target.matches?.("input[type=range]") && event.key.startsWith("Arrow")) return;
  if (event.target.matches?.("button, input[type=checkbox], summary") && event.key === " ") return;
  const key = event.key.length === 1 ? event.key.toLowerCase() : event.key === "Backspace" ? "Delete" : event.key;
  if (/^[1-9]$/.test(key)) return void $("fields").children[key - 1]?.click();
  if (KEYS[key]) {
    event.preventDefault();
    KEYS[key][1]();
  }
}
