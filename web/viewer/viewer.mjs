// One viewer: a picture, its controls, the object that it shows.

const version = new URL(import.meta.url).search;
const { Controls, checkedSettings } = await import(`./controls.mjs${version}`);
const { checked, fitted, sameView, toLoad3D, fromLoad3D } = await import(`./camera.mjs${version}`);
const { CannotDraw, stage } = await import(`./stage.mjs${version}`);
const { UnreadableFile, readViewerFile, sizeInWords } = await import(`./file.mjs${version}`);
const { advanced, between, stepped } = await import(`./timeline.mjs${version}`);
const { dress } = await import(`./style.mjs${version}`);
const { keepToItself, listen } = await import(`./gestures.mjs${version}`);
const { make } = await import(`./page.mjs${version}`);

export const EMPTY = "Run the workflow to see its object here.";
export const GONE = "The file of this view is gone: ComfyUI empties its temporary folder when it starts. Run the workflow again.";
const LARGE = 96e6; // bytes that are only loaded when somebody says so
const SHARPEST = 2; // device pixels per pixel of the page
const PICTURE = 1024; // least height of a saved picture

/**
 * What a viewer needs of the page around it.
 * @typedef {object} Host
 * @property {(file: object) => Promise<Response>} fetch
 * @property {() => void} remember something that is stored has changed
 * @property {(camera: object|null) => void} send a LOAD3D_CAMERA becomes the node's camera from the next run on, or no longer
 */
export class Viewer {
  /** @param {HTMLElement} root @param {Host} host */
  constructor(root, host) {
    Object.assign(this, { root, host, settings: checkedSettings(), time: { phase: 0, direction: 1, playing: false } });
    Object.assign(this, { file: null, model: null, camera: null, home: null, moved: null, sent: null, turn: 0, frame: 0, shown: false });
    dress();
    this.build();
    this.watch();
    this.say("empty", EMPTY);
  }

  build() {
    const { root } = this;
    root.className = "bloom4d-viewer";
    for (const [name, value] of [["role", "group"], ["aria-label", "4D viewer"]]) root.setAttribute(name, value);
    this.canvas = make("canvas", { tabindex: 0, role: "application", "aria-label": "4D view, empty" });
    this.message = make("div", { class: "b4d-say", role: "status", "aria-live": "polite" });
    this.badge = make("div", { class: "b4d-badge", role: "status", "aria-live": "polite" });
    this.stage = make("div", { class: "b4d-stage b4d-theme" }, this.canvas, make("div", { class: "b4d-ring" }), this.badge, this.message);
    this.note = make("div", { class: "b4d-note" });
    this.controls = new Controls(this);
    root.replaceChildren(this.stage, this.note, ...this.controls.elements);
    this.controls.showSettings();
    this.controls.showObject(null);
    keepToItself(root);
    const keys = { " ": () => this.togglePlay(), PageUp: () => this.step(1), PageDown: () => this.step(-1), 0: () => this.reset() };
    const view = { keys, move: (camera) => this.move(camera), settle: () => this.host.remember() };
    Object.defineProperty(view, "camera", { get: () => this.camera ?? fitted([-1, -1, -1], [2, 2, 2]) });
    listen(this.canvas, view);
    this.canvas.addEventListener("dblclick", () => this.reset());
  }

  watch() {
    this.resized = new ResizeObserver(() => this.request());
    this.resized.observe(this.stage);
    this.seen = new IntersectionObserver((entries) => {
      this.shown = entries.at(-1).isIntersecting;
      this.request();
    });
    this.seen.observe(this.stage);
    this.graphicsChanged = () => {
      this.tell(this.stageOf().lost ? "The graphics were interrupted. The picture comes back by itself; if it does not, reload the page." : "");
      this.request();
    };
  }

  /** The page's stage, watched from the first use on. */
  stageOf() {
    const found = stage();
    found.watchers.add(this.graphicsChanged);
    return found;
  }

  dispose() {
    this.turn += 1;
    this.shown = false;
    cancelAnimationFrame(this.frame);
    this.resized.disconnect();
    this.seen.disconnect();
    this.drop();
    if (this.canDraw) this.stageOf().watchers.delete(this.graphicsChanged);
  }

