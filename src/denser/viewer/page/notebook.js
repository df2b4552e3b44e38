// Views in a notebook or in a page of their own: atoms, and surfaces at a row of isovalues.
//
// Browsers give a page about sixteen WebGL contexts. All views of a page share one: each is drawn
// in turn and copied to a flat canvas of its own. Until its view is drawn, and without WebGL or
// without scripts, a picture stands in its place.

const VERTEX = `#version 300 es
in vec3 position, normal, colour;
uniform mat3 turn;
uniform vec3 centre;
uniform vec2 scale;
uniform float unit, depth;
out vec3 n, c;
void main() {
  vec3 p = turn * (unit * position - centre);
  n = turn * normal;
  c = colour;
  gl_Position = vec4(scale * p.xy, -p.z * depth, 1.0);
}`;

// The light of the pictures in denser.pictures.scene.
const FRAGMENT = `#version 300 es
precision highp float;
in vec3 n, c;
uniform float opacity, side;
out vec4 shown;
void main() {
  vec3 normal = side * normalize(n);
  float lit = max(dot(normal, normalize(vec3(-0.40, 0.62, 0.68))), 0.0);
  float gloss = 0.4 * pow(max(dot(normal, normalize(vec3(-0.40, 0.62, 1.68))), 0.0), 40.0);
  float ambient = opacity < 1.0 ? 0.75 : 0.52;
  vec3 rgb = c * (ambient + (1.0 - ambient) * lit);
  float alpha = opacity;
  if (opacity < 1.0) alpha += (1.0 - opacity) * 0.6 * pow(1.0 - max(normal.z, 0.0), 2.0);
  rgb = mix(rgb, vec3(1.0), gloss);
  shown = vec4(rgb * alpha, alpha);
}`;

// The one context of the page.
class Renderer {
  constructor() {
    this.canvas = document.createElement("canvas");
    this.round = 0; // meshes of an earlier round went with their context
    this.canvas.addEventListener("webglcontextlost", (event) => event.preventDefault());
    this.canvas.addEventListener("webglcontextrestored", () => this.start());
    this.start();
  }

  start() {
    this.round += 1;
    const gl = this.gl = this.canvas.getContext("webgl2", { antialias: true });
    if (!gl) return;
    const program = this.program = gl.createProgram();
    for (const [kind, source] of [[gl.VERTEX_SHADER, VERTEX], [gl.FRAGMENT_SHADER, FRAGMENT]]) {
      const shader = gl.createShader(kind);
      gl.shaderSource(shader, source);
      gl.compileShader(shader);
      gl.attachShader(program, shader);
    }
    gl.linkProgram(program);
    gl.useProgram(program);
    this.place = (name) => gl.getUniformLocation(program, name);
    gl.enable(gl.DEPTH_TEST);
    gl.blendFunc(gl.ONE, gl.ONE_MINUS_SRC_ALPHA);
  }

  get works() {
    return !!this.gl && !this.gl.isContextLost();
  }

  // A mesh on the graphics card; `colour` is one for all vertices, or an array with all of them.
  mesh({ positions, normals, faces, colour, unit = 1 }) {
    const { gl } = this;
    const array = gl.createVertexArray();
    gl.bindVertexArray(array);
    const buffers = [];
    const fill = (target, data) => {
      buffers.push(gl.createBuffer());
      gl.bindBuffer(target, buffers.at(-1));
      gl.bufferData(target, data, gl.STATIC_DRAW);
    };
    const attribute = (name, data) => {
      const place = gl.getAttribLocation(this.program, name);
      if (data.length === 3) {
        gl.disableVertexAttribArray(place);
        return;
      }
      const types = { Int16Array: gl.SHORT, Int8Array: gl.BYTE, Float32Array: gl.FLOAT };
      fill(gl.ARRAY_BUFFER, data);
      gl.enableVertexAttribArray(place);
      gl.vertexAttribPointer(place, 3, types[data.constructor.name], false, 0, 0);
    };
    attribute("position", positions);
    attribute("normal", normals);
    attribute("colour", colour);
    fill(gl.ELEMENT_ARRAY_BUFFER, faces);
    const type = faces instanceof Uint16Array ? gl.UNSIGNED_SHORT : gl.UNSIGNED_INT;
    gl.bindVertexArray(null);
    return { array, buffers, type, n: faces.length, unit, colour: colour.length === 3 ? colour : null };
  }

  remove(meshes) {
    for (const mesh of meshes) {
      this.gl.deleteVertexArray(mesh.array);
      for (const buffer of mesh.buffers) this.gl.deleteBuffer(buffer);
    }
  }

