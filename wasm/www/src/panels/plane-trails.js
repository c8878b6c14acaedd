/** What moves in the plane: trails, their heads, the region that a lane dominates. */

import { line } from "../charts/axes.js";
import { shape } from "../charts/marks.js";
import { s, setAttribute, setText } from "../dom/element.js";
import { fixed } from "../dom/numbers.js";

/**
 * One lane's trail up to a moment, coloured by what was trained on.
 * @param {import("../run/run.js").Lane} lane
 * @param {number} index the lane's
 * @param {number} last the moment's index
 * @param {{ x: import("../charts/scale.js").Scale, y: import("../charts/scale.js").Scale }} scales
 */
export function trail(lane, index, last, { x, y }) {
  const moments = lane.moments.slice(0, last + 1);
  const places = moments.map((moment) => [x(moment.sft_loss), y(moment.reward)]);
  const parts = [];
  let from = 0;
  for (let at = 1; at < places.length; at++) {
    const side = lane.phaseAt(moments[at].step).side;
    const next = at + 1 < places.length ? lane.phaseAt(moments[at + 1].step).side : null;
    if (side === next) continue;
    parts.push(s("path", { class: `trail ${side}`, d: line(places.slice(from, at + 1)) }));
    from = at;
  }
  const dots = places.slice(1).map(([left, top], at) => {
    const { side } = lane.phaseAt(moments[at + 1].step);
    return s("path", {
      class: `dot ${side}`,
      d: shape(index),
      transform: `translate(${left.toFixed(1)} ${top.toFixed(1)}) scale(.56)`,
    });
  });
  return s("g", { class: `lane-${index}` }, ...parts, ...dots);
}

/**
 * Places the lanes' heads; they stay the same elements, so that the keyboard's focus stays with them.
 * @param {SVGElement} layer
 */
export function heads(layer, { state, scales, box }) {
  const { run, step } = state;
  while (layer.childElementCount > run.lanes.length) layer.lastChild.remove();
  const labels = spread(
    run.lanes.map((lane) => lane.momentAt(step)).map((moment) => (moment ? scales.y(moment.reward) : 0)),
  );
  run.lanes.forEach((lane, index) => {
    const head = layer.children[index] ?? layer.appendChild(newHead(index));
    const moment = lane.momentAt(step);
    setAttribute(head, "visibility", moment ? null : "hidden");
    if (!moment) return;
    place(head, lane, moment, { index, scales, box, labelTop: labels[index], selected: index === state.lane });
  });
}

function newHead(index) {
  return s(
    "g",
    { class: "head", tabindex: 0, role: "slider", "data-lane": index },
    s("path", { class: "ring", d: shape(index) }),
    s("path", { class: "core", d: shape(index) }),
    s("text", { class: "name" }),
  );
}

function place(head, lane, moment, { scales, box, labelTop, selected }) {
  const [left, top] = [scales.x(moment.sft_loss), scales.y(moment.reward)];
  const { side, name } = lane.phaseAt(moment.step);
  const [ring, core, label] = head.children;
  for (const part of [ring, core]) part.style.transform = `translate(${left.toFixed(1)}px, ${top.toFixed(1)}px)`;
  setAttribute(core, "class", `core ${moment.step === 0 ? "start" : side}`);
  setAttribute(head, "data-selected", selected);
  const beyond = left > box.right - 96;
  setAttribute(label, "x", left + (beyond ? -14 : 14));
  setAttribute(label, "y", labelTop + 4);
  setAttribute(label, "text-anchor", beyond ? "end" : "start");
  setText(label, lane.label);
  setAttribute(head, "aria-label", `Trail of ${lane.label}`);
  setAttribute(head, "aria-valuemin", 0);
  setAttribute(head, "aria-valuemax", lane.length);
  setAttribute(head, "aria-valuenow", moment.step);
  const numbers = `SFT loss ${fixed(moment.sft_loss, 2)}, reward ${fixed(moment.reward, 2)}`;
  setAttribute(head, "aria-valuetext", `step ${moment.step}, ${name}, ${numbers}`);
}

/** Moves labels apart that would overlap, keeping their order. */
function spread(tops, distance = 15) {
  const order = tops.map((top, index) => ({ top, index })).sort((a, b) => a.top - b.top);
  for (let at = 1; at < order.length; at++) {
    order[at].top = Math.max(order[at].top, order[at - 1].top + distance);
  }
  const placed = [];
  for (const { top, index } of order) placed[index] = top;
  return placed;
}

/** The rectangle between a moment and the reference corner: its area, on a linear axis, is the hypervolume. */
export function dominated(moment, nadir, { x, y }) {
  if (!moment || !nadir || moment.sft_loss >= nadir.sft_loss || moment.reward <= nadir.reward) return [];
  const [left, top] = [x(moment.sft_loss), y(moment.reward)];
  return [s("rect", { x: left, y: top, width: x(nadir.sft_loss) - left, height: y(nadir.reward) - top })];
}
