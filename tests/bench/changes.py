"""What the rounding of weights to bf16 does to training, in PyTorch: SFT steps that compute in f32 on rounded weights, with f32 weights kept and updated.

    pip install torch transformers
    python tests/bench/changes.py --model DIR --demonstrations demonstrations.jsonl [--steps 14]

AdamW in f32, clipped at 1, cosine to 0, on the same demonstrations in the same order. Weights are rounded to the nearest bf16, or at random to one of
their two neighbours, the more often the nearer it is. Prints a Markdown table: the loss, and C (the mean squared change) of each unit against the run
without rounding. PyTorch may compute with any number of threads, so that numbers vary in their last digits.
"""

import math
import statistics

import torch
from transformers import AutoModelForCausalLM

import texts

ROWS, RATE, BETAS, EPS = 8, 1e-5, (0.9, 0.95), 1e-8


def main() -> None:
    arguments = texts.arguments(__doc__, "--steps", 14)
    examples = texts.demonstrations(arguments.model, arguments.demonstrations, ROWS * arguments.steps, 160)
    batches = [examples[at : at + ROWS] for at in range(0, len(examples), ROWS)]
    print("| weights are rounded | loss of the last steps | C: median | largest | units within 1% | all together |\n|---|---|---|---|---|---|")
    exact = None
    for how, rounded in {"not": torch.clone, "to the nearest": nearest, "at random": at_random}.items():
        loss, changes = train(arguments.model, batches, rounded)
        exact = exact or changes
        row(how, loss, changes, exact)


def train(model: str, batches: list, rounded) -> tuple[float, dict[str, float]]:
    """The mean loss of the last five steps, and the squared change of every unit."""
    policy = AutoModelForCausalLM.from_pretrained(model, dtype=torch.float32)
    weights = {name: weight.detach().clone().requires_grad_() for name, weight in policy.named_parameters()}
    before = {name: weight.detach().clone() for name, weight in weights.items()}
    optimizer = torch.optim.AdamW(weights.values(), lr=RATE, betas=BETAS, eps=EPS, weight_decay=0.0)
    losses = []
    for step, batch in enumerate(batches):
        losses.append(texts.backward(policy, batch))
        for name, weight in policy.named_parameters():
            weights[name].grad = weight.grad.clone()
        torch.nn.utils.clip_grad_norm_(weights.values(), 1.0)
        optimizer.param_groups[0]["lr"] = RATE * (1 + math.cos(math.pi * step / len(batches))) / 2
        optimizer.step()
        with torch.no_grad():
            for name, weight in policy.named_parameters():
                weight.copy_(rounded(weights[name]))
    return statistics.mean(losses[-5:]), {name: float((weights[name].detach() - before[name]).double().square().sum()) for name in weights}


def nearest(weight: torch.Tensor) -> torch.Tensor:
    return weight.bfloat16().float()


def at_random(weight: torch.Tensor) -> torch.Tensor:
    bits = weight.view(torch.int32)
    return ((bits + torch.randint_like(bits, 1 << 16)) & -(1 << 16)).view(torch.float32)


def row(how: str, loss: float, changes: dict, exact: dict) -> None:
    ratios = [changes[name] / exact[name] - 1 for name in exact]
    largest, within = max(ratios, key=abs), sum(abs(ratio) <= 0.01 for ratio in ratios)
    together = sum(changes.values()) / sum(exact.values()) - 1
    print(f"| {how} | {loss:.4f} | {statistics.median(ratios):+.2%} | {largest:+.2%} | {within} of {len(ratios)} | {together:+.2%} |", flush=True)


if __name__ == "__main__":
    main()
