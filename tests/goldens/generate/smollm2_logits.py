"""smollm2_logits.json: SmolLM2-135M-Instruct under transformers, weights cast to f32, on three short texts and on real
examples.

`logits` are those of the vocabulary ids in `sample`, at every position; `logsumexp` and `argmax` are over the whole vocabulary.
`demonstrations` and `preferences` are the first five of the validation sets with the chat template: sums of the log-probs of
the response tokens, in f32 and from a run in f64. Compare with the latter: PyTorch's f32 log_softmax on the CPU drops tail
probability of so large a vocabulary and is about 1e-5 per token too high. `f64_max_difference` is how far these logits are from
the f64 run's.
"""

import hashlib

import torch
from transformers import AutoModelForCausalLM

import golden
import llama
import tokens

EXAMPLES, SAMPLE = 5, 64
TEXTS = {
    "english": "The lighthouse keeper counted the ships twice before he wrote their names into the book, because the fog had "
               "come early and nobody on the shore could see the harbour.",
    "code": "def mean(values: list[float]) -> float:\n    \"\"\"The average.\"\"\"\n    return sum(values) / len(values)\n",
    "chat": "<|im_start|>user\nGive me 3 reasons – briefly – to learn Español.<|im_end|>\n<|im_start|>assistant\n",
}


def main() -> None:
    narrow = AutoModelForCausalLM.from_pretrained(golden.smollm2(), dtype=torch.float32).eval()
    wide = AutoModelForCausalLM.from_pretrained(golden.smollm2(), dtype=torch.float64).eval()
    ids = {name: tokens.tokenizer()(text, add_special_tokens=False)["input_ids"] for name, text in TEXTS.items()}
    # Over the whole vocabulary, special tokens and frequent words included.
    spread = range(300, narrow.config.vocab_size, narrow.config.vocab_size // (SAMPLE - 6))
    sample = sorted({0, 1, 2, 28, 30, 198, *spread})[:SAMPLE]
    with torch.no_grad():
        golden.write("smollm2_logits", __file__, __doc__.strip(), {
            "weights_sha256": digest(), "sample": sample,
            "texts": [{"name": name, "text": TEXTS[name], **logits(narrow, wide, ids[name], sample)} for name in TEXTS],
            "demonstrations": scored("demonstrations.valid.jsonl", ["response"], narrow, wide),
            "preferences": scored("preferences.valid.jsonl", ["chosen", "rejected"], narrow, wide),
        })


def digest() -> str:
    """Says which weights these numbers belong to: there is more than one way to make them."""
    return hashlib.sha256((golden.smollm2() / "model.safetensors").read_bytes()).hexdigest()


def logits(narrow, wide, ids: list[int], sample: list[int]) -> dict:
    values, truth = (llama.logits(model, ids, []) for model in (narrow, wide))
    return {
        "tokens": ids, "f64_max_difference": golden.significant((values - truth).abs().max(), 2),
        "logsumexp": golden.significant(values.logsumexp(-1), 8), "argmax": values.argmax(-1).tolist(),
        "logits": [golden.significant(row[sample], 8) for row in values],
    }


def scored(name: str, sides: list[str], narrow, wide) -> list[dict]:
    """Per example and response: number of response tokens and Σ log π."""
    texts = [tokens.chat(record) for record in tokens.records(name)[:EXAMPLES]]
    return [{"index": index, **{side: score(narrow, wide, prompt, response) for side, response in zip(sides, responses)}}
            for index, (prompt, *responses) in enumerate(tokens.encoded(texts, "chat"))]


def score(narrow, wide, prompt: list[int], response: list[int]) -> dict:
    values, truth = (llama.log_probs(model, prompt, response).double().sum() for model in (narrow, wide))
    return {"tokens": len(response), "log_prob": golden.significant(values), "log_prob_f64": golden.significant(truth)}


if __name__ == "__main__":
    main()
