/** Tells screen readers what the charts show: at ends of phases, and when playback stops. */

import { h, setText } from "../dom/element.js";
import { fixed } from "../dom/numbers.js";

/**
 * @param {import("./state.js").PageState} state
 * @returns {import("../panels/panel.js").View}
 */
export function announcer(state) {
  const element = h("p", { class: "visually-hidden", role: "status", "aria-live": "polite", id: "summary" });
  let last = { phases: "", playing: false, run: null };
  return {
    element,
    update() {
      const { run, player } = state;
      const cursor = Math.floor(player.cursor);
      const phases = run.lanes.map((lane) => lane.phases.indexOf(lane.phaseAt(cursor))).join();
      const stopped = last.playing && !player.playing;
      const news = last.run !== run || phases !== last.phases || stopped;
      last = { phases, playing: player.playing, run };
      if (news) setText(element, summary(run, cursor));
    },
  };
}

function summary(run, cursor) {
  const lanes = run.lanes.map((lane) => {
    const moment = lane.momentAt(cursor);
    const numbers = moment
      ? `SFT loss ${fixed(moment.sft_loss, 2)}, reward ${fixed(moment.reward, 2)}`
      : "not measured yet";
    return `${lane.label} in ${lane.phaseAt(cursor).name.replace("_", " ")}: ${numbers}`;
  });
  return `Step ${cursor} of ${run.length}. ${lanes.join(". ")}.`;
}
