"""adamw.json: 20 steps of clip_grad_norm_(1.0) and torch.optim.AdamW in f32 on three tensors with given gradients.

The learning rate of each step is that of transformers' cosine schedule with warm-up; the vector has no weight decay in either
run. Weights are those after the step, `norms` the gradient norms before clipping. `f64_max_difference` is how far the same run in
f64 ends up: no two f32 implementations need agree more closely.
"""

import numpy as np
import torch
from transformers import get_cosine_schedule_with_warmup

import golden

STEPS, WARMUP, RATE, BETAS, EPS, CLIP = 20, 3, 1e-2, (0.9, 0.95), 1e-8, 1.0
SHAPES = {"matrix": (3, 4), "cube": (2, 2, 3), "vector": (5,)}
NO_DECAY = ["vector"]
SCALES = {4: 1e6, 5: 1e6, 9: 1e-12, 10: 1e-12, 13: 0.0, 16: 1e12}  # else about 1: clipped on some steps and not on others


def main() -> None:
    random = np.random.default_rng(7)
    start = {name: np.round(random.standard_normal(shape), 3) for name, shape in SHAPES.items()}
    gradients = [gradient(random, step) for step in range(STEPS)]
    golden.write("adamw", __file__, __doc__.strip(), {
        "betas": BETAS, "eps": EPS, "clip": CLIP, "no_decay": NO_DECAY,
        "start": {n: golden.tensor(torch.tensor(w), golden.significant) for n, w in start.items()},
        "gradients": [{n: golden.significant(g.reshape(-1)) for n, g in step.items()} for step in gradients],
        "runs": [run(start, gradients, decay) for decay in (0.1, 0.0)],
    })


def gradient(random: np.random.Generator, step: int) -> dict[str, np.ndarray]:
    """Seeded, exact in f32; the first step's vector is zero, so that 0/(0 + eps) occurs."""
    scale = SCALES.get(step, 0.15)
    values = {name: np.float32(np.float32(scale) * random.standard_normal(shape)) for name, shape in SHAPES.items()}
    return values if step else values | {"vector": np.zeros(SHAPES["vector"], np.float32)}


def run(start: dict, gradients: list[dict], decay: float) -> dict:
    narrow, wide = (trace(start, gradients, decay, dtype) for dtype in (torch.float32, torch.float64))
    steps = zip(narrow["weights"], wide["weights"])
    difference = max((a.double() - b).abs().max().item() for x, y in steps for a, b in zip(x, y))
    return {
        "weight_decay": decay, "learning_rates": golden.exact(narrow["rates"]), "norms": golden.significant(narrow["norms"]),
        "weights": [{n: golden.significant(w.reshape(-1)) for n, w in zip(SHAPES, step)} for step in narrow["weights"]],
        "f64_max_difference": golden.significant(difference, 2),
    }


def trace(start: dict, gradients: list[dict], decay: float, dtype: torch.dtype) -> dict:
    tensors = {n: torch.nn.Parameter(torch.tensor(w, dtype=torch.float32).to(dtype)) for n, w in start.items()}
    groups = [{"params": [t for n, t in tensors.items() if n not in NO_DECAY], "weight_decay": decay},
              {"params": [tensors[n] for n in NO_DECAY], "weight_decay": 0.0}]
    optimizer = torch.optim.AdamW(groups, lr=RATE, betas=BETAS, eps=EPS, foreach=False)
    schedule = get_cosine_schedule_with_warmup(optimizer, WARMUP, STEPS)
    seen = {"rates": [], "norms": [], "weights": []}
    for step in gradients:
        for name, parameter in tensors.items():
            parameter.grad = torch.tensor(step[name]).to(dtype)
        seen["rates"].append(schedule.get_last_lr()[0])
        seen["norms"].append(torch.nn.utils.clip_grad_norm_(tensors.values(), CLIP).item())
        optimizer.step()
        schedule.step()
        seen["weights"].append([t.detach().clone() for t in tensors.values()])
    return seen


if __name__ == "__main__":
    main()
