"""Two-stage training, alternating and HBAT by PPO on the toy, over seeds and learning rates: medians, and how often HBAT is ahead.

    python3 tests/bench/ppo_toy.py --seeds 20 --rates 3e-4 1e-3 3e-3
    python3 tests/bench/ppo_toy.py --seeds 12 --rates 1e-3 3e-3 --coefficients 0 0.43 1      # demonstrations beside the answers
    python3 tests/bench/ppo_toy.py --seeds 20 --rates 1e-3 --drops 0 0.3                      # without the best answers of every step

Every seed has data, a reward model and runs of its own. A row is a method at a rate of the policy, a `ppo.sft_coefficient` and a
`ppo.drop_fraction`: medians over seeds, at the end, of the loss on held-out demonstrations, the mean reward of held-out prompts' likeliest
answers, and the exact match on the tasks that preferences cover and on the others. A point is better than another where it is better in
loss and in reward.
"""

import argparse
import itertools

import toy

PPO = ('schedule.preference="ppo"', "ppo.max_new_tokens=24", "ppo.cold_start=2", "ppo.value_learning_rate=3e-3", "ppo.batch_size=64",
       "ppo.epochs=3", "ppo.weight_decay=0.0")
MEASURES = ("sft_nll", "mean reward", "exact match, covered", "exact match, uncovered")


def main() -> None:
    options = arguments()
    cases = {
        (rate, coefficient, drop): (
            *PPO, f"ppo.learning_rate={rate}", f"ppo.sft_coefficient={coefficient}", f"ppo.drop_fraction={drop}"
        )  # fmt: skip
        for rate, coefficient, drop in itertools.product(options.rates, options.coefficients, options.drops)
    }
    ends = toy.judged(options.hbat, options.seeds, "ppo", cases)
    print("| rate | SFT beside | dropped | method | SFT loss | mean reward | exact match, covered | the others | better than two-stage, worse |")
    print("|---|---|---|---|---|---|---|---|---|")
    toy.rows(ends, MEASURES, "mean reward")


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--hbat", default="target/release/hbat")
    parser.add_argument("--seeds", type=int, default=20)
    parser.add_argument("--rates", nargs="+", default=["3e-4", "1e-3", "3e-3"])
    parser.add_argument("--coefficients", nargs="+", default=["0"])
    parser.add_argument("--drops", nargs="+", default=["0"])
    return parser.parse_args()


if __name__ == "__main__":
    main()
