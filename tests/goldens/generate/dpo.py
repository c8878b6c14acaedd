"""dpo.json: TRL's own DPO loss on given sequence log-probs, in f64, with its gradient.

`DPOTrainer._compute_loss` is called with a stand-in for the model that returns the given log-probs. Its loss type `sigmoid` knows
no label smoothing; `aot_unpaired` on a batch of one pair, where its sorting does nothing, is conservative DPO, and so the
pairs are evaluated one by one and averaged here. Every number is also checked against the formula.
"""

import collections
import math
import types

import torch
from trl import DPOTrainer

import golden
import llama

SIDES = ("policy_chosen", "policy_rejected", "reference_chosen", "reference_rejected")
METRICS = ("rewards/chosen", "rewards/rejected", "rewards/margins", "rewards/accuracies")
PAIRS = {  # log π(y_w), log π(y_l), log π_ref(y_w), log π_ref(y_l)
    "identical_responses": [[-12.5, -12.5, -12.5, -12.5]],
    "policy_is_reference": [[-31.25, -20.5, -31.25, -20.5], [-0.125, -90.75, -0.125, -90.75]],
    "log_ratio_100": [[-20.0, -150.0, -70.0, -100.0]],
    "log_ratio_minus_100": [[-150.0, -20.0, -100.0, -70.0]],
    "log_ratio_1000": [[-300.0, -1500.0, -800.0, -1000.0]],
    "log_ratio_minus_1000": [[-1500.0, -300.0, -1000.0, -800.0]],
    "batch": [[-41.5, -63.25, -44.75, -58.5], [-120.0, -33.0, -118.5, -35.25], [-9.0, -10.0, -7.0, -13.0],
              [-80.5, -80.5, -77.0, -77.0], [-250.0, -251.0, -255.0, -240.0]],
}


def main() -> None:
    cases = [case(name, rows, beta, smoothing) for name, rows in PAIRS.items() for beta in (0.1, 0.5) for smoothing in (0.0, 0.1)]
    golden.write("dpo", __file__, __doc__.strip(), {"cases": cases})


def case(name: str, rows: list[list[float]], beta: float, smoothing: float) -> dict:
    columns = torch.tensor(rows, dtype=torch.float64).T.contiguous()  # [4, pairs]
    policy = columns[:2].clone().requires_grad_()
    logged = [trl_pair(policy[:, i], columns[2:, i], beta, smoothing) for i in range(len(rows))]
    losses = torch.stack([loss for loss, _ in logged])
    gradient = torch.autograd.grad(losses.mean(), policy)[0]
    metrics = {key: [m[key] for _, m in logged] for key in METRICS}
    check(losses.mean(), metrics, llama.dpo(policy, columns[2:], beta, smoothing))
    return {
        "name": name, "beta": beta, "label_smoothing": smoothing, **dict(zip(SIDES, golden.exact(columns))),
        "losses": golden.exact(losses), "loss": golden.exact(losses.mean()), "per_pair": metrics,
        "mean": {key: math.fsum(values) / len(values) for key, values in metrics.items()},
        "gradient_policy_chosen": golden.exact(gradient[0]), "gradient_policy_rejected": golden.exact(gradient[1]),
    }


def trl_pair(policy: torch.Tensor, reference: torch.Tensor, beta: float, smoothing: float) -> tuple[torch.Tensor, dict]:
    """TRL's loss and metrics for one pair. policy, reference: [chosen, rejected]"""
    trainer = stand_in(beta, smoothing)
    inputs = {
        "input_ids": torch.zeros(2, 2, dtype=torch.long), "attention_mask": torch.ones(2, 2, dtype=torch.long),
        "completion_mask": torch.tensor([[0, 1], [0, 1]]), "ref_chosen_logps": reference[:1], "ref_rejected_logps": reference[1:],
    }
    loss = DPOTrainer._compute_loss(trainer, lambda **_: outputs(policy), inputs, return_outputs=False)
    return loss, {name: values[0] for name, values in trainer._metrics["train"].items()}


def outputs(policy: torch.Tensor) -> types.SimpleNamespace:
    """What TRL's language-model head returns for a response of a single token."""
    column = policy[:, None]
    zeros = torch.zeros_like(column)
    return types.SimpleNamespace(log_probs=column, entropy=zeros, mean_logits=zeros, is_top1=zeros.bool())


def stand_in(beta: float, smoothing: float) -> types.SimpleNamespace:
    """The trainer's fields that its loss reads."""
    def gather(tensor):
        return tensor

    return types.SimpleNamespace(
        beta=beta, label_smoothing=smoothing, loss_types=["aot_unpaired" if smoothing else "sigmoid"], loss_weights=[1.0],
        accelerator=types.SimpleNamespace(device="cpu", gather=gather, gather_for_metrics=gather), precompute_ref_logps=True,
        model=types.SimpleNamespace(training=True), aux_loss_enabled=False, ld_alpha=None, f_divergence_type="reverse_kl",
        use_weighting=False, _metrics={"train": collections.defaultdict(list)}, _total_train_tokens=0, _tp_size=1,
    )


def check(loss: torch.Tensor, metrics: dict, formula: tuple[torch.Tensor, dict]) -> None:
    """TRL and the formula agree."""
    torch.testing.assert_close(loss, formula[0], rtol=1e-12, atol=1e-300)
    for name, values in metrics.items():
        assert math.isclose(sum(values) / len(values), formula[1][name], rel_tol=1e-6, abs_tol=1e-12), name


if __name__ == "__main__":
    main()
