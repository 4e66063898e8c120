"""Make a private test split: the public test images, each changed a little at random.

    python -m staff.private_split      a few seconds on one core

MNIST's test images are public, so a submission could store them and return the nearest one.
Here each image is rotated, slanted, scaled, shifted and distorted a little. A model that learned to
draw digits scores nearly the same as on the test split. A model that memorised the test images
scores far lower, even if it knew each rotation, slant, scale and shift and had to guess only the
distortion.
`grade_class.py --private_data` flags such a gap. Use the FID of the test split: slants vary more
here, so the FID is higher.

The seed is secret (`seeds.py`). Anyone who knows it can make the same split, and anyone who guesses
it can check the guess against a hash of the split that students have seen.
"""

from __future__ import annotations

import argparse
import hashlib
import io
import json
from importlib.metadata import version
from pathlib import Path

import numpy as np
from scipy import ndimage
from tqdm import tqdm

from data_utils import IMAGE_SIZE, DataError, MNISTDataset
from lab import command, metrics, plots
from lab.checkpoint import write_whole
from staff import idx
from staff.permissions import (
    PermissionsError,
    expect_private,
    private_folder,
    write_for_owner_only,
)
from staff.seeds import SeedError, asked_seed, seed_of

EXAMPLES = """examples:
  python -m staff.private_split                                 generate a seed, keep it in a file
  python -m staff.private_split --seed_file ~/seeds/2027 --overwrite
  python -m staff.private_split --ask_seed                      type the seed
  python inference.py --checkpoint_path runs/mlp/best.pth --data_path dataset/private
  python grade.py --test_data_path dataset/private --VAEwolabel_output_dir runs/mlp/inference
"""
DATASHEET = "datasheet.json"

# The largest changes. Each image gets between half of them and all of them, so that every image is
# changed. Writers differ in slant, so a rotation lowers the score of an honest model only a little,
# and that of a model that memorised images the most.
ROTATION = 12.0  # degrees, in either direction
SLANT = 0.05  # columns per row
SCALE = 0.03  # of the height, and independently of the width
SHIFT = 0.25  # pixels along each axis; MNIST's digits are centred, so more would be unlike them
# The elastic distortion, which no rotation or shift can undo: noise in [-ALPHA, ALPHA], smoothed by
# a Gaussian of SIGMA pixels. The paper trains with 34 and 4. 8 and 4 move a pixel by 0.4 per axis.
ALPHA, SIGMA = 8.0, 4.0

FAINT = 8  # of 255; fainter pixels become black, because a cubic spline overshoots around strokes
CHUNK = 500  # images at a time; another number gives different changes for the same seed


class PrivateSplitError(ValueError):
    """A private split cannot be made with these options; the message says why."""


# ---------------------------------------------------------------- the changes


