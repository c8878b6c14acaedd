"""hbat_trace.json: an N = 2 HBAT run of a tiny tied LLaMA with grouped-query attention, step by step, under three importance
rules.

Training is PyTorch's in f32; changes, importance and the penalty's value are f64 from the f32 weights. The order of examples is
the order of the lists: split into contiguous chunks, the first (n mod N) one longer, the last batch of an epoch may be short.
Every phase has a new AdamW and a new schedule. The penalty's gradient λF(θ − θ*) is added to the loss's before clipping.
`rounding` says how far the same run in f64 is from this one, as a relative difference.
"""

import copy
import math

import numpy as np
import torch
from transformers import get_cosine_schedule_with_warmup

import ewc
import golden
import llama

SETTINGS = llama.config(num_key_value_heads=2)
RULES = ("paper", "reference", "relative")
RUN = {
    "rounds": 2, "batch": 2, "beta": 0.1, "lambda": 1.0, "F_max": 100.0, "tau": 1.0, "betas": [0.9, 0.95], "eps": 1e-8,
    "weight_decay": 0.0, "clip": 1.0, "schedule": "cosine",
    "sft": {"epochs": 2, "learning_rate": 1e-3, "warmup": "none"},
    "dpo": {"epochs": 1, "learning_rate": 5e-4, "warmup": "min(150, floor(0.1 * steps))"},
}
SEED = 6  # one on which `reference` elects the same units in f32 and in f64, see `check_lead`


def main() -> None:
    random = np.random.default_rng(SEED)
    data = {
        "sft": llama.sequences(random, [(int(p), int(r)) for p, r in random.integers(1, 9, (9, 2))]),
        "dpo": llama.pairs(random, [(int(p), int(c), int(r)) for p, c, r in random.integers(1, 8, (8, 3))]),
    }
    start = llama.model(SETTINGS, SEED)
    golden.write("hbat_trace", __file__, __doc__.strip(), {
        "config": SETTINGS, "run": RUN, "start": llama.weights(start),
        "demonstrations": data["sft"], "preferences": data["dpo"], "rules": {rule: traced(rule, start, data) for rule in RULES},
    })


def traced(rule: str, start, data: dict) -> dict:
    narrow, wide = Run(rule, copy.deepcopy(start), data), Run(rule, copy.deepcopy(start).double(), data)
    narrow.train()
    wide.train()
    if rule == "reference":
        check_lead(narrow)
    weights = {name: p.detach() for name, p in narrow.model.named_parameters()}
    squares = {name: float(p.double().square().sum()) for name, p in weights.items()}
    final = {name: {"mean": float(p.double().mean()), "sum_of_squares": squares[name]} for name, p in weights.items()}
    full = {"final_weights": {n: golden.tensor(p, golden.significant) for n, p in weights.items()}} if rule == "relative" else {}
    return {"rounding": rounding(narrow, wide), "steps": narrow.steps, "phases": narrow.phases, "final": final, **full}


