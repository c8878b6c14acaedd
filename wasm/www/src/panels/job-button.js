/** A button that starts a job in a worker of its own, and stops it. */

import { h, setText } from "../dom/element.js";
import { LabWorker, Stopped } from "../lab/lab-worker.js";

/**
 * @param {string} label
 * @param {HTMLElement} status where progress and outcome are told
 * @param {(worker: LabWorker, progress: (record: { done: number, total: number }) => void) => Promise<string>} job
 *   gives the outcome in words
 */
export function jobButton(label, status, job) {
  let worker = null;
  const progress = ({ done, total }) => setText(status, `step ${done} of ${total}`);
  async function start() {
    worker = new LabWorker();
    setText(button, "Stop");
    setText(status, "Loading …");
    try {
      setText(status, await job(worker, progress));
    } catch (error) {
      setText(status, error instanceof Stopped ? "Stopped." : `It failed: ${error.message}`);
    }
    worker.terminate();
    worker = null;
    setText(button, label);
  }
  const button = h("button", { type: "button", onclick: () => (worker ? worker.terminate() : start()) }, label);
  return button;
}
