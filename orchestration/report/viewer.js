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
  const program = turning.program(gl, VERTEX, FRAGMENT);
  if (!program) return;
  gl.useProgram(program);
  gl.enable(gl.DEPTH_TEST);
  const uniform = name => gl.getUniformLocation(program, name);
  const turnAt = uniform("turn"), sizeAt = uniform("size"), lensAt = uniform("lens");
  const bytes = turning.bytes;
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
  function draw(canvas, loaded, look) {
    const side = turning.side(canvas);
    if (gl.isContextLost()) return; // what was drawn last stays
    canvas.width = canvas.height = shared.width = shared.height = side;
    gl.viewport(0, 0, side, side);
    gl.clear(gl.COLOR_BUFFER_BIT | gl.DEPTH_BUFFER_BIT);
    gl.bindVertexArray(loaded.array);
    gl.bindTexture(gl.TEXTURE_2D, loaded.texture);
    gl.uniformMatrix3fv(turnAt, false, turning.matrix(look));
    gl.uniform3fv(sizeAt, loaded.size);
    const away = 4 * loaded.radius; // where the sphere around it just fits at zoom 1, with a margin
    gl.uniform2f(lensAt, away, .95 * look.zoom * Math.sqrt(15));
    gl.drawElements(gl.TRIANGLES, loaded.count, loaded.type, 0);
    canvas.getContext("2d").drawImage(shared, 0, 0); // in this task, before the drawing is gone
  }
  async function show(box) {
    const loaded = await load(JSON.parse(document.getElementById(box.dataset.mesh).textContent));
    turning(box, `${box.dataset.name}, reconstructed: a mesh.`, (canvas, look) => draw(canvas, loaded, look));
    box.classList.add("drawn");
  }
  (async () => {
    for (const box of boxes) await show(box).catch(() => {}); // its note and picture stay
    document.documentElement.dataset.meshes = document.querySelectorAll(".drawn").length;
  })();
})();
