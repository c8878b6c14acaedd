#!/usr/bin/env python3
"""Adds up what tests/gpu/kernel_times.c wrote down: which kernels a card's time goes into, and how long it waits.

    python3 tests/gpu/kernel_times.py kernels.tsv [--last SECONDS] [--top N]
"""

import argparse
import collections
import pathlib
import re


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("file", type=pathlib.Path)
    parser.add_argument("--last", type=float, help="seconds before the last kernel's end that count (all)")
    parser.add_argument("--top", type=int, default=40)
    arguments = parser.parse_args()
    ran = recorded(arguments.file)
    end = max(start + took for start, took, _, _ in ran)
    since = end - arguments.last * 1e9 if arguments.last else 0
    ran = sorted(record for record in ran if record[0] >= since)
    wall, busy = end - ran[0][0], covered(ran)
    print(f"{wall / 1e6:.1f} ms, {len(ran)} kernels and copies, {busy / 1e6:.1f} ms with at least one under way ({busy / wall:.1%})\n")
    print("| | times | ms | of the time | µs each | GB/s |\n|---|---|---|---|---|---|")
    totals = collections.defaultdict(lambda: [0, 0, 0])
    for _, took, size, name in ran:
        total = totals[kind(name)]
        total[0] += 1
        total[1] += took
        total[2] += size
    for name, (count, took, size) in sorted(totals.items(), key=lambda item: -item[1][1])[: arguments.top]:
        rate = f"{size / took:.1f}" if size and took else ""
        print(f"| {name} | {count} | {took / 1e6:.2f} | {took / wall:.1%} | {took / count / 1e3:.1f} | {rate} |")


def recorded(file: pathlib.Path) -> list[tuple[int, int, int, str]]:
    lines = (line.rstrip("\n").split("\t", 3) for line in file.open())
    return [(int(start), int(took), int(size), name) for start, took, size, name in lines]


def covered(ran: list[tuple[int, int, int, str]]) -> int:
    """Nanoseconds in which anything ran; `ran` is in order."""
    total, until = 0, 0
    for start, took, _, _ in ran:
        total += max(0, start + took - max(start, until))
        until = max(until, start + took)
    return total


def kind(name: str) -> str:
    """A kernel's name without what tells its instances apart."""
    return re.sub(r"[<(].*", "", name)[:90]


main()
