/** "Check my GPU": the same steps on WebGPU and on the processor, and how far they differ. */

import { h } from "../dom/element.js";
import { short } from "../dom/numbers.js";
import { adapterFacts } from "../lab/backend.js";
import { jobButton } from "./job-button.js";
import { section } from "./panel.js";

/** Numbers of steps to choose from. */
const STEPS = [20, 4];

const NOTE = "Trains the same steps on WebGPU and on the processor, and shows the largest relative differences.";
const NO_GPU =
  "This browser offers no WebGPU, so there is nothing to check: everything here is computed on the processor.";

/**
 * @param {import("../page/session.js").Session} session
 * @returns {import("./panel.js").View}
 */
export function trustPanel(session) {
  const status = h("p", { class: "hint", role: "status" });
  const result = h("div", { class: "result" });
  const steps = h("select", { "aria-label": "Steps to compare" });
  steps.append(...STEPS.map((count) => h("option", { value: count }, `${count} steps`)));
  const button = jobButton("Check my GPU", status, async (worker, progress) => {
    result.replaceChildren();
    const facts = await adapterFacts();
    if (!facts) return NO_GPU;
    await worker.call("start", { backend: "webgpu" });
    const asked = { settings: session.draft, steps: Number(steps.value) };
    const report = await worker.call("checkGpu", asked, progress);
    result.replaceChildren(...reportElements({ ...report, adapter: { ...report.adapter, ...facts } }));
    return verdict(report);
  });
  const controls = h("div", { class: "row-buttons" }, button, steps);
  return {
    element: section("trust", "Can this GPU be trusted?", NOTE, [controls, status, result]),
    update() {
      button.disabled = !session.fields;
    },
  };
}

function verdict({ rows, steps }) {
  const bad = rows.filter((row) => !row.ok).map((row) => row.what);
  if (!bad.length) return `After ${steps} steps the GPU agrees with the processor within every tolerance.`;
  return `After ${steps} steps the GPU differs from the processor more than is tolerated: ${bad.join(", ")}.`;
}

function reportElements({ adapter, rows, steps }) {
  const cells = ({ what, largest, tolerance, ok }) =>
    h(
      "tr",
      {},
      h("th", { scope: "row" }, what),
      h("td", { class: "number" }, short(largest)),
      h("td", { class: "number" }, short(tolerance)),
      h("td", { class: ok ? "ok" : "bad" }, ok ? "✓ within" : "✕ beyond"),
    );
  const head = ["Quantity", "Largest difference", "Tolerance", ""].map((name) => h("th", { scope: "col" }, name));
  const table = h(
    "table",
    {},
    h("caption", {}, `WebGPU against the processor, ${steps} steps`),
    h("thead", {}, h("tr", {}, ...head)),
    h("tbody", {}, ...rows.map(cells)),
  );
  const about = Object.entries(adapter).flatMap(([name, value]) => [
    h("dt", {}, name.replaceAll("_", " ")),
    h("dd", {}, String(value)),
  ]);
  return [table, h("h3", {}, "Adapter"), h("dl", { class: "adapter" }, ...about)];
}
