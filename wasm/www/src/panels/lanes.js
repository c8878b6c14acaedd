/** The lanes side by side: what each method is doing, and how its student fares. */

import { shapeIcon } from "../charts/marks.js";
import { h, setAttribute, setText } from "../dom/element.js";
import { fixed, percent } from "../dom/numbers.js";
import { judged } from "../run/teaching.js";
import { capital, rewardName } from "./reward-name.js";

/** What each method does, in a line. */
const ABOUT = {
  "two-stage": "All demonstrations, then all preferences",
  "two-stage-reversed": "All preferences, then all demonstrations",
  hbat: "Alternates, and holds on to what the other teacher changed",
  "hbat-random": "HBAT with importances drawn at random",
  "hbat-freeze": "Alternates, and freezes what the other teacher changed most",
  alternating: "Alternates, and holds on to nothing",
  "anchor-only": "Two stages, the second one held near the first",
  sft: "Demonstrations only",
  "preference-only": "Preferences only",
  mix: "Draws one of the teachers at every step",
};

/** The judge's score is of runs with a judge. */
const FIGURES = [
  ["SFT loss", "sft_loss", (value) => fixed(value, 2), "validation loss on demonstrations; lower is better"],
  [
    "Reward",
    "reward",
    (value) => fixed(value, 2),
    "how likely the preferred answer of a held-out pair is given rather than the other; higher is better",
  ],
  ["Volume", "hypervolume", (value) => fixed(value, 2), "hypervolume: both at once, 1 at the ideal corner"],
  ["Right, covered", "exact_covered", percent, "answers that are right on tasks which preferences cover"],
  ["Right, other", "exact_other", percent, "answers that are right on tasks which preferences never show"],
  [
    "Judge",
    "score",
    (value) => fixed(value, 1),
    "the judge's mean score of answers on the tasks it knows; higher is better",
  ],
  ["Casual", "casual", percent, "answers that end casually, as preferences ask"],
];

/**
 * @param {import("../page/state.js").PageState} state
 * @returns {import("./panel.js").View}
 */
export function lanesPanel(state) {
  const element = h("div", { class: "lanes", role: "group", "aria-label": "Lanes" });
  let shown = null;
  let cards = [];
  return {
    element,
    update() {
      if (shown !== state.run) {
        shown = state.run;
        cards = shown.lanes.map((lane, index) => card(state, lane, index));
        element.replaceChildren(h("h2", { class: "visually-hidden" }, "Lanes"), ...cards.map((each) => each.element));
      }
      for (const each of cards) each.update();
    },
  };
}

function card(state, lane, index) {
  const figures = FIGURES.filter(([, key]) => key !== "score" || judged(state.run));
  const values = figures.map(([heading, key, , help]) => {
    const name = key === "reward" ? capital(rewardName(state.run)) : heading;
    const value = h("dd", {}, "–");
    return { value, row: h("div", { title: help }, h("dt", {}, name), value) };
  });
  const select = h(
    "button",
    { type: "button", class: "lane-name", onclick: () => state.set({ lane: index }) },
    shapeIcon(index),
    h("span", {}, lane.label),
  );
  const ribbon = ribbonOf(lane);
  const element = h(
    "article",
    { class: "lane", "data-lane": index, "data-method": lane.method },
    h("h3", {}, select),
    h("p", { class: "about" }, ABOUT[lane.method] ?? ""),
    ribbon.element,
    h("dl", { "data-judged": judged(state.run) }, ...values.map(({ row }) => row)),
  );
  return {
    element,
    update() {
      const moment = lane.momentAt(state.step);
      figures.forEach(([, key, text], at) => setText(values[at].value, text(moment?.[key])));
      setAttribute(element, "data-selected", state.shownLane === lane);
      setAttribute(select, "aria-pressed", String(state.shownLane === lane));
      setAttribute(element, "data-step", Math.min(lane.head, state.step));
      ribbon.update(state.step);
    },
  };
}

function ribbonOf(lane) {
  const parts = lane.phases.map((phase) => {
    const label = h("span", {}, phase.name.split("_")[0], h("sub", {}, phase.name.split("_")[1] ?? ""));
    return h(
      "li",
      { class: phase.side, style: `flex: ${phase.steps} 1 0`, title: `${phase.name}: ${phase.steps} steps` },
      label,
    );
  });
  const needle = h("span", { class: "needle", "aria-hidden": "true" });
  const element = h("div", { class: "ribbon" }, h("ol", { "aria-label": "Phases" }, ...parts), needle);
  return {
    element,
    update(step) {
      const share = lane.length ? Math.min(1, step / lane.length) : 0;
      needle.style.left = `${(share * 100).toFixed(2)}%`;
      const now = lane.phaseAt(step);
      parts.forEach((part, at) => {
        setAttribute(part, "aria-current", lane.phases[at] === now ? "step" : null);
        setAttribute(part, "data-done", lane.phases[at].start + lane.phases[at].steps <= step);
      });
    },
  };
}
