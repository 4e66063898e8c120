"""Draw the pictures of the original reports with the lab's models: docs/gallery.md.

    python -m benchmarks.gallery         6 minutes on 2 cores, after python -m benchmarks.zoo
    python -m benchmarks.gallery --draw  train nothing, draw the pictures again
    python -m benchmarks.gallery --draw record.png gans.png   only these pictures
    python -m benchmarks.gallery --text  only write docs/gallery.md

Trains the models that only the pictures need (two latent dimensions, the values of beta). The other
models are in the runs that benchmarks/zoo.py left in runs/.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import BinaryIO

import numpy as np
from PIL import Image

from benchmarks.commands import make_parser, train_infer_grade
from data_utils import MNISTDataset
from lab import ROOT, plots
from lab.checkpoint import write_whole

RUNS, OUT = ROOT / "runs", ROOT / "docs" / "gallery"
DOCUMENT = ROOT / "docs" / "gallery.md"
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
    """Draw inputs, and below them the reconstructions of each run; runs are given by label."""
    images = MNISTDataset(ROOT / "dataset" / "test").images[:COLUMNS]
    rows = [images, *(inferred(run, "recon")[:COLUMNS] for run in runs.values())]
    plots.grid(rows, title, ["input", *runs]).save(file, "PNG")


def compare_samples(file: BinaryIO, runs: dict[str, str], title: str, each: int = 2) -> None:
    """Draw `each` rows of samples per run; runs are given by label."""
    rows, labels = [], []
    for label, run in runs.items():
        samples = inferred(run, "samples")[:, : each * 2]  # (10, 2 each, 28, 28)
        rows += list(samples.swapaxes(0, 1).reshape(each, 20, 28, 28)[:, :COLUMNS])
        labels += [label] * each
    plots.grid(rows, title, labels).save(file, "PNG")


def over_epochs(file: BinaryIO, run: str) -> None:
    """Put a run's pictures of four epochs into one picture, two by two."""
    frames = [Image.open(RUNS / run / "progress" / f"epoch_{epoch}.png") for epoch in EPOCHS]
    width, height = frames[0].size
    picture = Image.new("L", (2 * width, 2 * height), plots.PAPER)
    for number, frame in enumerate(frames):
        picture.paste(frame, (number % 2 * width, number // 2 * height))
    picture.save(file, "PNG")


def video(file: BinaryIO, run: str) -> None:
    """Draw a run's training video, with at most twenty frames."""
    frames = sorted(map(str, (RUNS / run / "progress").glob("epoch_*.png")))
    chosen = np.unique(np.linspace(0, len(frames) - 1, 20).astype(int))
    plots.gif(file, [frames[number] for number in chosen])


def kept(run: str, picture: str) -> Callable[[BinaryIO], None]:
    """Return a function that copies a picture which inference drew for a run."""

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
# File, heading, text, and the function that draws it.
PICTURES: list[tuple[str, str, str, Callable[[BinaryIO], None]]] = [
    (
        "reconstructions.png",
        "Inputs and their reconstructions",
        "Test images and their reconstructions by `model.py` and by the models of the zoo. The "
        "MLPs of the zoo have 10 latent dimensions, the others 20.",
        lambda file: compare_reconstructions(file, MODELS, "Inputs and reconstructions"),
    ),
    (
        "epochs.png",
        "Samples at several epochs",
        "The VAE as an MLP after 1, 2, 5 and 20 epochs, each time from the same z. It has no "
        "labels, so some samples lie between two digits.",
        lambda file: over_epochs(file, "zoo-mlp_vae"),
    ),
    (
        "labels.png",
        "Chosen labels",
        "Samples of the CVAE as MLPs, ten per label, not selected. Most are the given digit; some "
        "are smeared, or look like another.",
        kept("zoo-mlp_cvae", "samples.png"),
    ),
    (
        "record.png",
        "The record",
        "Samples of `zoo/record.py`, ten per label, not selected.",
        kept("zoo-record-42", "samples.png"),
    ),
    (
        "flow_matching.png",
        "Flow matching on the codes",
        "Samples of `zoo/flow_matching.py`, ten per label, not selected. They are more diverse "
        "than the record's, and more of them stray between digits.",
        kept("zoo-flow_matching", "samples.png"),
    ),
    (
        "manifold.png",
        "Two latent dimensions: the VAE",
        "The decoder over two grids. Left: equal steps in a square of side 15 around the origin; "
        "nearly all codes of images lie within 3 of the origin. Right: the quantiles of N(0, I), "
        "so that each picture stands for an equal share of the samples.",
        kept("gallery-vae-2", "manifold.png"),
    ),
    (
        "manifold_labels.png",
        "Two latent dimensions: the CVAE",
        "The same for each label, the quantiles below. The label gives the digit, so the code "
        "describes the handwriting: slant from left to right, width upwards.",
        kept("gallery-cvae-2", "manifold.png"),
    ),
    (
        "beta_reconstructions.png",
        "beta-VAE: reconstructions",
        "The smaller beta is, the closer the reconstructions are to the input. At 1 the code holds "
        "almost no information.",
        lambda file: compare_reconstructions(file, BETA_RUNS, "Reconstructions for each beta"),
    ),
    (
        "beta_samples.png",
        "beta-VAE: samples",
        "Without the KL divergence (beta 0) the codes are far from N(0, I), and the samples are "
        "scribbles. At 1 they all look the same.",
        lambda file: compare_samples(file, BETA_RUNS, "Samples, z ~ N(0, I), for each beta"),
    ),
    (
        "gans.png",
        "WGAN",
        "Above: weight clipping, no labels. Below: gradient penalty, with the labels 0 to 9, then "
        "0 to 5.",
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


def document() -> str:
    """Return docs/gallery.md."""
    lines = [
        "# Gallery",
        "",
        "The kinds of pictures in the original reports, drawn with the lab's models. The command "
        "of each model is in its file in [zoo/](../zoo/README.md), or in `benchmarks/gallery.py` "
        "for those that only the pictures need. Written by `python -m benchmarks.gallery`.",
    ]
    for name, heading, text, _ in PICTURES:
        lines += ["", f"## {heading}", "", text, "", f"![{heading}](gallery/{name})"]
    return "\n".join(lines) + "\n"


def main() -> None:
    """Train what is missing, draw the pictures, write docs/gallery.md."""
    parser = make_parser("benchmarks.gallery", __doc__)
    names = [name for name, *_ in PICTURES]
    parser.add_argument(
        "--draw", nargs="*", choices=names, metavar="PICTURE", help="train nothing, draw again"
    )
    parser.add_argument("--text", action="store_true", help="train and draw nothing")
    args = parser.parse_args()
    if args.draw is None and not args.text:
        for run, options in TRAINED.items():
            train_infer_grade(options.split(), Path("runs") / run)
    if not args.text:
        OUT.mkdir(exist_ok=True)
        for name, _, _, draw in PICTURES:
            if not args.draw or name in args.draw:
                with write_whole(OUT / name) as file:
                    draw(file)
    with write_whole(DOCUMENT) as file:
        file.write(document().encode())
    print(f"written: {DOCUMENT}")


if __name__ == "__main__":
    main()
