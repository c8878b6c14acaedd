"""Tiny LLaMAs from transformers with seeded weights, and the two losses on them, in f32 and in f64."""

import copy

import numpy as np
import torch
from torch.nn.functional import logsigmoid
from transformers import AutoConfig, AutoModelForCausalLM, LlamaForCausalLM
from transformers.models.llama import modeling_llama
from transformers.models.mistral import modeling_mistral
from transformers.models.qwen2 import modeling_qwen2
from transformers.models.qwen3 import modeling_qwen3

from golden import significant, tensor

VOCABULARY = 61


def _norm_in_own_precision(self, hidden):
    """transformers computes every RMSNorm in f32, even of an f64 model; the truth should not be rounded in between."""
    wide = hidden.to(torch.promote_types(hidden.dtype, torch.float32))
    wide = wide * torch.rsqrt(wide.pow(2).mean(-1, keepdim=True) + self.variance_epsilon)
    return self.weight * wide.to(hidden.dtype)


for norm in modeling_llama.LlamaRMSNorm, modeling_mistral.MistralRMSNorm, modeling_qwen2.Qwen2RMSNorm, modeling_qwen3.Qwen3RMSNorm:
    norm.forward = _norm_in_own_precision


def config(**changes) -> dict:
    """A config.json as LLaMA checkpoints on the hub carry it, with `rope_theta` and `rope_scaling` at the top level."""
    base = {
        "architectures": ["LlamaForCausalLM"], "model_type": "llama", "hidden_act": "silu", "torch_dtype": "float32",
        "attention_bias": False, "attention_dropout": 0.0, "mlp_bias": False, "initializer_range": 0.02,
        "vocab_size": VOCABULARY, "hidden_size": 32, "intermediate_size": 24, "num_hidden_layers": 2,
        "num_attention_heads": 4, "num_key_value_heads": 4, "head_dim": 8, "max_position_embeddings": 128,
        "rms_norm_eps": 1e-5, "rope_theta": 10000.0, "rope_scaling": None, "tie_word_embeddings": True,
        "bos_token_id": 1, "eos_token_id": 2, "pad_token_id": 2, "use_cache": True,
    }
    assert set(changes) <= set(base), changes
    return base | changes


def relative(architecture: str, model_type: str, own: dict, **changes) -> dict:
    """The same of another family: without LLaMA's fields, with its own."""
    shared = {name: value for name, value in config(**changes).items() if name not in ("attention_bias", "mlp_bias")}
    return shared | {"architectures": [architecture], "model_type": model_type} | own


def model(settings: dict, seed: int) -> torch.nn.Module:
    """The model with weights of three decimals: short in JSON, and the same in f32 for every reader."""
    return seeded(AutoModelForCausalLM.from_config(AutoConfig.for_model(**copy.deepcopy(settings))).eval(), seed)


def seeded(llama: torch.nn.Module, seed: int) -> torch.nn.Module:
    """The same with such weights."""
    random = np.random.default_rng(seed)
    with torch.no_grad():
        for name, parameter in llama.named_parameters():
            parameter.copy_(torch.tensor(_weight(name, tuple(parameter.shape), random), dtype=torch.float32))
    return llama


def _weight(name: str, shape: tuple, random: np.random.Generator) -> np.ndarray:
    noise = random.standard_normal(shape)
    if "norm" in name:
        return np.round(1 + 0.1 * noise, 3)
    scale = 0.3 if "embed_tokens" in name or name.endswith("bias") else shape[-1] ** -0.5
    return np.round(scale * noise, 3)


def weights(llama: LlamaForCausalLM) -> dict:
    """Every parameter by its Hugging Face name; a tied head appears once, as the embedding."""
    return {name: tensor(parameter, significant) for name, parameter in llama.named_parameters()}


def sequences(random: np.random.Generator, lengths: list[tuple[int, int]]) -> list[dict]:
    """Demonstrations of random tokens with the given prompt and response lengths."""
    return [{"prompt": tokens(random, p), "response": tokens(random, r)} for p, r in lengths]


def pairs(random: np.random.Generator, lengths: list[tuple[int, int, int]]) -> list[dict]:
    """Preferences of random tokens with the given prompt, chosen and rejected lengths."""
    return [{"prompt": tokens(random, p), "chosen": tokens(random, c), "rejected": tokens(random, r)} for p, c, r in lengths]


def tokens(random: np.random.Generator, length: int) -> list[int]:
    """Random token ids, the reserved ones 0, 1 and 2 left out."""
    return random.integers(3, VOCABULARY, length).tolist()


def logits(llama: LlamaForCausalLM, prompt: list[int], response: list[int]) -> torch.Tensor:
    """Logits at every position of one unpadded sequence. [positions, vocabulary]"""
    return llama(input_ids=torch.tensor([prompt + response]), use_cache=False).logits[0]


def log_probs(llama: LlamaForCausalLM, prompt: list[int], response: list[int]) -> torch.Tensor:
    """log π of each response token. [response]"""
    reads = logits(llama, prompt, response)[len(prompt) - 1 : -1]
    return reads.log_softmax(-1).gather(1, torch.tensor(response)[:, None])[:, 0]


def sft_loss(llama: LlamaForCausalLM, batch: list[dict]) -> torch.Tensor:
    """Σ NLL of the response tokens over their number, both over the whole batch."""
    values = torch.cat([log_probs(llama, d["prompt"], d["response"]) for d in batch])
    return -values.sum() / len(values)


def pair_log_probs(llama: LlamaForCausalLM, batch: list[dict]) -> tuple[torch.Tensor, torch.Tensor]:
    """Summed log-probs of the chosen and of the rejected responses. [pairs] each"""
    sums = [torch.stack([log_probs(llama, p["prompt"], p[side]).sum() for p in batch]) for side in ("chosen", "rejected")]
    return sums[0], sums[1]


def dpo(policy, reference, beta: float, smoothing: float = 0.0) -> tuple[torch.Tensor, dict]:
    """DPO's loss, mean over pairs, and what is logged beside it (Rafailov et al. 2023, Eq. 7; smoothing after cDPO)."""
    chosen, rejected = policy[0] - reference[0], policy[1] - reference[1]
    h = beta * (chosen - rejected)
    loss = (-(1 - smoothing) * logsigmoid(h) - smoothing * logsigmoid(-h)).mean()
    metrics = {
        "rewards/chosen": beta * chosen.mean(), "rewards/rejected": beta * rejected.mean(), "rewards/margins": h.mean(),
        "rewards/accuracies": (h > 0).double().mean(), "logps/chosen": policy[0].mean(), "logps/rejected": policy[1].mean(),
    }
    return loss, {name: value.item() for name, value in metrics.items()}


def gradients(llama: LlamaForCausalLM, loss: torch.Tensor) -> dict[str, torch.Tensor]:
    """The loss's gradient for every parameter, in f64."""
    names, parameters = zip(*llama.named_parameters())
    return dict(zip(names, (g.double() for g in torch.autograd.grad(loss, parameters))))


def deviation(rounded: dict[str, torch.Tensor], truth: dict[str, torch.Tensor]) -> float:
    """max|Δ| / max|g| of the tensor in which it is largest."""
    return max((((rounded[n] - g).abs().max() / g.abs().max().clamp_min(1e-300)).item() for n, g in truth.items()))
