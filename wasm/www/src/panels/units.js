/** The strips of units: conflict of the gradients, importance, drift. One column per weight tensor, in all three. */

import { h, setAttribute, setText } from "../dom/element.js";
import { fixed, short } from "../dom/numbers.js";
import { pngOfStrips } from "../charts/picture.js";
import { layerNames, unitName } from "../run/units.js";
import { chartPanel } from "./panel.js";
import { ruleSwitch } from "./rule-switch.js";
import { strip } from "./unit-strip.js";

/**
 * @param {import("../page/state.js").PageState} state
 * @returns {import("./panel.js").View}
 */
export function unitsPanel(state) {
  const strips = {
    cosine: strip("Conflict", "cosine of the two gradients", "diverging"),
    importance: strip("Importance F", "how firmly each unit is held", "plain"),
    drift: strip("Drift ‖θ − θ*‖", "how far each unit went in this phase", "plain"),
  };
  const rules = ruleSwitch(state);
  const layers = h("div", { class: "layer-names", "aria-hidden": "true" });
  const readout = h("p", { class: "readout" });
  const columns = { at: null };
  const content = h(
    "div",
    { class: "strips" },
    strips.cosine.element,
    h("div", {}, strips.importance.element, rules.element),
    strips.drift.element,
    layers,
    readout,
  );
  pointing(content, strips, columns, state);
  let shownUnits = null;
  return chartPanel({
    id: "units",
    title: "Unit by unit",
    note: "Every column is one weight tensor of the lane that is chosen above.",
    content: [content],
    picture: () => pngOfStrips(Object.values(strips).map((each) => each.picture())),
    table: () => unitsTable(state),
    update() {
      if (shownUnits !== state.run.header.units) {
        shownUnits = state.run.header.units;
        layers.replaceChildren(
          ...layerNames(shownUnits).map(({ name, count }) => h("span", { style: `flex: ${count}` }, name)),
        );
      }
      const values = valuesOf(state);
      strips.cosine.update(values.cosines, { range: 1, empty: missing(state, "no gradients were measured") });
      strips.importance.update(values.f, { empty: whyNoImportance(state) });
      strips.drift.update(values.drift, { empty: missing(state, "no drift was measured") });
      rules.update(values.importance);
      setText(readout, describe(state, values, columns.at));
      setAttribute(content, "data-effective", values.rule?.effective_units);
    },
  });
}

function valuesOf(state) {
  const lane = state.shownLane;
  const moment = lane.momentAt(state.step);
  const importance = lane.importanceAt(state.step);
  const rule = importance?.rules[state.rule ?? importance.rule] ?? null;
  return {
    importance,
    rule,
    f: rule?.f ?? null,
    cosines: moment?.unit_cosines ?? null,
    drift: moment?.unit_drift ?? null,
    moment,
  };
}

function missing({ run }, text) {
  return run.source === "imported" ? `Not in this file: ${text}` : "Not measured yet";
}

function whyNoImportance(state) {
  const { step, shownLane } = state;
  const importance = shownLane.importanceAt(step);
  if (importance) return `This file has only the rule that the run used: ${importance.rule}`;
  const name = shownLane.phaseAt(step).name.replace("_", " ");
  const frozen = shownLane.startAt(step)?.frozen;
  if (frozen) return `No penalty in ${name}: ${frozen} units are frozen, the others free`;
  return `No penalty in ${name}: nothing is held`;
}

/** The column under the pointer, or that arrow keys chose, is named in all three strips. */
function pointing(content, strips, columns, state) {
  const choose = (at) => {
    columns.at = at;
    for (const each of Object.values(strips)) each.mark(at);
    state.changed();
  };
  content.addEventListener("pointermove", (event) => {
    const bars = event.target.closest(".bars");
    if (!bars) return;
    const { left, width } = bars.getBoundingClientRect();
    const count = state.run.header.units.length;
    choose(Math.max(0, Math.min(count - 1, Math.floor(((event.clientX - left) / width) * count))));
  });
  content.addEventListener("pointerleave", () => choose(null));
  content.addEventListener("keydown", (event) => {
    if (!event.target.classList.contains("bars")) return;
    const last = state.run.header.units.length - 1;
    const now = columns.at ?? -1;
    const to = { ArrowLeft: now - 1, ArrowRight: now + 1, Home: 0, End: last }[event.key];
    if (to === undefined) return;
    event.preventDefault();
    choose(Math.max(0, Math.min(last, to)));
  });
}

function describe({ run, shownLane }, { cosines, f, drift, moment }, at) {
  if (at === null || at >= run.header.units.length) {
    const when = moment ? `, step ${moment.step}` : "";
    return `${shownLane.label}${when}. Point at a column, or use arrow keys, to read it.`;
  }
  const parts = [unitName(run.header.units[at])];
  if (cosines) parts.push(`cosine ${fixed(cosines[at], 2)}`);
  if (f) parts.push(`F ${short(f[at])}`);
  if (drift) parts.push(`drift ${short(drift[at])}`);
  return parts.join(" · ");
}

function unitsTable(state) {
  const { run, step, shownLane } = state;
  const { cosines, importance, drift } = valuesOf(state);
  const rules = Object.entries(importance?.rules ?? {});
  const columns = ["Unit", "Cosine", ...rules.map(([name]) => `F (${name})`), "Accumulated change", "Drift"];
  const rows = run.header.units.map((unit, at) => [
    unit,
    cosines?.[at],
    ...rules.map(([, rule]) => rule.f[at]),
    importance?.accumulated?.[at],
    drift?.[at],
  ]);
  return { caption: `${shownLane.label} at step ${step}, unit by unit`, columns, rows };
}
