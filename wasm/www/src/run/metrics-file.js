/** `metrics.jsonl` of the command line, read as a run of one lane. */

import { Run } from "./run.js";

const LABELS = {
  sft: "SFT only",
  "preference-only": "Preferences only",
  "two-stage": "Two-stage",
  "two-stage-reversed": "Two-stage, reversed",
  alternating: "Alternating",
  "anchor-only": "Anchor only",
  hbat: "HBAT",
  "hbat-freeze": "HBAT-Freeze",
  mix: "Mix",
};

/** Ways in which preferences are taught. */
const PREFERENCES = ["dpo", "rrhf", "ppo", "raft"];

/** Lanes that can be told apart by their shapes. */
const MOST_LANES = 4;

/**
 * Files of one or several methods, lane beside lane.
 * @param {{ name: string, text: string }[]} files
 * @returns {Run}
 */
export function runOfFiles(files) {
  if (files.length > MOST_LANES)
    throw new Error(`${files.length} files are more than the ${MOST_LANES} lanes that fit side by side`);
  const lanes = files.map(({ name, text }) => readLane(name, text));
  const units = lanes.find((lane) => lane.units.length)?.units ?? [];
  const header = {
    settings: { preference: lanes.find(({ preference }) => preference)?.preference ?? "dpo" },
    units,
    prompts: [],
    lanes: lanes.map(({ method, phases }) => ({ method, label: LABELS[method] ?? method, phases })),
    ideal: null,
    nadir: null,
    reward: chooseReward(lanes),
  };
  const run = new Run(header, "imported");
  lanes.forEach(({ frames }, lane) => run.append(frames.map((frame) => ({ ...frame, lane }))));
  return run;
}

/** Fills in what all files have: the lab's reward, or else the margin. */
function chooseReward(lanes) {
  const moments = lanes.flatMap(({ name, frames }) =>
    frames.filter((frame) => frame.kind === "moment").map((frame) => ({ name, frame })),
  );
  const chosen = ["probability", "margin"].find((key) => moments.every(({ frame }) => typeof frame[key] === "number"));
  const without = moments.find(
    ({ frame }) => typeof frame.margin !== "number" && typeof frame.probability !== "number",
  );
  if (without) throw new Error(`${without.name}: “margin” should be a number at step ${without.frame.step}`);
  if (!chosen) throw new Error("some of these files have a reward and some a margin, which cannot be compared");
  for (const { frame } of moments) frame.reward = frame[chosen];
  return chosen === "margin" ? "margin" : "reward";
}

function readLane(name, text) {
  const lane = { name, method: null, phases: [], units: [], frames: [], step: 0, preference: null };
  text.split("\n").forEach((line, index) => {
    if (line.trim()) readRecord(lane, parse(name, line, index + 1), `${name}, line ${index + 1}`);
  });
  if (!lane.frames.some((frame) => frame.kind === "moment")) {
    throw new Error(`${name} has no evaluation: it is not a metrics.jsonl of hbat, or its run has just begun`);
  }
  if (!lane.phases.length) throw new Error(`${name} has no phase yet: its run had only just begun`);
  finishPhase(lane);
  lane.frames.push({ kind: "finished", step: lane.step });
  return lane;
}

function parse(name, line, number) {
  try {
    const record = JSON.parse(line);
    if (record && typeof record === "object" && !Array.isArray(record)) return record;
  } catch {
    throw new Error(`${name}, line ${number} is no JSON: ${line.slice(0, 60)}`);
  }
  throw new Error(`${name}, line ${number} is no JSON object: ${line.slice(0, 60)}`);
}

function readRecord(lane, record, where) {
  const readers = { evaluation: readEvaluation, "phase-start": readPhase, step: readStep, "phase-end": () => {} };
  const reader = readers[record.kind];
  if (!reader) throw new Error(`${where}: “${String(record.kind)}” is no kind of record that hbat writes`);
  reader(lane, record, where);
}

function readEvaluation(lane, record, where) {
  lane.method ??= text(record, "method", where);
  if (record.sft_nll === null) {
    const why = "“sft_nll” is null: no demonstrations were validated, and the plane needs their loss";
    throw new Error(`${where}: ${why}`);
  }
  const extra = record.extra ?? {};
  lane.frames.push({
    kind: "moment",
    step: lane.step,
    phase: Math.max(0, lane.phases.length - 1),
    sft_loss: number(record, "sft_nll", where),
    margin: record.margin,
    probability: extra.reward,
    accuracy: record.accuracy,
    exact_covered: extra["exact match, covered"],
    exact_other: extra["exact match, uncovered"],
    casual: extra["casual, covered"],
    score: extra["mean reward"],
  });
}

function readPhase(lane, record, where) {
  finishPhase(lane);
  lane.phases.push({ name: text(record, "phase", where), side: null, steps: number(record, "steps", where), taken: 0 });
  let importance = null;
  if (record.F) {
    lane.units = Object.keys(record.F);
    const rule = { f: Object.values(record.F), effective_units: record.effective_units };
    importance = { rule: record.rule, accumulated: Object.values(record.AC ?? {}), rules: { [record.rule]: rule } };
  }
  lane.frames.push({ kind: "phase", step: lane.step, phase: lane.phases.length - 1, importance });
}

function readStep(lane, record, where) {
  const phase = lane.phases.at(-1);
  if (!phase) throw new Error(`${where}: a step before any phase has started`);
  lane.step = number(record, "global_step", where);
  const side = record.objective === "sft" ? "sft" : "dpo";
  if (PREFERENCES.includes(record.objective)) lane.preference = record.objective;
  phase.side = phase.side === null || phase.side === side ? side : "mix";
  phase.taken++;
  const { loss, penalty, grad_norm, penalty_grad_norm, learning_rate, score, kl } = record;
  const values = { loss, penalty, grad_norm, penalty_grad_norm, learning_rate, score, kl };
  lane.frames.push({ kind: "step", step: lane.step, phase: lane.phases.length - 1, side, ...values });
}

/** A phase that was cut short is as long as it came. */
function finishPhase({ phases }) {
  const phase = phases.at(-1);
  if (!phase) return;
  phase.steps = phase.taken;
  phase.side ??= "sft";
}

function number(record, name, where) {
  const value = record[name];
  if (typeof value !== "number")
    throw new Error(`${where}: “${name}” should be a number, but it is ${JSON.stringify(value) ?? "missing"}`);
  return value;
}

function text(record, name, where) {
  const value = record[name];
  if (typeof value !== "string")
    throw new Error(`${where}: “${name}” should be a text, but it is ${JSON.stringify(value) ?? "missing"}`);
  return value;
}
