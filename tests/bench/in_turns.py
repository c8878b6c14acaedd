"""hbat and TRL on the same two cores, step by step in turns, so that a drift of the machine's speed meets both alike.

    cargo build --release -p hbat-tests --bin bench_step
    python tests/bench/in_turns.py --objective dpo --model DIR

Each round is one optimizer step of TRL and one of each of hbat's configurations (see `peer_trl.py` and `step.rs`, which this
drives); nobody else computes meanwhile. Prints a Markdown table of the medians, each ratio being the median of the rounds' own
ratios, and the seconds of every step as JSON. Peak memory is TRL's alone: hbat's configurations share a process here.
"""

import argparse
import json
import pathlib
import statistics
import subprocess
import sys

HERE = pathlib.Path(__file__).resolve().parent
TOKENS = 8 * 512


def main() -> None:
    arguments = parsed()
    rounds = arguments.warmup + arguments.steps
    counts = ["--objective", arguments.objective, "--steps", str(arguments.steps)]
    trl = Player([sys.executable, HERE / "peer_trl.py", *counts, "--warmup", str(arguments.warmup), "--model", arguments.model,
                  "--turns", "asked"])
    hbat = Player([HERE.parents[1] / "target" / "release" / "bench_step", *counts, "--warm-up", str(arguments.warmup),
                   "--configurations", arguments.configurations, "--turns", "asked"])
    seconds = []
    for number in range(rounds):
        seconds.append(trl.turn() | hbat.turn())
        print(f"round {number + 1} of {rounds}: {seconds[-1]}", file=sys.stderr, flush=True)
    last = trl.end()
    hbat.end()
    report(seconds[arguments.warmup :], last)


def parsed() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--objective", choices=["sft", "dpo"], required=True)
    parser.add_argument("--configurations", default="whole/none,whole/anchor,segmented/anchor")
    parser.add_argument("--model", required=True, help="folder of SmolLM2 in Hugging Face layout, for TRL")
    parser.add_argument("--steps", type=int, default=5, help="measured rounds")
    parser.add_argument("--warmup", type=int, default=1, help="rounds before those")
    return parser.parse_args()


class Player:
    """A program that takes a step for every line it gets."""

    def __init__(self, command: list):
        self.process = subprocess.Popen([str(word) for word in command], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)

    def turn(self) -> dict[str, float]:
        """Seconds of each configuration's step."""
        self.process.stdin.write("\n")
        self.process.stdin.flush()
        for line in self.process.stdout:
            if line.startswith('{"turn"'):
                return json.loads(line)["turn"]
        sys.exit(f"{self.process.args[0]} ended before its turn: exit code {self.process.wait()}")

    def end(self) -> dict:
        """What it says at the end."""
        self.process.stdin.close()
        said = self.process.stdout.read()
        if self.process.wait():
            sys.exit(f"{self.process.args[0]} failed: exit code {self.process.returncode}")
        return json.loads(said.strip().splitlines()[-1])


def report(rounds: list[dict[str, float]], trl: dict) -> None:
    print("| | seconds per step | tokens/s | against TRL |\n|---|---|---|---|")
    for name in rounds[0]:
        seconds = statistics.median(turn[name] for turn in rounds)
        ratio = statistics.median(turn["trl"] / turn[name] for turn in rounds)
        print(f"| {name} | {seconds:.2f} | {TOKENS / seconds:.1f} | {ratio:.2f} |")
    print(json.dumps({"rounds": rounds, "trl": trl}))


if __name__ == "__main__":
    main()
