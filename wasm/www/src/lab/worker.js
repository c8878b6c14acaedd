/** The worker: holds one lab and trains it. Calls are answered strictly one after the other. */

import init, { Lab, check_gpu, defaults, prepare, tune_beta } from "../pkg/hbat_wasm.js";
import { watchDevices } from "./device-loss.js";

let lab = null;

const calls = {
  async start() {
    await init();
    return JSON.parse(defaults());
  },

  async prepare({ backend }) {
    return JSON.parse(await prepare(backend));
  },

  async create({ settings, backend }) {
    lab?.free();
    lab = await Lab.create(JSON.stringify(settings), backend);
    return JSON.parse(lab.header());
  },

  async restore({ bytes, backend }) {
    lab?.free();
    lab = await Lab.restore(bytes, backend);
    return JSON.parse(lab.header());
  },

  async advance({ lane }) {
    return JSON.parse(await lab.advance(lane));
  },

  async generate({ lane, prompt }) {
    return JSON.parse(await lab.generate(lane, prompt));
  },

  snapshot: () => lab.snapshot(),
  safetensors: ({ lane }) => lab.export_safetensors(lane),
  runToml: ({ lane }) => lab.run_toml(lane),
  metricsJsonl: ({ lane }) => lab.metrics_jsonl(lane),

  async checkGpu({ settings, steps }, progress) {
    return JSON.parse(await check_gpu(JSON.stringify(settings), steps, progress));
  },

  async tuneBeta({ settings, backend }, progress) {
    return JSON.parse(await tune_beta(JSON.stringify(settings), backend, progress));
  },
};

watchDevices((reason) => postMessage({ lost: reason }));

let queue = Promise.resolve();
addEventListener("message", ({ data }) => {
  queue = queue.then(() => answer(data));
});

async function answer({ id, method, args }) {
  const progress = (value) => postMessage({ id, progress: typeof value === "string" ? JSON.parse(value) : value });
  try {
    const result = await calls[method](args, progress);
    const transfer = result instanceof Uint8Array ? [result.buffer] : [];
    postMessage({ id, result }, transfer);
  } catch (error) {
    postMessage({ id, error: error instanceof Error ? error.message : String(error) });
  }
}
