// Presets that a graph carries in extra.bloom4d_presets: {name: {about, values: {node id: {widget: value}}}}.
// Applying one sets widgets that everybody can see, and nothing else.

/** Set the widgets of a preset; what was changed, what was so already, and what the graph has no more. */
export function apply(graph, preset) {
  const outcome = { changed: [], same: [], missing: [] };
  for (const [id, values] of Object.entries(preset.values)) {
    const node = graph.getNodeById(Number(id));
    for (const [name, value] of Object.entries(values)) {
      const widget = node?.widgets?.find((candidate) => candidate.name === name);
      const said = `${node?.title ?? `node ${id}`}: ${name} ${value}`;
      if (!widget) outcome.missing.push(said);
      else if (widget.value === value) outcome.same.push(said);
      else {
        widget.value = value;
        widget.callback?.(value); // a choice shows the widgets that belong to it
        outcome.changed.push(said);
      }
    }
  }
  graph.setDirtyCanvas(true, true);
  return outcome;
}

/** Apply the preset of this name to the open graph, so that undo takes it back, and say what happened. */
export function use(app, name) {
  const { changed, same, missing } = apply(app.rootGraph, app.rootGraph.extra.bloom4d_presets[name]);
  app.extensionManager.workflow?.activeWorkflow?.changeTracker?.checkState?.();
  const detail = [
    changed.length ? changed.join("\n") : "Every value was so already.",
    same.length && changed.length ? `${same.length} were so already.` : "",
    missing.length ? `Not in this graph any more: ${missing.join("; ")}` : "",
  ].filter(Boolean).join("\n");
  app.extensionManager.toast.add({ severity: missing.length ? "warn" : "success", summary: `Preset ${name}`, detail, life: 15000 });
}
