"""What the comparisons on the toy share: a run of the program, and where it ends."""

import json
import pathlib
import statistics
import subprocess
import tempfile

METHODS = ("two-stage", "alternating", "hbat")
JUDGE = ('methods=["reward-model"]', "reward.learning_rate=1e-3", "reward.batch_size=32", "reward.epochs=4")


def train(hbat: str, output: pathlib.Path, seed: int, settings: tuple[str, ...]) -> None:
    each = [argument for setting in (f"seed={seed}", *settings) for argument in ("--set", setting)]
    subprocess.run([hbat, "train", "--quiet", "--output", output, *each], check=True, stdout=subprocess.DEVNULL)


def judge(hbat: str, folder: str, seed: int) -> pathlib.Path:
    """A reward model of a seed's preferences."""
    output = pathlib.Path(folder, f"judge-{seed}")
    train(hbat, output, seed, JUDGE)
    return output / "best"


def judged(hbat: str, seeds: int, section: str, cases: dict[tuple[str, ...], tuple[str, ...]]) -> dict[tuple, list[dict]]:
    """Where every method ends in every case, each of settings of its own, seed by seed, as a judge of the seed teaches it."""
    ends = {(*case, method): [] for case in cases for method in METHODS}
    with tempfile.TemporaryDirectory() as folder:
        for seed in range(seeds):
            reward_model = judge(hbat, folder, seed)
            for case, settings in cases.items():
                run = pathlib.Path(folder, "-".join((*case, str(seed))))
                train(hbat, run, seed, (*settings, f'{section}.reward_model="{reward_model}"', f"methods={json.dumps(METHODS)}"))
                for method in METHODS:
                    ends[*case, method].append(end(run / method))
    return ends


def end(run: pathlib.Path) -> dict[str, float]:
    """A method's last evaluation."""
    records = map(json.loads, (run / "metrics.jsonl").read_text().splitlines())
    last = [record for record in records if record["kind"] == "evaluation"][-1]
    return {"sft_nll": last["sft_nll"], "accuracy": last["accuracy"], **last["extra"]}


def rows(ends: dict[tuple, list[dict]], measures: tuple[str, ...], gain: str) -> None:
    """A row for each case and method: medians over seeds, and how many seeds end better than two-stage training in loss and `gain`, and worse."""
    for (*case, method), values in ends.items():
        medians = " | ".join(f"{statistics.median(value[measure] for value in values):.3f}" for measure in measures)
        pairs = list(zip(values, ends[*case, "two-stage"]))
        wins, losses = (sum(better(gain, *pair) for pair in side) for side in (pairs, [pair[::-1] for pair in pairs]))
        print(f"| {' | '.join(case)} | {method} | {medians} | {'' if method == 'two-stage' else f'{wins}, {losses}'} |")


def better(gain: str, one: dict, other: dict) -> bool:
    return one["sft_nll"] < other["sft_nll"] and one[gain] > other[gain]
