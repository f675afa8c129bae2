// A viewer inside a node: where its files come from, and what of it the workflow keeps.

const version = new URL(import.meta.url).search;
const { Viewer } = await import(`./viewer.mjs${version}`);
const KEPT = "bloom4d_view"; // among the node's properties
const PATIENCE = 200; // milliseconds that the page has to put a new element into its place by itself

/**
 * Put a viewer into `root`.
 * @param {object} node the graph's node
 * @param {HTMLElement} root
 * @param {{camera: object|null}} held what the node's widget hands to a run
 * @param {object} api the host's
 */
export function attach(node, root, held, api) {
  const viewer = new Viewer(root, {
    fetch: (file) => api.fetchApi(`/view?${query(file)}`, { cache: file.stamp ? "no-store" : "default" }),
    remember: () => (node.properties[KEPT] = viewer.stored()),
    send: (camera) => (held.camera = camera),
  });
  const restore = () => {
    viewer.restoreSent(held.camera);
    if (node.properties?.[KEPT]) viewer.restore(node.properties[KEPT]);
  };
  chain(node, "onConfigure", restore); // undo, paste, another tab: the node is made anew and hears of no run
  chain(node, "onRemoved", () => viewer.dispose());
  restore();
  setTimeout(() => takePlace(node, root), PATIENCE);
  return viewer;
}

/**
 * "Nodes 2.0" leaves the element of a node in its place when another graph has a node of the same number there: ours takes it.
 * @param {object} node a node of the graph that is open
 * @param {HTMLElement} root its viewer
 */
export function takePlace(node, root) {
  root.dataset.node = node.id;
  const stale = [...document.querySelectorAll(".bloom4d-viewer")].find((other) => other !== root && other.dataset.node === root.dataset.node);
  if (stale && !root.isConnected) stale.replaceWith(root);
}

function query({ filename, subfolder = "", type = "temp", stamp = "" }) {
  return new URLSearchParams({ filename, subfolder, type, ...(stamp ? { stamp } : {}) });
}

function chain(node, name, after) {
  const before = node[name];
  node[name] = function () {
    const result = before?.apply(this, arguments);
    after();
    return result;
  };
}

/** What a run of the node gave. */
export function executed(viewer, { bloom4d_view: [file], text = [] }) {
  viewer.show(file, { text: text.join("\n") });
  viewer.host.remember();
}
