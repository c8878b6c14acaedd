"""reward.json: TRL's reward loss on given rewards, in f64, with its gradient; and a tiny reward model's rewards, loss and every gradient.

`RewardTrainer.compute_loss` is called with a stand-in for the trainer. `given`: the model returns the given rewards. `model`: it is
transformers' LlamaForSequenceClassification, on a right-padded batch, in f64 from weights that are exact in f32.
"""

import collections
import copy
import types

import numpy as np
import torch
from transformers import LlamaConfig, LlamaForSequenceClassification
from trl import RewardTrainer

import golden
import llama

PAIRS = {  # r(y_w), r(y_l)
    "equal": [[0.75, 0.75]],
    "right_and_wrong": [[2.5, -1.25], [-0.5, 0.25], [0.0, -3.0]],
    "margin_100": [[60.0, -40.0]],
    "margin_minus_100": [[-40.0, 60.0]],
}
SETTINGS = llama.config(hidden_size=16, num_key_value_heads=2, tie_word_embeddings=False, pad_token_id=0,
                        architectures=["LlamaForSequenceClassification"])
CENTERING = 0.05


def main() -> None:
    cases = [given(name, rows, centering) for name, rows in PAIRS.items() for centering in (0.0, 0.01, 0.5)]
    golden.write("reward", __file__, __doc__.strip(), {"given": cases, "model": of_model()})


def given(name: str, rows: list[list[float]], centering: float) -> dict:
    rewards = torch.tensor(rows, dtype=torch.float64, requires_grad=True)  # [pairs, 2]
    loss, metrics = trl(lambda **_: types.SimpleNamespace(logits=rewards.T.reshape(-1, 1)), {}, centering)
    gradient, = torch.autograd.grad(loss, rewards)
    return {
        "name": name, "centering_coefficient": centering, "rewards": rows, "loss": golden.exact(loss),
        "margin": metrics["margin"], "accuracy": metrics["accuracy"], "gradient": golden.exact(gradient),
    }


def of_model() -> dict:
    model, preferences = start()
    narrow, truth = evaluate(model, preferences), evaluate(copy.deepcopy(model).double(), preferences)
    return {
        "config": SETTINGS, "weights": llama.weights(model), "preferences": preferences, "centering_coefficient": CENTERING,
        "rewards": golden.significant(truth["rewards"], 12), "loss": golden.significant(truth["loss"], 12),
        "gradients": {n: golden.tensor(g, golden.decimals) for n, g in truth["gradients"].items()},
        "f32_gradients_max_difference_over_max": golden.significant(llama.deviation(narrow["gradients"], truth["gradients"]), 2),
    }


def start() -> tuple[LlamaForSequenceClassification, list[dict]]:
    config = LlamaConfig(**copy.deepcopy(SETTINGS), num_labels=1)
    model = llama.seeded(LlamaForSequenceClassification(config).eval(), 7)
    return model, llama.pairs(np.random.default_rng(70), [(4, 6, 3), (7, 1, 12), (2, 5, 5)])


def evaluate(model: LlamaForSequenceClassification, preferences: list[dict]) -> dict:
    rows = [p["prompt"] + p[side] for side in ("chosen", "rejected") for p in preferences]  # TRL's order: first all chosen
    width = max(map(len, rows))
    inputs = {
        "input_ids": torch.tensor([row + [0] * (width - len(row)) for row in rows]),
        "attention_mask": torch.tensor([[1] * len(row) + [0] * (width - len(row)) for row in rows]),
    }
    loss, _ = trl(model, dict(inputs), CENTERING)
    rewards = model(**inputs, use_cache=False).logits.detach().reshape(2, -1).T  # [pairs, 2]
    return {"loss": loss.item(), "rewards": rewards, "gradients": llama.gradients(model, loss)}


def trl(model, inputs: dict, centering: float) -> tuple[torch.Tensor, dict]:
    """TRL's loss, and its metrics' only values."""
    def gather(tensor):
        return tensor

    trainer = types.SimpleNamespace(
        model=types.SimpleNamespace(training=False), args=types.SimpleNamespace(center_rewards_coefficient=centering or None),
        accelerator=types.SimpleNamespace(gather=gather, gather_for_metrics=gather),
        _metrics={"eval": collections.defaultdict(list)}, _total_train_tokens=0,
    )
    loss = RewardTrainer.compute_loss(trainer, model, inputs)
    return loss, {name: values[0] for name, values in trainer._metrics["eval"].items() if name != "num_tokens"}


if __name__ == "__main__":
    main()
