"use strict";
// Puts a canvas into a box that pointer, keys and wheel turn. `draw(canvas, look)` draws it at a yaw, pitch and zoom.
function turning(box, label, draw) {
  const START = {yaw: -Math.PI / 2 - .45, pitch: .35, zoom: 1}; // nearly as the input view does: along x, from above
  const canvas = document.createElement("canvas"), hint = document.createElement("p");
  const look = {...START};
  let waiting = false;
  const again = () => {
    if (waiting) return;
    waiting = true;
    requestAnimationFrame(() => { waiting = false; draw(canvas, look); });
  };
  const move = (yaw, pitch, zoom = 1) => {
    look.yaw += yaw;
    look.pitch = Math.max(-1.5, Math.min(1.5, look.pitch + pitch));
    look.zoom = Math.max(.4, Math.min(6, look.zoom * zoom));
    again();
  };
  canvas.tabIndex = 0;
  canvas.setAttribute("role", "img");
  canvas.setAttribute("aria-label", `${label} Arrow keys turn it, plus and minus zoom, 0 puts it back.`);
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
  draw(canvas, look);
}
// Columns of the matrix that turns the object before a camera on +z: first about y, then about x.
turning.matrix = ({yaw, pitch}) => {
  const [c, s, d, t] = [Math.cos(yaw), Math.sin(yaw), Math.cos(pitch), Math.sin(pitch)];
  return [c, t * s, -d * s, 0, d, t, s, -t * c, d * c];
};
turning.side = canvas => Math.max(1, Math.round(canvas.clientWidth * Math.min(2, devicePixelRatio)));
turning.bytes = text => Uint8Array.from(atob(text), letter => letter.charCodeAt(0));
turning.program = (gl, vertex, fragment) => {
  const program = gl.createProgram();
  for (const [kind, text] of [[gl.VERTEX_SHADER, vertex], [gl.FRAGMENT_SHADER, fragment]]) {
    const shader = gl.createShader(kind);
    gl.shaderSource(shader, text); gl.compileShader(shader); gl.attachShader(program, shader);
  }
  gl.linkProgram(program);
  return gl.getProgramParameter(program, gl.LINK_STATUS) && program;
};
