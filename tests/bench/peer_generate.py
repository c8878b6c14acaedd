"""Greedy generation by hbat and by transformers on the same two cores, round by round in turns.

    cargo build --release -p hbat-tests --bin bench_generate
    python tests/bench/peer_generate.py --model DIR

f32, the same prompts of 16, 24, 32, … tokens (see `generate.rs`), all together; transformers pads them on the left and has its cache. Prints
the seconds of every round, the median of the rounds' ratios, and how many tokens from the start both agree on, as one JSON line.
"""

import argparse
import json
import os
import pathlib
import statistics
import subprocess
import time

PROGRAM = pathlib.Path(__file__).resolve().parents[2] / "target" / "release" / "bench_generate"


def main() -> None:
    arguments = parsed()
    os.environ["OMP_NUM_THREADS"] = str(arguments.threads)  # read when torch is imported, hence the late import below
    peer = Peer(arguments)
    peer.generate()  # does not count
    seconds = []
    for _ in range(arguments.rounds):
        start = time.perf_counter()
        theirs = peer.generate()
        seconds.append([time.perf_counter() - start])
        ours, tokens = hbat(arguments)
        seconds[-1].append(ours)
    agreed = [next((i for i, (a, b) in enumerate(zip(*both)) if a != b), arguments.new) for both in zip(tokens, theirs)]
    print(json.dumps({
        "transformers": [theirs for theirs, _ in seconds], "hbat": [ours for _, ours in seconds],
        "ratio": statistics.median(theirs / ours for theirs, ours in seconds), "agreed": agreed,
    }))


def parsed() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", required=True, help="folder in Hugging Face layout")
    parser.add_argument("--prompts", type=int, default=8)
    parser.add_argument("--new", type=int, default=128, help="new tokens of each")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--threads", type=int, default=2)
    return parser.parse_args()


def hbat(arguments: argparse.Namespace) -> tuple[float, list]:
    counts = ["--prompts", str(arguments.prompts), "--new", str(arguments.new), "--rounds", "1", "--model", arguments.model]
    found = json.loads(subprocess.check_output([PROGRAM, *counts]))
    return found["seconds"][0], found["tokens"]


class Peer:
    def __init__(self, arguments: argparse.Namespace):
        import torch
        from transformers import AutoModelForCausalLM

        torch.set_num_threads(arguments.threads)
        self.torch, self.new = torch, arguments.new
        self.model = AutoModelForCausalLM.from_pretrained(arguments.model, dtype=torch.float32).eval()
        vocabulary = self.model.config.vocab_size
        prompts = [[(i * 7919 + t * 104_729) % vocabulary for t in range(16 + 8 * i)] for i in range(arguments.prompts)]
        self.width = max(map(len, prompts))
        self.ids = torch.tensor([[0] * (self.width - len(prompt)) + prompt for prompt in prompts])
        self.mask = torch.tensor([[0] * (self.width - len(prompt)) + [1] * len(prompt) for prompt in prompts])

    def generate(self) -> list:
        with self.torch.inference_mode():
            tokens = self.model.generate(
                input_ids=self.ids, attention_mask=self.mask, do_sample=False, use_cache=True,
                min_new_tokens=self.new, max_new_tokens=self.new, pad_token_id=0, eos_token_id=None,
            )
        return tokens[:, self.width :].tolist()


if __name__ == "__main__":
    main()