def changed(images: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Return images, uint8 (N, 28, 28), each changed a little at random; same dtype and shape.

    Each pixel takes its value from a nearby point, interpolated by a cubic spline. Outside the
    image, all points are black.
    """
    points = sources(len(images), rng)  # (N, 2, 28, 28)
    splines = images.astype(np.float64)
    for axis in (1, 2):  # rows and columns of each image
        splines = ndimage.spline_filter1d(splines, order=3, axis=axis)
    taken = np.stack(
        [
            ndimage.map_coordinates(spline, at, order=3, prefilter=False)
            for spline, at in zip(splines, points)
        ]
    )
    taken[taken < FAINT] = 0
    return np.rint(taken.clip(0, 255)).astype(np.uint8)


def sources(count: int, rng: np.random.Generator) -> np.ndarray:
    """Return the row and column that each pixel is taken from: float64 (count, 2, 28, 28).

    They are an affine map about the centre and the elastic distortion of Simard, Steinkraus and
    Platt, Best Practices for Convolutional Neural Networks Applied to Visual Document Analysis,
    2003.
    """
    angle, slant, height, width = _either_direction(rng, 4, count)
    angle, slant = np.radians(ROTATION) * angle, SLANT * slant
    height, width = 1 + SCALE * height, 1 + SCALE * width
    cos, sin = np.cos(angle), np.sin(angle)
    zero = np.zeros(count)
    rotation = np.stack([cos, -sin, sin, cos], 1).reshape(count, 2, 2)
    shape = np.stack([height, zero, slant, width], 1).reshape(count, 2, 2)
    shift = SHIFT * _either_direction(rng, count, 2, 1)

    centre = (IMAGE_SIZE - 1) / 2
    pixels = np.indices((IMAGE_SIZE, IMAGE_SIZE)).reshape(2, -1) - centre  # (2, 784)
    affine = rotation @ shape @ pixels + centre + shift  # (count, 2, 784)
    noise = rng.uniform(-1, 1, (count, 2, IMAGE_SIZE, IMAGE_SIZE))
    distortion = ALPHA * ndimage.gaussian_filter(noise, (0, 0, SIGMA, SIGMA))
    return affine.reshape(distortion.shape) + distortion


def _either_direction(rng: np.random.Generator, *shape: int) -> np.ndarray:
    """Draw uniformly from [-1, -1/2] and [1/2, 1]."""
    return rng.choice([-1.0, 1.0], shape) * rng.uniform(0.5, 1, shape)


def generator(seed: str) -> np.random.Generator:
    """Return a generator that is seeded with the SHA-256 of any text."""
    return np.random.default_rng(int.from_bytes(hashlib.sha256(seed.encode()).digest(), "big"))


def make_private(images: np.ndarray, seed: str) -> np.ndarray:
    """Return the private images of a seed, uint8 (N, 28, 28), in the order of `images`.

    They are equal for equal images, seed, and versions of numpy and scipy. Shows a progress bar.
    """
    rng = generator(seed)
    private = np.empty_like(images)
    with tqdm(total=len(images), unit="image") as bar:
        for first in range(0, len(images), CHUNK):
            some = slice(first, first + CHUNK)
            private[some] = changed(images[some], rng)
            bar.update(len(images[some]))
    return private


# ---------------------------------------------------------------- the files


def files_of(source: MNISTDataset, private: np.ndarray) -> dict[str, bytes]:
    """Return the content of each file of the split by name, in the order to write them.

    The images come last and their sums before them. If the writing is interrupted, the folder holds
    no dataset, or one that MNISTDataset refuses.
    """
    pair = dict(reversed(idx.split_files(private, source.labels).items()))
    sums = [f"{hashlib.sha256(content).hexdigest()}  {name}\n" for name, content in pair.items()]
    sheet = json.dumps(datasheet(source, private), indent=2) + "\n"
    return {
        DATASHEET: sheet.encode(),
        "preview.png": preview(source.images, private),
        "SHA256SUMS": "".join(sums).encode(),
        **pair,
    }


def datasheet(source: MNISTDataset, private: np.ndarray) -> dict[str, object]:
    """Return what staff should know about the split; the seed is not in it."""
    return {
        "what": "a private test split: a public test set, each image changed a little",
        "keep": "staff only; keep the seed in another place",
        "images": len(private),
        "source_sha256": source.sha256,  # of pixels and labels
        "labels_and_order": "those of the source",
        "licence": "that of the source; MNIST's is Creative Commons Attribution-ShareAlike 3.0",
        "made_by": "staff/private_split.py, with a secret seed",
        "changes_at_most": {
            "rotation_degrees": ROTATION,
            "slant_columns_per_row": SLANT,
            "scale_share": SCALE,
            "shift_pixels": SHIFT,
            "elastic_alpha": ALPHA,
            "elastic_sigma_pixels": SIGMA,
        },
        "changes_at_least": "half of that; the elastic field is uniform noise, smoothed",
        "to_the_originals": {
            "ssim": round(float(metrics.ssim_per_image(private, source.images).mean()), 4),
            "mse": round(float(metrics.mse_per_image(private, source.images).mean()), 5),
        },
        "versions": {name: version(name) for name in ("numpy", "scipy")},
    }


def preview(images: np.ndarray, private: np.ndarray, columns: int = 16, pairs: int = 5) -> bytes:
    """Return a PNG of originals above changed images, chosen evenly from the split.

    images, private: uint8 (N, 28, 28).
    """
    chosen = np.linspace(0, len(images) - 1, columns * pairs).astype(int).reshape(pairs, columns)
    rows = [some for line in chosen for some in (images[line], private[line])]
    file = io.BytesIO()
    title = "Test images, each above its image of the private split"
    plots.grid(rows, title, ["test", "private"] * pairs).save(file, "PNG")
    return file.getvalue()


def write(out: Path, files: dict[str, bytes], overwrite: bool = False) -> None:
    """Write the files into a folder, each completely or not at all.

    The folder is made for its owner only. Raises PermissionsError if it exists and others can enter
    it, and PrivateSplitError if the files would replace a dataset that this command did not make,
    or, without `overwrite`, a private split of another seed, source or strength. Raises OSError.
    """
    there = [name for name in files if (out / name).exists()]
    if there and not (out / DATASHEET).is_file():
        raise PrivateSplitError(
            f"{out} holds {there[0]}, which this command did not make; choose another --out."
        )
    pair = [name for name in there if name in (idx.LABELS, idx.IMAGES)]
    if not overwrite and any((out / name).read_bytes() != files[name] for name in pair):
        raise PrivateSplitError(
            f"{out} holds a private split with other options (another seed, source, strength "
            "or version); replace it with --overwrite, or choose another --out."
        )
    if out.exists():
        expect_private(out)
    else:
        private_folder(out)
    for name, content in files.items():
        with write_whole(out / name) as file:
            file.write(content)


# ---------------------------------------------------------------- the command


def make_parser() -> argparse.ArgumentParser:
    """Return the parser of private_split.py."""
    parser = command.make_parser(__doc__.splitlines()[0], EXAMPLES)
    add = parser.add_argument
    add("--data", type=Path, default=Path("dataset/test"), help="the public images")
    add("--out", type=Path, default=Path("dataset/private"), help="folder for the private images")
    where = parser.add_mutually_exclusive_group()
    where.add_argument(
        "--seed_file",
        type=Path,
        default=argparse.SUPPRESS,
        help="the secret seed; generated if there is no such file (default: OUT.seed)",
    )
    where.add_argument("--ask_seed", action="store_true", help="ask for the seed at the terminal")
    add("--overwrite", action="store_true", help="replace a private split with other options")
    return parser


def main() -> None:
    """Parse, change the images, write them, print where they are."""
    parser = make_parser()
    args = parser.parse_args()
    write_for_owner_only()
    with command.clear_errors(
        parser.prog, PrivateSplitError, SeedError, PermissionsError, DataError
    ):
        if args.out.resolve() == args.data.resolve():
            raise PrivateSplitError(f"{args.out} is the source itself; choose another --out.")
        source = MNISTDataset(args.data)
        seed_file = getattr(args, "seed_file", args.out.with_name(f"{args.out.name}.seed"))
        seed, generated = (asked_seed(), False) if args.ask_seed else seed_of(seed_file)
        if generated:
            print(f"{seed_file}: a new secret seed; with it, this command makes the same split")
        private = make_private(source.images, seed)
        write(args.out, files_of(source, private), args.overwrite)
    print(f"{args.out}: {len(private)} images; look at {args.out / 'preview.png'}")


if __name__ == "__main__":
    command.run(main)
