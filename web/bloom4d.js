// The only script of the pack that the browser imports by itself: colours of our links, and the reason of a failed node as a toast.
import { app } from "../../scripts/app.js";
import { api } from "../../scripts/api.js";

const OURS = /^Bloom4D/;

// One lightness; hue by role: scenes green, what judges them violet, cameras blue.
const LINK_COLORS = {
  FIELD_4D: "#8fb573",
  RENDERER_4D: "#6fb3a0",
  STAGE_4D: "#b58ab0",
  GUIDANCE_4D: "#9a8fc4",
  CAMERAS_4D: "#7fa5c9",
};

/** The first line of an exception: our errors state there what was given, what is needed and what to change. */
function firstLine(message) {
  return (message ?? "").trim().split("\n")[0];
}

/** The host's own error box only says that a node failed; its reason is two clicks away. */
function showReason({ detail }) {
  const line = firstLine(detail.exception_message);
  if (!OURS.test(detail.node_type ?? "") || !line) return;
  const node = app.graph?.getNodeById(detail.node_id);
  app.extensionManager.toast.add({ severity: "error", summary: node?.title ?? detail.node_type, detail: line, life: 15000 });
}

app.registerExtension({
  name: "bloom4d",
  setup() {
    Object.assign(app.canvas.default_connection_color_byType, LINK_COLORS);
    Object.assign(app.canvas.constructor.link_type_colors, LINK_COLORS);
    api.addEventListener("execution_error", showReason);
  },
});
