"""The peer to measure hbat against: SFT and DPO steps of SmolLM2-135M on the CPU in PyTorch, f32, AdamW, clipping at 1.

    python tests/bench/peer_trl.py --objective dpo --loop trl --model DIR

prints one JSON line: tokens per second (rows × length per step; the median of the measured steps), the seconds of each step,
the process's peak memory, and the first steps' losses, by which to see that two loops did the same work. Every sequence has
`length` random tokens, the first half prompt; SFT has `rows` of them in a step, DPO rows / 2 pairs, with reference log-probs
computed before.

`--loop trl` drives TRL's trainers, `--loop plain` a bare loop, which scores the response positions only and logs nothing.
TRL checkpoints activations by default (`--checkpointing on`), which is slower and smaller; `off` is the faster opponent.
`--turns asked` takes a step for every line on standard input: `in_turns.py` does that.
"""

import argparse
import json
import os
import pathlib
import resource
import statistics
import sys
import tempfile
import time

BETA, RATE, BETAS, CLIP = 0.1, 1e-6, (0.9, 0.95), 1.0


def main() -> None:
    arguments = parsed()
    os.environ["OMP_NUM_THREADS"] = str(arguments.threads)  # read when torch is imported, hence the late imports below
    import torch

    torch.set_num_threads(arguments.threads)
    seconds, losses = (trl_loop if arguments.loop == "trl" else plain_loop)(arguments)
    seconds = seconds[arguments.warmup :]
    print(json.dumps({
        "objective": arguments.objective, "loop": arguments.loop, "checkpointing": arguments.checkpointing,
        "rows": arguments.rows, "length": arguments.length, "threads": arguments.threads,
        "tokens_per_second": arguments.rows * arguments.length / statistics.median(seconds),
        "step_seconds": [round(s, 4) for s in seconds],
        "peak_rss_bytes": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024,  # Linux counts in KiB
        "first_losses": losses[:2], "versions": versions(),
    }))


def parsed() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    shared = pathlib.Path(os.environ.get("HBAT_SHARED", pathlib.Path(__file__).resolve().parents[3] / "shared"))
    model = os.environ.get("HBAT_SMOLLM2", shared / "models" / "smollm2-135m-instruct")
    parser.add_argument("--objective", choices=["sft", "dpo"], required=True)
    parser.add_argument("--loop", choices=["trl", "plain"], default="trl")
    parser.add_argument("--checkpointing", choices=["on", "off"], default="off")
    parser.add_argument("--turns", choices=["free", "asked"], default="free")
    parser.add_argument("--model", default=model, help="folder in Hugging Face layout (default: %(default)s)")
    parser.add_argument("--steps", type=int, default=5, help="measured steps")
    parser.add_argument("--warmup", type=int, default=2, help="steps before those")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--rows", type=int, default=8)
    parser.add_argument("--length", type=int, default=512)
    arguments = parser.parse_args()
    if arguments.steps < 1 or arguments.warmup < 0 or arguments.rows < 2 or arguments.rows % 2 or arguments.length < 2:
        sys.exit("peer_trl: needs at least one step, an even number of rows and two tokens per row")
    if not (pathlib.Path(arguments.model) / "model.safetensors").is_file():
        sys.exit(f"peer_trl: {arguments.model} has no model.safetensors; give --model a folder with SmolLM2's weights")
    return arguments


def versions() -> dict:
    import importlib.metadata

    return {name: importlib.metadata.version(name) for name in ("torch", "transformers", "trl")}


