// Fingers, mouse, wheel and keys on the picture.

const version = new URL(import.meta.url).search;
const { panned, turned, zoomed } = await import(`./camera.mjs${version}`);

const PIXELS_A_KEY = 12; // of a view 400 pixels high
const OURS_ALONE = new Set(["Delete", "Backspace", "Tab", "Escape"]); // never more than kept from the graph, or left to the browser

/**
 * Let people move the camera on `canvas`.
 * @param {HTMLCanvasElement} canvas
 * @param {{camera: object, move: (camera: object) => void, settle: () => void, keys: Object<string, () => void>}} view
 *   move: a new camera; settle: a movement has ended; keys: what else keys do
 */
export function listen(canvas, view) {
  const pointers = new Map();
  canvas.addEventListener("pointerdown", (event) => {
    canvas.focus({ preventScroll: true }); // the graph leaves wheel and keys to whoever has the focus
    capture(canvas, event.pointerId);
    pointers.set(event.pointerId, event);
    event.preventDefault();
  });
  canvas.addEventListener("pointermove", (event) => {
    if (!pointers.has(event.pointerId)) return;
    const before = [...pointers.values()];
    pointers.set(event.pointerId, event);
    view.move(dragged(view.camera, before, [...pointers.values()], canvas.clientHeight * scaleOf(canvas)));
  });
  for (const kind of ["pointerup", "pointercancel", "lostpointercapture"]) {
    canvas.addEventListener(kind, (event) => {
      if (pointers.delete(event.pointerId)) view.settle();
    });
  }
  canvas.addEventListener("wheel", (event) => {
    if (document.activeElement !== canvas) return; // until it is clicked, the wheel belongs to the graph
    event.preventDefault();
    event.stopPropagation();
    view.move(zoomed(view.camera, Math.exp(event.deltaY * (event.deltaMode === 1 ? 0.04 : 0.0012))));
    view.settle();
  }, { passive: false });
  canvas.addEventListener("keydown", (event) => pressed(event, view));
}

function capture(canvas, pointerId) {
  try {
    canvas.setPointerCapture(pointerId);
  } catch {
    // a made-up event has no pointer to capture; dragging works without
  }
}

/** How much larger the canvas is on the screen than in the page: the graph's zoom. */
function scaleOf(canvas) {
  return canvas.getBoundingClientRect().height / canvas.clientHeight || 1;
}

function dragged(camera, before, now, height) {
  const [from, to] = [middle(before), middle(now)];
  const [right, down] = [to.x - from.x, to.y - from.y];
  if (now.length > 1) return panned(zoomed(camera, spread(before) / Math.max(spread(now), 1)), right, down, height);
  const pans = now[0].shiftKey || (now[0].buttons & 6) !== 0; // right or middle button
  return pans ? panned(camera, right, down, height) : turned(camera, right, down, height);
}

const middle = (events) => ({ x: mean(events.map((event) => event.clientX)), y: mean(events.map((event) => event.clientY)) });
const mean = (values) => values.reduce((total, value) => total + value, 0) / values.length;
const spread = ([one, other]) => Math.max(Math.hypot(one.clientX - other.clientX, one.clientY - other.clientY), 1);

function pressed(event, view) {
  if (event.ctrlKey || event.metaKey || event.altKey || OURS_ALONE.has(event.key)) return;
  const [x, y] = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] }[event.key] ?? [0, 0];
  const act = view.keys[event.key];
  if (x || y) view.move((event.shiftKey ? panned : turned)(view.camera, x * PIXELS_A_KEY, y * PIXELS_A_KEY, 400));
  else if (event.key === "+" || event.key === "=") view.move(zoomed(view.camera, 1 / 1.1));
  else if (event.key === "-") view.move(zoomed(view.camera, 1.1));
  else if (act) act();
  else return;
  event.preventDefault();
  view.settle();
}

/** Two fingers would zoom the graph too, which listens before the viewer is asked; pointer events come all the same. */
function keepTouches(event) {
  if (event.target.closest?.(".bloom4d-viewer")) event.stopPropagation();
}

/** Keep from the graph what happens in the viewer: dragging would move the node, Delete would remove it. */
export function keepToItself(root) {
  for (const kind of ["pointerdown", "pointermove", "pointerup", "mousedown", "contextmenu", "dblclick"]) {
    root.addEventListener(kind, (event) => {
      event.stopPropagation();
      if (kind === "contextmenu") event.preventDefault();
    });
  }
  document.addEventListener("touchmove", keepTouches, true); // the same function again is no second listener
  for (const kind of ["keydown", "keyup"]) {
    root.addEventListener(kind, (event) => {
      if (!event.ctrlKey && !event.metaKey && !event.altKey && event.key !== "Escape") event.stopPropagation();
    });
  }
}
