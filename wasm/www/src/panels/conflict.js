/** The conflict meter: the angle between what the two teachers ask for. */

import { shapeIcon } from "../charts/marks.js";
import { h, setAttribute, setText } from "../dom/element.js";
import { fixed, percent } from "../dom/numbers.js";
import { section } from "./panel.js";

const COSINE =
  "Cosine of both objectives' gradients, of preferences DPO's: at −1 one teacher's lesson undoes the other's, " +
  "at 1 they agree.";
const SHARE = "Beside it, the share of the gradient that pulls back.";

/**
 * @param {import("../page/state.js").PageState} state
 * @returns {import("./panel.js").View}
 */
export function conflictPanel(state) {
  const rows = h("div", { class: "meters" });
  let shown = null;
  let meters = [];
  const element = section("conflict", "Conflict meter", `${COSINE} ${SHARE}`, [rows]);
  return {
    element,
    update() {
      if (shown !== state.run) {
        shown = state.run;
        meters = shown.lanes.map(meter);
        rows.replaceChildren(scaleRow(), ...meters.map((each) => each.element));
      }
      for (const each of meters) each.update(state.step);
    },
  };
}

function scaleRow() {
  return h(
    "div",
    { class: "meter scale", "aria-hidden": "true" },
    h("span", {}),
    h("span", { class: "ends" }, h("span", {}, "−1"), h("span", {}, "1")),
    h("span", {}, "cosine"),
    h("span", {}, "penalty"),
  );
}

function meter(lane, index) {
  const needle = h("span", { class: "bar" });
  const cosine = h("output", {});
  const share = h("output", { class: "share" });
  const gauge = h("span", { class: "gauge", role: "img" }, needle);
  const element = h(
    "div",
    { class: "meter", "data-lane": index },
    h("span", { class: "who" }, shapeIcon(index), lane.label),
    gauge,
    cosine,
    share,
  );
  return {
    element,
    update(step) {
      const value = lane.momentAt(step)?.cosine;
      const known = Number.isFinite(value);
      needle.style.left = `${known ? 50 + Math.min(0, value) * 50 : 50}%`;
      needle.style.width = `${known ? Math.abs(value) * 50 : 0}%`;
      setAttribute(needle, "class", `bar ${value < 0 ? "against" : "together"}`);
      setText(cosine, fixed(value, 2));
      setAttribute(gauge, "aria-label", `${lane.label}: cosine ${fixed(value, 2)}`);
      setText(share, percent(penaltyShare(lane.stepAt(step))));
    },
  };
}

/** The norm of the penalty's gradient over the norm of the whole gradient. */
export function penaltyShare(step) {
  if (!step?.grad_norm) return null;
  return step.penalty_grad_norm / step.grad_norm;
}
