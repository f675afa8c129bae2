// A viewer inside a node: where its files come from, and what of it the workflow keeps.

const version = new URL(import.meta.url).search;
const { Viewer } = await import(`./viewer.mjs${version}`);
const KEPT = "bloom4d_view"; // among the node's properties

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
  return viewer;
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
