"""schedules.json: the learning rate of every step under transformers' schedules with warm-up."""

import torch
from transformers import get_constant_schedule_with_warmup, get_cosine_schedule_with_warmup, get_linear_schedule_with_warmup

import golden

RATE = 1e-5
LENGTHS = [(1, 0), (1, 1), (2, 0), (2, 1), (5, 0), (5, 5), (7, 2), (10, 1), (24, 0), (40, 4), (100, 10), (200, 150)]
KINDS = {
    "cosine": lambda optimizer, steps, warmup: get_cosine_schedule_with_warmup(optimizer, warmup, steps),
    "linear": lambda optimizer, steps, warmup: get_linear_schedule_with_warmup(optimizer, warmup, steps),
    "constant": lambda optimizer, _, warmup: get_constant_schedule_with_warmup(optimizer, warmup),
}


def main() -> None:
    cases = [{"schedule": kind, "steps": steps, "warmup": warmup, "learning_rates": rates(kind, steps, warmup)}
             for kind in KINDS for steps, warmup in LENGTHS]
    golden.write("schedules", __file__, __doc__.strip(), {"learning_rate": RATE, "cases": cases})


def rates(kind: str, steps: int, warmup: int, peak: float = RATE) -> list[float]:
    """The rate each optimizer step uses; the one the schedule would give after the last step is not among them."""
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=peak)
    schedule = KINDS[kind](optimizer, steps, warmup)
    used = []
    for _ in range(steps):
        used.append(schedule.get_last_lr()[0])
        optimizer.step()
        schedule.step()
    return golden.exact(used)


if __name__ == "__main__":
    main()
