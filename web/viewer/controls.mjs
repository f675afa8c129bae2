// The bars below the picture.

const version = new URL(import.meta.url).search;
const { button, choice, labelled, make, redraw, slider } = await import(`./page.mjs${version}`);
const { MODES, SPEEDS, frameInWords } = await import(`./timeline.mjs${version}`);

export const DEFAULTS = { mode: "loop", speed: 1, background: "theme", colour: "#ffffff", pointSize: 1, leastOpacity: 0, open: false };
const WORDS = { loop: "loop", "ping-pong": "ping-pong", once: "once" };
const BACKGROUNDS = [["theme", "theme"], ["checker", "transparent"], ["colour", "colour"]];
const ARROW = 0.25; // frames that an arrow key moves the time by

/** Stored settings, each one in range; others become the defaults. */
export function checkedSettings(values) {
  const stored = { ...DEFAULTS, ...(typeof values === "object" ? values : {}) };
  const inRange = (name, low, high) => (Number.isFinite(stored[name]) ? Math.min(Math.max(stored[name], low), high) : DEFAULTS[name]);
  return {
    mode: MODES.includes(stored.mode) ? stored.mode : DEFAULTS.mode,
    speed: SPEEDS.includes(stored.speed) ? stored.speed : DEFAULTS.speed,
    background: BACKGROUNDS.some(([name]) => name === stored.background) ? stored.background : DEFAULTS.background,
    colour: /^#[0-9a-f]{6}$/i.test(stored.colour) ? stored.colour : DEFAULTS.colour,
    pointSize: inRange("pointSize", 0.05, 2),
    leastOpacity: inRange("leastOpacity", 0, 0.95),
    open: stored.open === true,
  };
}

/**
 * The bars of a viewer.
 * @param {object} view what the controls act on: see viewer.mjs
 */
export class Controls {
  constructor(view) {
    this.view = view;
    this.play = button("play", "Play", () => view.togglePlay());
    this.time = slider("Time", [0, 1, 0.01], 0, (frame) => view.seek(frame / this.last));
    this.time.addEventListener("keydown", (event) => this.timeKey(event));
    this.frame = make("output", {}, "");
    this.send = button("send", "Send this view: the node's camera output is this view from the next run on", () => view.send());
    this.more = button("more", "More settings", () => this.change({ open: !view.settings.open }));
    this.panel = this.makePanel();
    this.steps = [button("back", "Frame before", () => view.step(-1)), button("forth", "Frame after", () => view.step(1))];
    this.elements = [
      make("div", { class: "b4d-bar" }, this.steps[0], this.play, this.steps[1], this.time, this.frame),
      make("div", { class: "b4d-bar" }, this.modes(), this.speeds(), make("div", { class: "b4d-room" }), this.more, button("reset", "Reset the view", () => view.reset()),
        button("picture", "Save a picture (PNG)", () => view.savePicture()), this.send, button("full", "Full screen", () => view.fullScreen())),
      this.panel,
    ];
  }

  modes() {
    this.mode = choice("At the end", MODES.map((mode) => [mode, WORDS[mode]]), this.view.settings.mode, (mode) => this.change({ mode }));
    return this.mode;
  }

  speeds() {
    this.speed = choice("Speed", SPEEDS.map((speed) => [speed, `${speed} x`]), this.view.settings.speed, (speed) => this.change({ speed: Number(speed) }));
    return this.speed;
  }

  makePanel() {
    const { settings } = this.view;
    this.background = choice("Background", BACKGROUNDS, settings.background, (background) => this.change({ background }));
    this.colour = make("input", { type: "color", "aria-label": "Background colour", oninput: () => this.change({ colour: this.colour.value, background: "colour" }) });
    this.pointSize = slider("Point size", [0.05, 2, 0.05], settings.pointSize, (pointSize) => this.change({ pointSize }));
    this.leastOpacity = slider("Least opacity", [0, 0.95, 0.05], settings.leastOpacity, (leastOpacity) => this.change({ leastOpacity }));
    return make("div", { class: "b4d-bar", role: "group", "aria-label": "More settings" }, labelled("Background", this.background), this.colour,
      labelled("Point size", this.pointSize), labelled("Hide fainter than", this.leastOpacity));
  }

  change(values) {
    this.view.set({ ...this.view.settings, ...values });
  }

  timeKey(event) {
    const move = { ArrowLeft: -ARROW, ArrowDown: -ARROW, ArrowRight: ARROW, ArrowUp: ARROW }[event.key];
    if (move) this.view.seek((this.view.time.phase * this.last + move) / this.last);
    else if (event.key === "PageUp") this.view.step(1);
    else if (event.key === "PageDown") this.view.step(-1);
    else if (event.key === " ") this.view.togglePlay();
    else return;
    event.preventDefault();
  }

  /** Show the settings as they are. */
  showSettings() {
    const { settings } = this.view;
    for (const name of ["mode", "speed", "background", "colour", "pointSize", "leastOpacity"]) this[name].value = settings[name];
    for (const name of ["pointSize", "leastOpacity"]) this[name].setAttribute("aria-valuetext", `${Math.round(settings[name] * 100)} %`);
    this.panel.hidden = !settings.open;
    this.more.setAttribute("aria-expanded", settings.open);
  }

  /** Another object, or none. */
  showObject(sequence) {
    this.last = sequence ? Math.max(sequence.frames - 1, 1) : 1;
    this.time.max = this.last;
    for (const control of [this.time, this.play, ...this.steps]) control.disabled = !sequence || sequence.frames < 2;
  }

  /** The present time. */
  showTime(sequence, { phase, playing }) {
    const words = frameInWords(sequence.times, phase);
    this.time.value = phase * this.last;
    this.time.setAttribute("aria-valuetext", words);
    this.frame.value = words.replace("frame ", "").replace("of", "/");
    if (this.play.getAttribute("aria-pressed") !== String(playing)) {
      redraw(this.play, playing ? "pause" : "play", "Play");
      this.play.setAttribute("aria-pressed", playing);
    }
  }

  showSent(sent) {
    this.send.setAttribute("aria-pressed", sent);
  }
}
