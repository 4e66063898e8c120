"""Scores of every model of the zoo: each by the command that its own file opens with.

    python -m benchmarks.zoo                 all but the record: 25 minutes on 2 cores
    python -m benchmarks.zoo --only wgan     one
    python -m benchmarks.zoo --record "what was changed"     the record, three seeds: 25 minutes
    python -m benchmarks.zoo --only none     only write the documents again

Each is trained, inferred and graded on the test split by the commands, as whole processes. The
figures go to zoo/zoo.json, from there into the line "Expected" of each file and zoo/README.md.
"""

from __future__ import annotations

import argparse
import ast
import json
import re
import statistics
import sys
from pathlib import Path

from benchmarks.commands import ROOT, machine, timed, train_infer_grade
from benchmarks.markdown import put_blocks

FIGURES = ROOT / "zoo" / "zoo.json"
# In the order of spec 6, with what the reports that the lab grew from had for each.
MODELS = {
    "mlp_ae": ("AE as an MLP", "pictures only"),
    "mlp_vae": ("VAE as an MLP", "pictures only"),
    "mlp_cvae": ("CVAE as MLPs", "pictures only"),
    "conv_vae": ("convolutional VAE", "ssim 0.8504, mse 0.01335"),
    "conv_cvae": ("convolutional CVAE", "ssim 0.8591, mse 0.01253, fid 2.412, raw 29.276"),
    "beta_vae": ("beta-VAE", "pictures only"),
    "wgan": ("WGAN", "pictures only"),
    "wgan_gp": ("WGAN, gradient penalty", "not there"),
    "record": ("convolutional CVAE with a flow", "not there"),
}
SEEDS = (42, 43, 44)  # of a record
DIGITS = {"ssim": 4, "mse": 5, "fid": 3, "fid_pooled": 3, "raw": 3}
RECORD = {**DIGITS, "judge_accuracy": 4, "judge_fid": 3, "diversity": 3, "nearest_train": 3}
KEPT = ("task", *DIGITS, "score", "cap", "latent_dim", "train_s", "total_s")
WORDS = {"fid_pooled": "pooled fid"}


def command_of(name: str) -> list[str]:
    """Return the options of train.py that a file's docstring gives."""
    source = (ROOT / "zoo" / f"{name}.py").read_text(encoding="utf-8")
    text = ast.get_docstring(ast.parse(source)).split("Command:")[1].split("\n\n")[0]
    return text.split()[2:]


def run(name: str) -> dict:
    """Train, infer and grade by the commands; return scores and seconds."""
    row = train_infer_grade([*command_of(name), "--video"], Path("runs") / f"zoo-{name}")
    return {key: row[key] for key in KEPT}


def run_record(change: str) -> dict:
    """Train, infer and grade the record for each seed; return means, and spreads of its scores."""
    rows = []
    for seed in SEEDS:
        folder = Path("runs") / f"zoo-record-{seed}"
        row = train_infer_grade([*command_of("record"), "--seed", seed], folder)
        result = ROOT / folder / "diagnostics.json"
        words = ["grade.py", "--test_data_path", "dataset/test", "--no-VAEwolabel", "--diagnostics"]
        words += ["--Genwithlabel_output_dir", folder / "inference", "--output", result]
        timed(sys.executable, *words)
        seen = json.loads(result.read_text(encoding="utf-8"))["Genwithlabel"]["diagnostics"]
        rows.append(row | seen)
    numbers = (*RECORD, "train_s", "total_s")
    return {
        "change": change,
        "command": " ".join(["python", "train.py", *command_of("record")]),
        "machine": machine(),
        "seeds": SEEDS,
        **{key: rows[0][key] for key in KEPT if key not in numbers},
        **{key: statistics.fmean(row[key] for row in rows) for key in numbers},
        "spread": {key: statistics.stdev(row[key] for row in rows) for key in numbers},
    }


