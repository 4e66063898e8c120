"""Train the runs of the course's texts, measure them, draw docs/course/ and write the blocks.

    python -m benchmarks.course                    everything: 10 minutes on 2 cores
    python -m benchmarks.course --only explosion   one part
    python -m benchmarks.course --only none        only write the documents, from stored figures
    python -m benchmarks.course --runs runs/course keep the runs there, and use those that are there

All runs are of model.py, which every student has, and are scored on dataset/valid, which every
student has too, so that each figure can be had again with the command beside it.
"""

from __future__ import annotations

import csv
import re
import statistics
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch

from benchmarks import course_page, figures
from benchmarks import course_pictures as pictures
from benchmarks.commands import make_parser, timed, train_infer_grade
from benchmarks.course_page import FIGURES
from benchmarks.markdown import put_blocks
from data_utils import NUM_CLASSES, MNISTDataset, to_float, to_uint8
from lab import ROOT, checkpoint
from lab.checkpoint import write_whole
from lab.metrics import score_task
from lab.split_model import Submission
from lab.stages import encode_images

PICTURES = ROOT / "docs" / "course"
DATA = "dataset/valid"
RECIPE = "--submission model.py --epochs 10 --batch_size 256"

VARIANCES = ("20", "1", "0.25", "0.05", "0.005")  # of the VAE
HEALTHY, PARTLY, COLLAPSED = "0.05", "1", "20"
ACTIVE = 0.1  # nats of KL that a dimension has at least if it carries something

SWEPT, SEEDS = ("1", "0.25", "0.1", "0.02"), ("42", "43", "44")  # of the CVAE
ABLATION = f"{RECIPE} --task Genwithlabel --var {' '.join(SWEPT)} --seed {' '.join(SEEDS)}"
SHARP, SMOOTH = "0.02", "0.25"
DIGIT = 1  # whose codes are drawn
PER_LABEL = 100  # samples, as in grade.py

SIDE = 3.0  # half the side of the latent plane
STEPS = 18  # images along it
SHOWN = 6000  # codes in a picture

RATES = ("0.1", "0.005")  # the first explodes
EXPLODING = "--submission model.py --epochs 4 --batch_size 512 --var 0.05"
WATCHED = "--pred_step 2 --eval_num 200"  # a row of history every second step


# ---------------------------------------------------------------- runs


