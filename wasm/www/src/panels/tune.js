/** Tune β for both: each method at its own best, which is the honest comparison. */

import { h } from "../dom/element.js";
import { fixed, short } from "../dom/numbers.js";
import { chooseBackend } from "../lab/backend.js";
import { METHOD_NAMES } from "./field-names.js";
import { jobButton } from "./job-button.js";
import { section } from "./panel.js";

/** What is compared. */
const BOTH = ["two-stage", "hbat"];

/** The ways to teach preferences that have a β. */
const WITH_BETA = ["dpo", "ppo"];

const NOTE =
  "A method may look better only because β suits it. This trains two-stage and HBAT from the same start with " +
  "several β, and compares each at the β of its largest hypervolume. The points appear in the plane if it shows a " +
  "run with these settings. RRHF and RAFT have no β.";

/**
 * @param {import("../page/state.js").PageState} state
 * @param {import("../page/session.js").Session} session
 * @returns {import("./panel.js").View}
 */
export function tunePanel(state, session) {
  const status = h("p", { class: "hint", role: "status" });
  const result = h("div", { class: "result" });
  const button = jobButton("Tune β for both", status, async (worker, progress) => {
    state.player.pause();
    const { backend } = await chooseBackend(session.wish);
    await worker.call("start", { backend });
    await worker.call("prepare", { backend });
    const settings = { ...session.draft, lanes: BOTH };
    const { lanes } = await worker.call("tuneBeta", { settings, backend }, progress);
    result.replaceChildren(table(lanes));
    const shown = session.isOfShown(settings, ["beta", "lanes"]);
    state.set({ tuned: shown ? pointsOf(lanes, state.run) : null });
    return verdict(lanes, settings.seed) + (shown ? "" : " The plane shows a run with other settings.");
  });
  return {
    element: section("tune", "Each at its best", NOTE, [button, status, result]),
    update() {
      button.disabled = !session.fields || !WITH_BETA.includes(session.draft?.preference);
    },
  };
}

function verdict(lanes, seed) {
  const best = lanes.map(({ method, tried, best: at }) => ({ name: METHOD_NAMES[method] ?? method, ...tried[at] }));
  const [first, second] = best.sort((a, b) => b.hypervolume - a.hypervolume);
  const told = ({ name, hypervolume, beta }) => `${name} ${fixed(hypervolume, 3)} at β = ${short(beta)}`;
  const found = `Hypervolume, each at its best: ${told(first)}, ${told(second)}.`;
  return `${found} Seed ${seed} alone; others may turn it round.`;
}

function table(lanes) {
  const head = ["Method", "β", "SFT loss", "Reward", "Hypervolume"].map((name) => h("th", { scope: "col" }, name));
  const row = (method, tried, isBest) =>
    h(
      "tr",
      { class: isBest ? "best" : null },
      h("th", { scope: "row" }, METHOD_NAMES[method] ?? method, isBest ? " ★ best" : ""),
      ...[short(tried.beta), fixed(tried.sft_loss, 3), fixed(tried.reward, 3), fixed(tried.hypervolume, 3)].map(
        (text) => h("td", { class: "number" }, text),
      ),
    );
  const rows = lanes.flatMap(({ method, tried, best }) => tried.map((each, at) => row(method, each, at === best)));
  return h(
    "table",
    {},
    h("caption", {}, "β that were tried"),
    h("thead", {}, h("tr", {}, ...head)),
    h("tbody", {}, ...rows),
  );
}

function pointsOf(lanes, run) {
  return lanes.flatMap(({ method, tried, best }) => {
    const lane = run.lanes.findIndex((each) => each.method === method);
    return lane < 0 ? [] : [{ lane, ...tried[best] }];
  });
}