  // Draw opaque meshes, then transparent ones, and copy the picture to a flat canvas.
  draw(target, { turn, centre, scale, depth }, solid, glass, opacity) {
    const { gl, canvas } = this;
    const [width, height] = [target.width, target.height];
    canvas.width = Math.max(canvas.width, width);
    canvas.height = Math.max(canvas.height, height);
    gl.viewport(0, 0, width, height);
    gl.clearColor(1, 1, 1, 1);
    gl.depthMask(true);
    gl.clear(gl.COLOR_BUFFER_BIT | gl.DEPTH_BUFFER_BIT);
    gl.uniformMatrix3fv(this.place("turn"), true, turn);
    gl.uniform3fv(this.place("centre"), centre);
    gl.uniform2f(this.place("scale"), (2 * scale) / width, (2 * scale) / height);
    gl.uniform1f(this.place("depth"), 1 / depth);
    gl.uniform1f(this.place("side"), 1);
    gl.uniform1f(this.place("opacity"), 1);
    gl.disable(gl.BLEND);
    gl.disable(gl.CULL_FACE);
    solid.forEach((mesh) => this.triangles(mesh));
    gl.uniform1f(this.place("opacity"), opacity);
    gl.enable(gl.CULL_FACE);
    if (opacity < 1) {
      gl.enable(gl.BLEND);
      gl.depthMask(false);
    }
    for (const [cull, side] of [[gl.FRONT, -1], [gl.BACK, 1]]) {
      gl.cullFace(cull);
      gl.uniform1f(this.place("side"), side);
      glass.forEach((mesh) => this.triangles(mesh));
    }
    const flat = target.getContext("2d");
    flat.clearRect(0, 0, width, height);
    flat.drawImage(canvas, 0, canvas.height - height, width, height, 0, 0, width, height);
  }

  triangles({ array, type, n, unit, colour }) {
    const { gl } = this;
    gl.uniform1f(this.place("unit"), unit);
    gl.bindVertexArray(array);
    if (colour) gl.vertexAttrib3fv(gl.getAttribLocation(this.program, "colour"), colour);
    gl.drawElements(gl.TRIANGLES, n, type, 0);
  }
}

// Balls and sticks as one mesh; `lines` are the edges of a cell.
function ballsAndSticks({ positions, colours, radii, bonds, lines }) {
  const [p, n, c, f] = [[], [], [], []];
  const many = positions.length > 1500; // fewer triangles, so that it turns without a wait
  const rows = many ? 3 : positions.length > 80 ? 8 : 14;
  const grid = (width, height, at, colour) => {
    const first = p.length / 3;
    for (let i = 0; i <= height; i++) {
      for (let j = 0; j <= width; j++) {
        const [point, normal] = at(j / width, i / height);
        p.push(...point);
        n.push(...normal);
        c.push(...colour);
      }
    }
    for (let i = 0; i < height; i++) {
      for (let j = 0; j < width; j++) {
        const a = first + i * (width + 1) + j;
        f.push(a, a + 1, a + width + 1, a + 1, a + width + 2, a + width + 1);
      }
    }
  };
  const plus = (a, b, s) => a.map((x, k) => x + s * b[k]);
  const ball = (centre, radius, colour) => grid(2 * rows, rows, (u, v) => {
    const [phi, theta] = [2 * Math.PI * u, Math.PI * v];
    const way = [Math.sin(theta) * Math.cos(phi), Math.sin(theta) * Math.sin(phi), Math.cos(theta)];
    return [plus(centre, way, radius), way];
  }, colour);
  const stick = (a, b, radius, colour) => {
    const axis = plus(b, a, -1);
    const length = Math.hypot(...axis) || 1;
    const [x, y, z] = axis.map((d) => d / length);
    const side = Math.abs(z) < 0.9 ? [-y, x, 0] : [0, -z, y];
    const s = Math.hypot(...side);
    const u = side.map((d) => d / s);
    const v = [y * u[2] - z * u[1], z * u[0] - x * u[2], x * u[1] - y * u[0]];
    grid(many ? 4 : 12, 1, (t, along) => {
      const way = plus(u.map((d) => d * Math.cos(2 * Math.PI * t)), v, Math.sin(2 * Math.PI * t));
      return [plus(plus(a, axis, along), way, radius), way];
    }, colour);
  };
  positions.forEach((centre, i) => ball(centre, radii[i], colours[i]));
  for (const [i, j] of bonds) {
    const middle = plus(positions[i], plus(positions[j], positions[i], -1), 0.5);
    stick(positions[i], middle, 0.11, colours[i]);
    stick(middle, positions[j], 0.11, colours[j]);
  }
  for (const [a, b] of lines) stick(a, b, 0.02, [0.45, 0.45, 0.45]);
  return {
    positions: new Float32Array(p), normals: new Float32Array(n), colour: new Float32Array(c),
    faces: new Uint32Array(f),
  };
}

const times = (a, b) => [0, 3, 6].flatMap((i) => [0, 1, 2].map(
  (j) => a[i] * b[j] + a[i + 1] * b[3 + j] + a[i + 2] * b[6 + j],
));

