/** The lab's reward is a probability, 0 to 1; other runs have a margin of log-probabilities instead. */

/** @param {import("../run/run.js").Run} run */
export function rewardName({ header }) {
  return header.reward ?? "reward";
}

export function capital(word) {
  return word[0].toUpperCase() + word.slice(1);
}
