// Turns Gaussians: sorted anew for every look, drawn from the farthest, each a square as large as it can be seen.
(() => {
  const box = document.querySelector("[data-splats]");
  const shared = document.createElement("canvas");
  const gl = box && shared.getContext("webgl2", {antialias: false});
  if (!gl) return; // the note stays

  const VERTEX = `#version 300 es
    precision highp float; precision highp int;
    uniform sampler2D splats; // three texels each: middle and opacity; covariance xx, xy, xz, yy; yz, zz, packed colour
    uniform mat3 turn; uniform vec2 lens; uniform float side; // as the meshes have them; pixels of the canvas
    in uint which;
    out vec2 at; out vec4 paint;
    vec4 texel(int k) { int n = 3 * int(which) + k; return texelFetch(splats, ivec2(n % 1024, n / 1024), 0); }
    void main() {
      vec4 first = texel(0), second = texel(1), third = texel(2);
      vec3 place = turn * first.xyz;
      float away = lens.x - place.z;
      mat3 own = mat3(second.xyz, second.yw, third.x, second.z, third.xy);
      mat3 seen = turn * own * transpose(turn);
      float slope = .5 * side * lens.y / away; // pixels a unit
      vec3 x = slope * vec3(1, 0, place.x / away), y = slope * vec3(0, 1, place.y / away);
      float a = dot(x, seen * x) + .3, b = dot(x, seen * y), c = dot(y, seen * y) + .3;
      float middle = .5 * (a + c), apart = length(vec2(.5 * (a - c), b));
      float angle = apart > 1e-6 ? .5 * atan(2. * b, a - c) : 0.;
      vec2 along = vec2(cos(angle), sin(angle));
      float reach = sqrt(2. * log(255. * first.w));
      at = reach * vec2(gl_VertexID & 1, gl_VertexID >> 1) * 2. - reach;
      vec2 spread = at.x * sqrt(middle + apart) * along + at.y * sqrt(max(middle - apart, .1)) * vec2(-along.y, along.x);
      uint colour = floatBitsToUint(third.z);
      paint = vec4(uvec3(colour, colour >> 8, colour >> 16) & 255u, 255. * first.w) / 255.;
      gl_Position = vec4(place.xy * lens.y / away + 2. * spread / side, 0, away > .2 * lens.x ? 1. : -1.);
    }`;
  const FRAGMENT = `#version 300 es
    precision highp float;
    in vec2 at; in vec4 paint; out vec4 seen;
    void main() {
      float alpha = min(.999, paint.a * exp(-.5 * dot(at, at)));
      if (alpha < 1. / 255.) discard;
      seen = vec4(paint.rgb * alpha, alpha);
    }`;
  const program = turning.program(gl, VERTEX, FRAGMENT);
  if (!program) return;
  gl.useProgram(program);
  gl.disable(gl.DEPTH_TEST);
  gl.enable(gl.BLEND);
  gl.blendFunc(gl.ONE, gl.ONE_MINUS_SRC_ALPHA); // colours come multiplied with alpha
  const uniform = name => gl.getUniformLocation(program, name);
  const turnAt = uniform("turn"), lensAt = uniform("lens"), sideAt = uniform("side");

  function load(packed) {
    const {bytes} = turning, places = new Uint16Array(bytes(packed.position).buffer), rotations = new Int8Array(bytes(packed.rotation).buffer);
    const scales = bytes(packed.scale), colours = bytes(packed.colour), count = places.length / 3;
    const height = Math.max(1, Math.ceil(3 * count / 1024)), texels = new Float32Array(4 * 1024 * height);
    const packedColours = new Uint32Array(texels.buffer), middles = new Float32Array(3 * count);
    for (let k = 0; k < count; k++) {
      for (let axis = 0; axis < 3; axis++) middles[3 * k + axis] = places[3 * k + axis] / 65535 * packed.unit - packed.middle[axis];
      let q = [0, 1, 2, 3].map(part => rotations[4 * k + part]);
      const long = Math.hypot(...q) || 1;
      const [w, x, y, z] = q.map(part => part / long);
      const columns = [
        [1 - 2 * (y * y + z * z), 2 * (x * y + w * z), 2 * (x * z - w * y)],
        [2 * (x * y - w * z), 1 - 2 * (x * x + z * z), 2 * (y * z + w * x)],
        [2 * (x * z + w * y), 2 * (y * z - w * x), 1 - 2 * (x * x + y * y)],
      ];
      const variance = [0, 1, 2].map(axis => Math.exp(2 * (packed.scales[0] + scales[3 * k + axis] / 255 * (packed.scales[1] - packed.scales[0]))));
      const covariance = (i, j) => variance.reduce((sum, v, axis) => sum + v * columns[axis][i] * columns[axis][j], 0);
      texels.set([...middles.subarray(3 * k, 3 * k + 3), colours[4 * k + 3] / 255], 12 * k);
      texels.set([covariance(0, 0), covariance(0, 1), covariance(0, 2), covariance(1, 1), covariance(1, 2), covariance(2, 2)], 12 * k + 4);
      packedColours[12 * k + 10] = colours[4 * k] | colours[4 * k + 1] << 8 | colours[4 * k + 2] << 16 | 0x3f << 24; // a common float, or some drivers flush it
    }
    gl.bindTexture(gl.TEXTURE_2D, gl.createTexture());
    gl.texImage2D(gl.TEXTURE_2D, 0, gl.RGBA32F, 1024, height, 0, gl.RGBA, gl.FLOAT, texels);
    for (const end of [gl.TEXTURE_MIN_FILTER, gl.TEXTURE_MAG_FILTER]) gl.texParameteri(gl.TEXTURE_2D, end, gl.NEAREST);
    const place = gl.getAttribLocation(program, "which");
    gl.bindBuffer(gl.ARRAY_BUFFER, gl.createBuffer());
    gl.enableVertexAttribArray(place);
    gl.vertexAttribIPointer(place, 1, gl.UNSIGNED_INT, 0, 0);
    gl.vertexAttribDivisor(place, 1);
    return {middles, order: Uint32Array.from({length: count}, (_, k) => k), near: new Float32Array(count), radius: packed.radius};
  }
  function draw(canvas, {middles, order, near, radius}, look) {
    if (gl.isContextLost()) return; // what was drawn last stays
    const side = turning.side(canvas), turn = turning.matrix(look);
    canvas.width = canvas.height = shared.width = shared.height = side;
    for (let k = 0; k < near.length; k++) near[k] = turn[2] * middles[3 * k] + turn[5] * middles[3 * k + 1] + turn[8] * middles[3 * k + 2];
    order.sort((one, other) => near[one] - near[other]);
    gl.bufferData(gl.ARRAY_BUFFER, order, gl.DYNAMIC_DRAW);
    gl.viewport(0, 0, side, side);
    gl.clear(gl.COLOR_BUFFER_BIT);
    gl.uniformMatrix3fv(turnAt, false, turn);
    gl.uniform2f(lensAt, 4 * radius, .95 * look.zoom * Math.sqrt(15));
    gl.uniform1f(sideAt, side);
    gl.drawArraysInstanced(gl.TRIANGLE_STRIP, 0, 4, order.length);
    canvas.getContext("2d").drawImage(shared, 0, 0); // in this task, before the drawing is gone
  }
  const loaded = load(JSON.parse(document.getElementById(box.dataset.splats).textContent));
  turning(box, "A reconstruction as Gaussians.", (canvas, look) => draw(canvas, loaded, look));
  document.documentElement.dataset.splats = loaded.order.length;
})();
