"""Objectives of pairs on the toy: DPO, DPO+NLL and RRHF under two-stage training, alternating and HBAT, over seeds and learning rates.

    python3 tests/bench/pairs_toy.py --seeds 10 --rates 2e-4 4e-4 8e-4

The recipe `toy` but for the objective, its rate and the seed, which data and order depend on. A row is a method by an objective at a rate: medians
over seeds, at the end, of the loss on held-out demonstrations, the accuracy on held-out pairs, the exact match on the tasks that
preferences cover and on the others, and the casual endings; and how many seeds end better than two-stage training in loss and accuracy, and
how many worse in both.
"""

import argparse
import itertools
import json
import pathlib
import tempfile

import toy

TRAINING = ("warmup_steps=10", "batch_size=32", "epochs=6")
OBJECTIVES = {"dpo": ("dpo", ()), "dpo+nll": ("dpo", ("dpo.nll_coefficient=1",)), "rrhf": ("rrhf", ("rrhf.warmup_ratio=0.1",))}
MEASURES = ("sft_nll", "accuracy", "exact match, covered", "exact match, uncovered", "casual, covered")


def main() -> None:
    options = arguments()
    cases = list(itertools.product(options.objectives, options.rates))
    ends = {(*case, method): [] for case in cases for method in toy.METHODS}
    with tempfile.TemporaryDirectory() as folder:
        for seed, (name, rate) in itertools.product(range(options.seeds), cases):
            run = pathlib.Path(folder, f"{name}-{rate}-{seed}")
            train(options.hbat, run, seed, name, rate)
            for method in toy.METHODS:
                ends[name, rate, method].append(toy.end(run / method))
    print("| objective | rate | method | SFT loss | accuracy | exact match, covered | the others | casual | better than two-stage, worse |")
    print("|---|---|---|---|---|---|---|---|---|")
    toy.rows(ends, MEASURES, "accuracy")


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--hbat", default="target/release/hbat")
    parser.add_argument("--seeds", type=int, default=10)
    parser.add_argument("--rates", nargs="+", default=["2e-4", "4e-4", "8e-4"])
    parser.add_argument("--objectives", nargs="+", default=list(OBJECTIVES), choices=list(OBJECTIVES))
    return parser.parse_args()


def train(hbat: str, output: pathlib.Path, seed: int, name: str, rate: str) -> None:
    preference, more = OBJECTIVES[name]
    of_section = (f"{preference}.{setting}" for setting in (f"learning_rate={rate}", *TRAINING))
    settings = (f"methods={json.dumps(toy.METHODS)}", f'schedule.preference="{preference}"', *of_section, *more)
    toy.train(hbat, output, seed, settings)


if __name__ == "__main__":
    main()
