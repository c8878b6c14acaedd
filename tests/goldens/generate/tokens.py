"""tokens.json: the token ids of every example of the test data, as the Hugging Face tokenizer of SmolLM2 makes them.

Mode `chat`: response text = render(prompt + response) minus render(prompt, generation prompt), with the model's own template
and no further special tokens. Mode `plain`: the messages' contents as they are, BOS if the tokenizer adds one, EOS after the
response; Alpaca and AlpacaFarm records with Alpaca's prompt, nothing between it and the answer. Prompt and response are always
tokenised apart. Responses are [completion] for demonstrations and [chosen, rejected] for preferences.

`sha256` is taken over all examples in file order; an example is its prompt and then its responses; a list of ids is its length
and then the ids; every number is a little-endian u32. `blocks` are the first eight hex digits of the same over each ten
successive examples, to find a difference with. `examples` are the first, the last, the shortest, the one with the most non-
ASCII characters and the one with the most line breaks (of plain files only the first and the shortest).
"""

import functools
import hashlib
import json
import struct

from transformers import AutoTokenizer

import golden

SPLITS = ("train", "valid", "test")
BLOCK = 10
ALPACA = (
    "Below is an instruction that describes a task. Write a response that appropriately completes the request.\n\n"
    "### Instruction:\n{instruction}\n\n### Response:"
)
ALPACA_WITH_INPUT = (
    "Below is an instruction that describes a task, paired with an input that provides further context. "
    "Write a response that appropriately completes the request.\n\n"
    "### Instruction:\n{instruction}\n\n### Input:\n{input}\n\n### Response:"
)


def main() -> None:
    names = [(f"{kind}.{split}.jsonl", mode) for mode in ("chat", "plain") for kind in ("demonstrations", "preferences")
             for split in SPLITS]
    names += [(f"{kind}.{split}.json", "plain") for kind in ("alpaca", "alpaca_farm_preference") for split in SPLITS]
    golden.write("tokens", __file__, __doc__.strip(), {"files": [file(name, mode) for name, mode in names]})


@functools.cache
def tokenizer():
    return AutoTokenizer.from_pretrained(golden.shared() / "models" / "smollm2-135m-instruct")


def file(name: str, mode: str) -> dict:
    texts = [(chat if mode == "chat" else plain)(record) for record in records(name)]
    ids = encoded(texts, mode)
    stream = [b"".join(map(listed, example)) for example in ids]
    blocks = [hashlib.sha256(b"".join(stream[i : i + BLOCK])).hexdigest()[:8] for i in range(0, len(stream), BLOCK)]
    return {
        "file": name, "mode": mode, "count": len(ids), "sha256": hashlib.sha256(b"".join(stream)).hexdigest(),
        "prompt_tokens": sum(len(e[0]) for e in ids), "response_tokens": sum(len(r) for e in ids for r in e[1:]),
        "blocks": blocks, "first_text": {"prompt": texts[0][0], "responses": texts[0][1:]},
        "examples": [{"index": i, "prompt": ids[i][0], "responses": ids[i][1:]} for i in telling(texts, ids, mode)],
    }


def records(name: str) -> list[dict]:
    text = (golden.shared() / "data" / name).read_text(encoding="utf-8")
    return [json.loads(line) for line in text.split("\n") if line] if name.endswith(".jsonl") else json.loads(text)


def chat(record: dict) -> list[str]:
    """The prompt's and the responses' text under the model's chat template."""
    prompt = tokenizer().apply_chat_template(record["prompt"], tokenize=False, add_generation_prompt=True)
    whole = [tokenizer().apply_chat_template(record["prompt"] + answer, tokenize=False) for answer in answers(record)]
    assert all(text.startswith(prompt) for text in whole)
    return [prompt] + [text[len(prompt) :] for text in whole]


def plain(record: dict) -> list[str]:
    """The prompt's and the responses' text without a template."""
    if "instruction" in record:
        prompt = (ALPACA_WITH_INPUT if record["input"] else ALPACA).format(**record)
        if "output" in record:
            return [prompt, record["output"]]
        chosen = record["preference"]
        return [prompt, record[f"output_{chosen}"], record[f"output_{3 - chosen}"]]
    (message,) = record["prompt"]
    return [message["content"]] + [answer["content"] for (answer,) in answers(record)]


def answers(record: dict) -> list[list[dict]]:
    return [record[key] for key in ("completion", "chosen", "rejected") if key in record]


def encoded(texts: list[list[str]], mode: str) -> list[list[list[int]]]:
    """Token ids of every text; with a template its text already has all special tokens."""
    prompts = tokenizer()([t[0] for t in texts], add_special_tokens=mode == "plain")["input_ids"]
    end = [tokenizer().eos_token_id] if mode == "plain" else []
    responses = [tokenizer()([t[i] for t in texts], add_special_tokens=False)["input_ids"] for i in range(1, len(texts[0]))]
    return [[prompt] + [answer + end for answer in row] for prompt, *row in zip(prompts, *responses)]


def listed(ids: list[int]) -> bytes:
    return struct.pack(f"<{len(ids) + 1}I", len(ids), *ids)


def telling(texts: list[list[str]], ids: list, mode: str) -> list[int]:
    """Which examples are stored whole."""
    def most(score):
        return max(range(len(texts)), key=lambda i: score("".join(texts[i])))

    shortest = min(range(len(ids)), key=lambda i: sum(map(len, ids[i])))
    more = [len(ids) - 1, most(lambda t: sum(ord(c) > 127 for c in t)), most(lambda t: t.count("\n"))] if mode == "chat" else []
    return sorted({0, shortest, *more})


if __name__ == "__main__":
    main()
