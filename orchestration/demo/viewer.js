// A mesh in a canvas: reads a GLB with one textured or vertex-coloured mesh, draws it with WebGL, turns it by dragging.
const NUMBERS = {5121: Uint8Array, 5123: Uint16Array, 5125: Uint32Array, 5126: Float32Array};
const WIDTH = {SCALAR: 1, VEC2: 2, VEC3: 3, VEC4: 4};

export async function readGlb(buffer) {
  const view = new DataView(buffer);
  if (view.getUint32(0, true) !== 0x46546c67) throw new Error("no GLB");
  const length = view.getUint32(12, true), tree = JSON.parse(new TextDecoder().decode(new Uint8Array(buffer, 20, length)));
  const start = 20 + length + 8;
  const read = index => {
    const accessor = tree.accessors[index], part = tree.bufferViews[accessor.bufferView];
    const place = start + (part.byteOffset || 0) + (accessor.byteOffset || 0), width = WIDTH[accessor.type];
    const Kind = NUMBERS[accessor.componentType];
    return {width, values: new Kind(buffer.slice(place, place + accessor.count * width * Kind.BYTES_PER_ELEMENT))};
  };
  const primitive = tree.meshes[0].primitives[0], found = {};
  for (const [name, index] of Object.entries(primitive.attributes)) found[name] = read(index);
  const texture = tree.materials?.[primitive.material]?.pbrMetallicRoughness?.baseColorTexture;
  let image = null;
  if (texture && found.TEXCOORD_0) {
    const source = tree.images[tree.textures[texture.index].source], part = tree.bufferViews[source.bufferView];
    const place = start + (part.byteOffset || 0);
    image = await createImageBitmap(new Blob([buffer.slice(place, place + part.byteLength)], {type: source.mimeType}));
  }
  return {attributes: found, indices: Uint32Array.from(read(primitive.indices).values), image};
}

const VERTEX = `
attribute vec3 position, normal; attribute vec2 uv; attribute vec4 colour;
uniform mat3 turn; uniform vec3 centre; uniform float scale, aspect, near;
varying vec3 towards; varying vec2 place; varying vec4 shade;
void main() {
  vec3 p = turn * (position - centre) * scale;
  towards = turn * normal; place = uv; shade = colour;
  float away = near - p.z;
  gl_Position = vec4(p.x * 2.4 / aspect, p.y * 2.4, away - 2.0, away);
}`;
const FRAGMENT = `
precision mediump float;
uniform sampler2D image; uniform bool textured;
varying vec3 towards; varying vec2 place; varying vec4 shade;
void main() {
  vec3 colour = textured ? texture2D(image, place).rgb : shade.rgb;
  float light = 0.72 + 0.28 * abs(normalize(towards).z);  // the colours have their own shading already
  gl_FragColor = vec4(colour * light, 1.0);
}`;

export class Viewer {
  constructor(canvas) {
    this.canvas = canvas; this.yaw = 0.6; this.pitch = 0.35; this.distance = 3.0; this.turning = true;
    const gl = this.gl = canvas.getContext("webgl", {antialias: true});
    if (!gl || !gl.getExtension("OES_element_index_uint")) throw new Error("this browser has no WebGL; download the mesh instead");
    const program = this.program = gl.createProgram();
    for (const [kind, text] of [[gl.VERTEX_SHADER, VERTEX], [gl.FRAGMENT_SHADER, FRAGMENT]]) {
      const shader = gl.createShader(kind);
      gl.shaderSource(shader, text); gl.compileShader(shader);
      if (!gl.getShaderParameter(shader, gl.COMPILE_STATUS)) throw new Error(gl.getShaderInfoLog(shader));
      gl.attachShader(program, shader);
    }
    gl.linkProgram(program); gl.useProgram(program); gl.enable(gl.DEPTH_TEST); gl.clearColor(1, 1, 1, 1);
    this.at = name => gl.getUniformLocation(program, name);
    let last = null;
    canvas.onpointerdown = event => { last = [event.clientX, event.clientY]; this.turning = false; canvas.setPointerCapture(event.pointerId); };
    canvas.onpointerup = () => { last = null; };
    canvas.onpointermove = event => {
      if (!last) return;
      this.yaw += (event.clientX - last[0]) * 0.01;
      this.pitch = Math.max(-1.5, Math.min(1.5, this.pitch + (event.clientY - last[1]) * 0.01));
      last = [event.clientX, event.clientY];
    };
    canvas.onwheel = event => { event.preventDefault(); this.distance = Math.max(2.2, Math.min(12, this.distance * Math.exp(event.deltaY * 0.001))); };
    const frame = () => { if (this.turning) this.yaw += 0.008; this.draw(); requestAnimationFrame(frame); };
    requestAnimationFrame(frame);
  }

