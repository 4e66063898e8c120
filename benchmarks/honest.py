"""Grade honest models with everything that raises flags: no flag may be raised for them.

    python -m benchmarks.honest                 train briefly, grade, write; 10 minutes on 2 cores
    python -m benchmarks.honest --only none     only write docs/security.md, from stored figures
    python -m benchmarks.honest --keep FOLDER   keep the models in a folder; use those in it

Every model of the zoo, the course's own models and a fixture of the tests are trained for a few
epochs, handed in, and graded by `python -m staff.grade_class` on the test split and on a private
split of 2000 images. Stored are the values that flags depend on, and the flags. One model ignores
the label, and the flag that says so is right.

Real digits show what no model can be blamed for: test images, compared with all other images as if
they were samples.
"""

from __future__ import annotations

import json
import statistics
import sys
import tempfile
import time
from contextlib import ExitStack
from pathlib import Path
from shutil import copyfile
from typing import Any

import numpy as np

from benchmarks import figures
from benchmarks.commands import make_parser, timed
from benchmarks.markdown import put_blocks
from data_utils import NUM_CLASSES, MNISTDataset
from lab import ROOT
from lab.metrics import compression_bonus
from staff import flags, idx
from staff.class_split import IMAGES
from staff.copies import known_images, nearest

FIGURES = ROOT / "benchmarks" / "honest.json"
VAE, GEN = "VAEwolabel", "Genwithlabel"
COMMON = "--batch_size 256 --lr 3e-3"
FEWER = "--train_data FEWER"  # the first 10 000 training images; convolutions take long
# Name, file, task, further options of train.py.
MODELS = (
    ("model", "model.py", VAE, "--epochs 2 --var 0.05"),
    ("model, 1 dimension", "model.py", VAE, "--epochs 3 --var 0.05 --latent_dim 1"),
    ("model, 2 dimensions", "model.py", VAE, "--epochs 3 --var 0.02 --latent_dim 2"),
    ("mlp_ae", "zoo/mlp_ae.py", VAE, "--epochs 2"),
    ("mlp_vae", "zoo/mlp_vae.py", VAE, "--epochs 2 --var 0.05"),
    ("submission", "submission.py", VAE, "--epochs 1 --var 0.02"),
    ("conv_vae", "zoo/conv_vae.py", VAE, f"--epochs 2 --var 0.05 {FEWER}"),
    ("beta_vae", "zoo/beta_vae.py", VAE, f"--epochs 2 {FEWER}"),
    ("convolutional", "tests/submissions/convolutional.py", VAE, f"--epochs 2 --var 0.05 {FEWER}"),
    ("model", "model.py", GEN, "--epochs 3 --var 0.5"),
    ("model, 8 dimensions", "model.py", GEN, "--epochs 3 --var 0.5 --latent_dim 8"),
    ("model, var 0.02", "model.py", GEN, "--epochs 3 --var 0.02"),
    ("mlp_cvae", "zoo/mlp_cvae.py", GEN, "--epochs 2 --var 0.05"),
    ("conv_cvae", "zoo/conv_cvae.py", GEN, f"--epochs 2 --var 0.05 {FEWER}"),
    ("flow_matching", "zoo/flow_matching.py", GEN, f"--epochs 4 --var 0.02 {FEWER}"),
    # Its own rate of 3e-3 needs a longer warm-up than so few images give; training would collapse.
    (
        "record",
        "zoo/record.py",
        GEN,
        f"--epochs 6 --batch_size 64 --lr 1e-3 --var 0.01 --variant flow_epochs=4 {FEWER}",
    ),
    ("wgan_gp", "zoo/wgan_gp.py", GEN, f"--epochs 20 --lr 5e-4 {FEWER}"),
    ("wgan", "zoo/wgan.py", GEN, f"--epochs 6 --lr 5e-4 {FEWER}"),
)
WITHOUT_LABEL = {"wgan"}  # it does not use the label, which a flag rightly says
REAL = 1000  # real digits, compared as if they were samples


