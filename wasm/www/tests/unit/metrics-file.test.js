import assert from "node:assert/strict";
import { test } from "node:test";

import { runOfFiles } from "../../src/run/metrics-file.js";

const evaluation = { kind: "evaluation", method: "hbat", sft_nll: 2, margin: 0.1, accuracy: 0.5 };
const phase = {
  kind: "phase-start",
  phase: "dpo-1",
  steps: 9,
  rule: "paper",
  F: { a: 60, b: 40 },
  effective_units: 1.9,
};
const step = { kind: "step", objective: "dpo", global_step: 1, loss: 0.7 };

const file = (name, ...records) => ({ name, text: records.map((record) => JSON.stringify(record)).join("\n") });

test("a file is a lane: units, phases as long as they came, moments at their steps", () => {
  const run = runOfFiles([file("a", evaluation, phase, step, { ...evaluation, sft_nll: 1.5 })]);
  const { units, lanes, reward } = run.header;
  assert.deepEqual([units, lanes[0].method, lanes[0].label, reward], [["a", "b"], "hbat", "HBAT", "margin"]);
  assert.deepEqual(
    lanes[0].phases.map(({ name, side, steps }) => [name, side, steps]),
    [["dpo-1", "dpo", 1]],
  );
  assert.deepEqual(
    run.lanes[0].moments.map((moment) => [moment.step, moment.sft_loss, moment.reward]),
    [
      [0, 2, 0.1],
      [1, 1.5, 0.1],
    ],
  );
});

test("the lab's reward is taken where all have it, and mixtures are refused", () => {
  const toy = { ...evaluation, extra: { reward: 0.8 } };
  assert.equal(runOfFiles([file("a", toy, phase), file("b", toy, phase)]).header.reward, "reward");
  assert.equal(runOfFiles([file("a", toy, phase), file("b", evaluation, phase)]).header.reward, "margin");
  const bare = { ...toy, margin: null };
  assert.throws(() => runOfFiles([file("a", bare, phase), file("b", evaluation, phase)]), /cannot be compared/);
});

test("what is no metrics file is refused by line and field", () => {
  for (const [files, message] of [
    [[{ name: "a", text: "" }], /a has no evaluation/],
    [[{ name: "a", text: '{"kind": "evaluation"' }], /a, line 1 is no JSON: /],
    [[{ name: "a", text: "\n[1]" }], /a, line 2 is no JSON object/],
    [[file("a", { kind: "epoch" })], /a, line 1: “epoch” is no kind of record/],
    [[file("a", { ...evaluation, sft_nll: "2" })], /“sft_nll” should be a number, but it is "2"/],
    [[file("a", { ...evaluation, sft_nll: null })], /“sft_nll” is null: no demonstrations were validated/],
    [[file("a", evaluation)], /a has no phase yet/],
    [[file("a", evaluation, step)], /a, line 2: a step before any phase/],
    [Array(5).fill(file("a", evaluation)), /5 files are more than the 4 lanes/],
  ]) {
    assert.throws(() => runOfFiles(files), message);
  }
});
