/** "Check my GPU": the same steps on WebGPU and on the processor, and how far they differ. */

import { h, setText } from "../dom/element.js";
import { short } from "../dom/numbers.js";
import { hasWebGpu } from "../lab/backend.js";
import { LabWorker, Stopped } from "../lab/lab-worker.js";
import { section } from "./panel.js";

/** Steps that are compared. */
const STEPS = 20;

const NOTE = `Trains ${STEPS} steps on WebGPU and on the processor, and shows the largest relative differences.`;

/**
 * @param {import("../page/session.js").Session} session
 * @returns {import("./panel.js").View}
 */
export function trustPanel(session) {
  const status = h("p", { class: "hint", role: "status" });
  const result = h("div", { class: "result" });
  const job = { worker: null };
  const button = h(
    "button",
    { type: "button", onclick: () => (job.worker ? job.worker.terminate() : check(session, job, view)) },
    "Check my GPU",
  );
  const view = { status, result, button };

  return {
    element: section("trust", "Can this GPU be trusted?", NOTE, [button, status, result]),
    update() {
      button.disabled = !session.fields;
    },
  };
}

async function check(session, job, { status, result, button }) {
  if (!(await hasWebGpu())) {
    setText(
      status,
      "This browser offers no WebGPU, so there is nothing to check: everything here is computed on the processor.",
    );
    return;
  }
  job.worker = new LabWorker();
  setText(button, "Stop");
  setText(status, "Loading …");
  result.replaceChildren();
  try {
    await job.worker.call("start", { backend: "webgpu" });
    const told = ({ done, total }) => setText(status, `step ${done} of ${total}`);
    const report = await job.worker.call("checkGpu", { settings: session.draft, steps: STEPS }, told);
    result.replaceChildren(...reportElements(report));
    setText(status, verdict(report));
  } catch (error) {
    setText(status, error instanceof Stopped ? "Stopped." : `The check failed: ${error.message}`);
  }
  job.worker.terminate();
  job.worker = null;
  setText(button, "Check my GPU");
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
