"""ROUGE-1, -2 and -L of 200 pairs of texts by Google's rouge-score, without stemming."""

import importlib.metadata
import random

from golden import exact, write
from rouge_score.rouge_scorer import RougeScorer

WORDS = ["the", "The", "river", "RIVER", "rivers", "flows", "7", "42nd", "naïve", "Ärger", "İzmir", "K", "straße", "don't", "e-mail", "日本", "Ωmega",
         "ΟΔΟΣ", "²", "a", "I", "🙂", "x_1", "…", "ﬁne"]
GAPS = [" ", "  ", "\n", "\t", ", ", ". ", " — ", "-", "\u00a0"]


def text(draw: random.Random) -> str:
    """Some of a few words, so that texts share many, between gaps of all kinds."""
    return "".join(draw.choice(WORDS) + draw.choice(GAPS) for _ in range(draw.choice([0, 1, 2, 5, 12, 25])))


def main() -> None:
    draw = random.Random(0)
    scorer = RougeScorer(["rouge1", "rouge2", "rougeL"])
    pairs = []
    for _ in range(200):
        reference, candidate = text(draw), text(draw)
        scores = scorer.score(reference, candidate)
        pairs.append({"reference": reference, "candidate": candidate} |
                     {name: exact([score.precision, score.recall, score.fmeasure]) for name, score in scores.items()})
    note = f"By rouge-score {importlib.metadata.version('rouge-score')}. Scores are precision, recall and F."
    write("rouge", __file__, note, {"pairs": pairs})


if __name__ == "__main__":
    main()