class View {
  constructor(element, message, renderer) {
    Object.assign(this, { element, message, renderer, zoom: 1, turn: message.turn.flat() });
    this.canvas = element.querySelector("canvas");
    this.level = element.querySelector("[name=level]");
    this.opacity = element.querySelector("[name=opacity]");
    this.level.max = message.levels.length - 1;
    this.level.value = message.start;
    this.level.oninput = this.opacity.oninput = () => this.soon();
    this.canvas.onpointerdown = (event) => {
      this.canvas.setPointerCapture(event.pointerId);
      this.canvas.focus({ preventScroll: true });
      this.at = [event.clientX, event.clientY];
    };
    this.canvas.onpointermove = (event) => this.at && this.drag(event);
    this.canvas.onpointerup = this.canvas.onpointercancel = () => { this.at = null; };
    this.canvas.ondblclick = () => this.reset();
    this.canvas.addEventListener("wheel", (event) => {
      if (document.activeElement !== this.canvas) return; // the notebook scrolls
      event.preventDefault();
      this.zoom = Math.min(Math.max(this.zoom * Math.exp(-event.deltaY / 600), 0.2), 20);
      this.soon();
    }, { passive: false });
    new ResizeObserver(() => this.soon()).observe(this.canvas.parentElement);
    renderer.canvas.addEventListener("webglcontextrestored", () => this.soon());
    this.soon();
  }

  reset() {
    [this.zoom, this.turn] = [1, this.message.turn.flat()];
    this.soon();
  }

  drag(event) {
    const [dx, dy] = [event.clientX - this.at[0], event.clientY - this.at[1]];
    this.at = [event.clientX, event.clientY];
    const [a, b] = [dx / 120, dy / 120];
    const aboutUp = [Math.cos(a), 0, Math.sin(a), 0, 1, 0, -Math.sin(a), 0, Math.cos(a)];
    const aboutRight = [1, 0, 0, 0, Math.cos(b), -Math.sin(b), 0, Math.sin(b), Math.cos(b)];
    this.turn = times(aboutRight, times(aboutUp, this.turn));
    this.soon();
  }

  soon() {
    if (!this.waiting) this.waiting = requestAnimationFrame(() => { this.waiting = 0; this.draw(); });
  }

  // Meshes of the atoms and of the chosen isovalue, made when they are first needed.
  meshes(k) {
    const { renderer, message } = this;
    if (this.round !== renderer.round) [this.round, this.atoms, this.made] = [renderer.round, null, {}];
    this.atoms ??= renderer.mesh(ballsAndSticks(message.atoms));
    this.made[k] ??= message.layers[k].map((layer) => renderer.mesh({
      positions: message.arrays[layer.vertices],
      normals: message.arrays[layer.vertices + 1],
      faces: message.arrays[layer.vertices + 2],
      colour: layer.colour,
      unit: message.step,
    }));
    for (const [other, meshes] of Object.entries(this.made)) {
      if (+other === k) continue;
      renderer.remove(meshes);
      delete this.made[other];
    }
    return [[this.atoms], this.made[k]];
  }

  draw() {
    const { canvas, message, renderer } = this;
    const { clientWidth: width, clientHeight: height } = canvas.parentElement;
    if (!width || !height || !renderer.works) return;
    const ratio = window.devicePixelRatio || 1;
    canvas.width = Math.round(width * ratio);
    canvas.height = Math.round(height * ratio);
    const k = +this.level.value;
    const scale = this.zoom * Math.min(canvas.width / message.extent[0], canvas.height / message.extent[1]);
    const camera = { turn: this.turn, centre: message.centre, scale, depth: message.reach };
    renderer.draw(canvas, camera, ...this.meshes(k), this.opacity.value / 100);
    this.element.querySelector("output").textContent =
      `${message.signed ? "\u00b1" : ""}${message.levels[k]} ${message.unit}`;
    this.element.classList.add("live");
  }
}

// Undo _steps of notebook.py: each number is the difference from the one `back` places before.
function summed(steps, back) {
  for (let i = back; i < steps.length; i++) steps[i] += steps[i - back];
}

async function begin(element) {
  if (element.classList.contains("begun")) return;
  element.classList.add("begun");
  const packed = Uint8Array.from(atob(element.dataset.message), (c) => c.charCodeAt(0));
  const stream = new Blob([packed]).stream().pipeThrough(new DecompressionStream("gzip"));
  const message = unpack(await new Response(stream).arrayBuffer());
  for (const { vertices } of message.layers.flat()) {
    summed(message.arrays[vertices], 3);
    summed(message.arrays[vertices + 2], 1);
  }
  const renderer = window.denserRenderer ??= new Renderer();
  if (!renderer.works) {
    element.title = "A picture: this browser has no WebGL to turn the molecule with.";
    return;
  }
  const observer = new IntersectionObserver((entries) => {
    if (!entries.some((entry) => entry.isIntersecting)) return;
    observer.disconnect();
    element.view = new View(element, message, renderer);
  });
  observer.observe(element);
}
