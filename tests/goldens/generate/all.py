"""Makes the golden values again: `python tests/goldens/generate/all.py [names]`, all of them without a name.

Needs the packages of requirements.txt; `tokens` and `smollm2_logits` also need the test data and the test model, see golden.py.
"""

import importlib
import sys

GENERATORS = ["tiny_llama", "dpo", "rrhf", "reward", "ppo", "ppo_trace", "adamw", "schedules", "consolidation", "hbat_trace",
              "generation", "rouge", "length_control", "tokens", "smollm2_logits"]


def main(names: list[str]) -> None:
    unknown = [name for name in names if name not in GENERATORS]
    if unknown:
        sys.exit(f"no generator called {', '.join(unknown)}; there are {', '.join(GENERATORS)}")
    for name in names or GENERATORS:
        importlib.import_module(name).main()


if __name__ == "__main__":
    main(sys.argv[1:])
