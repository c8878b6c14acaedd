"""dpo.json: TRL's own DPO loss on given sequence log-probs, in f64, with its gradient.

`DPOTrainer._compute_loss` is called with a stand-in for the model that returns the given log-probs. Its loss type `sigmoid` knows
no label smoothing; `aot_unpaired` on a batch of one pair, where its sorting does nothing, is conservative DPO, and so the
pairs are evaluated one by one and averaged here. Every number is also checked against the formula. `nll`: its loss types
`sigmoid` and `sft` together, on token log-probs.
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


TOKENS = [  # log π of the tokens of y_w, those of y_l, log π_ref(y_w), log π_ref(y_l)
    ([-1.5, -0.25, -3.0, -0.125], [-2.0, -0.5], -5.0, -2.25),
    ([-0.75], [-4.0, -1.0, -0.5], -1.5, -4.75),
    ([-20.0, -0.5, -8.0], [-0.25, -0.125, -0.5], -12.0, -9.0),
]


def main() -> None:
    cases = [case(name, rows, beta, smoothing) for name, rows in PAIRS.items() for beta in (0.1, 0.5) for smoothing in (0.0, 0.1)]
    nll = [nll_case(beta, coefficient) for beta in (0.1, 0.5) for coefficient in (0.0, 0.2, 1.0)]
    golden.write("dpo", __file__, __doc__.strip(), {"cases": cases, "nll": nll})


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
    trainer = stand_in(beta, smoothing, {"aot_unpaired" if smoothing else "sigmoid": 1.0})
    loss = trl_loss(trainer, list(policy[:, None]), reference)
    return loss, {name: values[0] for name, values in trainer._metrics["train"].items()}


def nll_case(beta: float, coefficient: float) -> dict:
    leaves = [[torch.tensor(side, dtype=torch.float64, requires_grad=True) for side in row[:2]] for row in TOKENS]
    references = [torch.tensor(row[2:], dtype=torch.float64) for row in TOKENS]
    weights = {"sigmoid": 1.0, "sft": coefficient}
    losses = torch.stack([trl_loss(stand_in(beta, 0.0, weights), pair, reference) for pair, reference in zip(leaves, references)])
    gradients = torch.autograd.grad(losses.mean(), [side for pair in leaves for side in pair])
    sums = torch.stack([torch.stack([side.sum() for side in pair]) for pair in leaves], 1)
    nll = torch.stack([-chosen.mean() for chosen, _ in leaves])
    torch.testing.assert_close(losses.mean(), llama.dpo(sums, torch.stack(references, 1), beta)[0] + coefficient * nll.mean(), rtol=1e-12, atol=0)
    return {
        "beta": beta, "nll_coefficient": coefficient, "tokens": [row[:2] for row in TOKENS], "reference": [row[2:] for row in TOKENS],
        "loss": golden.exact(losses.mean()), "nll": golden.exact(nll.mean()), "gradient": [value for g in gradients for value in golden.exact(g)],
    }


def trl_loss(trainer: types.SimpleNamespace, tokens: list[torch.Tensor], reference: torch.Tensor) -> torch.Tensor:
    """TRL's loss for one pair. tokens: log-probs of the chosen and the rejected response; reference: their sums"""
    width = max(len(side) for side in tokens)
    log_probs = torch.stack([torch.nn.functional.pad(side, (0, width - len(side))) for side in tokens])
    zeros = torch.zeros_like(log_probs)
    outputs = types.SimpleNamespace(log_probs=log_probs, entropy=zeros, mean_logits=zeros, is_top1=zeros.bool())
    inputs = {
        "input_ids": torch.zeros(2, 1 + width, dtype=torch.long), "attention_mask": torch.ones(2, 1 + width, dtype=torch.long),
        "completion_mask": torch.tensor([[0] + [int(i < len(side)) for i in range(width)] for side in tokens]),
        "ref_chosen_logps": reference[:1], "ref_rejected_logps": reference[1:],
    }
    return DPOTrainer._compute_loss(trainer, lambda **_: outputs, inputs, return_outputs=False)


def stand_in(beta: float, smoothing: float, losses: dict[str, float]) -> types.SimpleNamespace:
    """The trainer's fields that its loss reads."""
    def gather(tensor):
        return tensor

    return types.SimpleNamespace(
        beta=beta, label_smoothing=smoothing, loss_types=list(losses), loss_weights=list(losses.values()),
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
