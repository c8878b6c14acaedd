"""How far products whose factors are rounded to TF32 put logits and gradients off, at the shape of the parity test on a card.

    python tests/bench/tf32.py

A model of random weights in transformers, f32 on a CPU; the factors of every product, forward and backward, are rounded to TF32's
11 bits, cut to them, or multiplied in parts as core/src/kernel/product.rs does. Prints a Markdown table of the largest differences
from plain f32 as a part of the largest number: of logits, and over all gradients of SFT and DPO.
"""

import statistics

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from transformers import LlamaConfig, LlamaForCausalLM

aten = torch.ops.aten


def cut(x: torch.Tensor) -> torch.Tensor:
    return (x.contiguous().view(torch.int32) & ~0x1FFF).view(torch.float32)


def rounded(x: torch.Tensor) -> torch.Tensor:
    """Ties away from zero, as `cvt.rna.tf32` does."""
    return cut((x.contiguous().view(torch.int32) + 0x1000).view(torch.float32))


def in_parts(multiply, x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
    c, d = x.bfloat16().float(), y.bfloat16().float()
    return multiply(c, d) + (multiply(c, cut(y - d)) + multiply(cut(x - c), cut(y)))


HOW = {
    "rounded to TF32": lambda multiply, x, y: multiply(rounded(x), rounded(y)),
    "cut to TF32": lambda multiply, x, y: multiply(cut(x), cut(y)),
    "in parts, each cut to TF32": in_parts,
}


class Products(TorchDispatchMode):
    """Computes every product of matrices as said."""

    def __init__(self, how) -> None:
        super().__init__()
        self.how = how

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        if func.overloadpacket in (aten.mm, aten.bmm):
            return self.how(func, *args)
        assert func.overloadpacket not in (aten.addmm, aten.baddbmm), "a product that is not caught"
        return func(*args, **(kwargs or {}))


def model() -> LlamaForCausalLM:
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=512, hidden_size=256, intermediate_size=688, num_hidden_layers=4, num_attention_heads=8,
        num_key_value_heads=4, tie_word_embeddings=False, attn_implementation="eager",
    )
    made = LlamaForCausalLM(config)
    for weight in made.parameters():
        weight.data = 0.02 * torch.randn_like(weight) + (weight.dim() == 1)
    return made


def numbers(policy: LlamaForCausalLM, how) -> tuple[torch.Tensor, list[torch.Tensor]]:
    """Logits of one text, and the gradients of both objectives."""
    with Products(how):
        texts = [log_probs(policy, index, width // 4, width) for index, width in enumerate([96, 40, 17, 64])]
        gradients = gradient(policy, -torch.cat([scores for _, scores in texts]).mean())
        pairs = [[log_probs(policy, 2 * i + j, width // 4, width)[1].sum() for j, width in enumerate([80, 50])] for i in range(2)]
        margins = torch.stack([(chosen + 370) - (rejected + 230) for chosen, rejected in pairs])
        gradients += gradient(policy, -torch.nn.functional.logsigmoid(0.1 * margins).mean())
    return texts[0][0].detach(), gradients


def log_probs(policy: LlamaForCausalLM, index: int, prompt: int, width: int) -> tuple[torch.Tensor, torch.Tensor]:
    ids = torch.tensor([(index * 7919 + t * 104_729) % 512 for t in range(width)])
    logits = policy(ids[None]).logits[0]
    return logits, logits[:-1].log_softmax(-1).gather(1, ids[1:, None])[prompt - 1 :, 0]


def gradient(policy: LlamaForCausalLM, loss: torch.Tensor) -> list[torch.Tensor]:
    policy.zero_grad()
    loss.backward()
    return [weight.grad.clone() for weight in policy.parameters()]


def off(found: torch.Tensor, expected: torch.Tensor) -> float:
    return float((found - expected).abs().max() / expected.abs().max())


def main() -> None:
    policy = model()
    logits, gradients = numbers(policy, lambda multiply, x, y: multiply(x, y))
    print("| factors | logits | gradients: median | largest |\n|---|---|---|---|")
    for name, how in HOW.items():
        found, found_gradients = numbers(policy, how)
        units = [off(a, b) for a, b in zip(found_gradients, gradients)]
        print(f"| {name} | {off(found, logits):.1e} | {statistics.median(units):.1e} | {max(units):.1e} |", flush=True)


main()