class Run:
    """One training run: the model, the ledger of changes, and the record of what happened."""

    settings, objectives = RUN, ("sft", "dpo")

    def __init__(self, rule: str, model, data: dict):
        self.rule, self.model, self.data = rule, model, data
        self.units = dict(model.named_parameters())
        self.changes = {objective: np.zeros(len(self.units)) for objective in self.objectives}  # ΣC per objective
        self.steps, self.phases = [], []

    def train(self) -> None:
        for round_ in range(self.settings["rounds"]):
            for objective in self.objectives:
                self.phase(objective, round_)

    def phase(self, objective: str, round_: int) -> None:
        """Trains on one split, penalised by the changes of the other objective's phases so far."""
        settings, (other,) = self.settings, (o for o in self.objectives if o != objective)
        name, accumulated = f"{objective}-{round_ + 1}", self.changes[other].copy()
        penalised, none = accumulated.any(), np.zeros(len(self.units))
        importance = ewc.importance(self.rule, accumulated, settings["F_max"], settings["tau"]) if penalised else none
        before = [p.detach().clone() for p in self.units.values()]
        self.fit(name, objective, split(self.data[objective], settings["rounds"])[round_], (importance, before))
        change = np.array([ewc.change(b, p.detach()) for b, p in zip(before, self.units.values())])
        self.changes[objective] += change
        effective = ewc.effective_units(importance, settings["F_max"]) if penalised else None
        self.phases.append({"phase": name, "C": self.by_unit(change), "AC": self.by_unit(accumulated) if penalised else None,
                            "F": self.by_unit(importance) if penalised else None, "effective_units": effective})

    def fit(self, phase: str, objective: str, examples: list[dict], consolidation: tuple) -> None:
        settings = self.settings[objective]
        count = settings["epochs"] * math.ceil(len(examples) / self.settings["batch"])
        warmup = min(150, count // 10) if objective == "dpo" else 0
        optimizer = self.optimizer(self.model, settings["learning_rate"])
        schedule = get_cosine_schedule_with_warmup(optimizer, warmup, count)
        losses = sft_losses(examples) if objective == "sft" else dpo_losses(self.model, examples)
        for step, loss in enumerate(losses * settings["epochs"]):
            rate = schedule.get_last_lr()[0]
            record = self.step(optimizer, loss, consolidation)
            schedule.step()
            self.steps.append({"phase": phase, "step": step, **record, "learning_rate": rate})

    def optimizer(self, model, rate: float) -> torch.optim.AdamW:
        names = ("betas", "eps", "weight_decay")
        return torch.optim.AdamW(model.parameters(), lr=rate, foreach=False, **{name: self.settings[name] for name in names})

    def step(self, optimizer, loss_of, consolidation: tuple) -> dict:
        """One optimizer step; the penalty and its gradient are taken at the weights before it."""
        importance, anchor = consolidation
        optimizer.zero_grad()
        loss = loss_of(self.model)
        loss.backward()
        parameters = list(self.units.values())
        weights = [p.detach() for p in parameters]
        penalty = ewc.penalty(self.settings["lambda"], importance, weights, anchor)
        pulls = [self.settings["lambda"] * float(f) * (w - a) for f, w, a in zip(importance, weights, anchor)]
        for parameter, pull in zip(parameters, pulls):
            parameter.grad += pull
        norm = torch.nn.utils.clip_grad_norm_(parameters, self.settings["clip"]).item()
        optimizer.step()
        return {"loss": loss.item(), "penalty": penalty, "grad_norm": norm,
                "penalty_grad_norm": math.sqrt(sum(pull.double().square().sum().item() for pull in pulls))}

    def by_unit(self, values: np.ndarray) -> dict[str, float]:
        return dict(zip(self.units, values.tolist()))


def check_lead(run: Run) -> None:
    """The largest AC of every phase leads the next by far more than rounding moves it, or `reference` would be a lottery."""
    for accumulated in (phase["AC"] for phase in run.phases if phase["AC"]):
        second, first = sorted(accumulated.values())[-2:]
        assert first - second > 0.02 * first, (run.rule, first, second)


def split(examples: list, count: int) -> list[list]:
    """Contiguous chunks, the first (n mod count) one longer."""
    size, longer = divmod(len(examples), count)
    bounds = [i * size + min(i, longer) for i in range(count + 1)]
    return [examples[a:b] for a, b in zip(bounds, bounds[1:])]


def batches(examples: list, size: int = RUN["batch"]) -> list[list]:
    return [examples[i : i + size] for i in range(0, len(examples), size)]


def sft_losses(examples: list[dict]) -> list:
    return [lambda model, batch=batch: llama.sft_loss(model, batch) for batch in batches(examples)]


def dpo_losses(policy, examples: list[dict]) -> list:
    """The reference is the policy at the phase's start: its log-probs are computed here, once."""
    with torch.no_grad():
        references = [llama.pair_log_probs(policy, batch) for batch in batches(examples)]

    def loss(batch: list[dict], reference):
        return lambda model: llama.dpo(llama.pair_log_probs(model, batch), reference, RUN["beta"])[0]

    return list(map(loss, batches(examples), references))


def rounding(narrow: Run, wide: Run) -> dict:
    """The largest relative differences between the f32 run and the f64 run."""
    def largest(records, others, key):
        return max(abs(a[key] - b[key]) / max(abs(b[key]), 1e-12) for a, b in zip(records, others) if key in a)

    steps = {key: largest(narrow.steps, wide.steps, key) for key in ("loss", "penalty", "grad_norm", "penalty_grad_norm")}
    changes = max(largest([a["C"]], [b["C"]], unit) for a, b in zip(narrow.phases, wide.phases) for unit in a["C"])
    penalised = [(a["F"], b["F"]) for a, b in zip(narrow.phases, wide.phases) if a["F"]]
    importances = max(abs(a[unit] - b[unit]) for a, b in penalised for unit in a) / narrow.settings["F_max"]
    return {key: golden.significant(value, 2) for key, value in {**steps, "C": changes, "F_over_F_max": importances}.items()}


if __name__ == "__main__":
    main()
