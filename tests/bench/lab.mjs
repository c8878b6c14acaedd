// The lab's steps in WebAssembly against the same steps natively, one thread each, step by step in turns:
//
//     wasm/build cpu && cargo build --release -p hbat-tests --bin bench_lab
//     node tests/bench/lab.mjs               or: … lab.mjs --model small
//
// A two-stage lane without measurements: the first steps of either objective do not count, since both sides are still warming
// up. Prints a Markdown table: medians in milliseconds, and the median of the steps' own ratios. Times mean something only on a
// machine that does nothing else.

import { spawn } from "node:child_process";
import { readFile } from "node:fs/promises";
import { createInterface } from "node:readline";
import { fileURLToPath } from "node:url";
import { parseArgs } from "node:util";

const WARM_UP = 8; // steps of either objective
const SAME = 20; // steps whose losses agree; after more of them rounding has grown into another run

const at = (path) => fileURLToPath(new URL(`../../${path}`, import.meta.url));
const { values: options } = parseArgs({ options: { model: { type: "string", default: "tiny" }, examples: { type: "string", default: "512" } } });
const settings = { model: options.model, examples: Number(options.examples), lanes: ["two-stage"], measure_every: 1000 };

// A lane's next step in this process.
async function webAssembly() {
  const hbat = await import(at("wasm/www/src/pkg/hbat_wasm.js"));
  await hbat.default({ module_or_path: await readFile(at("wasm/www/src/pkg/hbat_wasm_bg.wasm")) });
  await hbat.prepare("cpu");
  const lab = await hbat.Lab.create(JSON.stringify(settings), "cpu");
  return async () => {
    const start = performance.now();
    const frames = await lab.advance(0);
    return { seconds: (performance.now() - start) / 1000, frames: JSON.parse(frames) };
  };
}

// A lane's next step in the native program.
function native() {
  const environment = { ...process.env, RAYON_NUM_THREADS: "1" };
  const program = spawn(at("target/release/bench_lab"), [JSON.stringify(settings)], { env: environment, stdio: ["pipe", "pipe", "inherit"] });
  const lines = createInterface({ input: program.stdout })[Symbol.asyncIterator]();
  return async () => {
    program.stdin.write("\n");
    const { value, done } = await lines.next();
    if (done) throw new Error("bench_lab stopped");
    return JSON.parse(value);
  };
}

const median = (values) => values.toSorted((a, b) => a - b)[Math.floor(values.length / 2)];

// Only advances that are one step and nothing else are comparable with each other.
const step = (frames) => (frames.length === 1 && frames[0].kind === "step" ? frames[0] : undefined);

const sides = [native(), await webAssembly()];
const rounds = { sft: [], dpo: [] };
const total = 2 * (settings.examples / 16) * 2; // two passes of either objective, sixteen at a step
for (let done = 0; done < total; ) {
  const [there, here] = [await sides[0](), await sides[1]()];
  const [a, b] = [step(there.frames), step(here.frames)];
  done = Math.max(done, ...here.frames.filter((frame) => frame.kind === "step").map((frame) => frame.step));
  if (a === undefined || b === undefined) continue;
  const off = Math.abs(a.loss - b.loss) / Math.abs(a.loss);
  if (a.step <= SAME && off > 1e-4) throw new Error(`step ${a.step}: loss ${a.loss} natively and ${b.loss} here`);
  rounds[a.side].push([there.seconds * 1000, here.seconds * 1000]);
}

console.log(`| ${options.model} | steps | native, ms | WebAssembly, ms | native / WebAssembly |\n|---|---|---|---|---|`);
for (const [side, all] of Object.entries(rounds)) {
  const counted = all.slice(WARM_UP);
  const [there, here] = [0, 1].map((which) => median(counted.map((round) => round[which])).toFixed(2));
  const ratio = median(counted.map(([a, b]) => a / b)).toFixed(3);
  console.log(`| ${side.toUpperCase()} | ${counted.length} | ${there} | ${here} | ${ratio} |`);
}
process.exit(0);
