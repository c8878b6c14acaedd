/** How far the axes of the plane reach. */

import { linear, logarithmic } from "./scale.js";

/** Losses that reach this many times farther than the reference corner are shown by factors. */
const FAR = 1.6;

/**
 * Scales that hold every point: loss to the right, reward upwards.
 * @param {import("../run/run.js").Run} run
 * @param {{ sft_loss: number, reward: number }[]} further
 * @param {{ left: number, right: number, top: number, bottom: number }} box
 */
export function planeScales(run, further, box) {
  const { ideal, nadir } = run.header;
  const points = [...run.lanes.flatMap((lane) => lane.moments), ...further, ...[ideal, nadir].filter(Boolean)];
  const losses = points.map((point) => point.sft_loss).filter((loss) => loss > 0);
  const rewards = points.map((point) => point.reward).filter(Number.isFinite);
  const x = extent(losses, [0.3, 3]);
  const y = extent(rewards, [0, 1]);
  const margin = (y[1] - y[0]) * 0.07 || 0.1;
  const far = x[1] > FAR * (nadir?.sft_loss ?? 3 * x[0]);
  const space = (x[1] - x[0]) * 0.06;
  return {
    x: far
      ? logarithmic([x[0] * 0.88, x[1] * 1.12], [box.left, box.right])
      : linear([Math.max(0, x[0] - space), x[1] + space], [box.left, box.right], 7),
    y: linear([y[0] - margin, y[1] + margin], [box.bottom, box.top]),
  };
}

function extent(values, otherwise) {
  if (!values.length) return otherwise;
  return [Math.min(...values), Math.max(...values)];
}
