"""Measure every model of the zoo with the command in its file.

    python -m benchmarks.zoo                 everything except the record: 25 minutes on 2 cores
    python -m benchmarks.zoo --only wgan     one model
    python -m benchmarks.zoo --record "what was changed"   the record, three seeds: 35 minutes
    python -m benchmarks.zoo --only none     only write the documents, from stored figures

Each model is trained, inferred and graded on the test split by the commands, as whole processes.
The figures go to zoo/zoo.json, to the line "Expected" in each file, and to zoo/README.md.
"""

from __future__ import annotations

import ast
import re
import statistics
from pathlib import Path
from typing import Any

from benchmarks import figures
from benchmarks.commands import grade_with_diagnostics, make_parser, train_infer_grade
from benchmarks.markdown import put_blocks
from lab import ROOT

FIGURES = ROOT / "zoo" / "zoo.json"
# What each model is, and its scores in the headline row of the original reports.
MODELS = {
    "mlp_ae": ("AE as an MLP", "pictures only"),
    "mlp_vae": ("VAE as an MLP", "pictures only"),
    "mlp_cvae": ("CVAE as MLPs", "pictures only"),
    "conv_vae": ("convolutional VAE", "ssim 0.8504, mse 0.01335"),
    "conv_cvae": ("convolutional CVAE", "ssim 0.8591, mse 0.01253, fid 2.412, raw 29.276"),
    "beta_vae": ("beta-VAE", "pictures only"),
    "wgan": ("WGAN", "pictures only"),
    "wgan_gp": ("WGAN, gradient penalty", "not included"),
    "flow_matching": ("convolutional CVAE, flow matching on its codes", "not included"),
    "record": (
        "CVAE with a convolutional decoder, refined codes, samples by a flow",
        "not included",
    ),
}
SEEDS = (42, 43, 44)  # for a record
DIGITS = {"ssim": 4, "mse": 5, "fid": 3, "fid_pooled": 3, "raw": 3}
RECORD = {**DIGITS, "judge_accuracy": 4, "judge_fid": 3, "diversity": 3, "nearest_train": 3}
KEPT = ("task", *DIGITS, "score", "cap", "latent_dim", "train_s", "total_s")
WORDS = {"fid_pooled": "pooled fid"}


def command_of(name: str) -> list[str]:
    """Return the options of train.py in the docstring of a file of the zoo."""
    source = (ROOT / "zoo" / f"{name}.py").read_text(encoding="utf-8")
    docstring = ast.get_docstring(ast.parse(source)) or ""
    _, _, text = docstring.partition("Command:")
    return text.split("\n\n")[0].split()[2:]


def run(name: str) -> dict[str, Any]:
    """Train, infer and grade by the commands; return scores and seconds."""
    row = train_infer_grade([*command_of(name), "--video"], Path("runs") / f"zoo-{name}")
    return {key: row[key] for key in KEPT}


def run_seed(seed: int) -> dict[str, Any]:
    """Train, infer and grade the record; return scores, measures of the samples and seconds.

    A run of the same code and command, of this machine and day, that is there already is used:
    three seeds take long.
    """
    folder = Path("runs") / f"zoo-record-{seed}"
    words = [*command_of("record"), "--seed", str(seed)]
    code = (ROOT / "zoo" / "record.py").read_text(encoding="utf-8").split('"""', 2)[2]
    kept, made_from = ROOT / folder / "measured.json", [figures.machine(), code, *words]
    if (known := figures.stored(kept)) and known["made_from"] == made_from:
        return known["row"]
    row = train_infer_grade(words, folder)
    row |= grade_with_diagnostics(folder)["diagnostics"]
    figures.write(kept, {"made_from": made_from, "row": row})
    return row


def run_record(change: str) -> dict[str, Any]:
    """Train, infer and grade the record for each seed; return the means and spreads."""
    rows = [run_seed(seed) for seed in SEEDS]
    numbers = (*RECORD, "train_s", "total_s")
    return {
        "change": change,
        "command": " ".join(["python", "train.py", *command_of("record")]),
        "machine": figures.machine(),
        "seeds": SEEDS,
        **{key: rows[0][key] for key in KEPT if key not in numbers},
        **{key: statistics.fmean(row[key] for row in rows) for key in numbers},
        "spread": {key: statistics.stdev(row[key] for row in rows) for key in numbers},
    }


