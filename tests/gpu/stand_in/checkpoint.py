"""A LLaMA-type checkpoint of 1.3, 7 or 13 billion bf16 weights that takes no disk: all are holes of their files but the norms, which are ones.

    checkpoint.py 7b FOLDER --tokenizer MODEL

Tokenizer and template are those of MODEL, whose vocabulary it gets. Files are cut at 10 GB, as those of such models are.
"""

import argparse
import json
import pathlib
import shutil
import struct

SHAPES = {"1b": (2048, 5632, 22, 16), "7b": (4096, 11008, 32, 32), "13b": (5120, 13824, 40, 40)}
ONE = b"\x80\x3f"
LARGEST = 10_000_000_000


def tensors(hidden, inner, layers, vocabulary):
    yield "model.embed_tokens.weight", (vocabulary, hidden)
    for layer in range(layers):
        name = f"model.layers.{layer}."
        for part in "qkvo":
            yield f"{name}self_attn.{part}_proj.weight", (hidden, hidden)
        yield f"{name}mlp.gate_proj.weight", (inner, hidden)
        yield f"{name}mlp.up_proj.weight", (inner, hidden)
        yield f"{name}mlp.down_proj.weight", (hidden, inner)
        yield f"{name}input_layernorm.weight", (hidden,)
        yield f"{name}post_attention_layernorm.weight", (hidden,)
    yield "model.norm.weight", (hidden,)
    yield "lm_head.weight", (vocabulary, hidden)


def size(shape):
    return 2 * shape[0] * (shape[1] if len(shape) > 1 else 1)


def cut(all_tensors):
    files, room = [], 0
    for name, shape in all_tensors:
        if size(shape) > room:
            files.append([])
            room = LARGEST
        files[-1].append((name, shape))
        room -= size(shape)
    return files


def write(path, file):
    header, at = {}, 0
    for name, shape in file:
        header[name] = {"dtype": "BF16", "shape": shape, "data_offsets": [at, at + size(shape)]}
        at += size(shape)
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    with open(path, "wb") as out:
        out.write(struct.pack("<Q", len(text)) + text)
        out.truncate(8 + len(text) + at)
        for name, shape in file:
            if len(shape) == 1:
                out.seek(8 + len(text) + header[name]["data_offsets"][0])
                out.write(ONE * shape[0])
    return at


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("size", choices=SHAPES)
    parser.add_argument("folder", type=pathlib.Path)
    parser.add_argument("--tokenizer", type=pathlib.Path, required=True, metavar="MODEL")
    given = parser.parse_args()
    hidden, inner, layers, heads = SHAPES[given.size]
    given.folder.mkdir(parents=True)
    for name in ["tokenizer.json", "tokenizer_config.json", "chat_template.jinja"]:
        if (given.tokenizer / name).exists():
            shutil.copy(given.tokenizer / name, given.folder)
    config = json.loads((given.tokenizer / "config.json").read_text())
    config |= {"hidden_size": hidden, "intermediate_size": inner, "num_hidden_layers": layers, "head_dim": hidden // heads}
    config |= {"num_attention_heads": heads, "num_key_value_heads": heads, "tie_word_embeddings": False}
    (given.folder / "config.json").write_text(json.dumps(config, indent=2))
    files, places, total = cut(tensors(hidden, inner, layers, config["vocab_size"])), {}, 0
    for number, file in enumerate(files, 1):
        name = f"model-{number:05}-of-{len(files):05}.safetensors"
        total += write(given.folder / name, file)
        places |= {tensor: name for tensor, _ in file}
    index = {"metadata": {"total_size": total}, "weight_map": places}
    (given.folder / "model.safetensors.index.json").write_text(json.dumps(index))
    print(f"{given.folder}: {total / 1e9:.1f} GB in {len(files)} files")


if __name__ == "__main__":
    main()
