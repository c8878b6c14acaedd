/** The plane of the two objectives: every lane's trail, the ghosts of other seeds, the ideal corner. */

import { grid } from "../charts/axes.js";
import { planeScales } from "../charts/domain.js";
import { fitted } from "../charts/fitted.js";
import { SIDES, STAR, shape } from "../charts/marks.js";
import { pngOfChart } from "../charts/picture.js";
import { h, s, setText } from "../dom/element.js";
import { fixed, short } from "../dom/numbers.js";
import { teaching } from "../run/teaching.js";
import { chartPanel } from "./panel.js";
import { capital, rewardName } from "./reward-name.js";
import { keyboardInspection, pointerInspection } from "./plane-inspection.js";
import { dominated, heads, trail } from "./plane-trails.js";

/**
 * @param {import("../page/state.js").PageState} state
 * @returns {import("./panel.js").View}
 */
export function planePanel(state) {
  const layers = Object.fromEntries(
    ["grid", "region", "ghosts", "ideal", "tuned", "later", "trails", "heads"].map((name) => [
      name,
      s("g", { class: name }),
    ]),
  );
  const picture = s(
    "svg",
    {
      class: "plane",
      role: "group",
      "aria-label": "Plane: loss on demonstrations to the right, preference reward upwards",
    },
    ...Object.values(layers),
  );
  const readout = h("p", { class: "readout" });
  const way = h("span", {});
  const seeds = legendItem(s("path", { class: "ghost", d: shape(0) }), "where 20 seeds ended, default settings");
  const view = { state, layers, size: null, scales: null, box: null, drawn: "" };
  const frame = fitted(
    picture,
    (width) => Math.max(320, Math.min(width * 0.8, 620)),
    (size) => {
      view.size = size;
      view.drawn = "";
      draw(view);
    },
  );
  pointerInspection(picture, view);
  keyboardInspection(frame, view);
  return chartPanel({
    id: "plane",
    title: "The plane",
    note: "Each point is a student at one moment. Left is better at following demonstrations, up is better liked.",
    content: [frame, readout, legend(way, seeds)],
    picture: () => pngOfChart(picture),
    table: () => planeTable(state),
    update() {
      draw(view);
      setText(readout, describe(state));
      setText(way, ` (${teaching(state.run)})`);
      seeds.hidden = shownGhosts(state).length === 0;
    },
  });
}

function draw(view) {
  const { state, size, layers } = view;
  if (!size || !state.run) return;
  measure(view);
  const shown = state.run.lanes.map((lane) => lane.momentIndexAt(state.step));
  const key = JSON.stringify([shown, state.lane, state.inspected, view.scaleKey]);
  if (key === view.drawn) return;
  view.drawn = key;
  layers.region.replaceChildren(
    ...dominated(state.shownLane.momentAt(state.step), state.run.header.nadir, view.scales),
  );
  const reached = state.run.lanes.map((lane) => lane.momentIndexAt(state.player.cursor));
  const trails = (last) => state.run.lanes.map((lane, index) => trail(lane, index, last[index], view.scales));
  layers.later.replaceChildren(...(state.inspected ? trails(reached) : []));
  layers.trails.replaceChildren(...trails(shown));
  heads(layers.heads, view);
}

/** Makes the scales, and what stands still on them, anew if there are points that they do not hold yet. */
function measure(view) {
  const { state, size, layers } = view;
  const { run } = state;
  const ghosts = shownGhosts(state);
  const tuned = state.tuned ?? [];
  const counts = run.lanes.map((lane) => lane.moments.length);
  const key = JSON.stringify([size, run.source, run.header.settings, counts, ghosts.length, tuned]);
  if (view.countKey === key && view.run === run) return;
  Object.assign(view, { countKey: key, run });
  view.box = { left: 52, right: size.width - 14, top: 14, bottom: size.height - 44 };
  const further = [...ghosts.map(({ point }) => point), ...tuned];
  view.scales = planeScales(run, further, view.box);
  view.scaleKey = [view.scales.x.domain, view.scales.y.domain, size.width, ghosts.length].join();
  layers.grid.replaceChildren(...grid(view.scales, view.box), ...axisNames(view.box, run, view.scales));
  layers.ghosts.replaceChildren(...ghosts.map(({ lane, point }) => mark("ghost", lane, point, view.scales, 0.62)));
  layers.tuned.replaceChildren(...tuned.map((point) => tunedMark(point, view.scales)));
  layers.ideal.replaceChildren(...idealCorner(run.header.ideal, view.scales));
}