def scores_of(row: dict[str, Any]) -> str:
    """Return the scores of a model in one line."""
    known = {name: row[name] for name in DIGITS if row[name] is not None}
    if row["ssim"] is not None:
        known.pop("fid_pooled", None)
    texts = (f"{WORDS.get(name, name)} {value:.{DIGITS[name]}f}" for name, value in known.items())
    return ", ".join(texts)


def expected(row: dict[str, Any]) -> str:
    """Return the line "Expected" of a file."""
    return f"Expected: {scores_of(row)} (test split; {row['train_s']:.0f} s)\n"


def rows_of(stored: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """Return the figures of each model by name; for the record, those of its last line."""
    record = {"record": stored["records"][-1]} if stored["records"] else {}
    return stored["models"] | record


def write_expectations(stored: dict[str, Any]) -> None:
    """Write the line "Expected" of each file."""
    for name, row in rows_of(stored).items():
        file = ROOT / "zoo" / f"{name}.py"
        text = file.read_text(encoding="utf-8")
        text, count = re.subn(r"^Expected: .*\n", expected(row), text, count=1, flags=re.M)
        assert count == 1, f"{file} has no line that starts with 'Expected: '"
        file.write_text(text, encoding="utf-8")


def render(stored: dict[str, Any]) -> str:
    """Return the block `zoo` of zoo/README.md."""
    lines = [
        "| file | what it is | the reports | the lab, test split | training |",
        "| --- | --- | --- | --- | --- |",
    ]
    for name, (what, theirs) in MODELS.items():
        if row := rows_of(stored).get(name):
            lines.append(
                f"| `{name}.py` | {what} | {theirs} | {scores_of(row)} | {row['train_s']:.0f} s |"
            )
    facts = stored["machine"]
    lines += [
        "",
        f"Each model is trained by the command in its file; {facts['cores']} CPU cores, torch "
        f"{facts['torch']}, {facts['date']}. Written by `python -m benchmarks.zoo`.",
    ]
    return "\n".join(lines) + "\n"


def render_records(stored: dict[str, Any]) -> str:
    """Return the block `records`; its last line has the scores of the present record.py."""
    heads = ["date", *(WORDS.get(name, name).replace("_", " ") for name in RECORD)]
    heads += ["training, s", "change", "command"]
    lines = [f"| {' | '.join(heads)} |", "| --- " * len(heads) + "|"]
    for record in stored["records"]:
        spread = record["spread"]
        digits = {**RECORD, "train_s": 0}
        cells = [f"{record[k]:.{n}f} ± {spread[k]:.{n}f}" for k, n in digits.items()]
        cells = [record["machine"]["date"], *cells, record["change"], f"`{record['command']}`"]
        lines.append(f"| {' | '.join(cells)} |")
    facts, seeds = record["machine"], record["seeds"]
    lines += [
        "",
        f"Mean ± standard deviation over the seeds {', '.join(map(str, seeds))} (n = {len(seeds)}) "
        f"on the test split, 100 samples per label, {facts['cores']} CPU cores, torch "
        f"{facts['torch']}.",
    ]
    return "\n".join(lines) + "\n"


def main() -> None:
    """Measure, store the figures, write the documents."""
    parser = make_parser("benchmarks.zoo", __doc__)
    models = [name for name in MODELS if name != "record"]  # record.py runs several seeds: --record
    parser.add_argument("--only", nargs="+", choices=(*models, "none"), help="only these models")
    parser.add_argument("--record", metavar="CHANGE", help="run record.py; what was changed")
    args = parser.parse_args()
    stored = figures.stored(FIGURES)
    stored = {"models": {}, "records": [], **stored}
    if args.record:
        # Its line is written again when the same change is measured again.
        others = [row for row in stored["records"] if row["change"] != args.record]
        stored["records"] = [*others, run_record(args.record)]
    else:
        for name in models:
            if args.only is None or name in args.only:
                stored["models"][name] = run(name)
                stored["machine"] = figures.machine()
                figures.write(FIGURES, stored)
    figures.write(FIGURES, stored)
    write_expectations(stored)
    put_blocks(ROOT / "zoo" / "README.md", {"zoo": render(stored)})
    if stored["records"]:
        put_blocks(ROOT / "zoo" / "README.md", {"records": render_records(stored)})


if __name__ == "__main__":
    main()
