// How the viewer looks: the host's theme variables, with values of our own where it sets none. Every rule is below .bloom4d-viewer.

const RULES = `
.bloom4d-viewer { display: flex; flex-direction: column; box-sizing: border-box; width: 100%; height: 100%; min-width: 0; overflow: hidden;
  color: var(--input-text, #ddd); background: var(--comfy-menu-bg, #353535); border: 1px solid var(--border-color, #4e4e4e); border-radius: 6px;
  font: 12px/1.4 Arial, sans-serif; touch-action: none; user-select: none; }
.bloom4d-viewer * { box-sizing: border-box; }
.bloom4d-viewer .b4d-stage { position: relative; flex: 1 1 120px; min-height: 80px; overflow: hidden; }
.bloom4d-viewer .b4d-stage canvas { position: absolute; inset: 0; display: block; width: 100%; height: 100%; touch-action: none; cursor: grab; outline: none; }
.bloom4d-viewer .b4d-stage canvas:active { cursor: grabbing; }
.bloom4d-viewer .b4d-stage.b4d-checker { background: repeating-conic-gradient(#9a9a9a 0 25%, #c9c9c9 0 50%) 0 0 / 20px 20px; }
.bloom4d-viewer .b4d-stage.b4d-theme { background: var(--comfy-input-bg, #222); }
.bloom4d-viewer .b4d-say { position: absolute; inset: 0; display: flex; flex-direction: column; gap: 10px; align-items: center; justify-content: center; padding: 16px;
  text-align: center; white-space: pre-line; overflow-wrap: anywhere; overflow: auto; background: var(--comfy-menu-bg, #353535); }
.bloom4d-viewer .b4d-say:empty, .bloom4d-viewer .b4d-badge:empty { display: none; }
.bloom4d-viewer .b4d-badge { position: absolute; left: 6px; top: 6px; max-width: calc(100% - 12px); padding: 2px 8px; border-radius: 10px; overflow-wrap: anywhere;
  color: #fff; background: rgba(0, 0, 0, .72); pointer-events: none; }
.bloom4d-viewer .b4d-note { padding: 4px 8px 0; overflow-wrap: anywhere; white-space: pre-line; max-height: 4.4em; overflow: auto; user-select: text; }
.bloom4d-viewer .b4d-note:empty { display: none; }
.bloom4d-viewer .b4d-bar { display: flex; flex-wrap: wrap; gap: 4px; align-items: center; padding: 4px 6px; min-width: 0; }
.bloom4d-viewer .b4d-bar[hidden] { display: none; }
.bloom4d-viewer .b4d-bar label { display: flex; align-items: center; gap: 6px; flex: 1 1 150px; min-width: 0; min-height: 32px; }
.bloom4d-viewer .b4d-bar label span { flex: none; }
.bloom4d-viewer input[type=range] { flex: 1 1 60px; min-width: 40px; width: 60px; height: 32px; margin: 0; touch-action: none; accent-color: var(--p-primary-color, #4a90e2); }
.bloom4d-viewer output { flex: none; min-width: 6.5em; text-align: right; font-variant-numeric: tabular-nums; }
.bloom4d-viewer button, .bloom4d-viewer select, .bloom4d-viewer input[type=color] { min-width: 32px; height: 32px; margin: 0; padding: 0 6px; font: inherit; cursor: pointer;
  color: var(--input-text, #ddd); background: var(--comfy-input-bg, #222); border: 1px solid var(--border-color, #4e4e4e); border-radius: 4px; }
.bloom4d-viewer button { display: inline-flex; align-items: center; justify-content: center; }
.bloom4d-viewer select { appearance: auto; }
.bloom4d-viewer select option { color: #000; background: #fff; }
.bloom4d-viewer button:disabled { opacity: .45; cursor: default; }
.bloom4d-viewer button[aria-pressed=true], .bloom4d-viewer button[aria-expanded=true] { outline: 2px solid var(--p-primary-color, #4a90e2); outline-offset: -2px; }
.bloom4d-viewer .b4d-room { flex: 1 1 0; }
.bloom4d-viewer :focus-visible { outline: 2px solid var(--p-primary-color, #4a90e2); outline-offset: -2px; }
.bloom4d-viewer canvas:focus-visible + .b4d-ring { position: absolute; inset: 0; border: 2px solid var(--p-primary-color, #4a90e2); pointer-events: none; }
`;

/** Put the rules into the page, once. */
export function dress() {
  if (document.getElementById("bloom4d-viewer-style")) return;
  const style = document.createElement("style");
  style.id = "bloom4d-viewer-style";
  style.textContent = RULES;
  document.head.append(style);
}
