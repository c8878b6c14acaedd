"""The peer on the same card: the SFT and DPO steps of tests/gpu/speed.rs, and the products of product.rs, in PyTorch and transformers.

    python3 tests/gpu/peer.py product SHAPE
    python3 tests/gpu/peer.py speed SHAPE ROWS STEPS

bf16 weights and moments, PyTorch's scaled-dot-product attention, gradient checkpointing, fused AdamW, clipping at 1; the head on
response positions only, as in hbat. Random weights. Prints JSON lines.
"""

import json
import statistics
import sys
import time

import torch
import transformers
from torch.nn.functional import logsigmoid

PRODUCT_ROWS, WIDTH, WARM_UP, PRODUCTS, ROUNDS = 8, 1024, 2, 10, 5
# vocabulary, hidden, intermediate, layers, heads, key-value heads, tied
SHAPES = {
    "toy": (512, 256, 688, 4, 8, 4, False),
    "135m": (49152, 576, 1536, 30, 9, 3, True),
    "1.1b": (32000, 2048, 5632, 22, 32, 4, False),
    "7b": (32000, 4096, 11008, 32, 32, 32, False),
    "13b": (32000, 5120, 13824, 40, 40, 40, False),
}
DEVICE = "cuda" if torch.cuda.is_available() else "cpu"
PEAKS = [("H100 PCIe", 756e12), ("H100 NVL", 835e12), ("H100", 989e12), ("H200 NVL", 835e12), ("H200", 989e12), ("A100", 312e12)]


def main() -> None:
    match sys.argv[1:]:
        case ["product", shape]:
            products(shape)
        case ["speed", shape, rows, steps]:
            for objective in ("sft", "dpo"):
                speed(shape, objective, int(rows), int(steps))
        case _:
            sys.exit(__doc__)


def synchronise() -> None:
    if DEVICE == "cuda":
        torch.cuda.synchronize()


def products(shape: str) -> None:
    _, d, f, _, heads, _, _ = SHAPES[shape]
    n = PRODUCT_ROWS * WIDTH
    random = lambda *dims: torch.randn(*dims, device=DEVICE, dtype=torch.bfloat16)
    matrix = lambda rows, columns, lies: random(rows, columns) if lies == "rows" else random(columns, rows).T
    # As in product.rs.
    for m, k, n, *lie in [(n, d, d, "rows", "rows"), (n, d, f, "rows", "rows"), (n, f, d, "rows", "rows"), (n, d, f, "rows", "columns"), (f, n, d, "columns", "rows")]:
        left, right = matrix(m, k, lie[0]), matrix(k, n, lie[1])
        took = seconds(lambda: left @ right)
        print(json.dumps({"part": "peer-product", "shape": [m, k, n], "left": lie[0], "right": lie[1], "flops": 2 * m * k * n / took}), flush=True)
    for texts in (PRODUCT_ROWS // 2, PRODUCT_ROWS):
        attention([texts, heads, WIDTH, d // heads])


def attention(dims: list[int]) -> None:
    query, key, value = (torch.randn(*dims, device=DEVICE, dtype=torch.bfloat16, requires_grad=True) for _ in range(3))
    dy = torch.randn(*dims, device=DEVICE, dtype=torch.bfloat16)
    compute = lambda: torch.nn.functional.scaled_dot_product_attention(query, key, value, is_causal=True)
    # `backward` would add to the sums of the calls before, which takes time of its own.
    forward, both = seconds(compute), seconds(lambda: torch.autograd.grad(compute(), (query, key, value), dy))
    print(json.dumps({"part": "peer-attention", "shape": dims, "forward": forward, "backward": both - forward}), flush=True)


def seconds(compute) -> float:
    """The median over rounds, the device waited for."""
    rounds = []
    for _ in range(ROUNDS + 1):
        synchronise()
        began = time.perf_counter()
        for _ in range(PRODUCTS):
            compute()
        synchronise()
        rounds.append((time.perf_counter() - began) / PRODUCTS)
    return statistics.median(rounds[1:])


def model(shape: str) -> torch.nn.Module:
    vocabulary, hidden, intermediate, layers, heads, key_value, tied = SHAPES[shape]
    config = transformers.LlamaConfig(
        vocab_size=vocabulary, hidden_size=hidden, intermediate_size=intermediate, num_hidden_layers=layers,
        num_attention_heads=heads, num_key_value_heads=key_value, tie_word_embeddings=tied, attn_implementation="sdpa",
    )
    torch.set_default_dtype(torch.bfloat16)
    with torch.device(DEVICE):
        made = transformers.LlamaForCausalLM(config)
    torch.set_default_dtype(torch.float32)
    made.config.use_cache = False
    made.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})
    return made.train()


def speed(shape: str, objective: str, rows: int, steps: int) -> None:
    policy = model(shape)
    optimizer = torch.optim.AdamW(policy.parameters(), lr=1e-6, betas=(0.9, 0.95), weight_decay=0.0, fused=DEVICE == "cuda")
    tokens = torch.arange(rows * WIDTH, device=DEVICE).reshape(rows, WIDTH) * 104_729 % 512
    seconds = []
    for _ in range(WARM_UP + steps):
        synchronise()
        began = time.perf_counter()
        log_probs = scores(policy, tokens)
        loss = -log_probs.mean() if objective == "sft" else dpo(log_probs.sum(1))
        loss.backward()
        torch.nn.utils.clip_grad_norm_(policy.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        synchronise()
        seconds.append(time.perf_counter() - began)
    report(policy, shape, objective, rows, seconds[WARM_UP:])


def scores(policy: torch.nn.Module, tokens: torch.Tensor) -> torch.Tensor:
    """log p of every response token, in f32: the last three quarters of each row."""
    prompt = WIDTH // 4
    hidden = policy.model(input_ids=tokens).last_hidden_state[:, prompt - 1 : -1]
    logits = policy.lm_head(hidden).float()
    return logits.log_softmax(-1).gather(2, tokens[:, prompt:, None])[..., 0]


def dpo(sums: torch.Tensor) -> torch.Tensor:
    margins = sums[0::2] - sums[1::2]  # the reference's are constants
    return -logsigmoid(0.1 * margins).mean()


def report(policy: torch.nn.Module, shape: str, objective: str, rows: int, seconds: list[float]) -> None:
    weights = sum(parameter.numel() for parameter in policy.parameters())
    step = statistics.median(seconds)
    flops = 6 * weights * rows * WIDTH / step
    name = torch.cuda.get_device_name() if DEVICE == "cuda" else "cpu"
    peak = next((peak for part, peak in PEAKS if part in name), None)
    print(json.dumps({
        "part": "peer-speed", "shape": shape, "objective": objective, "rows": rows, "width": WIDTH,
        "tokens_per_second": rows * WIDTH / step, "model_flops": flops, "mfu": peak and flops / peak, "step_seconds": seconds,
        "memory": torch.cuda.max_memory_reserved() if DEVICE == "cuda" else None,
        "versions": {"torch": torch.__version__, "transformers": transformers.__version__}, "device": name,
    }), flush=True)


main()
