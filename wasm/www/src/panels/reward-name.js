/** The lab's reward is a probability, 0 to 1; the command line writes a margin of log-probabilities. */

/** @param {import("../run/run.js").Run} run */
export function rewardName({ source }) {
  return source === "imported" ? "margin" : "reward";
}

export function capital(word) {
  return word[0].toUpperCase() + word.slice(1);
}
