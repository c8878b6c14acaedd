/** Which importance rule is shown, and how many units it effectively holds: the softmax is seen to degenerate. */

import { h, setAttribute, setText } from "../dom/element.js";
import { fixed } from "../dom/numbers.js";

const RULES = ["paper", "reference", "relative", "proportional", "random"];

const ABOUT = {
  paper: "softmax of the accumulated change, as printed: the changes are tiny, so every unit gets the same",
  reference: "the released code multiplies the changes by 10²⁰ first: one unit gets everything",
  relative: "softmax of the change relative to its mean",
  proportional: "each unit's share of the change",
  random: "drawn at random: does it matter which unit is held?",
};

/**
 * @param {import("../page/state.js").PageState} state
 */
export function ruleSwitch(state) {
  const buttons = RULES.map((rule) =>
    h(
      "button",
      { type: "button", "data-rule": rule, "aria-pressed": "false", onclick: () => state.set({ rule }) },
      rule,
    ),
  );
  const figure = h("strong", {});
  const about = h("span", {});
  const element = h(
    "div",
    { class: "rules" },
    h("div", { class: "segments", role: "group", "aria-label": "Importance rule shown" }, ...buttons),
    h("p", { class: "effective", "aria-live": "off" }, figure, about),
  );
  return {
    element,
    /** @param {import("../run/run.js").Importance | null} importance */
    update(importance) {
      const shown = state.rule ?? importance?.rule ?? state.run.header.settings.importance;
      for (const button of buttons) {
        const { rule } = button.dataset;
        setAttribute(button, "aria-pressed", String(rule === shown));
        setAttribute(button, "data-used", rule === (importance?.rule ?? state.run.header.settings.importance));
        button.disabled = importance !== null && !importance.rules[rule];
        button.hidden = rule === "random" && !importance?.rules[rule];
      }
      const effective = importance?.rules[shown]?.effective_units;
      const units = state.run.header.units.length;
      setText(figure, effective === undefined ? "" : `${fixed(effective, 1)} of ${units} units effectively held`);
      setText(about, ABOUT[shown] ?? "");
      setAttribute(element, "data-degenerate", verdict(effective, units));
    },
  };
}

/** As the CLI warns: below 2, or nearly all. */
function verdict(effective, units) {
  if (effective === undefined) return null;
  if (effective < 2) return "one";
  return effective > 0.99 * units ? "uniform" : null;
}
