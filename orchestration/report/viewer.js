"use strict";
// Turns the meshes of the gallery. One WebGL context draws for every canvas, because browsers allow few of them.
(() => {
  const boxes = [...document.querySelectorAll("[data-mesh]")];
  const shared = document.createElement("canvas");
  const gl = boxes.length && shared.getContext("webgl2", {antialias: true});
  if (!gl) return; // the note and the picture stay

  const VERTEX = `#version 300 es
    in vec3 position, normal, colour; in vec2 uv;
    uniform mat3 turn; uniform vec3 size; uniform vec2 lens; // distance of the camera, cotangent of half its angle
    out vec3 facing, paint; out vec2 at;
    void main() {
      vec3 place = turn * (position - .5 * size);
      facing = turn * normal; paint = colour; at = uv;
      float away = lens.x - place.z, near = .5 * lens.x, far = 2. * lens.x;
      gl_Position = vec4(place.xy * lens.y, ((far + near) * away - 2. * far * near) / (far - near), away);
    }`;
  const FRAGMENT = `#version 300 es
    precision mediump float;
    in vec3 facing, paint; in vec2 at; uniform sampler2D image; out vec4 seen;
    void main() {
      vec3 way = normalize(facing);
      float light = .7 + .3 * max(0., dot(way.z < 0. ? -way : way, vec3(.27, .53, .8)));
      seen = vec4(texture(image, at).rgb * paint * light, 1);
    }`;
  const program = gl.createProgram();
  for (const [kind, text] of [[gl.VERTEX_SHADER, VERTEX], [gl.FRAGMENT_SHADER, FRAGMENT]]) {
    const shader = gl.createShader(kind);
    gl.shaderSource(shader, text); gl.compileShader(shader); gl.attachShader(program, shader);
  }
  gl.linkProgram(program);
  if (!gl.getProgramParameter(program, gl.LINK_STATUS)) return;
  gl.useProgram(program);
  gl.enable(gl.DEPTH_TEST);
  const uniform = name => gl.getUniformLocation(program, name);
  const turnAt = uniform("turn"), sizeAt = uniform("size"), lensAt = uniform("lens");
  const START = {yaw: -Math.PI / 2 - .45, pitch: .35, zoom: 1}; // nearly as the input view does: along x, from above

  const bytes = text => Uint8Array.from(atob(text), letter => letter.charCodeAt(0));
  const buffer = (target, data) => { const made = gl.createBuffer(); gl.bindBuffer(target, made); gl.bufferData(target, data, gl.STATIC_DRAW); };
  function attribute(name, data, count, type) {
    const place = gl.getAttribLocation(program, name);
    if (!data) return gl.vertexAttrib3f(place, 1, 1, 1);
    buffer(gl.ARRAY_BUFFER, data);
    gl.enableVertexAttribArray(place);
    gl.vertexAttribPointer(place, count, type, true, 0, 0);
  }
  async function load(mesh) {
    const image = mesh.texture && Object.assign(new Image(), {src: mesh.texture});
    if (image) await image.decode();
    const array = gl.createVertexArray(), texture = gl.createTexture(), index = bytes(mesh.index);
    gl.bindVertexArray(array);
    attribute("position", bytes(mesh.position), 3, gl.UNSIGNED_SHORT);
    attribute("normal", bytes(mesh.normal), 3, gl.BYTE);
    attribute("uv", mesh.uv && bytes(mesh.uv), 2, gl.UNSIGNED_SHORT);
    attribute("colour", mesh.colour && bytes(mesh.colour), 3, gl.UNSIGNED_BYTE);
    buffer(gl.ELEMENT_ARRAY_BUFFER, index);
    gl.bindTexture(gl.TEXTURE_2D, texture);
    if (image) gl.texImage2D(gl.TEXTURE_2D, 0, gl.RGBA, gl.RGBA, gl.UNSIGNED_BYTE, image);
    else gl.texImage2D(gl.TEXTURE_2D, 0, gl.RGBA, 1, 1, 0, gl.RGBA, gl.UNSIGNED_BYTE, new Uint8Array([255, 255, 255, 255]));
    gl.texParameteri(gl.TEXTURE_2D, gl.TEXTURE_MIN_FILTER, gl.LINEAR);
    for (const way of [gl.TEXTURE_WRAP_S, gl.TEXTURE_WRAP_T]) gl.texParameteri(gl.TEXTURE_2D, way, gl.CLAMP_TO_EDGE);
    return {array, texture, size: mesh.size, radius: mesh.radius, type: mesh.wide ? gl.UNSIGNED_INT : gl.UNSIGNED_SHORT, count: index.length / (mesh.wide ? 4 : 2)};
  }
  function draw(canvas, loaded, {yaw, pitch, zoom}) {
    const side = Math.max(1, Math.round(canvas.clientWidth * Math.min(2, devicePixelRatio)));
    if (gl.isContextLost()) return; // what was drawn last stays
    canvas.width = canvas.height = shared.width = shared.height = side;
    gl.viewport(0, 0, side, side);
    gl.clear(gl.COLOR_BUFFER_BIT | gl.DEPTH_BUFFER_BIT);
    gl.bindVertexArray(loaded.array);
    gl.bindTexture(gl.TEXTURE_2D, loaded.texture);
    const [c, s, d, t] = [Math.cos(yaw), Math.sin(yaw), Math.cos(pitch), Math.sin(pitch)];
    gl.uniformMatrix3fv(turnAt, false, [c, t * s, -d * s, 0, d, t, s, -t * c, d * c]);
    gl.uniform3fv(sizeAt, loaded.size);
    const away = 4 * loaded.radius; // where the sphere around it just fits at zoom 1, with a margin
    gl.uniform2f(lensAt, away, .95 * zoom * Math.sqrt(15));
    gl.drawElements(gl.TRIANGLES, loaded.count, loaded.type, 0);
    canvas.getContext("2d").drawImage(shared, 0, 0); // in this task, before the drawing is gone
  }
  async function show(box) {
    const loaded = await load(JSON.parse(document.getElementById(box.dataset.mesh).textContent));
    const canvas = document.createElement("canvas"), hint = document.createElement("p");
    const look = {...START};
    let waiting = false;
    const again = () => {
      if (waiting) return;
      waiting = true;
      requestAnimationFrame(() => { waiting = false; draw(canvas, loaded, look); });
    };
    const move = (yaw, pitch, zoom = 1) => {
      look.yaw += yaw;
      look.pitch = Math.max(-1.5, Math.min(1.5, look.pitch + pitch));
      look.zoom = Math.max(.4, Math.min(6, look.zoom * zoom));
      again();
    };
    canvas.tabIndex = 0;
    canvas.setAttribute("role", "img");
    canvas.setAttribute("aria-label", `${box.dataset.name}, reconstructed: a mesh. Arrow keys turn it, plus and minus zoom, 0 puts it back.`);
    canvas.addEventListener("pointerdown", event => canvas.setPointerCapture(event.pointerId));
    canvas.addEventListener("pointermove", event => {
      if (canvas.hasPointerCapture(event.pointerId)) move(event.movementX / 90, event.movementY / 90);
    });
    canvas.addEventListener("wheel", event => {
      if (!event.ctrlKey && !event.metaKey) return; // the page scrolls
      event.preventDefault();
      move(0, 0, Math.exp(-event.deltaY / 300));
    }, {passive: false});
    const back = () => { Object.assign(look, START); again(); };
    canvas.addEventListener("dblclick", back);
    canvas.addEventListener("keydown", event => {
      const does = {
        ArrowLeft: () => move(-.15, 0), ArrowRight: () => move(.15, 0), ArrowUp: () => move(0, -.15), ArrowDown: () => move(0, .15),
        "+": () => move(0, 0, 1.15), "=": () => move(0, 0, 1.15), "-": () => move(0, 0, 1 / 1.15), 0: back,
      }[event.key];
      if (does && !event.ctrlKey && !event.metaKey && !event.altKey) { event.preventDefault(); does(); }
    });
    hint.textContent = "drag to turn";
    hint.className = "hint";
    box.replaceChildren(canvas, hint);
    new ResizeObserver(again).observe(canvas);
    draw(canvas, loaded, look);
    box.classList.add("drawn");
  }
  (async () => {
    for (const box of boxes) await show(box).catch(() => {}); // its note and picture stay
    document.documentElement.dataset.meshes = document.querySelectorAll(".drawn").length;
  })();
})();
