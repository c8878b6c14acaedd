"""What the generators share: where goldens lie, how numbers are printed, and the header that says what made them."""

import importlib.metadata
import json
import math
import os
import pathlib

import numpy as np
import torch

GOLDENS = pathlib.Path(__file__).resolve().parents[1]
REPOSITORY = GOLDENS.parents[1]

# Summation order must not depend on the machine's cores.
torch.set_num_threads(1)


def shared() -> pathlib.Path:
    """The folder with the test data and the test model's tokenizer: $HBAT_SHARED, else beside the repository."""
    return pathlib.Path(os.environ.get("HBAT_SHARED", REPOSITORY.parent / "shared"))


def smollm2() -> pathlib.Path:
    """SmolLM2-135M-Instruct with its weights: $HBAT_SMOLLM2, else the shared folder's model."""
    return pathlib.Path(os.environ.get("HBAT_SMOLLM2", shared() / "models" / "smollm2-135m-instruct"))


def significant(values, digits: int = 9):
    """Numbers (nested lists, arrays or tensors) rounded to significant digits; nine are enough to restore any f32."""
    values = _plain(values)
    if isinstance(values, list):
        return [significant(value, digits) for value in values]
    return float(f"{values:.{digits}g}")


def decimals(values):
    """A flat tensor rounded to about 1e-7 of its largest element: far finer than what is compared, and short to print."""
    flat = np.asarray(_plain(values), dtype=np.float64).reshape(-1)
    largest = np.abs(flat).max(initial=0.0)
    places = 0 if largest == 0 else 7 - math.floor(math.log10(largest))
    return [round(float(x), places) for x in flat]


def exact(values):
    """f64 numbers printed so that reading them back gives the same bits."""
    values = _plain(values)
    return [exact(value) for value in values] if isinstance(values, list) else float(values)


def tensor(values: torch.Tensor, printed) -> dict:
    """A named tensor's value: its shape and its elements in row-major order, printed by one of the roundings above."""
    return {"shape": list(values.shape), "data": printed(values.detach().reshape(-1))}


def write(name: str, generator: str, note: str, body: dict) -> None:
    """Writes `name`.json beside the generators, header first."""
    made_by = f"tests/goldens/generate/{pathlib.Path(generator).name}"
    header = {"made_by": made_by, "note": " ".join(note.split()), "versions": _versions()}
    text = _render({"header": header, **body}, 0) + "\n"
    path = GOLDENS / f"{name}.json"
    path.write_text(text, encoding="utf-8")
    print(f"{path.name}: {len(text.encode()) / 1000:.0f} kB")


def _versions() -> dict:
    return {name: importlib.metadata.version(name) for name in ("torch", "transformers", "trl", "tokenizers", "numpy")}


def _plain(values):
    if isinstance(values, torch.Tensor):
        return values.detach().cpu().tolist()
    return values.tolist() if isinstance(values, (np.ndarray, np.generic)) else values


def _render(value, depth: int) -> str:
    """JSON with one line per key, and one line per list of plain numbers, so that a diff shows what changed."""
    if isinstance(value, dict) and value and not _small(value):
        lines = [f"{' ' * (depth + 1)}{json.dumps(key)}: {_render(item, depth + 1)}" for key, item in value.items()]
        return "{\n" + ",\n".join(lines) + "\n" + " " * depth + "}"
    if isinstance(value, list) and any(isinstance(item, (dict, list)) for item in value):
        lines = [" " * (depth + 1) + _render(item, depth + 1) for item in value]
        return "[\n" + ",\n".join(lines) + "\n" + " " * depth + "]"
    return _inline(value)


def _small(value: dict) -> bool:
    """A record of numbers, such as a step, or a tensor: printed on one line."""
    return all(not isinstance(item, dict) and not (isinstance(item, list) and any(isinstance(i, list) for i in item))
               for item in value.values()) and "versions" not in value and "note" not in value


def _inline(value) -> str:
    if isinstance(value, dict):
        return "{" + ",".join(f"{json.dumps(key)}:{_inline(item)}" for key, item in value.items()) + "}"
    if isinstance(value, list):
        return "[" + ",".join(_inline(item) for item in value) + "]"
    if isinstance(value, float):
        return _number(value)
    return json.dumps(value, ensure_ascii=False, allow_nan=False)


def _number(value: float) -> str:
    """The shortest text that reads back as the same f64."""
    if not math.isfinite(value):
        raise ValueError(f"{value} is no JSON number")
    mantissa, e, exponent = repr(float(value)).partition("e")
    return f"{mantissa}e{int(exponent)}" if e else mantissa
