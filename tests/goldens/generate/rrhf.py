"""rrhf.json: RRHF's loss on pairs (Yuan et al. 2023, Eq. 2 to 4), written out in PyTorch, in f64, with its gradient.

`log_probs` are those of the response tokens of each pair, y_w then y_l; p is their sum over the length to the power `length_exponent`. The
loss is the mean over pairs of max(0, p(y_l) − p(y_w)) − `nll_coefficient` · Σ log π(y_w). `gradient` is by the same tokens.
"""

import numpy as np
import torch

import golden

LENGTHS = {"one_token_each": [(1, 1)], "even": [(3, 3), (2, 2)], "uneven": [(5, 2), (1, 7), (4, 4)]}


def main() -> None:
    random = np.random.default_rng(23)
    cases = []
    for name, lengths in LENGTHS.items():
        pairs = [[(-random.exponential(1.0, length)).astype(np.float32).tolist() for length in pair] for pair in lengths]
        for exponent in (0.0, 0.5, 1.0):
            cases += [case(name, pairs, exponent, coefficient) for coefficient in (0.0, 1.0)]
    assert {hit for c in cases for hit in (c["accuracy"] == 0, c["accuracy"] == 1)} == {True, False}
    golden.write("rrhf", __file__, __doc__.strip(), {"cases": cases})


def case(name: str, pairs: list, exponent: float, coefficient: float) -> dict:
    tokens = [[torch.tensor(y, dtype=torch.float64, requires_grad=True) for y in pair] for pair in pairs]
    losses, margins = [], []
    for chosen, rejected in tokens:
        p_w, p_l = [y.sum() / len(y) ** exponent for y in (chosen, rejected)]
        losses.append(torch.clamp(p_l - p_w, min=0) - coefficient * chosen.sum())
        margins.append(p_w - p_l)
    loss = torch.stack(losses).mean()
    gradients = torch.autograd.grad(loss, [y for pair in tokens for y in pair])
    margins = torch.stack(margins)
    return {
        "name": name, "length_exponent": exponent, "nll_coefficient": coefficient, "log_probs": pairs, "loss": golden.exact(loss),
        "margin": golden.exact(margins.mean()), "accuracy": (margins > 0).double().mean().item(),
        "gradient": [golden.exact(g) for g in gradients],
    }


if __name__ == "__main__":
    main()