  drop() {
    if (this.model) this.stageOf().release(this.model);
    this.model = null;
  }

  // -- what is shown ----------------------------------------------------------------------------------------------------------

  /** Words in the place of the picture. */
  say(state, words, ...more) {
    this.root.dataset.state = state;
    this.message.replaceChildren(...(words ? [make("div", {}, words)] : []), ...more);
  }

  /** A few words over the picture. */
  tell(words) {
    this.badge.textContent = words;
  }

  /**
   * Load a file and show it; an earlier request that is still under way is forgotten.
   * @param {object} file as the host names files, with `camera` where the node was given one
   * @param {{text?: string, forming?: boolean, agreed?: boolean}} more
   */
  async show(file, { text = "", forming = false, agreed = false } = {}) {
    const turn = (this.turn += 1);
    if (!forming) {
      this.file = file;
      this.note.textContent = text;
      if (!this.model) this.say("loading", "Loading ...");
    }
    try {
      const sequence = await this.load(file, { text, agreed });
      if (turn === this.turn && sequence) this.put(sequence, fromLoad3D(file.camera), forming);
    } catch (error) {
      if (turn === this.turn && !forming) this.fail(error);
    }
  }

  async load(file, { text, agreed }) {
    const response = await this.host.fetch(file).catch(() => {
      throw new UnreadableFile("ComfyUI does not answer. Start it, and run the workflow again.");
    });
    if (!response.ok) throw new UnreadableFile(response.status === 404 ? GONE : `ComfyUI did not give the file (${response.status}). Run the workflow again.`);
    const size = Number(response.headers.get("content-length"));
    if (size > LARGE && !agreed) {
      await response.body.cancel();
      this.ask(file, text, size);
      return null;
    }
    return readViewerFile(await response.arrayBuffer());
  }

  ask(file, text, size) {
    const agree = make("button", { type: "button", onclick: () => this.show(file, { text, agreed: true }) }, `Load ${sizeInWords(size)}`);
    this.drop();
    this.say("asking", `This object has ${sizeInWords(size)}, which may slow the browser down.`, agree);
  }

  put(sequence, camera, forming) {
    const model = this.stageOf().take(sequence);
    this.canDraw = true;
    this.drop();
    this.model = model;
    this.home = camera ?? fitted(sequence.low, sequence.extent);
    this.camera = this.moved ?? this.home;
    this.time.playing = this.time.playing && sequence.frames > 1;
    this.canvas.setAttribute("aria-label", `4D view of ${sequence.count} Gaussians at ${sequence.frames} times. Arrow keys turn it, plus and minus zoom, 0 resets the view, space plays.`);
    this.controls.showObject(sequence);
    this.tell(forming ? "forming" : "");
    this.say("loading", "");
    this.request();
  }

  fail(error) {
    const rest = error instanceof CannotDraw ? `\nThe run itself is not affected; its file is ${this.file?.filename ?? "in the temporary folder"}.` : "";
    this.drop();
    this.controls.showObject(null);
    this.say("failed", error.message + rest);
    if (!(error instanceof UnreadableFile || error instanceof CannotDraw)) throw error; // a mistake of ours belongs into the console
  }

  // -- time and view ----------------------------------------------------------------------------------------------------------

  get times() {
    return this.model?.sequence.times ?? [0];
  }

  seek(phase) {
    this.time = { ...this.time, phase: Math.min(Math.max(phase, 0), 1) };
    this.request();
  }

  step(direction) {
    this.time = { ...this.time, playing: false, phase: stepped(this.times, this.time.phase, direction) };
    this.request();
  }

  togglePlay() {
    const { phase, playing } = this.time;
    const again = this.settings.mode === "once" && phase >= 1;
    this.time = { phase: !playing && again ? 0 : phase, direction: 1, playing: !playing && this.times.length > 1 };
    this.before = null;
    this.request();
  }

  move(camera) {
    this.camera = this.moved = camera;
    this.request();
  }

  reset() {
    this.moved = null;
    this.camera = this.home;
    this.host.remember();
    this.request();
  }

