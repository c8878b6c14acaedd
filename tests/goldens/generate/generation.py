"""generation.json: which tokens temperature, top-k and top-p keep and with what probability, and greedy continuations.

Warpers are transformers', in the order temperature, top-k, top-p, in f64; `kept` is in order of token id. Greedy continuations
are of tiny_llama_tied.json's model, with no token ending them; a batch of prompts, padded on the left, gives the same as each
prompt alone. `lead` is the least difference between the best and the second logit on the way.
"""

import numpy as np
import torch
from transformers import GenerationConfig
from transformers.generation import TemperatureLogitsWarper, TopKLogitsWarper, TopPLogitsWarper

import golden
import llama
import tiny_llama

TOKENS, SEED = 12, 31
SETTINGS = [(1.0, None, 1.0), (0.5, None, 1.0), (1.0, None, 0.9), (0.75, None, 0.95), (0.25, None, 0.5), (2.0, None, 0.3),
            (1.0, None, 0.01), (1.0, 3, 1.0), (0.75, 5, 0.8), (1.5, 40, 0.95), (1.0, 1, 1.0)]


def main() -> None:
    random = np.random.default_rng(31)
    rows = [golden.significant(scale * random.standard_normal(16), 4) for scale in (0.5, 2.0, 6.0)]
    golden.write("generation", __file__, __doc__.strip(), {
        "warped": [warped(row, *settings) for row in rows for settings in SETTINGS], "greedy": greedy(),
    })


def warped(row: list[float], temperature: float, top_k: int | None, top_p: float) -> dict:
    scores = torch.tensor([row], dtype=torch.float64)
    warpers = [TemperatureLogitsWarper(temperature)] + ([TopKLogitsWarper(top_k)] if top_k else [])
    for warper in warpers + ([TopPLogitsWarper(top_p)] if top_p < 1 else []):
        scores = warper(None, scores)
    check_clear(torch.tensor(row, dtype=torch.float64) / temperature, top_k, top_p)
    probabilities = scores.softmax(-1)[0]
    kept = torch.nonzero(scores[0].isfinite())[:, 0]
    return {"logits": row, "temperature": temperature, "top_k": top_k, "top_p": top_p, "kept": kept.tolist(),
            "probabilities": golden.significant(probabilities[kept], 12)}


def check_clear(scores: torch.Tensor, top_k: int | None, top_p: float) -> None:
    """No sum of probabilities comes so near to p that rounding to f32 could move a token in or out."""
    if top_p < 1:
        sums = scores.sort(descending=True).values[:top_k].softmax(-1).cumsum(-1)
        assert (sums - top_p).abs().min() > 1e-4, (top_p, sums)


def greedy() -> dict:
    random = np.random.default_rng(SEED)
    model, _ = tiny_llama.start("tied")
    prompts = [llama.tokens(random, length) for length in (1, 4, 9)]
    alone = [continued(model, [prompt])[0] for prompt in prompts]
    assert continued(model, prompts) == alone
    return {"model": "tiny_llama_tied.json", "prompts": prompts, "continuations": alone,
            "lead": golden.significant(min(lead(model, p, c) for p, c in zip(prompts, alone)), 3)}


def continued(model, prompts: list[list[int]]) -> list[list[int]]:
    width = max(map(len, prompts))
    ids = torch.tensor([[2] * (width - len(prompt)) + prompt for prompt in prompts])
    mask = torch.tensor([[0] * (width - len(prompt)) + [1] * len(prompt) for prompt in prompts])
    settings = GenerationConfig(do_sample=False, max_new_tokens=TOKENS, pad_token_id=2)
    model.generation_config.eos_token_id = None
    return model.generate(ids, attention_mask=mask, generation_config=settings)[:, width:].tolist()


def lead(model, prompt: list[int], continuation: list[int]) -> float:
    best = llama.logits(model, prompt, continuation)[len(prompt) - 1 : -1].detach().topk(2).values
    return (best[:, 0] - best[:, 1]).min().item()


if __name__ == "__main__":
    main()
