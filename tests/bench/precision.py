"""How far log-probabilities and gradients in bf16 are from those in f32, in hbat and in PyTorch, on the same model and demonstrations.

    cargo build --release --workspace --lib --bins --tests --examples
    python tests/bench/precision.py --model DIR --demonstrations demonstrations.jsonl

The SFT gradient of a few demonstrations with bf16 weights against the one with the same weights in f32, each side against itself.
Prints a Markdown table: the root mean square of the difference of a response's log-probability; and over all units the norm of the
difference as a part of the norm, and the largest difference as a part of the largest number. PyTorch's two rows are transformers' attention in single products ("eager") and PyTorch's fused one ("sdpa").
"""

import json
import pathlib
import statistics
import subprocess

import torch
from transformers import AutoModelForCausalLM

import texts

PROGRAM = pathlib.Path(__file__).resolve().parents[2] / "target" / "release" / "bench_precision"


def main() -> None:
    arguments = texts.arguments(__doc__, "--texts", 4)
    examples = texts.demonstrations(arguments.model, arguments.demonstrations, arguments.texts, 256)
    words = ["tokens of the texts:", *(len(prompt) + len(response) for prompt, response in examples)]
    print(*words, "\n\n| | log π of a response | norm: median | largest | maximum: median | largest | its unit |\n|---|---|---|---|---|---|---|")
    done = subprocess.run([PROGRAM, arguments.model], input=json.dumps(examples), capture_output=True, text=True, check=True)
    found = json.loads(done.stdout)
    row("hbat", found["units"], found["texts"])
    for attention in ("eager", "sdpa"):
        expected, texts_expected = numbers(arguments.model, examples, torch.float32, attention)
        found, texts_found = numbers(arguments.model, examples, torch.bfloat16, attention)
        units = {unit: off(found[unit], expected[unit]) for unit in expected}
        row(f"PyTorch {torch.__version__}, {attention}", units, [a - b for a, b in zip(texts_found, texts_expected)])


def numbers(model: str, examples: list, dtype: torch.dtype, attention: str) -> tuple[dict[str, torch.Tensor], list[float]]:
    """Gradients of the mean over all response tokens, and each response's log-probability, one text at a time: no padding that a kernel
    might treat otherwise."""
    policy = AutoModelForCausalLM.from_pretrained(model, dtype=dtype, attn_implementation=attention)
    tokens = sum(len(response) for _, response in examples)
    log_probs = []
    for prompt, response in examples:
        ids = torch.tensor([prompt + response])
        logits = policy(ids).logits[0, len(prompt) - 1 : -1].float()
        loss = torch.nn.functional.cross_entropy(logits, torch.tensor(response), reduction="sum")
        (loss / tokens).backward()
        log_probs.append(-loss.item())
    return {name: weight.grad.double() for name, weight in policy.named_parameters()}, log_probs


def off(found: torch.Tensor, expected: torch.Tensor) -> dict[str, float]:
    difference = found - expected
    return {"max": float(difference.abs().max() / expected.abs().max()), "norm": float(difference.norm() / expected.norm())}


def row(who: str, units: dict[str, dict[str, float]], texts: list[float]) -> None:
    middle = lambda kind: statistics.median(unit[kind] for unit in units.values())
    worst = lambda kind: max(units, key=lambda name: units[name][kind])
    numbers = [middle("norm"), units[worst("norm")]["norm"], middle("max"), units[worst("max")]["max"]]
    spread = statistics.fmean(difference**2 for difference in texts) ** 0.5
    print("|", who, "|", f"{spread:.3f}", "|", " | ".join(f"{number:.2%}" for number in numbers), "|", worst("max"), "|", flush=True)


if __name__ == "__main__":
    main()
