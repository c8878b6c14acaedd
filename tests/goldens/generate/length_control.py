"""Length-controlled win rates of one pair of models, by scikit-learn's logistic regression.

AlpacaEval 2's regression (Dubois et al. 2024) without its term for how hard a prompt is: winning, on tanh of the difference of lengths over its standard
deviation. A tie is half a win and half a loss. Only the coefficient of length is penalised, by 0.01 / 2 times its square.
"""

import random
import statistics

import numpy
import sklearn
from golden import exact, write
from sklearn.linear_model import LogisticRegression

RIDGE = 0.01


def results(draw: random.Random, count: int, skill: float, taste: float) -> list[tuple[float, int]]:
    """Verdicts of a judge with a taste for length on answers that are better by `skill`, and how much longer they are."""
    drawn = []
    for _ in range(count):
        longer = round(draw.gauss(120, 400))
        odds = skill + taste * numpy.tanh(longer / 400)
        drawn.append((0.5 if draw.random() < 0.1 else float(draw.random() < 1 / (1 + numpy.exp(-odds))), longer))
    return drawn


def controlled(drawn: list[tuple[float, int]]) -> tuple[float, float]:
    won = numpy.array([won for won, _ in drawn])
    x = numpy.tanh(numpy.array([longer for _, longer in drawn]) / statistics.stdev(longer for _, longer in drawn))[:, None]
    model = LogisticRegression(C=1 / RIDGE, tol=1e-13, max_iter=100_000, solver="newton-cholesky")
    labels = numpy.repeat([1, 0], len(drawn))
    model.fit(numpy.vstack([x, x]), labels, sample_weight=numpy.concatenate([won, 1 - won]))
    rate = 1 / (1 + numpy.exp(-model.intercept_[0]))
    p = model.predict_proba(x)[:, 1]
    design = numpy.hstack([numpy.ones_like(x), x])
    information = design.T @ (design * (p * (1 - p))[:, None]) + numpy.diag([0, RIDGE])
    return rate, rate * (1 - rate) * numpy.linalg.inv(information)[0, 0] ** 0.5


def main() -> None:
    draw = random.Random(0)
    cases = []
    for count, skill, taste in [(200, 0.0, 0.0), (200, 0.0, 3.0), (800, 1.0, -1.0), (50, 3.0, 1.0), (8, 0.5, 0.0), (100, 0.0, 40.0)]:
        drawn = results(draw, count, skill, taste)
        won, longer = zip(*drawn)
        cases.append({"won": list(won), "longer": list(longer), "controlled": exact(list(controlled(drawn)))})
    write("length_control", __file__, f"By scikit-learn {sklearn.__version__}. `controlled` is the rate and its error.", {"cases": cases})


if __name__ == "__main__":
    main()
