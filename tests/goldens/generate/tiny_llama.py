"""tiny_llama_*.json: logits, token log-probs, SFT and DPO losses and every gradient of tiny LLaMAs.

Computed in f64 from weights that are exact in f32, but for the RoPE tables, which are f32 as everywhere. `f32` says how far
PyTorch itself gets from these numbers in f32.
"""

import numpy as np
import torch

import golden
import llama

BETA = 0.1
SMALL = {"hidden_size": 16, "num_key_value_heads": 2}  # 4 heads of 8: the projections are wider than the model
LLAMA3 = {"rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
          "original_max_position_embeddings": 64}  # of the 4 frequencies: 1 kept, 1 blended, 2 scaled
VARIANTS = {
    "tied": llama.config(hidden_size=16, head_dim=4, intermediate_size=40),
    "untied": llama.config(**SMALL, num_hidden_layers=3, tie_word_embeddings=False),
    "gqa": llama.config(num_key_value_heads=2, head_dim=12),
    "bias": llama.config(**SMALL, attention_bias=True),
    "rope_linear": llama.config(**SMALL, rope_scaling={"rope_type": "linear", "factor": 4.0}),
    "rope_llama3": llama.config(**SMALL, rope_scaling=LLAMA3),
    # The longest text has 24 tokens: as many as a token sees.
    "mistral": llama.relative("MistralForCausalLM", "mistral", {"sliding_window": 24}, **SMALL, tie_word_embeddings=False),
    "qwen2": llama.relative("Qwen2ForCausalLM", "qwen2", {"use_sliding_window": False, "sliding_window": 8}, **SMALL),
    "qwen3": llama.relative("Qwen3ForCausalLM", "qwen3", {"attention_bias": False, "use_sliding_window": False}, **SMALL),
    "qwen3_bias": llama.relative("Qwen3ForCausalLM", "qwen3", {"attention_bias": True}, **SMALL, num_hidden_layers=1),
}


def main() -> None:
    for name in VARIANTS:
        golden.write(f"tiny_llama_{name}", __file__, __doc__.strip(), variant(name))


def start(name: str) -> tuple[torch.nn.Module, list[dict]]:
    """A variant's model, in f32, and its demonstrations."""
    seed = list(VARIANTS).index(name)
    demonstrations = llama.sequences(np.random.default_rng(100 + seed), [(5, 7), (1, 1), (9, 15)])
    return llama.model(VARIANTS[name], seed), demonstrations


def variant(name: str) -> dict:
    settings, (narrow, demonstrations) = VARIANTS[name], start(name)
    preferences = llama.pairs(np.random.default_rng(len(name)), [(4, 6, 3), (7, 1, 12)])
    weights, saved = llama.weights(narrow), narrow.config.to_dict()
    rounded = evaluate(narrow, demonstrations, preferences)
    truth = evaluate(narrow.double(), demonstrations, preferences)
    return {
        "config": settings,
        "config_as_saved_by_transformers_5": {k: v for k, v in saved.items() if k in settings or k == "rope_parameters"},
        "weights": weights,
        "demonstrations": demonstrations,
        "sft": printed_sft(truth),
        "preferences": preferences,
        "dpo": printed_dpo(truth),
        "f32": rounding(rounded, truth),
    }


def evaluate(model, demonstrations: list[dict], preferences: list[dict]) -> dict:
    logits = [llama.logits(model, d["prompt"], d["response"]).detach() for d in demonstrations]
    log_probs = [llama.log_probs(model, d["prompt"], d["response"]).detach() for d in demonstrations]
    check_padded(model, demonstrations, logits)
    loss = llama.sft_loss(model, demonstrations)
    policy = llama.pair_log_probs(model, preferences)
    reference = [torch.tensor(values, dtype=policy[0].dtype) for values in references(policy)]
    dpo_loss, metrics = llama.dpo(policy, reference, BETA)
    return {
        "logits": logits, "log_probs": log_probs, "loss": loss.item(), "gradients": llama.gradients(model, loss),
        "policy": [p.detach() for p in policy], "reference": reference, "dpo_loss": dpo_loss.item(), "metrics": metrics,
        "dpo_gradients": llama.gradients(model, dpo_loss),
    }


def references(policy) -> list[list[float]]:
    """Given, not computed: near the policy's, so that the loss is neither saturated nor ln 2; one decimal survives f32."""
    return [[round(x + shift, 1) for x, shift in zip(side.tolist(), shifts)] for side, shifts in zip(policy, [(-7, 3), (2, -4)])]


def check_padded(model, demonstrations: list[dict], logits: list[torch.Tensor]) -> None:
    """A right-padded batch gives the same logits, and transformers' own loss on its labels is this file's SFT loss."""
    rows = [d["prompt"] + d["response"] for d in demonstrations]
    labels = [[-100] * len(d["prompt"]) + d["response"] for d in demonstrations]
    padded = model(input_ids=right_padded(rows, 2), labels=right_padded(labels, -100), use_cache=False)
    for row, alone in zip(padded.logits, logits):
        torch.testing.assert_close(row[: len(alone)], alone, rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(padded.loss.double(), llama.sft_loss(model, demonstrations).double(), rtol=1e-6, atol=0)


def right_padded(rows: list[list[int]], filler: int) -> torch.Tensor:
    return torch.tensor([row + [filler] * (max(map(len, rows)) - len(row)) for row in rows])


def printed_sft(truth: dict) -> dict:
    tokens = sum(map(len, truth["log_probs"]))
    return {
        "logits": [golden.significant(x) for x in truth["logits"]],
        "log_probs": [golden.significant(x) for x in truth["log_probs"]],
        "tokens": tokens, "nll_sum": golden.significant(truth["loss"] * tokens, 12),
        "loss": golden.significant(truth["loss"], 12),
        "gradients": {n: golden.tensor(g, golden.decimals) for n, g in truth["gradients"].items()},
    }


def printed_dpo(truth: dict) -> dict:
    sides = ("chosen", "rejected")
    return {
        "beta": BETA, "label_smoothing": 0.0,
        "reference_log_probs": dict(zip(sides, map(golden.exact, truth["reference"]))),
        "policy_log_probs": {side: golden.significant(x, 12) for side, x in zip(sides, truth["policy"])},
        "loss": golden.significant(truth["dpo_loss"], 12),
        "metrics": {name: golden.significant(value, 12) for name, value in truth["metrics"].items()},
        "gradients": {n: golden.tensor(g, golden.decimals) for n, g in truth["dpo_gradients"].items()},
    }


def rounding(rounded: dict, truth: dict) -> dict:
    """How far PyTorch's f32 is from the truth: a fair measure of what to expect from another f32 implementation."""
    logits = max((a.double() - b).abs().max().item() for a, b in zip(rounded["logits"], truth["logits"]))
    return {
        "logits_max_difference": golden.significant(logits, 2),
        "loss_difference": golden.significant(abs(rounded["loss"] - truth["loss"]), 2),
        "gradients_max_difference_over_max": golden.significant(llama.deviation(rounded["gradients"], truth["gradients"]), 2),
        "dpo_loss_difference": golden.significant(abs(rounded["dpo_loss"] - truth["dpo_loss"]), 2),
        "dpo_gradients_max_difference_over_max":
            golden.significant(llama.deviation(rounded["dpo_gradients"], truth["dpo_gradients"]), 2),
    }


if __name__ == "__main__":
    main()
