"""consolidation.json: changes C, accumulated changes AC, importance F under each rule, the penalty and its gradient, in f64.

`fisher` is original EWC's diagonal for the model and the demonstrations of tiny_llama_tied.json: the mean over the samples of
the squared gradient of log p(response | prompt).
"""

import numpy as np
import torch

import ewc
import golden
import llama
import tiny_llama


def main() -> None:
    golden.write("consolidation", __file__, __doc__.strip(), {
        "change": [change(seed) for seed in range(3)], "ledger": ledger(), "importance": importance(),
        "penalty": [penalty(factor) for factor in (1.0, 0.25)], "fisher": fisher(),
    })


def f32(random: np.random.Generator, shape, scale: float) -> np.ndarray:
    """Seeded numbers that are exact in f32."""
    return np.float32(scale * random.standard_normal(shape))


def change(seed: int) -> dict:
    """Weights about 1 that moved by about 1e-4: sums in f32 would lose digits."""
    random = np.random.default_rng(seed)
    before = f32(random, 40, 1.0)
    after = np.float32(before + f32(random, 40, 1e-4))
    return {"before": golden.significant(before), "after": golden.significant(after), "C": ewc.change(before, after)}


def ledger() -> dict:
    """N = 3: what each phase adds, and the sum its penalty is weighted by; the first phase has none."""
    random = np.random.default_rng(11)
    phases = [f"{kind}-{n}" for n in (1, 2, 3) for kind in ("sft", "dpo")]
    changes = {phase: golden.significant(np.abs(f32(random, 4, 1e-9))) for phase in phases}
    used = {}
    for phase in phases[1:]:
        kind, n = phase.split("-")
        rounds = range(1, int(n) + 1) if kind == "dpo" else range(1, int(n))
        other = "sft" if kind == "dpo" else "dpo"
        used[phase] = np.sum([changes[f"{other}-{m}"] for m in rounds], axis=0).tolist()
    return {"C": changes, "AC": used}


def importance() -> list[dict]:
    random = np.random.default_rng(12)
    vectors = {
        "three": ([1e-10, 2e-10, 4e-10], 50.0), "zeros": ([0.0] * 5, 100.0), "one_unit": ([3e-9], 100.0),
        "one_dominates": ([1e-12, 2e-12, 1e-7, 3e-12, 0.0, 1e-12], 100.0), "equal": ([2.5e-9] * 21, 100.0),
        "as_small_as_the_reference_rule_needs": ([1e-20, 2e-20, 3e-20, 0.0], 50.0), "large": ([2.0, 800.0, 1.0, 799.0], 100.0),
        "300_units": (golden.significant(np.exp(random.normal(-18, 1, 300))), 100.0),
    }
    return [{"name": name, "AC": ac, "F_max": largest, "tau": 1.0,
             "rules": {rule: by_rule(rule, ac, largest) for rule in ewc.RULES}} for name, (ac, largest) in vectors.items()]


def by_rule(rule: str, accumulated: list[float], largest: float) -> dict:
    values = ewc.importance(rule, accumulated, largest)
    return {"F": golden.exact(values), "effective_units": ewc.effective_units(values, largest)}


def penalty(factor: float) -> dict:
    random = np.random.default_rng(13)
    shapes, importances = [(3, 4), (5,), (2, 2), (1,)], [50.0, 0.0, 3.5, 46.5]
    anchors = [f32(random, shape, 1.0) for shape in shapes]
    weights = [np.float32(a + f32(random, a.shape, 1e-3)) for a in anchors]
    gradient = ewc.penalty_gradient(factor, importances, weights, anchors)
    units = [{"F": f, "anchor": golden.significant(a.reshape(-1)), "weights": golden.significant(w.reshape(-1)),
              "gradient": golden.exact(g.reshape(-1))} for f, a, w, g in zip(importances, anchors, weights, gradient)]
    return {"lambda": factor, "units": units, "penalty": ewc.penalty(factor, importances, weights, anchors),
            "gradient_norm": float(np.sqrt(sum(np.square(g).sum() for g in gradient)))}


def fisher() -> dict:
    model, demonstrations = tiny_llama.start("tied")
    model = model.double()
    total = {name: torch.zeros_like(parameter) for name, parameter in model.named_parameters()}
    for example in demonstrations:
        log_prob = llama.log_probs(model, example["prompt"], example["response"]).sum()
        for name, gradient in llama.gradients(model, log_prob).items():
            total[name] += gradient.square() / len(demonstrations)
    return {"model": "tiny_llama_tied.json", "samples": "its demonstrations",
            "diagonal": {name: golden.tensor(values, golden.decimals) for name, values in total.items()}}


if __name__ == "__main__":
    main()