  async show(buffer) {
    const gl = this.gl, mesh = await readGlb(buffer), {POSITION: position} = mesh.attributes;
    const low = [Infinity, Infinity, Infinity], high = [-Infinity, -Infinity, -Infinity];
    position.values.forEach((value, k) => { low[k % 3] = Math.min(low[k % 3], value); high[k % 3] = Math.max(high[k % 3], value); });
    const radius = Math.hypot(...high.map((value, k) => value - low[k])) / 2;
    gl.uniform3fv(this.at("centre"), high.map((value, k) => (value + low[k]) / 2));
    gl.uniform1f(this.at("scale"), 1 / radius);
    for (const old of this.buffers || []) gl.deleteBuffer(old);
    this.buffers = [];
    const fill = (target, values) => { const made = gl.createBuffer(); this.buffers.push(made); gl.bindBuffer(target, made); gl.bufferData(target, values, gl.STATIC_DRAW); };
    for (const [name, key] of [["position", "POSITION"], ["normal", "NORMAL"], ["uv", "TEXCOORD_0"], ["colour", "COLOR_0"]]) {
      const place = gl.getAttribLocation(this.program, name), found = mesh.attributes[key];
      if (place < 0) continue;
      if (!found) { gl.disableVertexAttribArray(place); continue; }
      fill(gl.ARRAY_BUFFER, found.values);
      const bytes = found.values instanceof Uint8Array;
      gl.enableVertexAttribArray(place);
      gl.vertexAttribPointer(place, found.width, bytes ? gl.UNSIGNED_BYTE : gl.FLOAT, bytes, 0, 0);
    }
    fill(gl.ELEMENT_ARRAY_BUFFER, mesh.indices);
    this.count = mesh.indices.length;
    if (this.texture) gl.deleteTexture(this.texture);
    this.texture = gl.createTexture();
    gl.bindTexture(gl.TEXTURE_2D, this.texture);
    gl.texImage2D(gl.TEXTURE_2D, 0, gl.RGBA, gl.RGBA, gl.UNSIGNED_BYTE, mesh.image || new ImageData(1, 1));
    for (const [name, value] of [[gl.TEXTURE_MIN_FILTER, gl.LINEAR], [gl.TEXTURE_MAG_FILTER, gl.LINEAR], [gl.TEXTURE_WRAP_S, gl.CLAMP_TO_EDGE], [gl.TEXTURE_WRAP_T, gl.CLAMP_TO_EDGE]])
      gl.texParameteri(gl.TEXTURE_2D, name, value);
    gl.uniform1i(this.at("textured"), mesh.image ? 1 : 0);
    this.turning = true;
  }

  draw() {
    const gl = this.gl, canvas = this.canvas, ratio = window.devicePixelRatio || 1;
    const width = Math.round(canvas.clientWidth * ratio), height = Math.round(canvas.clientHeight * ratio);
    if (canvas.width !== width || canvas.height !== height) { canvas.width = width; canvas.height = height; }
    gl.viewport(0, 0, width, height); gl.clear(gl.COLOR_BUFFER_BIT | gl.DEPTH_BUFFER_BIT);
    if (!this.count) return;
    const [c, s, d, t] = [Math.cos(this.yaw), Math.sin(this.yaw), Math.cos(this.pitch), Math.sin(this.pitch)];
    gl.uniformMatrix3fv(this.at("turn"), false, [c, t * s, -d * s, 0, d, t, s, -t * c, d * c]);
    gl.uniform1f(this.at("aspect"), width / height); gl.uniform1f(this.at("near"), this.distance);
    gl.drawElements(gl.TRIANGLES, this.count, gl.UNSIGNED_INT, 0);
  }
}
