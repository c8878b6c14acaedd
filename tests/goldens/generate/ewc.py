"""Changes, importance and penalty of modified EWC in plain f64, straight from the paper's Equations 5 to 10."""

import numpy as np

RULES = ("paper", "reference", "relative", "proportional")


def change(before: np.ndarray, after: np.ndarray) -> float:
    """C of one unit, Eq. 7: the mean of (θ_before − θ_after)²; f32 weights, f64 arithmetic."""
    difference = np.asarray(before, np.float64) - np.asarray(after, np.float64)
    return float(np.mean(np.square(difference)))


def importance(rule: str, accumulated: np.ndarray, largest: float, temperature: float = 1.0) -> np.ndarray:
    """F of every unit, Eq. 6 and 9, from the accumulated changes AC; the rules are described in the documentation."""
    accumulated = np.asarray(accumulated, np.float64)
    if not accumulated.any():
        return np.full(len(accumulated), largest / len(accumulated))
    if rule == "proportional":
        return largest * accumulated / accumulated.sum()
    scale = {"paper": 1.0, "reference": 1e20, "relative": 1 / (temperature * accumulated.mean())}[rule]
    weights = np.exp(scale * (accumulated - accumulated.max()))
    return largest * weights / weights.sum()


def effective_units(importances: np.ndarray, largest: float) -> float:
    """exp of the entropy of F / F_max: how many units share the importance."""
    shares = np.asarray(importances, np.float64) / largest
    shares = shares[shares > 0]
    return float(np.exp(-(shares * np.log(shares)).sum()))


def penalty(factor: float, importances, weights, anchors) -> float:
    """Σ (λ/2) F_i ‖θ_i − θ_i*‖², Eq. 5 and 8."""
    return sum(factor / 2 * f * float(np.square(np.asarray(w, np.float64) - np.asarray(a, np.float64)).sum())
               for f, w, a in zip(importances, weights, anchors))


def penalty_gradient(factor: float, importances, weights, anchors) -> list[np.ndarray]:
    """λ F_i (θ_i − θ_i*)."""
    units = zip(importances, weights, anchors)
    return [factor * f * (np.asarray(w, np.float64) - np.asarray(a, np.float64)) for f, w, a in units]
