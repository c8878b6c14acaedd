/** How preferences are taught: by their pairs (DPO, RRHF), or by a judge of the model's answers (PPO, RAFT). */

/** @param {import("./run.js").Run} run */
export function teaching({ header }) {
  return (header.settings.preference ?? "dpo").toUpperCase();
}

/** Whether anyone judges answers. */
export function judged(run) {
  return ["PPO", "RAFT"].includes(teaching(run));
}