class Runs:
    """Trains what is asked for, once. folder: of the runs; those that are in it are used."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.data = MNISTDataset(ROOT / DATA)

    def trained(self, name: str, options: str) -> tuple[Path, dict[str, Any]]:
        """Return the folder and the scores of a run that was trained, inferred and graded."""
        folder = self.folder / name
        result = folder / "grade.json"
        if not result.is_file():
            print(f"training {name}: {options}", flush=True)
            train_infer_grade(options.split(), folder, DATA, quiet=True)
        (scores,) = figures.read(result).values()
        return folder, scores

    def vae(self, var: str) -> tuple[Path, dict[str, Any]]:
        """Return the folder and the scores of the VAE at a value of var."""
        return self.trained(f"vae-{var}", f"{RECIPE} --var {var}")

    def swept(self) -> tuple[Path, list[dict[str, str]]]:
        """Return the folder and the trials of the ablation, a sweep."""
        folder = self.folder / "ablation"
        print(f"sweeping: {ABLATION}", flush=True)
        timed(sys.executable, "sweep.py", *ABLATION.split(), "--save_dir", folder, quiet=True)
        with open(folder / "results.csv", encoding="utf-8", newline="") as file:
            return folder, list(csv.DictReader(file))

    def cvae(self, var: str) -> Path:
        """Return the folder of the trial of the ablation with this var and the first seed."""
        folder, rows = self.swept()
        (row,) = (
            row for row in rows if row["seed"] == SEEDS[0] and float(row["var"]) == float(var)
        )
        return folder / "trials" / row["trial"]


def model_of(run: Path) -> Submission:
    """Return the trained model of a run, in evaluation mode."""
    state = checkpoint.load(run / "best.pth")
    submission = Submission(run / "submission.py", state["task"], state["latent_dim"])
    submission.load_weights(state, run)
    submission.model.eval()
    return submission


def array(run: Path, name: str) -> np.ndarray:
    """Return an array that inference wrote."""
    return np.load(run / "inference" / f"{name}.npy", allow_pickle=False)


@torch.no_grad()
def kl_of_dimensions(run: Path, data: MNISTDataset) -> np.ndarray:
    """Return the mean KL of each latent dimension in nats, (latent_dim,).

    KL(N(mu, sigma^2) || N(0, 1)), Kingma and Welling 2014, appendix B.
    """
    submission = model_of(run)
    labels = submission.visible(torch.from_numpy(data.labels))
    encode: Callable[..., Any] = getattr(submission.model, "encode")  # noqa: B009  not a Tensor
    mu, log_var = encode(to_float(torch.from_numpy(data.images)), labels)  # (N, latent_dim)
    kl = 0.5 * (mu.square() + log_var.exp() - 1 - log_var)  # (N, latent_dim)
    return kl.mean(dim=0).numpy()


def draw(name: str, how: Callable[..., None], *arguments: Any) -> None:
    """Draw a picture of docs/course with a function of benchmarks/course_pictures.py."""
    with write_whole(PICTURES / name) as file:
        how(file, *arguments)


# ---------------------------------------------------------------- the parts


def model(runs: Runs) -> dict[str, Any]:
    """Draw the model as a graph."""
    run, _ = runs.vae(HEALTHY)
    draw("model.png", pictures.model_graph, runs.data.images[0], array(run, "recon")[0])
    return {}


def var(runs: Runs) -> dict[str, Any]:
    """Train the VAE at five values of var: reconstructions, samples, the KL of each dimension."""
    rows, shown, kls = [], {}, {}
    for value in VARIANCES:
        run, scores = runs.vae(value)
        kl = kl_of_dimensions(run, runs.data)
        samples = array(run, "samples").reshape(-1, 28, 28)
        shown[f"var {value}"] = array(run, "recon"), samples
        kls[value] = kl
        rows.append(
            {
                "var": value,
                **{name: scores[name] for name in ("ssim", "mse", "raw")},
                "kl": float(kl.sum()),
                "active": int((kl > ACTIVE).sum()),
                "latent_dim": len(kl),
            }
        )
    draw("var.png", pictures.reconstructions_and_samples, runs.data.images, shown, 10)
    chosen = {f"var {value}": kls[value] for value in (HEALTHY, PARTLY, COLLAPSED)}
    draw("collapse.png", pictures.kl_per_dimension, chosen, ACTIVE)
    command = f"python train.py {RECIPE} --var {HEALTHY} --save_dir runs/var-{HEALTHY}"
    return {"command": command, "rows": rows}


def explosion(runs: Runs) -> dict[str, Any]:
    """Train one run that explodes and recovers, and one that does not."""
    stored, shown, returns = [], {}, {}
    for rate in RATES:
        label, options = f"lr {rate}", f"{EXPLODING} --lr {rate}"
        run, scores = runs.trained(f"lr-{rate}", f"{options} {WATCHED}")
        with open(run / "history.csv", encoding="utf-8", newline="") as file:
            rows = list(csv.DictReader(file))
        log = (run / "train.log").read_text(encoding="utf-8")
        back = re.findall(r"^step (\d+): .* back to the last good state .*$", log, re.M)
        skipped = [0, *(int(row["skipped_steps"]) for row in rows)]
        shown[label] = [
            {
                "step": int(row["step"]),
                "loss": float(row["train_loss"] or "nan"),
                "skipped": after - before,
            }
            for row, before, after in zip(rows, skipped, skipped[1:])
        ]
        returns[label] = [int(step) for step in back]
        stored.append(
            {
                "lr": rate,
                "command": f"python train.py {options} --save_dir runs/lr-{rate}",
                "log": [line for line in log.splitlines() if line.startswith("step ")],
                "steps": int(rows[-1]["step"]),
                "skipped": skipped[-1],
                "valid_loss": float(rows[-1]["valid_loss"]),
                "ssim": scores["ssim"],
            }
        )
    draw("explosion.png", pictures.explosion, shown, returns)
    return {"runs": stored}


def plane(runs: Runs) -> dict[str, Any]:
    """Train a VAE with two latent dimensions; draw its codes, and what it decodes."""
    options = f"{RECIPE} --latent_dim 2 --var {SMOOTH}"
    run, scores = runs.trained("plane", options)
    axis = np.linspace(-SIDE, SIDE, 2 * STEPS + 1)[1::2]  # the middle of each image
    across, up = np.meshgrid(axis, axis[::-1])
    codes = torch.from_numpy(np.stack([across.ravel(), up.ravel()], axis=1)).float()  # (S S, 2)
    decoded = model_of(run).decode(codes, torch.zeros(len(codes), dtype=torch.int64))
    squares = to_uint8(decoded).reshape(STEPS, STEPS, 28, 28)
    seen = array(run, "codes").astype(np.float32)
    some = slice(SHOWN)
    draw("plane.png", pictures.latent_plane, seen[some], runs.data.labels[some], squares, SIDE)
    return {"command": f"python train.py {options} --save_dir runs/plane", "ssim": scores["ssim"]}


def ablation(runs: Runs) -> dict[str, Any]:
    """Sweep var for the CVAE over three seeds: the worked example of the report."""
    _, trials = runs.swept()
    rows = []
    for value in SWEPT:
        same = [row for row in trials if float(row["var"]) == float(value)]
        row: dict[str, Any] = {"var": value, "n": len(same)}
        for name in ("ssim", "mse", "fid", "raw"):
            found = [float(trial[name]) for trial in same]
            row |= {name: statistics.mean(found), f"{name}_spread": statistics.stdev(found)}
        rows.append(row)
    draw(
        "conditional.png",
        pictures.two_sample_grids,
        {
            f"VAE, var {SMOOTH}": array(runs.vae(SMOOTH)[0], "samples"),
            f"CVAE, var {SMOOTH}": array(runs.cvae(SMOOTH), "samples"),
        },
        10,
    )
    return {"command": f"python sweep.py {ABLATION}", "rows": rows}


def scribbles(runs: Runs) -> dict[str, Any]:
    """Draw the codes of images against N(0, I), and against a Gaussian fitted to them.

    The fitted Gaussian is that of the training codes of each label, as a fit_prior would store it;
    the weights are those of the CVAE at the smaller var.
    """
    rows, panels = {}, {}
    for title, value, fitted in (
        (f"var {SMOOTH}, z ~ N(0, I)", SMOOTH, False),
        (f"var {SHARP}, z ~ N(0, I)", SHARP, False),
        (f"var {SHARP}, fit_prior", SHARP, True),
    ):
        run = runs.cvae(value)
        submission = model_of(run)
        drawn = _standard_codes(submission.latent_dim)  # (10, n, latent_dim)
        if fitted:
            drawn = _like_codes(drawn, submission)
        samples = _decoded(submission, drawn)  # (10, n, 28, 28)
        scores = _scores(run, runs.data, samples)
        rows[title] = {name: scores[name] for name in ("ssim", "mse", "fid", "raw")}
        seen = array(run, "codes")[runs.data.labels == DIGIT].astype(np.float64)  # (N, latent_dim)
        plane = np.linalg.eigh(np.cov(seen.T))[1][:, :-3:-1]  # (latent_dim, 2), most spread
        panels[f"{title}: FID {scores['fid']:.1f}"] = (
            seen @ plane,
            drawn[DIGIT] @ plane,
            samples[:, :4].swapaxes(0, 1).reshape(-1, 28, 28),
        )
    draw("codes.png", pictures.codes_and_draws, panels, NUM_CLASSES)
    command = f"python train.py {RECIPE} --task Genwithlabel --var {SHARP} --seed {SEEDS[0]}"
    return {"command": f"{command} --save_dir runs/gen-{SHARP}", "rows": rows}


def _standard_codes(latent_dim: int) -> np.ndarray:
    """Return draws of N(0, I) for each label, (10, PER_LABEL, latent_dim), as inference draws."""
    generator = torch.Generator().manual_seed(42)
    drawn = torch.randn(NUM_CLASSES * PER_LABEL, latent_dim, generator=generator)
    return drawn.numpy().reshape(NUM_CLASSES, PER_LABEL, latent_dim)


def _like_codes(standard: np.ndarray, submission: Submission) -> np.ndarray:
    """Move draws of N(0, I), (10, n, d), to mean and covariance of each label's training codes."""
    train = MNISTDataset(ROOT / "dataset" / "train")
    codes = encode_images(submission, train.images, train.labels).astype(np.float64)  # (N, d)
    moved = []
    for label, drawn in enumerate(standard):
        own = codes[train.labels == label]  # (n, d)
        factor = np.linalg.cholesky(np.cov(own.T) + 1e-6 * np.eye(own.shape[1]))
        moved.append(own.mean(axis=0) + drawn @ factor.T)
    return np.stack(moved)


