// The only script of the pack that the browser imports by itself: colours of our links, texts that our nodes
// return, the reason of a failed node as a toast, the presets of a graph in the canvas menu, and the place of the
// 4D viewer, which is loaded when a node needs it.
import { app } from "../../scripts/app.js";
import { api } from "../../scripts/api.js";

const OURS = /^Bloom4D/;
const VERSION = "0.1.0"; // browsers may keep an older viewer otherwise
const viewerModule = (name) => import(`./viewer/${name}.mjs?v=${VERSION}`);

// One lightness; hue by role: scenes green, what judges them violet, cameras blue.
const LINK_COLORS = {
  FIELD_4D: "#8fb573",
  GAUSSIANS_4D: "#c2b36b",
  RENDERER_4D: "#6fb3a0",
  STAGE_4D: "#b58ab0",
  GUIDANCE_4D: "#9a8fc4",
  CAMERAS_4D: "#7fa5c9",
};

/** Give our types their colours. Loading a colour palette blanks every type that it does not know, at any time: keep ours then. */
function keepColors(map) {
  for (const [type, color] of Object.entries(LINK_COLORS)) {
    let current = color;
    Object.defineProperty(map, type, {
      enumerable: true,
      configurable: true,
      get: () => current,
      set: (value) => { current = value || color; },
    });
  }
}

/** The first line of an exception: our errors state there what was given, what is needed and what to change. */
function firstLine(message) {
  return (message ?? "").trim().split("\n")[0];
}

/** The host's own error box only says that a node of ours failed; its reason is two clicks away. */
function showLine(nodeId, nodeType, line) {
  if (!OURS.test(nodeType ?? "") || !line) return;
  const node = app.graph?.getNodeById(nodeId);
  app.extensionManager.toast.add({ severity: "error", summary: node?.title ?? nodeType, detail: line, life: 15000 });
}

function showReason({ detail }) {
  showLine(detail.node_id, detail.node_type, firstLine(detail.exception_message));
}

/** The same for a value that a node of ours rejected before anything ran: the host reports it to nobody who listens. */
function showRejections(queue) {
  return async function () {
    const accepted = await queue.apply(this, arguments);
    for (const [id, node] of accepted ? [] : Object.entries(app.lastNodeErrors ?? {})) {
      const said = node.errors.find(({ type }) => type === "custom_validation_failed");
      showLine(id, node.class_type, firstLine(said?.details.replace(/^\w+ - /, "")));
    }
    return accepted;
  };
}

/** A read-only text below a node's sockets; made once, then refilled. */
function showText(node, text) {
  let widget = node.widgets?.find((candidate) => candidate.name === "bloom4d_text");
  if (!widget) {
    const area = Object.assign(document.createElement("textarea"), { readOnly: true, className: "comfy-multiline-input" });
    area.dataset.captureWheel = "true"; // otherwise the wheel zooms the graph instead of scrolling the text
    widget = node.addDOMWidget("bloom4d_text", "text", area, { serialize: false, hideInPanel: true, getMinHeight: () => 120 });
    widget.serialize = false; // a result does not belong into the saved workflow
    node.setSize([Math.max(node.size[0], 420), Math.max(node.size[1], 220)]);
  }
  widget.element.value = text;
}

/** The widget that is the viewer; its value is the camera that somebody sent, if any: a value is part of what the host caches by. */
function viewerWidget(node, name) {
  const root = document.createElement("div");
  root.dataset.captureWheel = "true"; // otherwise the wheel zooms the graph, once the viewer has the focus
  const held = { camera: null };
  const getValue = () => held.camera ?? undefined;
  const setValue = (camera) => { held.camera = camera || null; };
  const widget = node.addDOMWidget(name, "bloom4d_view", root, { getValue, setValue, hideInPanel: true, hideOnZoom: false, getMinHeight: () => 300 });
  node.bloom4dViewer = viewerModule("node").then(
    ({ attach }) => attach(node, root, held, api),
    (error) => { root.textContent = `The 4D viewer could not be loaded: reload the page. (${error.message})`; },
  );
  node.setSize([Math.max(node.size[0], 440), Math.max(node.size[1], 560)]);
  return { widget };
}

/** A subgraph was entered or left: see takePlace. */
async function placeViewers() {
  for (const node of app.canvas.graph?.nodes ?? []) {
    if (!node.bloom4dViewer) continue;
    const [{ takePlace }, viewer] = [await viewerModule("node"), await node.bloom4dViewer];
    if (viewer) setTimeout(() => takePlace(node, viewer.root), 200);
  }
}

async function showView(node, output) {
  const viewer = await node.bloom4dViewer;
  if (viewer) (await viewerModule("node")).executed(viewer, output);
}

/** The object so far of an optimiser that runs; told only to pages that have the graph open. */
async function showForming({ detail }) {
  (await viewerModule("forming")).show(app.rootGraph, detail);
}

/** A new prompt: what an earlier one said is out of date. Nodes that are cached say it again. */
function clearTexts() {
  for (const node of app.graph?.nodes ?? []) {
    const widget = node.widgets?.find((candidate) => candidate.name === "bloom4d_text");
    if (widget) widget.element.value = "";
  }
}

/** What a right click on the canvas offers for a graph that carries presets. */
function presetItems() {
  const presets = Object.entries(app.rootGraph?.extra?.bloom4d_presets ?? {});
  if (!presets.length) return [];
  const use = (name) => () => import(`./presets.mjs?v=${VERSION}`).then((presets) => presets.use(app, name));
  const options = presets.map(([name, { about }]) => ({ content: name, title: about, callback: use(name) }));
  return [null, { content: "Bloom4D presets", has_submenu: true, submenu: { options } }];
}

app.registerExtension({
  name: "bloom4d",
  getCanvasMenuItems: presetItems,
  beforeRegisterNodeDef(nodeType, nodeData) {
    if (!OURS.test(nodeData.name)) return;
    const before = nodeType.prototype.onExecuted;
    nodeType.prototype.onExecuted = function (output) {
      before?.apply(this, arguments);
      if (output?.bloom4d_view?.length) showView(this, output);
      else if (output?.text?.length) showText(this, output.text.join("\n"));
    };
  },
  getCustomWidgets: () => ({ BLOOM4D_VIEW: viewerWidget }),
  setup() {
    keepColors(app.canvas.default_connection_color_byType);
    keepColors(app.canvas.constructor.link_type_colors);
    api.addEventListener("execution_error", showReason);
    api.addEventListener("execution_start", clearTexts);
    api.addEventListener("bloom4d.forming", showForming);
    app.canvas.canvas.addEventListener("litegraph:set-graph", placeViewers);
    app.queuePrompt = showRejections(app.queuePrompt);
  },
});