def key_of(name: str, task: str) -> str:
    """Return the name of a model's folder."""
    return f"{name}-{task}".replace(", ", "-").replace(" ", "-")


def train(folder: Path) -> None:
    """Train the models that are not in the folder yet."""
    fewer, whole = folder / "fewer", MNISTDataset(ROOT / "dataset" / "train")
    fewer.mkdir(parents=True, exist_ok=True)
    for name, content in idx.split_files(whole.images[:10_000], whole.labels[:10_000]).items():
        (fewer / name).write_bytes(content)
    for name, file, task, options in MODELS:
        run = folder / key_of(name, task)
        if (run / "best.pth").is_file():
            continue
        own = options.replace("FEWER", str(fewer))
        words = ["--task", task, "--submission", file, *COMMON.split(), *own.split()]
        timed(sys.executable, "train.py", *words, "--save_dir", run, "--overwrite", quiet=True)


def grade(folder: Path) -> dict[str, dict[str, Any]]:
    """Hand the models in and grade them; return what flags depend on, by the model's folder."""
    handed_in, out = folder / "handed_in", folder / "graded"
    for name, file, task, _ in MODELS:
        own = handed_in / key_of(name, task)
        own.mkdir(parents=True, exist_ok=True)
        copyfile(ROOT / file, own / "submission.py")
        copyfile(folder / key_of(name, task) / "best.pth", own / f"{task}.pth")
    timed(sys.executable, "-m", "staff.grade_class", handed_in, "--out", out)
    found = {}
    for name, _, task, options in MODELS:
        key = key_of(name, task)
        result = figures.read(out / "students" / key / "result.json")
        one = result["tasks"][task]
        kept = ("status", "flags", "measured", "ssim", "mse", "fid")
        found[key] = {"name": name, "task": task, "options": options}
        found[key] |= {entry: one.get(entry) for entry in kept}
    return found


def real_digits() -> dict[str, float]:
    """Return the share of test images that look like copies of another real image."""
    splits = {name: MNISTDataset(ROOT / "dataset" / name) for name in ("train", "valid", "test")}
    known = known_images({name: split.images for name, split in splits.items()})
    chosen = np.random.default_rng(0).permutation(len(splits["test"]))[:REAL]
    before = len(splits["train"]) + len(splits["valid"])
    started = time.process_time()
    ratio, _ = nearest(splits["test"].images[chosen], known, (before + chosen).tolist())
    seconds = (time.process_time() - started) * NUM_CLASSES * flags.COMPARED / REAL
    copies = float((ratio < flags.SAME).mean())
    return {"count": REAL, "copies": copies, "seconds_per_submission": seconds}


def false_flags(stored: dict[str, Any]) -> list[str]:
    """Return the models that have a flag, without those whose flag is right."""
    return [
        key
        for key, one in stored["models"].items()
        if one["status"] != "graded"
        and not (one["name"] in WITHOUT_LABEL and all("label" in flag for flag in one["flags"]))
    ]


# ---------------------------------------------------------------- the document

COLUMNS = (  # heading, group and name of the value, digits, bound
    ("copies", "samples", "copies", 3, f"> {flags.COPIES}"),
    ("spread", "samples", "spread", 2, f"< {flags.ALIKE}"),
    ("label effect", "samples", "label_effect", 3, f"< {flags.LABEL_EFFECT}"),
    ("equal codes", "probes", "equal", 3, f"> {flags.UNEQUAL}"),
    ("changed codes", "probes", "changed", 3, f"> {flags.JUMP}"),
    ("still", "probes", "still", 2, f"> {flags.STILL}"),
    ("ssim gap", "gap", "ssim", 4, f"> {flags.GAP['ssim']}"),
    ("mse gap", "gap", "mse", 4, f"> {flags.GAP['mse']}"),
)


