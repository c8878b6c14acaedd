"""What tests/gpu/run makes of records, tried without a card. From this folder: python3 -B -m unittest"""

import importlib.machinery
import importlib.util
import pathlib
import sys
import unittest

# The script's compiled form would stay behind beside it.
sys.dont_write_bytecode = True
LOADER = importlib.machinery.SourceFileLoader("gpu_run", str(pathlib.Path(__file__).with_name("run")))
run = importlib.util.module_from_spec(importlib.util.spec_from_loader(LOADER.name, LOADER))
LOADER.exec_module(run)


def step(**fields) -> dict:
    """A step of ours that meets every bound."""
    return {
        "part": "speed", "target": "cuda", "shape": "7b", "objective": "sft", "rows": 8, "passes": 1, "width": 1024, "tokens_per_second": 9000.0,
        "mfu": 0.45, "penalty_ratio": 1.0, "memory": 75_000_000_000, **fields,
    }


def peer(**fields) -> dict:
    return {"part": "peer-speed", "shape": "7b", "objective": "sft", "rows": 8, "width": 1024, "tokens_per_second": 8000.0, "device": "NVIDIA H100", **fields}


def memory(held: int | None, ratio: float | None) -> dict:
    return {
        "part": "memory", "target": "cuda", "shape": "7b", "weights": "bf16-split", "update": "in-backward", "phase": "dpo-1",
        "predicted": int((held or 1) * (ratio or 1)), "held": held, "ratio": ratio,
    }


def of(*records: dict) -> dict[str, list[dict]]:
    return {"part": list(records)}


def missed(*records: dict) -> tuple[int, int]:
    """How many records miss what is required, and a goal."""
    return tuple(len(run.missed(of(*records), kind)) for kind in ("required", "goal"))


class Joining(unittest.TestCase):
    def against(self, *records: dict) -> list[float | None]:
        return [r["against_peer"] for r in run.speeds(of(*records))]

    def test_the_same_work_is_compared(self) -> None:
        self.assertEqual(self.against(step(), peer()), [1.125])
        self.assertEqual(self.against(step(passes=8), peer(passes=8)), [1.125])

    def test_other_work_is_not(self) -> None:
        for other in ({"passes": 8}, {"rows": 4}, {"width": 512}, {"objective": "dpo"}, {"shape": "13b"}):
            self.assertEqual(self.against(step(**other), peer()), [None], other)

    def test_each_step_finds_its_own(self) -> None:
        peers = [peer(), peer(objective="dpo", tokens_per_second=4500.0)]
        self.assertEqual(self.against(step(), step(passes=8), step(objective="dpo"), *peers), [1.125, None, 2.0])

    def test_what_failed_is_left_out(self) -> None:
        self.assertEqual(run.speeds(of({"part": "speed", "command": "hbat speed", "failed": "no card"})), [])

    def test_the_table_shows_no_ratio_for_other_work(self) -> None:
        row = next(line for line in run.tables(of(step(passes=8), peer())).splitlines() if "| 65536 |" in line)
        self.assertTrue(row.endswith("|  |  |"), row)


class Verdicts(unittest.TestCase):
    def test_what_meets_everything_misses_nothing(self) -> None:
        self.assertEqual(missed(step(), peer(), memory(75_000_000_000, 1.05), memory(500_000_000, 0.9)), (0, 0))

    def test_memory(self) -> None:
        for held, ratio, expected in [(2_000_000_000, 1.051, 1), (2_000_000_000, 0.949, 1), (900_000_000, 1.051, 0), (900_000_000, 1.101, 1), (None, None, 0)]:
            self.assertEqual(missed(memory(held, ratio)), (expected, 0), (held, ratio))

    def test_mfu(self) -> None:
        for fields, expected in [({"mfu": 0.25}, (0, 1)), ({"mfu": 0.249}, (1, 1)), ({"mfu": None}, (0, 0)), ({"mfu": 0.1, "shape": "1.1b"}, (0, 0))]:
            self.assertEqual(missed(step(**fields)), expected, fields)

    def test_the_peer(self) -> None:
        for ours, device, expected in [(8000.0, "NVIDIA H100", (0, 0)), (7999.0, "NVIDIA H100", (0, 1)), (3999.0, "NVIDIA H100", (1, 1)), (1.0, "cpu", (0, 0))]:
            self.assertEqual(missed(step(tokens_per_second=ours), peer(device=device)), expected, (ours, device))

    def test_the_penalty_counts_in_steps_of_several_passes(self) -> None:
        for passes, cost, expected in [(1, 1.2, (0, 0)), (8, 1.03, (0, 0)), (8, 1.031, (0, 1))]:
            self.assertEqual(missed(step(passes=passes, penalty_ratio=cost)), expected, (passes, cost))

    def test_every_bound_has_its_line(self) -> None:
        text = run.tables(of(step(mfu=0.3), step(mfu=0.5)))
        self.assertIn("| speed | MFU of 7b | required | at least 0.25 | 0.3000 to 0.5000 | met |", text)
        self.assertIn("| speed | MFU of 7b | goal | at least 0.4 | 0.3000 to 0.5000 | MISSED by 1 of 2 |", text)
        self.assertIn("| memory | predicted / held, above 1 GB | required | 0.95 to 1.05 |  | not measured |", text)
        self.assertIn("missed: goal: speed cuda 7b sft: MFU of 7b: 0.3000, not at least 0.4", text)
        self.assertNotIn("missed: required", text)


