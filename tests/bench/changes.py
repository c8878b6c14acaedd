"""What computing in bf16 does to the weights' changes C, in PyTorch: SFT steps whose products see bf16, with f32 weights kept and updated.

    pip install torch transformers
    python tests/bench/changes.py --model DIR --demonstrations demonstrations.jsonl [--steps 14]

AdamW in f32, clipped at 1, cosine to 0, on the same demonstrations in the same order. "rounded weights" computes in f32 on weights rounded to bf16, which
tells the rounding of weights from that of everything else; "rounded at random" rounds them up as often as they are nearer to that. Prints a Markdown table: C (the mean squared change) of each unit against the run
that computes in f32. PyTorch may compute with any number of threads, so that numbers vary in their last digits.
"""

import math
import statistics

import torch
from transformers import AutoModelForCausalLM

import texts

ROWS, BETAS, EPS = 8, (0.9, 0.95), 1e-8
RATES = (1e-5, 1e-4)


def main() -> None:
    arguments = texts.arguments(__doc__, "--steps", 14)
    examples = texts.demonstrations(arguments.model, arguments.demonstrations, ROWS * arguments.steps, 160)
    batches = [examples[at : at + ROWS] for at in range(0, len(examples), ROWS)]
    print("| peak rate | computed in | loss of the last steps | C: median | largest | units within 1% | all together |\n|---|---|---|---|---|---|---|")
    for rate in RATES:
        exact = None
        for how in ("f32", "rounded weights", "rounded at random", "bf16"):
            loss, changes = train(arguments.model, batches, rate, how)
            exact = exact or changes
            row(rate, how, loss, changes, exact)


def train(model: str, batches: list, rate: float, how: str) -> tuple[float, dict[str, float]]:
    """The mean loss of the last five steps, and the squared change of every unit."""
    policy = AutoModelForCausalLM.from_pretrained(model, dtype=torch.bfloat16 if how == "bf16" else torch.float32)
    weights = {name: weight.detach().float().clone().requires_grad_() for name, weight in policy.named_parameters()}
    before = {name: weight.detach().clone() for name, weight in weights.items()}
    optimizer = torch.optim.AdamW(weights.values(), lr=rate, betas=BETAS, eps=EPS, weight_decay=0.0)
    losses = []
    for step, batch in enumerate(batches):
        losses.append(backward(policy, weights, batch))
        torch.nn.utils.clip_grad_norm_(weights.values(), 1.0)
        optimizer.param_groups[0]["lr"] = rate * (1 + math.cos(math.pi * step / len(batches))) / 2
        optimizer.step()
        with torch.no_grad():
            for name, weight in policy.named_parameters():
                weight.copy_(seen(weights[name], how))
    return statistics.mean(losses[-5:]), {name: float((weights[name].detach() - before[name]).double().square().sum()) for name in weights}


def backward(policy: torch.nn.Module, weights: dict[str, torch.Tensor], batch: list) -> float:
    """The loss; its gradients, added up in f32, become those of the weights that are kept."""
    for weight in weights.values():
        weight.grad = torch.zeros_like(weight)
    tokens, total = sum(len(response) for _, response in batch), 0.0
    for prompt, response in batch:
        logits = policy(torch.tensor([prompt + response])).logits[0, len(prompt) - 1 : -1].float()
        loss = torch.nn.functional.cross_entropy(logits, torch.tensor(response), reduction="sum") / tokens
        policy.zero_grad()
        loss.backward()
        for name, weight in policy.named_parameters():
            weights[name].grad += weight.grad
        total += loss.item()
    return total


def seen(weight: torch.Tensor, how: str) -> torch.Tensor:
    """What products compute with."""
    if how == "f32":
        return weight
    if how != "rounded at random":
        return weight.bfloat16()
    bits = weight.view(torch.int32)
    return ((bits + torch.randint_like(bits, 1 << 16)) & -(1 << 16)).view(torch.float32)


def row(rate: float, how: str, loss: float, changes: dict, exact: dict) -> None:
    ratios = [changes[name] / exact[name] - 1 for name in exact]
    largest, within = max(ratios, key=abs), sum(abs(ratio) <= 0.01 for ratio in ratios)
    together = sum(changes.values()) / sum(exact.values()) - 1
    print(f"| {rate:g} | {how} | {loss:.4f} | {statistics.median(ratios):+.2%} | {largest:+.2%} | {within} of {len(ratios)} | {together:+.2%} |", flush=True)


if __name__ == "__main__":
    main()
