/** Says what is shown: recorded, live or opened from a file, with which seed and on what. */

import { h, setAttribute, setText } from "../dom/element.js";
import { percent } from "../dom/numbers.js";

/**
 * @param {import("./state.js").PageState} state
 * @returns {import("../panels/panel.js").View}
 */
export function sourceLine(state) {
  const element = h("p", { class: "source" });
  return {
    element,
    update() {
      setAttribute(element, "data-source", state.run.source);
      setText(element, describe(state));
    },
  };
}

function describe({ run, live }) {
  const { seed, model } = run.header.settings;
  if (run.source === "imported") return "Opened from a file";
  if (run.source === "recorded") return `Recorded run · seed ${seed} · ${model} model`;
  return `Live · seed ${seed} · ${model} model · ${backendName(live)}${judgeOf(run.header)}`;
}

function judgeOf({ judge }) {
  return judge ? ` · its judge is right on ${percent(judge.accuracy)} of held-out pairs` : "";
}

function backendName({ backend, adapter }) {
  if (backend === "cpu") return "processor";
  const family = [adapter.vendor, adapter.architecture].filter(Boolean).join(" ");
  return `WebGPU, ${adapter.description || family || adapter.name}`;
}