class Numbers(unittest.TestCase):
    def test_what_is_no_number_is_said_and_not_passed(self) -> None:
        bad = {
            "parity": {"how": ["cuda"], "losses": None, "logits": None, "gradients": None, "worst_unit": "norm", "tolerance": 1e-3},
            "update": {"target": "cuda", "kept": "bf16-split", "weights": None, "norms": None},
            "product": {"target": "cuda", "shape": [1, 2, 3], "left": "rows", "right": "rows", "flops": 1e12, "off": None},
            "exact-attention": {"target": "cuda", "heads": [2, 2], "dim": 16, "texts": 1, "width": 8, "of": "bf16", "what": "query", "off": None},
            "attention": {"shape": [1, 2, 8, 16], "single": 1.0, "fused": 1.0, "off": None},
        }
        for part, fields in bad.items():
            self.assertIn("no number", run.tables(of({"part": part, "passed": False, **fields})), part)

    def test_rows_are_pairs(self) -> None:
        self.assertEqual(run.pairs("8"), 8)
        for rows in ("7", "0", "-2", "x"):
            with self.assertRaises(run.argparse.ArgumentTypeError, msg=rows):
                run.pairs(rows)


class Reasons(unittest.TestCase):
    NOTE = "note: run with `RUST_BACKTRACE=1` environment variable to display a backtrace\n"

    def test_of_a_panic_its_message(self) -> None:
        said = f"compiling\n\nthread 'main' (4865) panicked at tests/gpu/shape.rs:81:61:\ndevice cuda:0: no driver;\ninstall it\n{self.NOTE}"
        self.assertEqual(run.reason(said), "device cuda:0: no driver; install it")

    def test_of_several_panics_the_first_comes_first(self) -> None:
        said = f"thread 'server' panicked at a.rs:1:1:\nout of memory\n{self.NOTE}\nthread 'main' panicked at b.rs:2:2:\nRecvError\n"
        self.assertEqual(run.reason(said), "out of memory; RecvError")

    def test_of_an_exception_its_message_without_the_frames(self) -> None:
        said = 'Traceback (most recent call last):\n  File "peer.py", line 1, in <module>\n    x\nRuntimeError: CUDA error: out of memory\nSome advice.\n'
        self.assertEqual(run.reason(f"a warning\n{said}"), "RuntimeError: CUDA error: out of memory Some advice.")

    def test_else_the_last_line(self) -> None:
        self.assertEqual(run.reason("one\nlibcuda.so.1: cannot open\n"), "libcuda.so.1: cannot open")
        self.assertEqual(run.reason(""), "")

    def test_is_not_too_long_and_outlives_what_is_cut_off(self) -> None:
        failure = run.failure("hbat", ["speed", "cuda"], f"thread 'main' panicked at a.rs:1:1:\nkernel: {'x' * 5000}\n{self.NOTE}")
        self.assertTrue(failure["reason"].startswith("kernel: xxx") and len(failure["reason"]) == 300, failure["reason"])
        self.assertIn(f"FAILED: hbat speed cuda: {failure['reason']}\n", run.tables(of(failure)))

    def test_records_of_earlier_scripts_have_none_yet(self) -> None:
        failed = {"part": "parity", "command": "hbat parity cuda", "failed": f"thread 'main' (1) panicked at a.rs:1:1:\nno card\n{self.NOTE}".strip()}
        self.assertIn("FAILED: hbat parity cuda: no card\n", run.tables(of(failed)))


if __name__ == "__main__":
    unittest.main()
