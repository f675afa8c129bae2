// Making elements. Text only ever becomes text: nothing here reads markup.

/**
 * An element with attributes and children; strings become text.
 * @param {string} tag
 * @param {Object<string, string|number|boolean|Function>} attributes a function listens to the event of its name (onclick, ...)
 */
export function make(tag, attributes = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (typeof value === "function") element.addEventListener(name.slice(2), value);
    else element.setAttribute(name, value);
  }
  element.append(...children);
  return element;
}

const SHAPES = {
  play: "M8 5v14l11-7z",
  pause: "M7 5h4v14H7zM13 5h4v14h-4z",
  back: "M7 6h2v12H7zM19 6v12l-8-6z",
  forth: "M15 6h2v12h-2zM5 6v12l8-6z",
  reset: "M12 5a7 7 0 1 1-6.6 4.7l1.9.6A5 5 0 1 0 12 7v3L7.5 6 12 2z",
  picture: "M4 7h4l1.5-2h5L16 7h4v12H4zm8 2.5a3.5 3.5 0 1 0 0 7 3.5 3.5 0 0 0 0-7z",
  send: "M3 11l18-8-6 18-3.2-7.2z",
  full: "M4 4h6v2H6v4H4zM14 4h6v6h-2V6h-4zM4 14h2v4h4v2H4zM18 14h2v6h-6v-2h4z",
  more: "M4 7h9v2H4zm13-1.5h2v5h-2zM4 15h3v2H4zm5-1.5h2v5H9zm4 1.5h7v2h-7z",
};

function drawing(name) {
  const svg = document.createElementNS("http://www.w3.org/2000/svg", "svg");
  for (const [key, value] of Object.entries({ viewBox: "0 0 24 24", width: 18, height: 18, "aria-hidden": "true", focusable: "false" })) svg.setAttribute(key, value);
  const path = document.createElementNS("http://www.w3.org/2000/svg", "path");
  path.setAttribute("d", SHAPES[name]);
  path.setAttribute("fill", "currentColor");
  svg.append(path);
  return svg;
}

/** A button with a drawing; its label is read aloud and shown as a tooltip. */
export function button(name, label, onclick) {
  return make("button", { type: "button", "aria-label": label, title: label, onclick }, drawing(name));
}

/** Another drawing and label on a button. */
export function redraw(target, name, label) {
  target.replaceChildren(drawing(name));
  target.setAttribute("aria-label", label);
  target.title = label;
}

/** A row of a label and what it names. */
export function labelled(text, control) {
  return make("label", {}, make("span", {}, text), control);
}

/** A list of choices: [[value, words], ...]. */
export function choice(label, options, value, onchange) {
  const select = make("select", { "aria-label": label, title: label, onchange: () => onchange(select.value) });
  for (const [key, words] of options) select.append(make("option", { value: key }, words));
  select.value = value;
  return select;
}

/** A slider between two numbers. */
export function slider(label, [min, max, step], value, oninput) {
  const input = make("input", { type: "range", "aria-label": label, title: label, min, max, step, oninput: () => oninput(Number(input.value)) });
  input.value = value;
  return input;
}
