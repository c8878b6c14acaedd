/** The page's side of the worker: calls as promises. */

export class LabWorker {
  #worker = new Worker(new URL("./worker.js", import.meta.url), { type: "module", name: "lab" });
  #waiting = new Map();
  #next = 0;
  #ended = false;

  /** Called when the GPU is lost. */
  onlost = () => {};

  constructor() {
    this.#worker.addEventListener("message", ({ data }) => this.#receive(data));
    this.#worker.addEventListener("error", (event) => {
      event.preventDefault();
      this.#failAll(new Error(event.message || "the training module could not be loaded"));
    });
  }

  /**
   * @param {string} method one of the calls in `worker.js`
   * @param {object} [args]
   * @param {(value: any) => void} [onProgress]
   * @returns {Promise<any>}
   */
  call(method, args = {}, onProgress = () => {}) {
    if (this.#ended) return Promise.reject(new Stopped());
    const id = this.#next++;
    return new Promise((resolve, reject) => {
      this.#waiting.set(id, { resolve, reject, onProgress });
      this.#worker.postMessage({ id, method, args });
    });
  }

  /** Ends it; what it has not answered fails. */
  terminate() {
    this.#ended = true;
    this.#worker.terminate();
    this.#failAll(new Stopped());
  }

  #receive({ id, lost, crash, progress, error, result }) {
    if (crash !== undefined) {
      this.#failAll(new Crashed(crash));
      return;
    }
    if (lost !== undefined) {
      this.#failAll(new Crashed(`the GPU was lost: ${lost}`));
      this.onlost();
      return;
    }
    const waiting = this.#waiting.get(id);
    if (!waiting) return;
    if (progress !== undefined) {
      waiting.onProgress(progress);
      return;
    }
    this.#waiting.delete(id);
    if (error !== undefined) waiting.reject(new Error(error));
    else waiting.resolve(result);
  }

  #failAll(error) {
    const waiting = [...this.#waiting.values()];
    this.#waiting.clear();
    for (const { reject } of waiting) reject(error);
  }
}

/** The module or its GPU is no more. */
export class Crashed extends Error {}

/** The worker was ended on purpose. */
export class Stopped extends Error {
  constructor() {
    super("stopped");
  }
}
