// The view of a notebook: atoms, and surfaces at a row of isovalues.

export function begin(data) {
  const $ = (id) => document.getElementById(id);
  const message = unpack(Uint8Array.from(atob(data), (c) => c.charCodeAt(0)).buffer);
  const scene = new Scene($("canvas"));
  const draw = () => {
    const k = +$("level").value;
    scene.setLayers({ ...message, layers: message.layers[k], extras: {} }, $("opacity").value / 100, false);
    $("text").textContent = `${message.signed ? "\u00b1" : ""}${message.levels[k]} ${message.unit}`;
    scene.render();
  };
  $("level").max = message.levels.length - 1;
  $("level").value = message.start;
  $("level").oninput = $("opacity").oninput = draw;
  scene.setAtoms(message.atoms, "ball");
  scene.resetView();
  draw();
  window.denser = { scene, message };
}
