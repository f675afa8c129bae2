// While an optimiser runs: its object so far, in the viewers that wait for its result.

/** The node of an execution id such as "5" or, inside subgraphs, "12:3:5"; null when the open graph has none. */
export function located(graph, id) {
  let [inside, node] = [graph, null];
  for (const part of String(id).split(":")) {
    inside = node ? node.subgraph : inside;
    node = inside?.getNodeById(Number(part)) ?? inside?.getNodeById(part);
    if (!node) return null;
  }
  return node;
}

/**
 * Show a file in viewers.
 * @param {object} graph the root graph
 * @param {{viewers: string[], file: object}} detail the execution ids of the viewers' nodes
 */
export async function show(graph, { viewers, file }) {
  for (const id of viewers) {
    const viewer = await located(graph, id)?.bloom4dViewer;
    viewer?.show(file, { forming: true });
  }
}