/** The ends of the same methods, by DPO, under other seeds; a file does not say whether its settings were theirs. */
function shownGhosts({ ghosts, run }) {
  if (run.source === "imported" || teaching(run) !== "DPO") return [];
  return (ghosts?.lanes ?? []).flatMap(({ method, points }) => {
    const lane = run.lanes.findIndex((each) => each.method === method);
    if (lane < 0) return [];
    return points.map(([sft_loss, reward]) => ({ lane, point: { sft_loss, reward } }));
  });
}

function mark(name, lane, { sft_loss, reward }, { x, y }, size) {
  const place = `translate(${x(sft_loss).toFixed(1)} ${y(reward).toFixed(1)}) scale(${size})`;
  return s("path", { class: name, d: shape(lane), transform: place });
}

function tunedMark(point, scales) {
  const label = s(
    "text",
    { class: "tick", x: scales.x(point.sft_loss) + 10, y: scales.y(point.reward) + 4 },
    `β ${short(point.beta)}`,
  );
  return s("g", {}, mark("tuned", point.lane, point, scales, 1.1), label);
}

function idealCorner(ideal, { x, y }) {
  if (!ideal) return [];
  const [left, top] = [x(ideal.sft_loss), y(ideal.reward)];
  return [
    s("circle", { class: "glow", cx: left, cy: top, r: 34 }),
    s("path", { d: STAR, transform: `translate(${left.toFixed(1)} ${top.toFixed(1)})` }),
    s("text", { class: "tick", x: left + 16, y: top + 4 }, "ideal"),
  ];
}

function axisNames({ left, right, top, bottom }, run, { x }) {
  const loss = x.kind === "linear" ? "SFT loss" : `SFT loss (${x.kind})`;
  const middle = (top + bottom) / 2;
  return [
    s("text", { class: "axis", x: (left + right) / 2, y: bottom + 36, "text-anchor": "middle" }, `← better · ${loss}`),
    s(
      "text",
      { class: "axis", x: 12, y: middle, "text-anchor": "middle", transform: `rotate(-90 12 ${middle})` },
      `preference ${rewardName(run)} · better →`,
    ),
  ];
}

function legendItem(content, text) {
  return h("li", {}, s("svg", { class: "shape", viewBox: "-9 -9 18 18", width: 14, height: 14 }, content), text);
}

/**
 * @param {Element} way how preferences are taught
 * @param {Element} seeds what other seeds' ends look like
 */
function legend(way, seeds) {
  const side = (name, ...more) =>
    h("li", {}, h("span", { class: `swatch ${name}` }), h("span", {}, SIDES[name], ...more));
  return h(
    "ul",
    { class: "legend", "aria-label": "Legend" },
    side("sft"),
    side("dpo", way),
    side("mix"),
    seeds,
    legendItem(s("path", { class: "star", d: STAR, transform: "scale(.8)" }), "ideal"),
  );
}

/** What the pointed-at or current moment says, in words. */
function describe({ run, step, inspected, lane }) {
  const shown = run.lanes[inspected?.lane ?? lane];
  const moment = shown?.momentAt(step);
  if (!moment) return "No moment has been measured yet.";
  const volume = Number.isFinite(moment.hypervolume) ? `, hypervolume ${fixed(moment.hypervolume, 3)}` : "";
  const phase = shown.phaseAt(moment.step).name.replace("_", " ");
  const numbers = `SFT loss ${fixed(moment.sft_loss, 3)}, ${rewardName(run)} ${fixed(moment.reward, 3)}${volume}`;
  return `${shown.label}, step ${moment.step} (${phase}): ${numbers}.`;
}

function planeTable({ run, step }) {
  const rows = run.lanes.flatMap((lane) =>
    lane.moments
      .filter((moment) => moment.step <= step)
      .map((moment) => [
        lane.label,
        moment.step,
        lane.phaseAt(moment.step).name,
        moment.sft_loss,
        moment.reward,
        moment.hypervolume,
      ]),
  );
  const columns = ["Lane", "Step", "Phase", "SFT loss", capital(rewardName(run)), "Hypervolume"];
  return { caption: `Every measured moment up to step ${step}`, columns, rows };
}
