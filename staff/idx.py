"""Write a split of images and labels as gzipped IDX files, the format of MNIST."""

from __future__ import annotations

import gzip
import io
import struct
from pathlib import Path

import numpy as np

from data_utils import OUR_IMAGES as IMAGES

LABELS = "labels-idx1-ubyte.gz"
UNSIGNED_BYTE = 8  # IDX's code of the dtype


def idx_bytes(array: np.ndarray) -> bytes:
    """Return an array, cast to uint8, as an IDX file: magic number, lengths of the axes, values."""
    header = struct.pack(f">BBBB{array.ndim}I", 0, 0, UNSIGNED_BYTE, array.ndim, *array.shape)
    return header + array.astype(np.uint8).tobytes()


def gzipped(content: bytes) -> bytes:
    """Compress with gzip: the same bytes for the same content (with the same zlib).

    The file has no date in it. GzipFile writes the same header in every version of Python, which
    gzip.compress does not.
    """
    packed = io.BytesIO()
    with gzip.GzipFile("", "wb", compresslevel=9, fileobj=packed, mtime=0) as file:
        file.write(content)
    return packed.getvalue()


def split_files(images: np.ndarray, labels: np.ndarray) -> dict[str, bytes]:
    """Return the two files of a split by name: images (N, 28, 28) and labels (N,), 0 to 255."""
    return {name: gzipped(idx_bytes(array)) for name, array in ((IMAGES, images), (LABELS, labels))}


def write_split(folder: Path, images: np.ndarray, labels: np.ndarray) -> None:
    """Write the two files of a split into a folder, which is created if it is missing."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, content in split_files(images, labels).items():
        (folder / name).write_bytes(content)