def render(stored: dict[str, Any]) -> str:
    """Return the block `honest` of docs/security.md."""
    heads = ["model", "task", *(column[0] for column in COLUMNS), "flags"]
    lines = [f"| {' | '.join(heads)} |", "| --- " * len(heads) + "|"]
    bounds = ["flagged if", "", *(column[4] for column in COLUMNS), ""]
    lines.append(f"| {' | '.join(bounds)} |")
    for one in stored["models"].values():
        cells = [one["name"], one["task"]]
        for _, group, name, digits, _ in COLUMNS:
            value = one["measured"].get(group, {}).get(name)
            cells.append("-" if value is None else f"{value:.{digits}f}")
        raised = "; ".join(one["flags"]) or "none"
        lines.append(f"| {' | '.join([*cells, raised])} |")
    return "\n".join([*lines, "", *_words(stored)]) + "\n"


def _words(stored: dict[str, Any]) -> list[str]:
    """Return the sentences below the table."""
    facts, real, models = stored["machine"], stored["real"], stored["models"].values()
    gaps = [one["measured"]["gap"] for one in models if "gap" in one["measured"]]
    wrong, count = len(false_flags(stored)), len(stored["models"])
    ssims, mses = ([gap[name] for gap in gaps] for name in ("ssim", "mse"))
    # From the most negative honest gap to the bound, by the points of the assignment.
    bounds = {name: max(flags.gap_bound(name, gap) for gap in gaps) for name in flags.GAP}
    gain = 5 * (bounds["ssim"] - min(ssims)) + 50 * (bounds["mse"] - min(mses))
    most = gain * compression_bonus(1)
    above = sum(bool(flags.of_gap(gap)) for gap in gaps)
    rate = 100 * 3 / len(gaps)  # the rule of three, for none of n
    confidence = "" if above else f", so with 95 % confidence fewer than {rate:.0f} % of such are"
    (right,) = WITHOUT_LABEL
    return [
        f"{count} honest models, trained briefly: {wrong} false flags. `{right}` "
        "does not use the label, and its flag says so. Of "
        f"{real['count']} real test images, {100 * real['copies']:.1f} % look like copies of "
        "another real image; a submission is flagged above "
        f"{100 * flags.COPIES:.0f} %. The comparison of a submission's samples takes "
        f"{real['seconds_per_submission']:.1f} s of one core.",
        "",
        f"The gaps of {len(gaps)} models between the test split and a private split of "
        f"{IMAGES} images: ssim {statistics.mean(ssims):.4f} ± {statistics.stdev(ssims):.4f}, at "
        f"most {max(ssims):.4f}; mse {statistics.mean(mses):.4f} ± {statistics.stdev(mses):.4f}, "
        f"at most {max(mses):.4f}. {above} of them are above a bound{confidence}; to each bound, "
        f"{flags.ERRORS} standard errors are added. A model that "
        "memorises test images and stays below both bounds gains at most "
        f"{most:.2f} of the 10 points of {VAE}, and {2 * most:.2f} of the 30 points of {GEN}.",
        "",
        f"Measured by `python -m benchmarks.honest` on {facts['cores']} CPU cores with torch "
        f"{facts['torch']}, {facts['date']}{_other_date(stored)}.",
    ]


def _other_date(stored: dict[str, Any]) -> str:
    """Return when the label effects were measured, if that was later than the other values."""
    date = stored.get("label_effects_measured")
    return f"; the label effects {date}, with the same options" if date else ""


def main() -> None:
    """Train, grade, store the figures, write the block; exit with 1 if a false flag was raised."""
    parser = make_parser("benchmarks.honest", __doc__)
    parser.add_argument("--only", choices=("none",), help="measure nothing, write the document")
    parser.add_argument("--keep", type=Path, help="folder for the models; those in it are used")
    args = parser.parse_args()
    if args.only != "none":
        with ExitStack() as stack:
            folder = args.keep or Path(stack.enter_context(tempfile.TemporaryDirectory()))
            train(folder.resolve())
            models = grade(folder.resolve())
        stored = {"models": models, "real": real_digits(), "machine": figures.machine()}
        figures.write(FIGURES, stored)
    stored = figures.read(FIGURES)
    put_blocks(ROOT / "docs" / "security.md", {"honest": render(stored)})
    print(json.dumps(stored, indent=2))
    sys.exit(1 if false_flags(stored) else 0)


if __name__ == "__main__":
    main()