  set(settings) {
    this.settings = checkedSettings(settings);
    this.controls.showSettings();
    this.host.remember();
    this.request();
  }

  /** The present view becomes the node's camera, or, when it is that already, no longer. */
  send() {
    if (!this.camera) return;
    this.sent = sameView(this.sent, this.camera) ? null : this.camera;
    this.host.send(this.sent && toLoad3D(this.sent, this.canvas.width / this.canvas.height));
    this.tell(this.sent ? "From the next run on the node's camera is this view." : "The node's camera is its input's again, or the usual one.");
    this.request();
  }

  // -- drawing ----------------------------------------------------------------------------------------------------------------

  request() {
    this.frame ||= requestAnimationFrame((now) => this.tick(now));
  }

  tick(now) {
    this.frame = 0;
    if (!this.model || !this.shown) {
      this.before = null; // time stands still while nobody looks
      return;
    }
    const { sequence } = this.model;
    const seconds = this.before ? (now - this.before) / 1000 : 0;
    this.before = this.time.playing ? now : null;
    this.time = advanced(this.time, seconds, { ...this.settings, duration: (sequence.frames - 1) / sequence.fps });
    this.draw();
    if (this.time.playing) this.request();
  }

  draw() {
    const sharpness = Math.min(window.devicePixelRatio || 1, SHARPEST);
    const [width, height] = [this.stage.clientWidth, this.stage.clientHeight].map((length) => Math.max(Math.round(length * sharpness), 1));
    if (this.canvas.width !== width) this.canvas.width = width;
    if (this.canvas.height !== height) this.canvas.height = height;
    try {
      this.paint(this.canvas);
    } catch (error) {
      this.fail(error);
      return;
    }
    this.stage.className = `b4d-stage b4d-${this.settings.background}`;
    this.stage.style.background = this.settings.background === "colour" ? this.settings.colour : "";
    this.controls.showTime(this.model.sequence, this.time);
    this.controls.showSent(Boolean(this.sent) && sameView(this.sent, this.camera));
    if (!this.stageOf().lost) this.root.dataset.state = "ready";
  }

  paint(canvas) {
    this.stageOf().draw(this.model, this.camera, between(this.times, this.time.phase), this.settings, canvas.getContext("2d"));
  }

  /** The present picture as a PNG; without background where the view has none. */
  async savePicture() {
    if (!this.model) return;
    const scale = Math.max(1, PICTURE / this.canvas.height);
    const [drawn, saved] = [document.createElement("canvas"), document.createElement("canvas")];
    for (const canvas of [drawn, saved]) [canvas.width, canvas.height] = [Math.round(this.canvas.width * scale), Math.round(this.canvas.height * scale)];
    this.paint(drawn);
    const context = saved.getContext("2d");
    context.fillStyle = this.settings.background === "checker" ? "transparent" : getComputedStyle(this.stage).backgroundColor;
    context.fillRect(0, 0, saved.width, saved.height);
    context.drawImage(drawn, 0, 0);
    const blob = await new Promise((resolve) => saved.toBlob(resolve, "image/png"));
    const link = make("a", { href: URL.createObjectURL(blob), download: "bloom4d.png" });
    link.click();
    URL.revokeObjectURL(link.href);
  }

  async fullScreen() {
    if (document.fullscreenElement) await document.exitFullscreen();
    else await this.root.requestFullscreen?.();
  }

  // -- what is stored with the workflow ---------------------------------------------------------------------------------------

  stored() {
    return { file: this.file, text: this.note.textContent, view: this.moved, settings: this.settings };
  }

  restore(stored) {
    this.settings = checkedSettings(stored?.settings);
    this.controls.showSettings();
    this.moved = checked(stored?.view);
    const { filename, subfolder = "", type = "temp", camera } = stored?.file ?? {};
    if (![filename, subfolder, type].every((value) => typeof value === "string")) return;
    this.show({ filename, subfolder, type, camera }, { text: typeof stored.text === "string" ? stored.text : "" });
  }

  restoreSent(camera) {
    this.sent = fromLoad3D(camera);
    this.request();
  }
}
