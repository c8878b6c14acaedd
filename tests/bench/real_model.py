"""Methods on a real model, over seeds that each draw training examples and order of their own: where HBAT and others end beside two-stage training.

    python3 tests/bench/real_model.py --model models/smollm2-135m-instruct --data data --out runs/real --seeds 1 2 3 --rates 1e-5 3e-5

A run is the recipe `smollm2` with 256 demonstrations and 256 pairs of at most 384 tokens, drawn from `demonstrations.train.jsonl` and
`preferences.train.jsonl` by the seed, one pass over each, and a method by a rate of DPO. Its last weights are measured by `hbat eval` on the first 200 examples
of both test files, and only what that says is kept. A run that is measured is not made again: a longer list of seeds goes on where it was.
At the end: by rate and method, means over seeds; the mean difference from two-stage training at the same rate with its standard error over seeds; and
the same at the rate that each method's own validation sets prefer, by accuracy.
"""

import argparse
import itertools
import json
import pathlib
import random
import shutil
import statistics
import subprocess

import paired

EXAMPLES, TESTED, BASELINE = 256, 200, "two-stage"
LENGTH = ("--max-length", "384", "--too-long", "drop")
SETTINGS = (
    "schedule.subsets=2", "data.max_length=384", 'data.limit_demonstrations="all"', 'data.limit_preferences="all"',
    "validation.limit_demonstrations=48", "validation.limit_preferences=96", "sft.epochs=1", "dpo.epochs=1", 'engine.kind="whole"',
)  # fmt: skip


def main() -> None:
    options = arguments()
    options.out.mkdir(parents=True, exist_ok=True)
    measure(options, options.model, options.out / "start.json")
    runs = list(itertools.product(options.seeds, options.rates, options.methods))
    for run in runs:
        if not kept(options, *run).exists():
            train(options, *run)
    report(options)


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--hbat", default="target/release/hbat")
    parser.add_argument("--model", type=pathlib.Path, required=True)
    parser.add_argument("--data", type=pathlib.Path, required=True)
    parser.add_argument("--out", type=pathlib.Path, required=True)
    parser.add_argument("--seeds", type=int, nargs="+", default=[1, 2, 3])
    parser.add_argument("--rates", nargs="+", default=["1e-5", "3e-5"])
    parser.add_argument("--methods", nargs="+", default=[BASELINE, "hbat", "mix"])
    parser.add_argument("--set", dest="more", action="append", default=[], metavar="KEY=VALUE", help="a setting of all runs")
    return parser.parse_args()


def kept(options: argparse.Namespace, seed: int, rate: str, method: str) -> pathlib.Path:
    return options.out / f"{method}-{rate}-{seed}.json"


def train(options: argparse.Namespace, seed: int, rate: str, method: str) -> None:
    run = options.out / f"{method}-{rate}-{seed}"
    shutil.rmtree(run, ignore_errors=True)
    files = {kind: drawn(options, kind, seed) for kind in ("demonstrations", "preferences")}
    valid = {kind: (options.data / f"{kind}.valid.jsonl").resolve() for kind in files}
    settings = [f"data.{kind}={json.dumps([str(file)])}" for kind, file in files.items()]
    settings += [f"validation.{kind}={json.dumps([str(file)])}" for kind, file in valid.items()]
    settings += [f"model.path={json.dumps(str(options.model.resolve()))}", f"methods={json.dumps([method])}", f"seed={seed}"]
    settings += [f"dpo.learning_rate={rate}", *SETTINGS, *options.more]
    each = [argument for setting in settings for argument in ("--set", setting)]
    subprocess.run([options.hbat, "train", recipe(options), "--quiet", "--output", run, *each], check=True)
    measure(options, run / "last", kept(options, seed, rate, method), validation(run))
    shutil.rmtree(run)


def recipe(options: argparse.Namespace) -> pathlib.Path:
    file = options.out / "smollm2.toml"
    if not file.exists():
        subprocess.run([options.hbat, "recipes", "cp", "smollm2", options.out], check=True)
    return file


def drawn(options: argparse.Namespace, kind: str, seed: int) -> pathlib.Path:
    """A seed's training examples."""
    file = options.out / f"{kind}.{seed}.jsonl"
    lines = (options.data / f"{kind}.train.jsonl").read_text().splitlines(keepends=True)
    file.write_text("".join(random.Random(f"{kind} {seed}").sample(lines, EXAMPLES)))
    return file.resolve()


def validation(run: pathlib.Path) -> dict:
    records = map(json.loads, (run / "metrics.jsonl").read_text().splitlines())
    last = [record for record in records if record["kind"] == "evaluation"][-1]
    return {"accuracy": last["accuracy"], "sft_nll": last["sft_nll"]}


def measure(options: argparse.Namespace, model: pathlib.Path, file: pathlib.Path, valid: dict | None = None) -> None:
    """What `hbat eval` says about a model, written once."""
    if file.exists():
        return
    tested = [argument for kind in ("demonstrations", "preferences") for argument in (f"--{kind}", options.data / f"{kind}.test.jsonl")]
    command = [options.hbat, "eval", "--model", model, *tested, "--limit", str(TESTED), *LENGTH, "--json", "--per-example", "--quiet"]
    found = json.loads(subprocess.run(command, check=True, stdout=subprocess.PIPE).stdout)
    file.write_text(json.dumps({**found, "validation": valid}))


def report(options: argparse.Namespace) -> None:
    start = json.loads((options.out / "start.json").read_text())
    cases = list(itertools.product(options.rates, options.methods))
    ends = {case: [ending(options, start, seed, *case) for seed in options.seeds] for case in cases}
    print("| rate of DPO | method | NLL per token | DPO loss | margin | accuracy | accuracy, validation |\n|---|---|---|---|---|---|---|")
    for (rate, method), values in ends.items():
        print(f"| {rate} | {method} | " + " | ".join(f"{statistics.mean(column):.4f}" for column in zip(*values)) + " |")
    print("\n| rate of DPO | method | NLL per token | DPO loss | margin | accuracy |\n|---|---|---|---|---|---|")
    for (rate, method), values in ends.items():
        if method != BASELINE:
            print(f"| {rate} | {method} | {differences(values, ends[rate, BASELINE])} |")
    own = {method: max(options.rates, key=lambda rate: statistics.mean(end[-1] for end in ends[rate, method])) for method in options.methods}
    for method, rate in own.items():
        if method != BASELINE:
            print(f"| own: {rate}, {own[BASELINE]} | {method} | {differences(ends[rate, method], ends[own[BASELINE], BASELINE])} |")


def ending(options: argparse.Namespace, start: dict, seed: int, rate: str, method: str) -> tuple[float, ...]:
    found = json.loads(kept(options, seed, rate, method).read_text())
    measured = paired.measured(found, start, 0.1)
    return (*(paired.ratio(pairs) for pairs in measured.values()), found["validation"]["accuracy"])


def differences(ours: list[tuple[float, ...]], theirs: list[tuple[float, ...]]) -> str:
    def difference(pairs: list[tuple[float, float]]) -> str:
        found = [a - b for a, b in pairs]
        error = statistics.stdev(found) / len(found) ** 0.5 if len(found) > 1 else float("nan")
        return f"{statistics.mean(found):+.4f} ± {error:.4f}"

    return " | ".join(difference(list(zip(a, b))) for a, b in list(zip(zip(*ours), zip(*theirs)))[:-1])


if __name__ == "__main__":
    main()
