"""Scores of every model of the zoo: each by the command that its own file opens with.

    python benchmarks/zoo.py                 all of them: 25 minutes on 2 cores
    python benchmarks/zoo.py --only wgan     one
    python benchmarks/zoo.py --only none     only write the documents again

Each is trained, inferred and graded on the test split by the commands, as whole processes. The
figures go to zoo/zoo.json, from there into the line "Expected" of each file and zoo/README.md.
"""

from __future__ import annotations

import argparse
import ast
import json
import os
import re
import subprocess
import sys
import time
from importlib.metadata import version
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from benchmarks.markdown import put_blocks  # noqa: E402

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
DIGITS = {"ssim": 4, "mse": 5, "fid": 3, "fid_pooled": 3, "raw": 3}
WORDS = {"fid_pooled": "pooled fid"}


def command_of(name: str) -> list[str]:
    """Return the options of train.py that a file's docstring gives."""
    source = (ROOT / "zoo" / f"{name}.py").read_text(encoding="utf-8")
    text = ast.get_docstring(ast.parse(source)).split("Command:")[1].split("\n\n")[0]
    return text.split()[2:]


def run(name: str) -> dict:
    """Train, infer and grade by the commands; return scores and seconds."""
    folder = Path("runs") / f"zoo-{name}"
    options = command_of(name)
    task = options[options.index("--task") + 1] if "--task" in options else "VAEwolabel"
    (other,) = {"VAEwolabel", "Genwithlabel"} - {task}
    result = ROOT / folder / "grade.json"
    commands = [
        ["train.py", *options, "--save_dir", folder, "--overwrite", "--video"],
        ["inference.py", "--checkpoint_path", folder / "best.pth", "--data_path", "dataset/test"],
        ["grade.py", "--test_data_path", "dataset/test", "--output", result, f"--no-{other}"]
        + [f"--{task}_output_dir", folder / "inference"],
    ]
    seconds = []
    for words in commands:
        started = time.perf_counter()
        subprocess.run([sys.executable, *map(str, words)], cwd=ROOT, check=True)
        seconds.append(time.perf_counter() - started)
    scores = json.loads(result.read_text(encoding="utf-8"))[task]
    scores = {score: scores[score] for score in (*DIGITS, "score", "cap", "latent_dim")}
    return {"task": task, **scores, "train_s": seconds[0], "total_s": sum(seconds)}


def in_words(row: dict) -> str:
    """Return the scores of a model in a line."""
    known = [(score, row[score]) for score in DIGITS if row[score] is not None]
    if row["ssim"] is not None:
        known = [(score, value) for score, value in known if score != "fid_pooled"]
    return ", ".join(f"{WORDS.get(name, name)} {value:.{DIGITS[name]}f}" for name, value in known)


def expected(row: dict) -> str:
    """Return the line of a file that says what to expect."""
    return f"Expected: {in_words(row)} (test split; {row['train_s']:.0f} s)\n"


def write_expectations(figures: dict) -> None:
    """Put what was measured into each file's docstring."""
    for name, row in figures["models"].items():
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
        if row := figures["models"].get(name):
            lines.append(
                f"| `{name}.py` | {what} | {theirs} | {in_words(row)} | {row['train_s']:.0f} s |"
            )
    machine = figures["machine"]
    lines += [
        "",
        f"Each by the command in its own file, {machine['cores']} CPU cores, torch "
        f"{machine['torch']}, {machine['date']}; written by `python benchmarks/zoo.py`.",
    ]
    return "\n".join(lines) + "\n"


def main() -> None:
    """Measure what is asked for, store the figures, write the documents."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--only", nargs="+", choices=(*MODELS, "none"), help="only these")
    args = parser.parse_args()
    figures = json.loads(FIGURES.read_text(encoding="utf-8")) if FIGURES.exists() else {}
    figures.setdefault("models", {})
    for name in MODELS:
        if args.only is None or name in args.only:
            figures["models"][name] = run(name)
            machine = {"cores": os.cpu_count(), "torch": version("torch")}
            figures["machine"] = {**machine, "date": time.strftime("%Y-%m-%d")}
            FIGURES.write_text(json.dumps(figures, indent=2) + "\n", encoding="utf-8")
    write_expectations(figures)
    put_blocks(ROOT / "zoo" / "README.md", {"zoo": render(figures)})


if __name__ == "__main__":
    main()
