#!/usr/bin/env python3
"""Makes the tests' data sets: real demonstrations and GPT-4-judged preferences on AlpacaFarm's evaluation instructions.

Everything comes from the AlpacaEval repository (Apache-2.0): eight models' answers beside text-davinci-003's, each pair judged by
GPT-4. Demonstrations are the answers of one of them; preferences are all pairs but ties and pairs with an empty answer. Which
instructions are for training, validation and test, and in which order, stands as indices in alpaca_eval.json.

Usage: alpaca_eval.py OUT_DIR [SOURCE]      needs: pyarrow
SOURCE is a checkout of AlpacaEval or the address of one; GitHub if it is left out.
"""
import json
import pathlib
import sys
import urllib.error
import urllib.request

import pyarrow
import pyarrow.parquet

GITHUB = "https://raw.githubusercontent.com/tatsu-lab/alpaca_eval"
INDEX = json.loads(pathlib.Path(__file__).with_suffix(".json").read_text())


def main():
    if len(sys.argv) not in (2, 3):
        sys.exit(__doc__)
    out, source = pathlib.Path(sys.argv[1]), sys.argv[2] if len(sys.argv) == 3 else f"{GITHUB}/{INDEX['commit']}"
    out.mkdir(parents=True, exist_ok=True)
    demonstrated = judged(source, INDEX["demonstrated"])
    instructions = [row["instruction"] for row in demonstrated]
    by_instruction = [{row["instruction"]: row for row in judged(source, name)} for name in INDEX["judged"]]
    for split, indices in INDEX["splits"].items():
        write_demonstrations(out, split, [demonstrated[index] for index in indices["demonstrations"]])
        pairs = (divmod(index, len(instructions)) for index in indices["preferences"])
        write_preferences(out, split, [by_instruction[model][instructions[row]] for model, row in pairs])


def judged(source, model):
    """A model's answers (`output_2`) beside text-davinci-003's (`output_1`), and GPT-4's preference."""
    path = f"{source}/results/{model}/alpaca_eval_gpt4/annotations.json"
    try:
        if pathlib.Path(path).is_file():
            return json.loads(pathlib.Path(path).read_text(encoding="utf-8"))
        with urllib.request.urlopen(path, timeout=60) as reply:
            return json.load(reply)
    except (urllib.error.URLError, ValueError) as error:
        sys.exit(f"{path}: {error}")


def write_demonstrations(out, split, rows):
    records = [{"instruction": row["instruction"], "input": "", "output": row["output_2"]} for row in rows]
    write_json(out / f"alpaca.{split}.json", records)
    chats = [{"prompt": chat("user", r["instruction"]), "completion": chat("assistant", r["output"])} for r in records]
    write_chats(out / f"demonstrations.{split}", chats)


def write_preferences(out, split, rows):
    of_both = ("output_1", "output_2")
    records = [{"instruction": row["instruction"], "input": "", **{key: row[key] for key in of_both},
                "preference": int(row["preference"])} for row in rows]
    write_json(out / f"alpaca_farm_preference.{split}.json", records)
    chats = []
    for record in records:
        chosen, rejected = of_both if record["preference"] == 1 else of_both[::-1]
        chats.append({"prompt": chat("user", record["instruction"]), "chosen": chat("assistant", record[chosen]),
                      "rejected": chat("assistant", record[rejected])})
    write_chats(out / f"preferences.{split}", chats)


def chat(role, content):
    return [{"role": role, "content": content}]


def write_json(path, records):
    path.write_text(json.dumps(records, indent=1, ensure_ascii=False), encoding="utf-8")


def write_chats(path, chats):
    """As JSONL and as Parquet."""
    lines = (json.dumps(record, ensure_ascii=False) + "\n" for record in chats)
    path.with_name(path.name + ".jsonl").write_text("".join(lines), encoding="utf-8")
    pyarrow.parquet.write_table(pyarrow.Table.from_pylist(chats), path.with_name(path.name + ".parquet"))


if __name__ == "__main__":
    main()
