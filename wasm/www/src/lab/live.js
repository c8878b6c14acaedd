/** A live run: trains in a worker, lane by lane, and survives the loss of its GPU. */

import { Run } from "../run/run.js";
import { adapterFacts } from "./backend.js";
import { Crashed, LabWorker } from "./lab-worker.js";

/** Opens a backend in a worker: what it and the browser say about it. */
async function opened(worker, backend) {
  const adapter = await worker.call("prepare", { backend });
  return backend === "webgpu" ? { ...adapter, ...(await adapterFacts()) } : adapter;
}

/** A snapshot is taken every so many steps on a GPU, or after so many milliseconds. */
const SNAPSHOT = { steps: 25, milliseconds: 20_000 };

export class Live extends EventTarget {
  #snapshot = null;
  #recovery = null;
  #advancing = null;
  #stepTimes = [];
  #ownPrompt = null;

  /** @type {Run} */
  run;
  /** @type {LabWorker} */
  worker;
  /** @type {"cpu" | "webgpu"} */
  backend;
  /** @type {Record<string, string>} what the backend says about itself */
  adapter;

  /**
   * @param {object} settings complete
   * @param {"cpu" | "webgpu"} backend
   * @param {LabWorker} worker started
   * @param {(record: { done: number, total: number }) => void} onJudge told how far the judge is trained
   */
  static async start(settings, backend, worker, onJudge) {
    const live = new Live();
    live.backend = backend;
    live.adapter = await opened(worker, backend);
    live.run = new Run(await worker.call("create", { settings, backend }, onJudge), "live");
    live.#hold(worker);
    await live.#takeSnapshot();
    return live;
  }

  /** Trains the next step of every lane that is behind. Who asks while one is trained waits for that one. */
  advance() {
    this.#advancing ??= this.#advanceAll().finally(() => {
      this.#advancing = null;
    });
    return this.#advancing;
  }

  async #advanceAll() {
    await this.#recovery;
    const began = performance.now();
    const target = this.run.head + 1;
    try {
      for (const [index, lane] of this.run.lanes.entries()) {
        while (lane.head < target && !lane.finished && lane.head < lane.length) await this.#advanceLane(index);
      }
    } catch (error) {
      if (this.backend !== "webgpu" || !(error instanceof Crashed)) throw error;
      await this.#recover();
      return;
    }
    this.#stepTimes = [...this.#stepTimes.slice(-19), performance.now() - began];
    await this.#maybeSnapshot();
  }

  /** Steps per second of all lanes together, over the last twenty; 0 before the first. */
  get speed() {
    const times = this.#stepTimes;
    const total = times.reduce((sum, time) => sum + time, 0);
    return total ? (1000 * times.length * this.run.lanes.length) / total : 0;
  }

  /** Answers a prompt in every lane with the weights as they are, and from now on at every moment. */
  async ask(prompt) {
    const answers = [];
    for (const lane of this.run.lanes.keys()) answers.push(await this.#answer(lane, prompt));
    this.run.lanes.forEach((lane, index) => lane.answers.push({ step: lane.head, ...answers[index] }));
    this.#ownPrompt = prompt;
  }

  stop() {
    this.worker.onlost = () => {};
    this.worker.terminate();
  }

  async #advanceLane(index) {
    const frames = await this.worker.call("advance", { lane: index });
    const moment = frames.find((frame) => frame.kind === "moment");
    const answer = moment && this.#ownPrompt ? await this.#answer(index, this.#ownPrompt) : null;
    this.run.append(frames);
    if (answer) this.run.lanes[index].answers.push({ step: moment.step, ...answer });
  }

  async #answer(lane, prompt) {
    return { prompt, ...(await this.worker.call("generate", { lane, prompt })) };
  }

  #hold(worker) {
    this.worker = worker;
    worker.onlost = () => this.#recover();
  }

  async #maybeSnapshot() {
    const { step, time } = this.#snapshot ?? {};
    const due = this.run.head - step >= SNAPSHOT.steps || performance.now() - time > SNAPSHOT.milliseconds;
    if (due) await this.#takeSnapshot();
  }

  /** A processor is not lost, so only a GPU's state is kept. */
  async #takeSnapshot() {
    if (this.backend !== "webgpu") return;
    const bytes = await this.worker.call("snapshot");
    const marks = this.run.lanes.map((lane) => lane.mark());
    this.#snapshot = { bytes, marks, step: this.run.head, time: performance.now() };
  }

  #recover() {
    this.#recovery ??= this.#restart().finally(() => {
      this.#recovery = null;
    });
    return this.#recovery;
  }

  async #restart() {
    const lostAt = this.run.head;
    this.worker.terminate();
    const { bytes, marks, step, recovered } = this.#snapshot;
    // A GPU that is lost twice from the same snapshot would be lost again.
    const backends = recovered ? ["cpu"] : ["webgpu", "cpu"];
    this.#snapshot.recovered = true;
    for (const backend of backends) {
      const worker = new LabWorker();
      try {
        await worker.call("start", { backend });
        this.adapter = await opened(worker, backend);
        await worker.call("restore", { bytes, backend });
        this.#hold(worker);
        this.backend = backend;
        break;
      } catch (error) {
        worker.terminate();
        if (backend === "cpu") throw error;
      }
    }
    this.run.lanes.forEach((lane, index) => lane.cutBackTo(marks[index]));
    this.dispatchEvent(new CustomEvent("recovered", { detail: { lostAt, step, backend: this.backend } }));
  }
}
