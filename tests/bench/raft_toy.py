"""Two-stage training, alternating and HBAT by RAFT on the toy, over seeds, learning rates and numbers of answers.

    python3 tests/bench/raft_toy.py --seeds 20 --rates 3e-4 1e-3 --answers 4

Every seed has data, a reward model and runs of its own; a phase of RAFT goes over its prompts twelve times, which makes as many optimizer steps as
`ppo_toy.py` has. Rows, numbers and what is better are as there.
"""

import argparse
import itertools

import toy

RAFT = ('schedule.preference="raft"', "raft.max_new_tokens=24", "raft.rollout_batch=256", "raft.batch_size=64", "raft.epochs=12")
MEASURES = ("sft_nll", "mean reward", "exact match, covered", "exact match, uncovered", "casual, covered")


def main() -> None:
    options = arguments()
    cases = {
        (answers, rate): (*RAFT, f"raft.answers={answers}", f"raft.learning_rate={rate}")
        for answers, rate in itertools.product(options.answers, options.rates)
    }
    ends = toy.judged(options.hbat, options.seeds, "raft", cases)
    print("| answers | rate | method | SFT loss | mean reward | exact match, covered | the others | casual | better than two-stage, worse |")
    print("|---|---|---|---|---|---|---|---|---|")
    toy.rows(ends, MEASURES, "mean reward")


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--hbat", default="target/release/hbat")
    parser.add_argument("--seeds", type=int, default=20)
    parser.add_argument("--rates", nargs="+", default=["3e-4", "1e-3", "3e-3"])
    parser.add_argument("--answers", nargs="+", default=["4"])
    return parser.parse_args()


if __name__ == "__main__":
    main()
