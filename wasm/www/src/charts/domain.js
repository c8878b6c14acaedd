/** How far the axes of the plane reach. */

import { linear, logarithmic } from "./scale.js";

/**
 * Scales that hold every point: loss to the right on a logarithmic axis, reward upwards.
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
  return {
    x: logarithmic([x[0] * 0.88, x[1] * 1.12], [box.left, box.right]),
    y: linear([y[0] - margin, y[1] + margin], [box.bottom, box.top]),
  };
}

function extent(values, otherwise) {
  if (!values.length) return otherwise;
  return [Math.min(...values), Math.max(...values)];
}
