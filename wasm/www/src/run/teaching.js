/** How preferences are taught in a run: by their pairs (DPO), or by a judge of the model's own answers (PPO). */

/** @param {import("./run.js").Run} run */
export function teaching({ header }) {
  return header.settings.preference === "ppo" ? "PPO" : "DPO";
}

/** Whether anyone judges answers. */
export function judged(run) {
  return teaching(run) === "PPO";
}
