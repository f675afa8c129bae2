// One WebGL2 context for all viewers of the page: browsers take the seventeenth away from the first.

const version = new URL(import.meta.url).search; // modules of one release load one another
const { FRAGMENT, ROW, VERTEX } = await import(`./shaders.mjs${version}`);
const { farthestFirst, makeRoom, measure } = await import(`./order.mjs${version}`);
const { pose } = await import(`./camera.mjs${version}`);

/** What the graphics cannot do, in words for the page. */
export class CannotDraw extends Error {}

const PARTS = ["position", "rotation", "logscale", "rgba"]; // in the order of the shader's layers
const UNIFORMS = [...PARTS, "leftLayers", "rightLayers", "share", "pointSize", "leastOpacity", "focal", "low", "extent", "eye", "view", "size"];
let shared = null;

/** The page's stage; CannotDraw without WebGL2. */
export function stage() {
  shared ??= new Stage();
  return shared;
}

class Stage {
  constructor() {
    this.canvas = document.createElement("canvas");
    this.gl = this.canvas.getContext("webgl2", { alpha: true, premultipliedAlpha: true, antialias: false, depth: false, powerPreference: "high-performance" });
    if (!this.gl) throw new CannotDraw("This browser offers no WebGL2, which the 4D view is drawn with.");
    this.lost = false;
    this.generation = 0; // grows when everything on the graphics card was lost
    this.watchers = new Set();
    this.canvas.addEventListener("webglcontextlost", (event) => {
      event.preventDefault(); // otherwise it never comes back
      this.lost = true;
      this.tell();
    });
    this.canvas.addEventListener("webglcontextrestored", () => {
      this.lost = false;
      this.prepare();
      this.tell();
    });
    this.prepare();
  }

  tell() {
    for (const watcher of this.watchers) watcher();
  }

  prepare() {
    const { gl } = this;
    this.generation += 1;
    this.program = linked(gl);
    this.uniforms = Object.fromEntries(UNIFORMS.map((name) => [name, gl.getUniformLocation(this.program, name)]));
    this.order = gl.createBuffer();
    gl.bindVertexArray(gl.createVertexArray());
    gl.bindBuffer(gl.ARRAY_BUFFER, this.order);
    const splat = gl.getAttribLocation(this.program, "splat");
    gl.enableVertexAttribArray(splat);
    gl.vertexAttribIPointer(splat, 1, gl.UNSIGNED_INT, 0, 0);
    gl.vertexAttribDivisor(splat, 1);
    gl.enable(gl.BLEND);
    gl.blendFunc(gl.ONE, gl.ONE_MINUS_SRC_ALPHA); // premultiplied, the far ones first
    gl.pixelStorei(gl.UNPACK_ALIGNMENT, 1);
  }

  /** Make room for a sequence; its textures follow when it is first drawn. */
  take(sequence) {
    const { gl } = this;
    const rows = Math.ceil(sequence.count / ROW);
    if (rows > gl.getParameter(gl.MAX_TEXTURE_SIZE)) throw new CannotDraw(`${sequence.count} Gaussians are more than these graphics hold in a picture. Thin them out before the preview.`);
    if (sequence.frames > gl.getParameter(gl.MAX_ARRAY_TEXTURE_LAYERS)) throw new CannotDraw(`${sequence.frames} times are more than these graphics hold. Retime the object to fewer.`);
    return { sequence, textures: null, generation: 0, room: makeRoom(sequence.count) };
  }

  release(model) {
    if (model.textures && model.generation === this.generation) for (const texture of model.textures) this.gl.deleteTexture(texture);
    model.textures = null;
  }

  /**
   * Draw a model into a 2D canvas of its own.
   * @param {{pointSize: number, leastOpacity: number}} settings
   */
  draw(model, camera, place, settings, context) {
    const { gl } = this;
    if (this.lost) return;
    const { width, height } = context.canvas;
    this.bind(model);
    this.resize(width, height);
    this.set(model.sequence, camera, place, settings, width, height);
    measure(model.sequence, place, pose(camera), model.room.depths);
    gl.bufferData(gl.ARRAY_BUFFER, farthestFirst(model.room), gl.STREAM_DRAW);
    gl.viewport(0, 0, width, height);
    gl.clearColor(0, 0, 0, 0);
    gl.clear(gl.COLOR_BUFFER_BIT);
    gl.drawArraysInstanced(gl.TRIANGLE_STRIP, 0, 4, model.sequence.count);
    context.clearRect(0, 0, width, height);
    context.drawImage(this.canvas, 0, this.canvas.height - height, width, height, 0, 0, width, height);
  }

