/** Any quantity over the steps, one line per lane. */

import { grid, line } from "../charts/axes.js";
import { fitted } from "../charts/fitted.js";
import { pngOfChart } from "../charts/picture.js";
import { shape } from "../charts/marks.js";
import { linear } from "../charts/scale.js";
import { h, s } from "../dom/element.js";
import { judged } from "../run/teaching.js";
import { chartPanel } from "./panel.js";
import { penaltyShare } from "./conflict.js";

/** What can be shown: of moments, or of steps; some of it where answers are judged. */
const QUANTITIES = {
  share: { name: "Penalty's share of the gradient", of: "steps", value: penaltyShare },
  loss: { name: "Training loss", of: "steps", value: (step) => step.loss },
  penalty: { name: "Penalty", of: "steps", value: (step) => step.penalty },
  learning_rate: { name: "Learning rate", of: "steps", value: (step) => step.learning_rate },
  sft_loss: { name: "SFT loss (validation)", of: "moments", value: (moment) => moment.sft_loss },
  reward: { name: "Preference reward", of: "moments", value: (moment) => moment.reward },
  accuracy: { name: "Preference accuracy", of: "moments", value: (moment) => moment.accuracy },
  exact_covered: { name: "Right answers, covered tasks", of: "moments", value: (moment) => moment.exact_covered },
  exact_other: { name: "Right answers, other tasks", of: "moments", value: (moment) => moment.exact_other },
  casual: { name: "Casual endings", of: "moments", value: (moment) => moment.casual },
  hypervolume: { name: "Hypervolume", of: "moments", value: (moment) => moment.hypervolume },
  score: { name: "Judge's score of held-out answers", of: "moments", value: (moment) => moment.score, judged: true },
  rollouts: { name: "Judge's score of answers in training", of: "steps", value: (step) => step.score, judged: true },
  kl: { name: "Distance from the phase's start (KL)", of: "steps", value: (step) => step.kl, judged: true },
  cosine: { name: "Cosine of the gradients", of: "moments", value: (moment) => moment.cosine },
};

/**
 * @param {import("../page/state.js").PageState} state
 * @returns {import("./panel.js").View}
 */
export function coursePanel(state) {
  const options = Object.entries(QUANTITIES).map(([key, { name }]) => h("option", { value: key }, name));
  const select = h("select", { "aria-label": "Quantity shown over the steps" }, ...options);
  select.addEventListener("change", () => state.changed());
  const picture = s("svg", { class: "course", role: "img", "aria-label": "Chart over the steps" });
  const view = { size: null };
  const frame = fitted(
    picture,
    () => 190,
    (size) => {
      view.size = size;
      state.changed();
    },
  );
  return chartPanel({
    id: "course",
    title: "Over the steps",
    note: "One line per lane; colours are the teachers, as in the plane.",
    content: [select, frame],
    picture: () => pngOfChart(picture),
    table: () => courseTable(state, QUANTITIES[select.value]),
    update() {
      offer(select, state.run);
      if (view.size) draw(picture, view.size, state, QUANTITIES[select.value]);
    },
  });
}

function offer(select, run) {
  const there = ({ value }) => !QUANTITIES[value].judged || judged(run);
  for (const option of select.options) option.hidden = !there(option);
  if (!there(select)) select.value = select.options[0].value;
}

function draw(picture, { width, height }, { run, step }, quantity) {
  const box = { left: 46, right: width - 12, top: 10, bottom: height - 26 };
  const series = run.lanes.map((lane) => points(lane, quantity, step));
  const values = series.flat().map(([, value]) => value);
  const low = Math.min(0, ...values);
  const high = Math.max(low + 1e-9, ...values);
  const scales = {
    x: linear([0, run.length], [box.left, box.right], 6),
    y: linear([low, high * 1.04], [box.bottom, box.top], 4),
  };
  picture.replaceChildren(
    ...grid(scales, box),
    s("line", { class: "now", x1: scales.x(step), x2: scales.x(step), y1: box.top, y2: box.bottom }),
    ...run.lanes.flatMap((lane, index) => laneLines(lane, index, series[index], scales)),
  );
}

function points(lane, { of, value }, until) {
  const all = lane[of].map((each) => [each.step, value(each)]);
  return all.filter(([step, number]) => step <= until && number !== null && Number.isFinite(number));
}

function laneLines(lane, index, series, { x, y }) {
  if (!series.length) return [];
  const parts = lane.phases.map((phase) => {
    const inside = series.filter(([step]) => step >= phase.start && step <= phase.start + phase.steps);
    return s("path", {
      class: `trail thin ${phase.side}`,
      d: line(inside.map(([step, value]) => [x(step), y(value)])),
    });
  });
  const [step, value] = series.at(-1);
  const { side } = lane.phaseAt(step);
  const place = `translate(${x(step).toFixed(1)} ${y(value).toFixed(1)}) scale(.8)`;
  return [...parts, s("path", { class: `end ${side}`, d: shape(index), transform: place })];
}

function courseTable({ run, step }, quantity) {
  const series = run.lanes.map((lane) => new Map(points(lane, quantity, step)));
  const steps = [...new Set(series.flatMap((each) => [...each.keys()]))].sort((a, b) => a - b);
  const rows = steps.map((at) => [at, ...series.map((each) => each.get(at) ?? null)]);
  return {
    caption: `${quantity.name}, up to step ${step}`,
    columns: ["Step", ...run.lanes.map((lane) => lane.label)],
    rows,
  };
}
