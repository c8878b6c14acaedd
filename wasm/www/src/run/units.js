/** Names of units: weight tensors in Hugging Face's layout. */

const PARTS = {
  "self_attn.q_proj": "query",
  "self_attn.k_proj": "key",
  "self_attn.v_proj": "value",
  "self_attn.o_proj": "attention output",
  "mlp.gate_proj": "MLP gate",
  "mlp.up_proj": "MLP up",
  "mlp.down_proj": "MLP down",
  input_layernorm: "norm before attention",
  post_attention_layernorm: "norm before MLP",
};

/** @param {string} unit */
export function unitName(unit) {
  const inLayer = /^model\.layers\.(\d+)\.(.+)\.(weight|bias)$/.exec(unit);
  if (!inLayer) return { "model.embed_tokens.weight": "embeddings", "model.norm.weight": "last norm" }[unit] ?? unit;
  const part = PARTS[inLayer[2]] ?? inLayer[2];
  return `layer ${Number(inLayer[1]) + 1}, ${part}${inLayer[3] === "bias" ? " bias" : ""}`;
}

/** Runs of units that belong to the same layer. */
export function layerNames(units) {
  const groups = [];
  for (const unit of units) {
    const layer = /^model\.layers\.(\d+)\./.exec(unit)?.[1];
    const name = layer === undefined ? shortName(unit) : `layer ${Number(layer) + 1}`;
    if (groups.at(-1)?.name === name) groups.at(-1).count++;
    else groups.push({ name, count: 1 });
  }
  return groups;
}

function shortName(unit) {
  return { "model.embed_tokens.weight": "E", "model.norm.weight": "N", "lm_head.weight": "H" }[unit] ?? "";
}
