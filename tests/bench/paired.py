"""How models differ on the same held-out examples: what `hbat eval --json --per-example` wrote for the weights that all started from, and for
each model. The first model is the one that the others are compared with; intervals hold 95% of 2000 resamplings of the examples.

    python3 tests/bench/paired.py START.json MODEL.json [MODEL.json]... [--beta 0.1]
"""

import argparse
import json
import math
import pathlib
import random

RESAMPLINGS = 2000


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("start", type=pathlib.Path)
    parser.add_argument("models", type=pathlib.Path, nargs="+")
    parser.add_argument("--beta", type=float, default=0.1)
    arguments = parser.parse_args()
    start = json.loads(arguments.start.read_text())
    models = {path.stem: measured(json.loads(path.read_text()), start, arguments.beta) for path in arguments.models}
    print("| model | NLL per token | DPO loss | margin | accuracy |\n|---|---|---|---|---|")
    for name, model in models.items():
        print(f"| {name} | " + " | ".join(f"{ratio(pairs):.4f}" for pairs in model.values()) + " |")
    first, *others = models
    if others:
        print(f"\n| less {first} | NLL per token | DPO loss | margin | accuracy |\n|---|---|---|---|---|")
    for name in others:
        print(f"| {name} | " + " | ".join(difference(models[name][key], models[first][key]) for key in models[name]) + " |")


def measured(model: dict, start: dict, beta: float) -> dict[str, list[tuple[float, float]]]:
    """Of every example a sum and what to divide it by, for each number."""
    check(model, start)
    nll = [(-e["logprob"], e["tokens"]) for e in model["demonstration_examples"]]
    ratios = zip(model["preference_examples"], start["preference_examples"])
    margins = [beta * ((m["chosen"] - s["chosen"]) - (m["rejected"] - s["rejected"])) for m, s in ratios]
    return {
        "nll": nll,
        "dpo_loss": [(max(-x, 0.0) + math.log1p(math.exp(-abs(x))), 1.0) for x in margins],
        "margin": [(x, 1.0) for x in margins],
        "accuracy": [(float(x > 0), 1.0) for x in margins],
    }


def check(model: dict, start: dict) -> None:
    for kind in ("demonstration_examples", "preference_examples"):
        indices = [[e["index"] for e in report[kind]] for report in (model, start)]
        if indices[0] != indices[1]:
            raise SystemExit(f"{kind} are not the same: evaluate all models with the same files, limit and length")


def ratio(pairs: list[tuple[float, float]]) -> float:
    return math.fsum(a for a, _ in pairs) / math.fsum(b for _, b in pairs)


def difference(ours: list[tuple[float, float]], theirs: list[tuple[float, float]]) -> str:
    draws = random.Random(0)
    found = []
    for _ in range(RESAMPLINGS):
        chosen = draws.choices(range(len(ours)), k=len(ours))
        found.append(ratio([ours[i] for i in chosen]) - ratio([theirs[i] for i in chosen]))
    found.sort()
    low, high = found[int(0.025 * RESAMPLINGS)], found[int(0.975 * RESAMPLINGS)]
    return f"{ratio(ours) - ratio(theirs):+.4f} ({low:+.4f} to {high:+.4f})"


if __name__ == "__main__":
    main()
