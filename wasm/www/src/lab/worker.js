/** The worker: holds one lab and trains it. Calls are answered strictly one after the other. */

import { watchDevices } from "./device-loss.js";

/** The smaller module trains on the processor alone. */
const MODULES = { cpu: () => import("../pkg/hbat_wasm.js"), webgpu: () => import("../pkg/webgpu/hbat_wasm.js") };

let hbat = null;
let lab = null;

const calls = {
  async start({ backend }) {
    hbat = await MODULES[backend]();
    await hbat.default();
    return JSON.parse(hbat.defaults());
  },

  async prepare({ backend }) {
    return JSON.parse(await hbat.prepare(backend));
  },

  async create({ settings, backend }, progress) {
    lab?.free();
    lab = await hbat.Lab.create(JSON.stringify(settings), backend, progress);
    return JSON.parse(lab.header());
  },

  async restore({ bytes, backend }) {
    lab?.free();
    lab = await hbat.Lab.restore(bytes, backend);
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
  judgeToml: () => lab.judge_toml(),
  metricsJsonl: ({ lane }) => lab.metrics_jsonl(lane),

  async checkGpu({ settings, steps }, progress) {
    return JSON.parse(await hbat.check_gpu(JSON.stringify(settings), steps, progress));
  },

  async tuneBeta({ settings, backend }, progress) {
    return JSON.parse(await hbat.tune_beta(JSON.stringify(settings), backend, progress));
  },
};

watchDevices((reason) => postMessage({ lost: reason }));

// A panic of the module leaves its promises open for ever.
addEventListener("error", (event) => postMessage({ crash: event.message }));
addEventListener("unhandledrejection", ({ reason }) => postMessage({ crash: reason?.message ?? String(reason) }));

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
