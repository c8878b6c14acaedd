/** What settings are called on the page, and how they are grouped. */

export const GROUPS = [
  { title: "The run", names: ["seed", "model", "subsets", "lanes", "examples", "backend"], open: true },
  { title: "Holding on", names: ["f_max", "lambda", "importance"], open: true },
  {
    title: "The teachers",
    names: [
      "conflict",
      "preference",
      "beta",
      "kl_coefficient",
      "sft_learning_rate",
      "dpo_learning_rate",
      "ppo_learning_rate",
      "rrhf_learning_rate",
      "raft_learning_rate",
      "raft_answers",
    ],
    open: true,
  },
  { title: "Measuring", names: ["measure_every"], open: false },
];

/** `logarithmic` sliders move by factors; what is `of` one way to teach preferences is shown with that alone. */
export const FIELDS = {
  seed: { label: "Seed", slider: false },
  model: { label: "Model", kind: "choice" },
  subsets: { label: "Subsets N", note: (value) => (value === 1 ? "two-stage + anchor" : "") },
  lanes: { label: "Third lane" },
  examples: { label: "Examples of each" },
  backend: { label: "Trains on" },
  f_max: { label: "F", sub: "max", logarithmic: true },
  lambda: { label: "λ" },
  importance: { label: "Importance rule", kind: "choice" },
  conflict: { label: "Conflict" },
  preference: { label: "Preferences by", kind: "choice" },
  beta: { label: "β", logarithmic: true, of: "dpo" },
  kl_coefficient: { label: "β", logarithmic: true, of: "ppo" },
  sft_learning_rate: { label: "SFT learning rate", logarithmic: true },
  dpo_learning_rate: { label: "DPO learning rate", logarithmic: true, of: "dpo" },
  ppo_learning_rate: { label: "PPO learning rate", logarithmic: true, of: "ppo" },
  rrhf_learning_rate: { label: "RRHF learning rate", logarithmic: true, of: "rrhf" },
  raft_learning_rate: { label: "RAFT learning rate", logarithmic: true, of: "raft" },
  raft_answers: { label: "Answers K", of: "raft" },
  measure_every: { label: "Steps between moments" },
};

export const METHOD_NAMES = {
  sft: "SFT only",
  "two-stage": "Two-stage",
  "two-stage-reversed": "Two-stage, reversed",
  mix: "Mix per step",
  alternating: "Alternating without EWC",
  "anchor-only": "Anchor only",
  hbat: "HBAT",
  "hbat-freeze": "HBAT-Freeze",
  "hbat-random": "HBAT-Random",
  "": "none",
};
