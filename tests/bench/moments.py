"""What AdamW's moments in 8 bits do to the weights' changes, against bf16 and f32: a trial in PyTorch, with bitsandbytes' own quantization.

    pip install torch transformers bitsandbytes
    python tests/bench/moments.py --model DIR --demonstrations demonstrations.jsonl

SFT steps in f32 at a constant rate, clipped at 1, on the same demonstrations in the same order; between steps the moments are kept as said. 8 bits
are bitsandbytes' dynamic maps in blocks of 256, for matrices; vectors stay f32. Prints a Markdown table: C (the mean squared change) of
each unit against the f32 run's, and how far the changes of all weights together are from that run's. PyTorch may compute with any
number of threads, so that numbers vary in their last digits.
"""

import statistics

import bitsandbytes.functional as bnb
import torch
from transformers import AutoModelForCausalLM

import texts

RATE, EPS = 1e-5, 1e-8
MAPS = {"first": bnb.create_dynamic_map(signed=True), "second": bnb.create_dynamic_map(signed=False)}


def main() -> None:
    arguments = texts.arguments(__doc__, "--steps", 30)
    examples = texts.demonstrations(arguments.model, arguments.demonstrations, 4 * arguments.steps, 128)
    batches = [examples[at : at + 4] for at in range(0, len(examples), 4)]
    print("| β₂ | moments | loss of the last steps | C: median | largest | units within 1% | changes: off by |\n|---|---|---|---|---|---|---|")
    for beta2 in (0.95, 0.999):
        exact = None
        for kept in ("f32", "bf16", "8 bits"):
            loss, changes = train(arguments.model, batches, beta2, kept)
            exact = exact or changes
            row(beta2, kept, loss, changes, exact)


def train(model: str, batches: list, beta2: float, kept: str) -> tuple[float, dict[str, torch.Tensor]]:
    """The mean loss of the last five steps, and every unit's change."""
    policy = AutoModelForCausalLM.from_pretrained(model, dtype=torch.float32)
    before = {name: weight.detach().clone() for name, weight in policy.named_parameters()}
    moments = {name: (Kept(weight, "first", kept), Kept(weight, "second", kept)) for name, weight in policy.named_parameters()}
    losses = []
    for step, batch in enumerate(batches, 1):
        losses.append(texts.backward(policy, batch))
        torch.nn.utils.clip_grad_norm_(policy.parameters(), 1.0)
        with torch.no_grad():
            for name, weight in policy.named_parameters():
                update(weight, moments[name], beta2, step)
    return statistics.mean(losses[-5:]), {name: weight.detach() - before[name] for name, weight in policy.named_parameters()}


def update(weight: torch.Tensor, moments: tuple["Kept", "Kept"], beta2: float, step: int) -> None:
    first = torch.lerp(moments[0].read(), weight.grad, 0.1)
    second = beta2 * moments[1].read() + (1 - beta2) * weight.grad.square()
    weight -= RATE * (first / (1 - 0.9**step)) / ((second / (1 - beta2**step)).sqrt() + EPS)
    moments[0].write(first)
    moments[1].write(second)


class Kept:
    """A moment of one unit between steps."""

    def __init__(self, weight: torch.Tensor, which: str, kept: str) -> None:
        self.code, self.kept = MAPS[which], "f32" if kept == "8 bits" and weight.dim() == 1 else kept
        self.write(torch.zeros_like(weight))

    def write(self, values: torch.Tensor) -> None:
        if self.kept == "8 bits":
            self.values = bnb.quantize_blockwise(values, code=self.code, blocksize=256)
        else:
            self.values = values.to(torch.bfloat16 if self.kept == "bf16" else torch.float32)

    def read(self) -> torch.Tensor:
        return bnb.dequantize_blockwise(*self.values) if self.kept == "8 bits" else self.values.float()


def row(beta2: float, kept: str, loss: float, changes: dict, exact: dict) -> None:
    square = lambda tensors: sum(float(tensor.double().square().sum()) for tensor in tensors)
    ratios = [square([changes[name]]) / square([exact[name]]) - 1 for name in exact]
    off = (square(changes[name] - exact[name] for name in exact) / square(exact.values())) ** 0.5
    largest = max(ratios, key=abs)
    within = sum(abs(ratio) <= 0.01 for ratio in ratios)
    print(f"| {beta2} | {kept} | {loss:.4f} | {statistics.median(ratios):+.2%} | {largest:+.2%} | {within} of {len(ratios)} | {off:.1%} |", flush=True)


if __name__ == "__main__":
    main()