  /** The canvas only grows: another size for each viewer would make it anew at every picture. */
  resize(width, height) {
    if (this.canvas.width < width) this.canvas.width = width;
    if (this.canvas.height < height) this.canvas.height = height;
  }

  bind(model) {
    const { gl } = this;
    if (model.generation !== this.generation) {
      model.textures = PARTS.map((name) => this.upload(model.sequence[name], model.sequence.count));
      model.generation = this.generation;
      if (gl.getError() === gl.OUT_OF_MEMORY) throw new CannotDraw("The graphics have too little memory for this object. Thin it out, or close other viewers.");
    }
    model.textures.forEach((texture, unit) => {
      gl.activeTexture(gl.TEXTURE0 + unit);
      gl.bindTexture(gl.TEXTURE_2D_ARRAY, texture);
    });
  }

  /** One part as a texture of a layer per time, rows of ROW Gaussians, the last one shorter. */
  upload({ data, width, layers }, count) {
    const { gl } = this;
    const [inside, format, type] = kindOf(gl, data, width);
    const texture = gl.createTexture();
    gl.bindTexture(gl.TEXTURE_2D_ARRAY, texture);
    for (const name of ["MIN_FILTER", "MAG_FILTER"]) gl.texParameteri(gl.TEXTURE_2D_ARRAY, gl[`TEXTURE_${name}`], gl.NEAREST);
    const [full, rest] = [Math.floor(count / ROW), count % ROW];
    gl.texStorage3D(gl.TEXTURE_2D_ARRAY, 1, inside, Math.min(count, ROW), full + (rest ? 1 : 0), layers);
    for (let layer = 0; layer < layers; layer += 1) {
      const start = layer * count * width;
      if (full) gl.texSubImage3D(gl.TEXTURE_2D_ARRAY, 0, 0, 0, layer, ROW, full, 1, format, type, data.subarray(start, start + full * ROW * width));
      if (rest) gl.texSubImage3D(gl.TEXTURE_2D_ARRAY, 0, 0, full, layer, rest, 1, 1, format, type, data.subarray(start + full * ROW * width, start + count * width));
    }
    return texture;
  }

  set(sequence, camera, { left, right, share }, { pointSize, leastOpacity }, width, height) {
    const { gl, uniforms } = this;
    const { right: x, up: y, back: z, eye } = pose(camera);
    const layers = (frame) => PARTS.map((name) => (sequence[name].layers === 1 ? 0 : frame));
    gl.useProgram(this.program);
    PARTS.forEach((name, unit) => gl.uniform1i(uniforms[name], unit));
    gl.uniform4iv(uniforms.leftLayers, layers(left));
    gl.uniform4iv(uniforms.rightLayers, layers(right));
    gl.uniform1f(uniforms.share, share);
    gl.uniform1f(uniforms.pointSize, pointSize);
    gl.uniform1f(uniforms.leastOpacity, leastOpacity);
    gl.uniform1f(uniforms.focal, height / (2 * Math.tan(camera.fov / 2)));
    gl.uniform3fv(uniforms.low, sequence.low);
    gl.uniform3fv(uniforms.extent, sequence.extent);
    gl.uniform3fv(uniforms.eye, eye);
    gl.uniformMatrix3fv(uniforms.view, true, [...x, ...y, ...z]);
    gl.uniform2f(uniforms.size, width, height);
  }
}

function kindOf(gl, data, width) {
  if (data instanceof Uint16Array) return [gl.RGB16UI, gl.RGB_INTEGER, gl.UNSIGNED_SHORT];
  if (data instanceof Int8Array) return [gl.RGBA8I, gl.RGBA_INTEGER, gl.BYTE];
  return width === 3 ? [gl.RGB8UI, gl.RGB_INTEGER, gl.UNSIGNED_BYTE] : [gl.RGBA8UI, gl.RGBA_INTEGER, gl.UNSIGNED_BYTE];
}

function linked(gl) {
  const program = gl.createProgram();
  for (const [kind, source] of [[gl.VERTEX_SHADER, VERTEX], [gl.FRAGMENT_SHADER, FRAGMENT]]) {
    const shader = gl.createShader(kind);
    gl.shaderSource(shader, source);
    gl.compileShader(shader);
    gl.attachShader(program, shader);
  }
  gl.linkProgram(program);
  if (!gl.getProgramParameter(program, gl.LINK_STATUS) && !gl.isContextLost()) {
    const logs = gl.getAttachedShaders(program).map((shader) => gl.getShaderInfoLog(shader));
    throw new CannotDraw(`These graphics do not take the viewer's program: ${[...logs, gl.getProgramInfoLog(program)].join(" ").trim()}`);
  }
  return program;
}
