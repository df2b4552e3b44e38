// Editing with the mouse: select, drag, turn, change, add, remove.

const $ = (id) => document.getElementById(id);

export class Sketch {
  constructor(app, { edit, marks, select, tell }) {
    Object.assign(this, { app, edit, marks, select, tell });
    this.drag = null;
    this.turning = { pair: "", degrees: 0 };
    const element = app.scene.element;
    // 3Dmol listens on its canvas; in the capturing phase we are first.
    element.addEventListener("pointerdown", (event) => this.down(event), true);
    element.addEventListener("mousedown", (event) => this.drag && event.stopPropagation(), true);
    element.addEventListener("touchstart", (event) => this.drag && event.stopPropagation(), true);
    window.addEventListener("pointermove", (event) => this.move(event));
    window.addEventListener("pointerup", (event) => this.up(event));
    $("sketch").onclick = () => this.toggle();
    $("change").onclick = () => this.change();
    $("add").onclick = () => this.add();
    $("remove").onclick = () => this.remove();
    $("clean").onclick = () => this.clean();
    $("turn-back").onclick = () => this.turn(-5);
    $("turn-on").onclick = () => this.turn(5);
  }

  toggle(on = !this.app.sketching) {
    this.app.sketching = on;
    $("sketch").setAttribute("aria-pressed", on);
    $("sketch-tools").hidden = !on;
    $("stage").classList.toggle("sketching", on);
    this.tell("sketch");
    this.update();
  }

  pick(symbol) {
    this.app.element = symbol;
    this.update();
  }

  update() {
    const { selection, element, state } = this.app;
    for (const button of $("elements").children) {
      button.setAttribute("aria-checked", button.textContent === element);
    }
    const some = selection.length > 0 && !!state?.structure;
    $("change").disabled = $("remove").disabled = !some;
    $("clean").disabled = !state?.structure;
    $("add").disabled = selection.length !== 1;
    $("turn-back").disabled = $("turn-on").disabled = selection.length !== 2;
    $("hint").textContent = !this.app.sketching || !state?.structure ? ""
      : !some ? "Drag an atom to move it. Click an atom to select it."
        : selection.length === 2 ? "Rotate about the selected bond with the arrow buttons, or with [ and ]." : "";
  }

  // Mouse

  down(event) {
    if (event.button !== 0 || event.ctrlKey || event.metaKey) return;
    const { scene, sketching } = this.app;
    const atom = scene.pick(event.pageX, event.pageY);
    this.start = { x: event.pageX, y: event.pageY, atom, at: event.timeStamp };
    if (!sketching || atom < 0) return;
    event.stopPropagation();
    const moving = [atom];
    if (event.shiftKey) {
      const { bonds, symbols } = scene.atoms;
      for (const [i, j] of bonds) {
        if (i === atom && symbols[j] === "H") moving.push(j);
        if (j === atom && symbols[i] === "H") moving.push(i);
      }
    }
    this.drag = { atom, moving, from: moving.map((i) => [...scene.atoms.positions[i]]), moved: false };
  }

  move(event) {
    const { scene } = this.app;
    if (!this.drag) {
      if (event.buttons === 0 && scene.element.contains(event.target)) {
        $("stage").classList.toggle("over-atom", scene.pick(event.pageX, event.pageY) >= 0);
      }
      return;
    }
    const [dx, dy] = [event.pageX - this.start.x, event.pageY - this.start.y];
    if (!this.drag.moved && Math.hypot(dx, dy) < 4) return;
    this.drag.moved = true;
    this.drag.to = this.drag.from.map((p) => scene.shifted(p, dx, dy, this.drag.from[0]));
    scene.movePreview(this.drag.moving, this.drag.to);
    this.marks();
    scene.render();
    this.edit({ op: "move", atoms: this.drag.moving, positions: this.drag.to }, "sketch", { draft: true });
  }

  up(event) {
    const { start, drag } = this;
    this.start = this.drag = null;
    if (drag?.moved) {
      this.edit({ op: "move", atoms: drag.moving, positions: drag.to });
      return;
    }
    if (!start || !this.app.scene.element.contains(event.target)) return;
    if (Math.hypot(event.pageX - start.x, event.pageY - start.y) < 4) {
      if (start.atom >= 0) this.select(start.atom);
      else if (this.app.selection.length) this.select(-1);
    }
  }

  // Commands

  change() {
    for (const atom of this.app.selection.slice(0, 1)) {
      this.edit({ op: "element", atom, symbol: this.app.element });
    }
  }

  add() {
    if (this.app.selection.length === 1) {
      this.edit({ op: "add", atom: this.app.selection[0], symbol: this.app.element });
    } else this.tell("sketch", "First select the atom to bond the new atom to.");
  }

  remove() {
    const atoms = this.app.selection;
    if (!atoms.length) return this.tell("sketch", "First select the atoms to remove.");
    this.app.selection = [];
    return this.edit({ op: "remove", atoms });
  }

  clean() {
    return this.edit({ op: "clean" });
  }

  turn(degrees) {
    const { selection } = this.app;
    if (selection.length !== 2) return this.tell("sketch", "First select the two atoms of a bond.");
    return this.edit({ op: "turn", atoms: selection, degrees });
  }
}
