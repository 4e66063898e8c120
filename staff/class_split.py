"""The private split of a class: some test images, changed by the class's secret, made once.

Also the options that choose the splits to grade on.
"""

from __future__ import annotations

import argparse
import copy
import hashlib
from pathlib import Path

import numpy as np

from data_utils import MNISTDataset
from lab import ROOT
from staff import idx, private_split
from staff.permissions import private_folder
from staff.secret import generator

IMAGES = 2000  # enough to see a gap; benchmarks/honest.py measures those of honest models


def class_split(folder: Path, test_data: Path, secret: str, count: int = IMAGES) -> Path:
    """Return the folder of a class's private split; make it if it does not exist.

    Args:
        folder: where the split's own folder is, readable by its owner alone.
        test_data: the public test split; `count` of its images are chosen at random and changed.
        secret: decides which images, and how each is changed.
        count: images of the split; all of the test split if it has fewer.

    Raises DataError, PrivateSplitError, OSError.
    """
    test = MNISTDataset(test_data)
    own = hashlib.sha256(f"{test.sha256} {secret} {count}".encode()).hexdigest()[:16]
    split = private_folder(folder / f"split-{own}")
    if not (split / idx.IMAGES).is_file():  # it is written last
        private_split.write(split, class_files(test, secret, count), overwrite=True)
    return split


def class_files(test: MNISTDataset, secret: str, count: int = IMAGES) -> dict[str, bytes]:
    """Return the files of a class's private split by name; see `class_split`."""
    order = generator(secret, "private images").permutation(len(test))
    source = _part(test, order[:count])
    private = private_split.make_private(source.images, f"private images {secret}")
    return private_split.files_of(source, private)


def _part(dataset: MNISTDataset, chosen: np.ndarray) -> MNISTDataset:
    """Return a data set of some images of another, in this order."""
    part = copy.copy(dataset)
    part.images, part.labels = dataset.images[chosen], dataset.labels[chosen]
    return part


# ---------------------------------------------------------------- options of the commands


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add the options that choose the splits, the same for a class and for Gradescope."""
    add = parser.add_argument
    add("--test_data", type=Path, default=ROOT / "dataset" / "test", help="the split to grade on")
    private = parser.add_mutually_exclusive_group()
    private.add_argument(
        "--private_data",
        type=Path,
        help="a split that no student has seen (private_split.py), in place of the class's own",
    )
    private.add_argument(
        "--private_images",
        type=int,
        default=IMAGES,
        help="images of the class's own private split",
    )
    private.add_argument("--no_private", action="store_true", help="grade on the test split alone")
    add(
        "--count",
        choices=("test", "private"),
        default="test",
        help="the split whose reconstructions count",
    )
    for split, words in (("train", "training"), ("valid", "validation")):
        add(
            f"--{split}_data",
            type=Path,
            default=ROOT / "dataset" / split,
            help=f"{words} images, to find copies",
        )


def check_options(private_images: int, no_private: bool, count: str) -> None:
    """Raise PrivateSplitError if these options cannot be used together."""
    if private_images < 1:
        raise private_split.PrivateSplitError(
            f"--private_images is {private_images}; expected 1 or more."
        )
    if no_private and count == "private":
        raise private_split.PrivateSplitError(
            "--count private needs a private split; leave out --no_private."
        )
