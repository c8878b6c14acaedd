"""Demonstrations as token ids, and their gradients, for the trials in PyTorch."""

import argparse
import itertools
import json

import torch
from transformers import AutoTokenizer


def arguments(description: str, counted: str, count: int) -> argparse.Namespace:
    """The model, the demonstrations, and a number with this name."""
    parser = argparse.ArgumentParser(description=description.splitlines()[0])
    parser.add_argument("--model", required=True)
    parser.add_argument("--demonstrations", required=True, help="JSON Lines with prompt and completion, of one message each")
    parser.add_argument(counted, type=int, default=count)
    return parser.parse_args()


def demonstrations(model: str, file: str, count: int, width: int) -> list[tuple[list[int], list[int]]]:
    """Prompt and completion of the first ones, cut to so many tokens each."""
    tokenizer = AutoTokenizer.from_pretrained(model)
    with open(file, encoding="utf-8") as lines:
        rows = [json.loads(line) for line in itertools.islice(lines, count)]
    ids = lambda messages: tokenizer(messages[0]["content"], add_special_tokens=False)["input_ids"][:width]
    return [(ids(row["prompt"]), ids(row["completion"])) for row in rows]


def backward(policy: torch.nn.Module, batch: list) -> float:
    """The loss of prompts and responses per token of response, whose gradients are left in the policy."""
    policy.zero_grad()
    tokens, total = sum(len(response) for _, response in batch), 0.0
    for prompt, response in batch:
        logits = policy(torch.tensor([prompt + response])).logits[0, len(prompt) - 1 : -1]
        loss = torch.nn.functional.cross_entropy(logits, torch.tensor(response), reduction="sum") / tokens
        loss.backward()
        total += loss.item()
    return total