def in_words(row: dict) -> str:
    """Return the scores of a model in a line."""
    known = [(score, row[score]) for score in DIGITS if row[score] is not None]
    if row["ssim"] is not None:
        known = [(score, value) for score, value in known if score != "fid_pooled"]
    return ", ".join(f"{WORDS.get(name, name)} {value:.{DIGITS[name]}f}" for name, value in known)


def expected(row: dict) -> str:
    """Return the line of a file that says what to expect."""
    return f"Expected: {in_words(row)} (test split; {row['train_s']:.0f} s)\n"


def rows_of(figures: dict) -> dict[str, dict]:
    """Return the figures of each model by name; the record's are those of its last line."""
    record = {"record": figures["records"][-1]} if figures["records"] else {}
    return figures["models"] | record


def write_expectations(figures: dict) -> None:
    """Put what was measured into each file's docstring."""
    for name, row in rows_of(figures).items():
        file = ROOT / "zoo" / f"{name}.py"
        text = file.read_text(encoding="utf-8")
        text, count = re.subn(r"^Expected: .*\n", expected(row), text, count=1, flags=re.M)
        assert count == 1, file
        file.write_text(text, encoding="utf-8")


def render(figures: dict) -> str:
    """Return the table of zoo/README.md."""
    lines = [
        "| file | what it is | the reports' best | here, test split | training |",
        "| --- | --- | --- | --- | --- |",
    ]
    for name, (what, theirs) in MODELS.items():
        if row := rows_of(figures).get(name):
            lines.append(
                f"| `{name}.py` | {what} | {theirs} | {in_words(row)} | {row['train_s']:.0f} s |"
            )
    facts = figures["machine"]
    lines += [
        "",
        f"Each by the command in its own file, {facts['cores']} CPU cores, torch "
        f"{facts['torch']}, {facts['date']}; written by `python -m benchmarks.zoo`.",
    ]
    return "\n".join(lines) + "\n"


def render_records(figures: dict) -> str:
    """Return the table of records: the last line is what record.py now gives."""
    heads = ["date", *(WORDS.get(name, name).replace("_", " ") for name in RECORD)]
    heads += ["training, s", "change", "command"]
    lines = [f"| {' | '.join(heads)} |", "| --- " * len(heads) + "|"]
    for record in figures["records"]:
        spread = record["spread"]
        digits = {**RECORD, "train_s": 0}
        cells = [f"{record[k]:.{n}f} ± {spread[k]:.{n}f}" for k, n in digits.items()]
        cells = [record["machine"]["date"], *cells, record["change"], f"`{record['command']}`"]
        lines.append(f"| {' | '.join(cells)} |")
    facts, seeds = figures["records"][-1]["machine"], figures["records"][-1]["seeds"]
    lines += [
        "",
        f"Mean ± standard deviation over the seeds {', '.join(map(str, seeds))} (n = {len(seeds)}) "
        f"on the test split, 100 samples a label, {facts['cores']} CPU cores, torch "
        f"{facts['torch']}.",
    ]
    return "\n".join(lines) + "\n"


def main() -> None:
    """Measure what is asked for, store the figures, write the documents."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--only", nargs="+", choices=(*MODELS, "none"), help="only these")
    parser.add_argument("--record", metavar="CHANGE", help="run record.py; say what was changed")
    args = parser.parse_args()
    figures = json.loads(FIGURES.read_text(encoding="utf-8")) if FIGURES.exists() else {}
    figures = {"models": {}, "records": [], **figures}
    if args.record:
        figures["records"].append(run_record(args.record))
        args.only = ["none"]
    for name in MODELS:
        if name == "record":
            continue  # it has seeds, so --record
        if args.only is None or name in args.only:
            figures["models"][name] = run(name)
            figures["machine"] = machine()
            FIGURES.write_text(json.dumps(figures, indent=2) + "\n", encoding="utf-8")
    FIGURES.write_text(json.dumps(figures, indent=2) + "\n", encoding="utf-8")
    write_expectations(figures)
    blocks = {"zoo": render(figures)}
    if figures["records"]:
        blocks["records"] = render_records(figures)
    put_blocks(ROOT / "zoo" / "README.md", blocks)


if __name__ == "__main__":
    main()
