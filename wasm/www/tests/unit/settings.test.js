import assert from "node:assert/strict";
import { test } from "node:test";

import { defaultSettings, fromFragment, readOne, toFragment } from "../../src/run/settings.js";

const FIELDS = {
  seed: { value: 0, min: 0, max: 9, step: 1 },
  lambda: { value: 1, min: 0, max: 100 },
  rule: { value: "paper", choices: ["paper", "relative"] },
  lanes: { value: ["two-stage", "hbat", "mix"], choices: ["two-stage", "hbat", "mix", "alternating"] },
};

test("a fragment holds the seed and what is not the default, and reads back", () => {
  const settings = { ...defaultSettings(FIELDS), lambda: 2.5, lanes: ["hbat", "alternating"] };
  const fragment = toFragment(FIELDS, settings);
  assert.equal(fragment, "#seed=0&lambda=2.5&lanes=hbat,alternating");
  assert.deepEqual(fromFragment(FIELDS, fragment), { settings, given: true, complaints: [] });
  assert.equal(fromFragment(FIELDS, "").given, false);
});

test("defaults are copies", () => {
  const settings = defaultSettings(FIELDS);
  settings.lanes.push("alternating");
  assert.equal(FIELDS.lanes.value.length, 3);
});

test("what a fragment says wrongly is told, and the default stands", () => {
  for (const [fragment, complaint] of [
    ["#lamda=2", "“lamda” is no setting"],
    ["#lambda=101", "lambda=101 is not between 0 and 100; 1 is used"],
    ["#lambda=", "lambda= is no number; 1 is used"],
    ["#seed=1.5", "seed=1.5 is no whole number; 0 is used"],
    ["#rule=fisher", "rule=fisher is none of paper, relative; paper is used"],
    ["#lanes=hbat,hbat", "lanes=hbat,hbat names a lane twice; two-stage,hbat,mix is used"],
    ["#lanes=hbat,sft", "has “sft”, which is none of two-stage, hbat, mix, alternating"],
    ["#lanes=two-stage,hbat,mix,alternating", "names more than 3 lanes"],
  ]) {
    const { settings, complaints } = fromFragment(FIELDS, fragment);
    assert.deepEqual(settings, defaultSettings(FIELDS));
    assert.equal(complaints.length, 1);
    assert.ok(complaints[0].includes(complaint), complaints[0]);
  }
});

test("numbers are read as they are typed", () => {
  assert.deepEqual(readOne(" 1e1 ", FIELDS.lambda), { value: 10 });
  assert.deepEqual(readOne("Infinity", FIELDS.lambda), { problem: "is no number" });
});