def rows(arguments: argparse.Namespace) -> list[list[int]]:
    """Random token ids for every step; for DPO the rows 2i and 2i + 1 have the same prompt."""
    import numpy as np

    vocabulary = json.loads((pathlib.Path(arguments.model) / "config.json").read_text())["vocab_size"]
    count = (arguments.steps + arguments.warmup) * arguments.rows
    ids = np.random.default_rng(0).integers(3, vocabulary, (count, arguments.length))
    if arguments.objective == "dpo":
        ids[1::2, : arguments.length // 2] = ids[::2, : arguments.length // 2]
    return ids.tolist()


def model(arguments: argparse.Namespace):
    import torch
    from transformers import AutoModelForCausalLM

    return AutoModelForCausalLM.from_pretrained(arguments.model, dtype=torch.float32, attn_implementation="sdpa")


# TRL's trainers


def trl_loop(arguments: argparse.Namespace) -> tuple[list[float], list[float]]:
    from transformers import PrinterCallback, ProgressCallback

    with tempfile.TemporaryDirectory() as folder:
        trainer = (sft_trainer if arguments.objective == "sft" else dpo_trainer)(arguments, folder)
        clock = step_clock(asked=arguments.turns == "asked")
        trainer.add_callback(clock)
        trainer.remove_callback(PrinterCallback)
        trainer.remove_callback(ProgressCallback)
        trainer.train()
    return clock.seconds, [record["loss"] for record in trainer.state.log_history if "loss" in record]


def step_clock(*, asked: bool):
    from transformers import TrainerCallback

    def wait() -> float:
        """Waits to be asked for the next step, where steps are asked for."""
        if asked:
            sys.stdin.readline()
        return time.perf_counter()

    class StepClock(TrainerCallback):
        """Seconds from the end of one step to the end of the next: the trainer's own work between steps is part of its cost."""

        def __init__(self):
            self.seconds, self.last = [], None

        def on_train_begin(self, *_, **__):
            self.last = wait()

        def on_step_end(self, *_, **__):
            self.seconds.append(time.perf_counter() - self.last)
            if asked:
                print(json.dumps({"turn": {"trl": self.seconds[-1]}}), flush=True)
            self.last = wait()

    return StepClock()


def settings(arguments: argparse.Namespace, folder: str, batch: int) -> dict:
    """Trainer settings common to both; the optimizer is left to TRL, which takes PyTorch's fused AdamW."""
    return {
        "output_dir": folder, "per_device_train_batch_size": batch, "max_steps": arguments.steps + arguments.warmup,
        "learning_rate": RATE, "lr_scheduler_type": "constant", "adam_beta1": BETAS[0], "adam_beta2": BETAS[1],
        "weight_decay": 0.0, "max_grad_norm": CLIP, "max_length": arguments.length, "use_cpu": True, "bf16": False,
        "gradient_checkpointing": arguments.checkpointing == "on",
        "save_strategy": "no", "report_to": "none", "logging_steps": 1, "disable_tqdm": True,
        "train_sampling_strategy": "sequential",
    }


def sft_trainer(arguments: argparse.Namespace, folder: str):
    from datasets import Dataset
    from transformers import AutoTokenizer
    from trl import SFTConfig, SFTTrainer

    prompt = arguments.length // 2
    mask = [0] * prompt + [1] * (arguments.length - prompt)
    data = Dataset.from_list([{"input_ids": ids, "completion_mask": mask} for ids in rows(arguments)])
    config = SFTConfig(**settings(arguments, folder, arguments.rows), completion_only_loss=True)
    tokenizer = AutoTokenizer.from_pretrained(arguments.model)
    return SFTTrainer(model=model(arguments), args=config, train_dataset=data, processing_class=tokenizer)


def dpo_trainer(arguments: argparse.Namespace, folder: str):
    from datasets import Dataset
    from transformers import AutoTokenizer
    from trl import DPOConfig, DPOTrainer

    class TokenisedDPOTrainer(DPOTrainer):
        """The data are token ids already."""

        def _prepare_dataset(self, dataset, *_):
            return dataset

    prompt, ids = arguments.length // 2, rows(arguments)
    data = Dataset.from_list([{"prompt_ids": chosen[:prompt], "chosen_ids": chosen[prompt:], "rejected_ids": rejected[prompt:]}
                              for chosen, rejected in zip(ids[::2], ids[1::2])])
    config = DPOConfig(**settings(arguments, folder, arguments.rows // 2), beta=BETA, precompute_ref_log_probs=True)
    tokenizer = AutoTokenizer.from_pretrained(arguments.model)
    return TokenisedDPOTrainer(model=model(arguments), args=config, train_dataset=data, processing_class=tokenizer)


# A bare loop


def plain_loop(arguments: argparse.Namespace) -> tuple[list[float], list[float]]:
    import torch

    policy = model(arguments).train()
    if arguments.checkpointing == "on":
        policy.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})
    batches = torch.tensor(rows(arguments)).reshape(-1, arguments.rows, arguments.length)
    loss_of = plain_losses(arguments, policy, batches)
    optimizer = torch.optim.AdamW(policy.parameters(), lr=RATE, betas=BETAS, weight_decay=0.0, fused=True)
    seconds, losses = [], []
    for step, batch in enumerate(batches):
        begun = time.perf_counter()
        loss = loss_of(step, batch)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(policy.parameters(), CLIP)
        optimizer.step()
        optimizer.zero_grad()
        losses.append(loss.item())
        seconds.append(time.perf_counter() - begun)
    return seconds, losses


def plain_losses(arguments: argparse.Namespace, policy, batches):
    """The loss of one step as a function of its number and its batch; DPO's reference log-probs are computed here, untimed."""
    import torch

    prompt = arguments.length // 2
    if arguments.objective == "sft":
        return lambda _, batch: -log_probs(policy, batch, prompt).mean()
    with torch.no_grad():
        references = [log_probs(policy, batch, prompt).sum(1) for batch in batches]

    def dpo(step: int, batch):
        ratio = log_probs(policy, batch, prompt).sum(1) - references[step]
        return -torch.nn.functional.logsigmoid(BETA * (ratio[::2] - ratio[1::2])).mean()

    return dpo


def log_probs(policy, batch, prompt: int):
    """log π of the response tokens; the vocabulary head sees their positions only. [rows, response]"""
    from torch.nn.functional import cross_entropy

    hidden = policy.model(input_ids=batch, use_cache=False).last_hidden_state[:, prompt - 1 : -1]
    targets = batch[:, prompt:]
    logits = policy.lm_head(hidden)  # [rows, response, vocabulary]
    return -cross_entropy(logits.flatten(0, 1), targets.flatten(), reduction="none").view_as(targets)


if __name__ == "__main__":
    main()
