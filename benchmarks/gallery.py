"""The pictures of the reports that this lab grew from, drawn by this lab: docs/gallery.md.

    python -m benchmarks.gallery         6 minutes on 2 cores, once benchmarks/zoo.py has run
    python -m benchmarks.gallery --draw  train nothing

Trains what only a picture needs (two latent dimensions, the betas), and takes the rest from the
runs that benchmarks/zoo.py left.
"""

from __future__ import annotations

import argparse
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import BinaryIO

import numpy as np
from PIL import Image

from benchmarks.commands import ROOT, train_infer_grade
from data_utils import MNISTDataset
from lab import plots
from lab.checkpoint import write_whole

RUNS, OUT = ROOT / "runs", ROOT / "docs" / "gallery"
BETAS = ("0", "0.03", "0.05", "0.1", "0.12", "1")
BETA_OPTIONS = "--submission zoo/beta_vae.py --batch_size 128 --lr 1e-3 --epochs 20"
TRAINED = {
    "gallery-vae-2": "--submission zoo/mlp_vae.py --latent_dim 2 --batch_size 100 --lr 3e-3",
    "gallery-cvae-2": "--task Genwithlabel --submission zoo/mlp_cvae.py --latent_dim 2 "
    "--batch_size 100 --lr 3e-3",
    "gallery-demo": "--submission model.py --var 0.05",
    **{f"gallery-beta-{beta}": f"{BETA_OPTIONS} --variant beta={beta}" for beta in BETAS},
}
COLUMNS = 16
EPOCHS = ("0001", "0002", "0005", "0020")


def inferred(run: str, array: str) -> np.ndarray:
    """Return an array that inference wrote for a run."""
    return np.load(RUNS / run / "inference" / f"{array}.npy", allow_pickle=False)


def compare_reconstructions(file: BinaryIO, runs: dict[str, str], title: str) -> None:
    """Draw inputs, and below them what each run, by its label, made of them."""
    images = MNISTDataset(ROOT / "dataset" / "test").images[:COLUMNS]
    rows = [images, *(inferred(run, "recon")[:COLUMNS] for run in runs.values())]
    plots.grid(rows, title, ["input", *runs]).save(file, "PNG")


def compare_samples(file: BinaryIO, runs: dict[str, str], title: str, each: int = 2) -> None:
    """Draw samples of each run, by its label: `each` rows of them."""
    rows, labels = [], []
    for label, run in runs.items():
        samples = inferred(run, "samples")[:, : each * 2]  # (10, 2 each, 28, 28)
        rows += list(samples.swapaxes(0, 1).reshape(each, 20, 28, 28)[:, :COLUMNS])
        labels += [label] * each
    plots.grid(rows, title, labels).save(file, "PNG")


