"""Build dataset/{train,valid,test} from the four published MNIST files.

    python -m staff.build_dataset FOLDER_WITH_THE_FOUR_FILES

The four files may be gzipped or not; their decompressed bytes must have the published MD5 sums. The
same input gives the same bytes (with the same zlib), so SHA256SUMS depends on the data alone.
Students get the folders that this script wrote.
"""

import argparse
import gzip
import hashlib
import sys
from pathlib import Path

import numpy as np

from lab import ROOT, command
from staff.idx import split_files

PUBLISHED_MD5 = {
    "train-images-idx3-ubyte": "6bbc9ace898e44ae57da46a324031adb",
    "train-labels-idx1-ubyte": "a25bea736e30d166cdddb491f175f624",
    "t10k-images-idx3-ubyte": "2646ac647ad5339dbf082846283269ea",
    "t10k-labels-idx1-ubyte": "27ae3e4e09519cfbb04c329615203637",
}
TRAIN_IMAGES = 50_000  # the first of the published training set; the rest is for validation


def read_published(folder: Path, name: str) -> bytes:
    """Return the decompressed bytes of one published file. Exits if its MD5 sum is wrong."""
    plain, zipped = folder / name, folder / f"{name}.gz"
    if zipped.is_file():
        content = gzip.decompress(zipped.read_bytes())
    elif plain.is_file():
        content = plain.read_bytes()
    else:
        sys.exit(f"{folder} has neither {name} nor {name}.gz; give the folder of the four files.")
    found = hashlib.md5(content).hexdigest()
    if found != PUBLISHED_MD5[name]:
        sys.exit(
            f"{name} has MD5 {found}, not the published {PUBLISHED_MD5[name]}; download it again."
        )
    return content


def read_pair(folder: Path, prefix: str) -> tuple[np.ndarray, np.ndarray]:
    """Return images (N, 28, 28) and labels (N,), both uint8, of `train` or `t10k`."""
    images = read_published(folder, f"{prefix}-images-idx3-ubyte")
    labels = read_published(folder, f"{prefix}-labels-idx1-ubyte")
    return (
        np.frombuffer(images, np.uint8, offset=16).reshape(-1, 28, 28),
        np.frombuffer(labels, np.uint8, offset=8),
    )


def main() -> None:
    """Split the published files into train, valid and test, and write them with their sums."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("source", type=Path, help="folder of the four published files")
    parser.add_argument("--out", type=Path, default=ROOT / "dataset", help="default: %(default)s")
    args = parser.parse_args()

    images, labels = read_pair(args.source, "train")
    splits = {
        "train": (images[:TRAIN_IMAGES], labels[:TRAIN_IMAGES]),
        "valid": (images[TRAIN_IMAGES:], labels[TRAIN_IMAGES:]),
        "test": read_pair(args.source, "t10k"),
    }
    sums = []
    for split, (images, labels) in splits.items():
        (args.out / split).mkdir(parents=True, exist_ok=True)
        for name, content in split_files(images, labels).items():
            (args.out / split / name).write_bytes(content)
            sums.append(f"{hashlib.sha256(content).hexdigest()}  {split}/{name}\n")
        print(f"{args.out / split}: {len(images)} images")
    (args.out / "SHA256SUMS").write_text("".join(sums), encoding="ascii")


if __name__ == "__main__":
    command.run(main)