def _scores(run: Path, data: MNISTDataset, samples: np.ndarray) -> dict[str, Any]:
    """Return the scores of a run with these samples, uint8 (10, n, 28, 28)."""
    codes, recon = array(run, "codes"), array(run, "recon")
    return score_task("Genwithlabel", recon, data.images, data.labels, codes.shape[1], samples)


def _decoded(submission: Submission, codes: np.ndarray) -> np.ndarray:
    """Return the images of codes (10, n, latent_dim): uint8 (10, n, 28, 28)."""
    labels = torch.arange(NUM_CLASSES).repeat_interleave(codes.shape[1])
    flat = torch.from_numpy(codes.reshape(len(labels), -1)).float()
    return to_uint8(submission.decode(flat, labels)).reshape(*codes.shape[:2], 28, 28)


PARTS: dict[str, Callable[[Runs], dict[str, Any]]] = {
    "model": model,
    "var": var,
    "explosion": explosion,
    "plane": plane,
    "ablation": ablation,
    "scribbles": scribbles,
}


# ---------------------------------------------------------------- the command


def main() -> None:
    """Train, measure, draw; store the figures and write the blocks."""
    parser = make_parser("benchmarks.course", __doc__)
    parser.add_argument("--only", choices=(*PARTS, "none"), help="run only this part")
    parser.add_argument("--runs", type=Path, help="keep the runs in this folder")
    args = parser.parse_args()
    stored = figures.stored(FIGURES)
    with tempfile.TemporaryDirectory() as temporary:
        runs = Runs(args.runs.absolute() if args.runs else Path(temporary))
        for name, part in PARTS.items():
            if args.only in (None, name):
                stored |= {name: part(runs), "machine": figures.machine()}
    figures.write(FIGURES, stored)
    for document, named in course_page.blocks(stored).items():
        put_blocks(document, named)


if __name__ == "__main__":
    main()
