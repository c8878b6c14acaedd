import assert from "node:assert/strict";
import { test } from "node:test";

import { planeScales } from "../../src/charts/domain.js";
import { linear, logarithmic } from "../../src/charts/scale.js";
import { fixed, percent, short } from "../../src/dom/numbers.js";

test("ticks are round and within the domain", () => {
  assert.deepEqual(linear([0, 1], [0, 100]).ticks, [0, 0.2, 0.4, 0.6, 0.8, 1]);
  assert.deepEqual(linear([-0.31, 0.29], [0, 100]).ticks, [-0.2, 0, 0.2]);
  assert.deepEqual(logarithmic([0.3, 6], [0, 100]).ticks, [0.5, 1, 2, 5]);
  assert.deepEqual(logarithmic([1e-3, 1e2], [0, 100]).ticks, [1e-3, 1e-2, 0.1, 1, 10, 100]);
});

test("scales put ends at ends, and what has no logarithm before the first", () => {
  const scale = logarithmic([0.1, 10], [20, 220]);
  assert.deepEqual(
    [0.1, 1, 10].map((value) => Math.round(scale(value))),
    [20, 120, 220],
  );
  assert.ok(Number.isFinite(scale(0)) && scale(0) < 20);
  assert.equal(linear([3, 3], [5, 9])(3), 5);
});

test("a plane holds every point, and turns logarithmic when losses go far", () => {
  const box = { left: 0, right: 100, top: 0, bottom: 100 };
  const scales = (...losses) => {
    const moments = losses.map((sft_loss) => ({ sft_loss, reward: 0.5 }));
    return planeScales({ header: { ideal: null, nadir: { sft_loss: 1, reward: 0 } }, lanes: [{ moments }] }, [], box);
  };
  assert.equal(scales(0.5, 1.2).x.kind, "linear");
  const { x, y } = scales(0.5, 9);
  assert.equal(x.kind, "logarithmic");
  for (const place of [x(0.5), x(9), y(0), y(0.5)]) assert.ok(place > 0 && place < 100, String(place));
  assert.ok(y(0.5) < y(0), "reward goes upwards");
});

test("numbers as a reader wants them", () => {
  assert.deepEqual(
    [short(0.012345), short(-1234.5), short(2e-7), short(123456), short(NaN)],
    ["0.0123", "−1230", "2.0×10⁻⁷", "1.2×10⁵", "–"],
  );
  assert.deepEqual([fixed(-0.001), fixed(1.005, 1), fixed(null)], ["0.00", "1.0", "–"]);
  assert.deepEqual([percent(0.125), percent(-0.5), percent(undefined)], ["13%", "−50%", "–"]);
});