def over_epochs(file: BinaryIO, run: str) -> None:
    """Put a run's pictures of some epochs into one, two by two."""
    frames = [Image.open(RUNS / run / "progress" / f"epoch_{epoch}.png") for epoch in EPOCHS]
    width, height = frames[0].size
    picture = Image.new("L", (2 * width, 2 * height), plots.PAPER)
    for number, frame in enumerate(frames):
        picture.paste(frame, (number % 2 * width, number // 2 * height))
    picture.save(file, "PNG")


def video(file: BinaryIO, run: str) -> None:
    """Draw a run's training video, of twenty frames at most."""
    frames = sorted(map(str, (RUNS / run / "progress").glob("epoch_*.png")))
    chosen = np.unique(np.linspace(0, len(frames) - 1, 20).astype(int))
    plots.gif(file, [frames[number] for number in chosen])


def kept(run: str, picture: str) -> Callable[[BinaryIO], None]:
    """Return what copies a picture that inference drew for a run."""

    def copy(file: BinaryIO) -> None:
        with open(RUNS / run / "inference" / picture, "rb") as drawn:
            shutil.copyfileobj(drawn, file)

    return copy


MODELS = {
    "demo, MLP": "gallery-demo",
    "AE, MLP": "zoo-mlp_ae",
    "VAE, MLP": "zoo-mlp_vae",
    "CVAE, MLP": "zoo-mlp_cvae",
    "VAE, conv": "zoo-conv_vae",
    "CVAE, conv": "zoo-conv_cvae",
    "record": "zoo-record-42",
}
BETA_RUNS = {f"beta {beta}": f"gallery-beta-{beta}" for beta in BETAS}
# File, heading, what to see in it, and what draws it.
PICTURES: list[tuple[str, str, str, Callable[[BinaryIO], None]]] = [
    (
        "reconstructions.png",
        "Inputs and their reconstructions",
        "Test images, and what each model makes of them: `model.py`, then those of the zoo. The "
        "MLPs of the zoo have 10 latent dimensions, the others 20.",
        lambda file: compare_reconstructions(file, MODELS, "Inputs, and what each model returns"),
    ),
    (
        "epochs.png",
        "Samples at several epochs",
        "The VAE as an MLP after 1, 2, 5 and 20 epochs: samples come from the same z each time. "
        "Told no label, it draws figures between the digits too.",
        lambda file: over_epochs(file, "zoo-mlp_vae"),
    ),
    (
        "labels.png",
        "Chosen labels",
        "The CVAE as MLPs draws the digit that it is asked for.",
        kept("zoo-mlp_cvae", "samples.png"),
    ),
    (
        "record.png",
        "The record",
        "Samples of `zoo/record.py`, ten of each label, as they come.",
        kept("zoo-record-42", "samples.png"),
    ),
    (
        "manifold.png",
        "Two latent dimensions: the VAE",
        "The decoder over a grid of the square of side 15 around the origin. Nearly all codes of "
        "images lie within 3 of its middle.",
        kept("gallery-vae-2", "manifold.png"),
    ),
    (
        "manifold_labels.png",
        "Two latent dimensions: the CVAE",
        "The same for each label: the label says which digit, so the code is left with the "
        "handwriting, slant and width.",
        kept("gallery-cvae-2", "manifold.png"),
    ),
    (
        "beta_reconstructions.png",
        "beta-VAE: reconstructions",
        "The smaller beta is, the nearer to the input; at 1 the code says next to nothing.",
        lambda file: compare_reconstructions(file, BETA_RUNS, "Reconstructions for each beta"),
    ),
    (
        "beta_samples.png",
        "beta-VAE: samples",
        "Without the KL divergence (beta 0) the codes are nowhere near N(0, I), and samples are "
        "scribbles; at 1 they are all alike.",
        lambda file: compare_samples(file, BETA_RUNS, "Samples, z ~ N(0, I), for each beta"),
    ),
    (
        "gans.png",
        "WGAN",
        "A clamped critic, told no label; below it a critic with a gradient penalty, told labels.",
        lambda file: compare_samples(
            file, {"WGAN": "zoo-wgan", "WGAN-GP": "zoo-wgan_gp"}, "Samples, z ~ N(0, I)", each=4
        ),
    ),
    (
        "beta_vae.gif",
        "Training video: beta-VAE",
        "The same inputs and the same z after each epoch.",
        lambda file: video(file, "zoo-beta_vae"),
    ),
    (
        "wgan.gif",
        "Training video: WGAN",
        "The same z after every third epoch.",
        lambda file: video(file, "zoo-wgan"),
    ),
]


def main() -> None:
    """Train what is missing, draw, write docs/gallery.md."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--draw", action="store_true", help="train nothing")
    args = parser.parse_args()
    if not args.draw:
        for run, options in TRAINED.items():
            train_infer_grade(options.split(), Path("runs") / run)
    OUT.mkdir(exist_ok=True)
    lines = [
        "# Gallery",
        "",
        "The kinds of pictures that the reports had, of this lab's models; each model's command is "
        "in its file in [zoo/](../zoo/README.md). Drawn by `python -m benchmarks.gallery`.",
    ]
    for name, heading, text, draw in PICTURES:
        with write_whole(OUT / name) as file:
            draw(file)
        lines += ["", f"## {heading}", "", text, "", f"![{heading}](gallery/{name})"]
    with write_whole(ROOT / "docs" / "gallery.md") as file:
        file.write(("\n".join(lines) + "\n").encode())
    print(f"written: {ROOT / 'docs' / 'gallery.md'}")


if __name__ == "__main__":
    main()
