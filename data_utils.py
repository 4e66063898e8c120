"""The dataset (MNISTDataset), its batches for training, and the seeds of random numbers.

torch is imported inside functions, so that `grade.py`, which uses numpy only, can read a dataset
without the seconds that importing torch takes.
"""

from __future__ import annotations

import gzip
import hashlib
import io
import math
import random
import struct
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    import torch

IMAGE_SIZE = 28
NUM_CLASSES = 10
MAX_LATENT_DIM = IMAGE_SIZE**2  # a code wider than the image compresses nothing

# The lab's own datasets have this name; others are found by the pattern.
OUR_IMAGES = "images-idx3-ubyte.gz"
IDX_IMAGES_PATTERN = "*images*idx3-ubyte*"
OLDER_TABLES = ("data.arrow", "data.parquet")
MAX_BYTES = 2**30  # of one file, also uncompressed: 1.3 million images


class DataError(ValueError):
    """A dataset is missing, damaged or in an unknown format; the message names the file."""


class MNISTDataset:
    """A split of MNIST, or of another dataset in its format, in memory.

    It is also a map-style dataset for torch's DataLoader: `dataset[i]` is an image, float32
    (1, 28, 28) in [0, 1], and its label.

    Args:
        path: a folder with one pair of IDX files (gzipped or not), the images file of such a pair,
            or an older Arrow or parquet table (needs pyarrow). A file that a `SHA256SUMS` in its
            folder or the one above lists must match its checksum.

    Attributes:
        images: uint8 array (N, 28, 28), 0 is black.
        labels: int64 array (N,), 0 to 9.
        path: the argument.
        sha256: SHA-256 of the pixels and labels, independent of the file format.

    Raises:
        DataError: files are missing, damaged, or in an unknown format.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        file = _find_file(self.path)
        if file.suffix in (".arrow", ".parquet"):
            self.images, self.labels = _read_table(file)
        else:
            self.images, self.labels = _read_idx_pair(file)
        if len(self.images) == 0:
            raise DataError(f"{file} holds no images; a dataset needs at least one.")

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: int) -> tuple[torch.Tensor, int]:
        import torch

        image = torch.from_numpy(self.images[index]).unsqueeze(0)  # (1, 28, 28)
        return image.float() / 255, int(self.labels[index])

    @property
    def sha256(self) -> str:
        """SHA-256 of the pixels and labels; equal data in another file format has the same."""
        digest = hashlib.sha256(np.ascontiguousarray(self.images).data)  # without a copy
        digest.update(self.labels.astype("<i8").tobytes())
        return digest.hexdigest()


class Batches:
    """Batches as slices of tensors that are already on the device, without Python code per image.

    The order of the images in epoch n depends only on the seed and n, so a resumed run sees the
    same batches as an uninterrupted one.

    Args:
        dataset: what to cut into batches.
        batch_size: images per batch; the last batch of an epoch may have fewer.
        device: where the tensors are stored.
        seed: of the order.
    """

    def __init__(
        self, dataset: MNISTDataset, batch_size: int, device: torch.device | str, seed: int
    ) -> None:
        import torch

        self.images = torch.from_numpy(dataset.images).to(device)  # (N, 28, 28) uint8
        self.labels = torch.from_numpy(dataset.labels).to(device)  # (N,) int64
        self.batch_size = min(batch_size, len(dataset))
        self.seed = seed

    def __len__(self) -> int:
        """Return the number of batches per epoch."""
        full, rest = divmod(len(self.images), self.batch_size)
        # BatchNorm cannot average over one image, so a last batch of one image is left out.
        return full + (rest > 1)

    def epoch(self, epoch: int, skip: int = 0) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
        """Yield the shuffled batches of one epoch, without the first `skip` batches.

        Each is a pair of images, float32 (B, 1, 28, 28) in [0, 1], and labels, int64 (B,).
        """
        import torch

        generator = torch.Generator().manual_seed(self.seed * 1_000_003 + epoch)
        order = torch.randperm(len(self.images), generator=generator).to(self.images.device)
        for index in order.split(self.batch_size)[skip : len(self)]:
            # index_select copies whole images; [index] would copy single bytes.
            yield to_float(self.images.index_select(0, index)), self.labels[index]


def to_float(images: torch.Tensor) -> torch.Tensor:
    """Convert uint8 images (B, 28, 28) to a model's input: float32 (B, 1, 28, 28) in [0, 1]."""
    return images.unsqueeze(1) / 255  # (B, 1, 28, 28)


def to_uint8(images: torch.Tensor) -> np.ndarray:
    """Convert images in [0, 1] to the uint8 images that are scored: round(255 clip(x, 0, 1))."""
    return images.float().clamp(0, 1).mul(255).round().byte().cpu().numpy()


def set_seed(seed: int) -> None:
    """Seed the random number generators of Python, numpy and torch."""
    import torch

    random.seed(seed)
    np.random.seed(seed % 2**32)
    # torch.manual_seed does the same, but without a GPU it also stores a traceback at each call.
    torch.default_generator.manual_seed(seed)
    if torch.cuda.is_available():
        torch.cuda.manual_seed_all(seed)
    if torch.backends.mps.is_available():
        torch.mps.manual_seed(seed)


def rng_state() -> dict:
    """Return the state of these generators as plain values and tensors, for a checkpoint."""
    import torch

    state = np.random.get_state(legacy=False)
    keys = torch.from_numpy(state["state"]["key"].astype(np.int64))
    rest = (state["state"]["pos"], state["has_gauss"], state["gauss"])
    return {
        "python": random.getstate(),
        "numpy": [state["bit_generator"], keys, *rest],
        "torch": torch.get_rng_state(),
        "cuda": torch.cuda.get_rng_state_all() if torch.cuda.is_available() else [],
        "mps": torch.mps.get_rng_state() if torch.backends.mps.is_available() else None,
    }


def restore_rng_state(state: dict) -> None:
    """Set these generators to a state that `rng_state` returned."""
    import torch

    version, internal, gauss = state["python"]
    random.setstate((version, tuple(internal), gauss))
    kind, keys, *rest = state["numpy"]
    np.random.set_state((kind, keys.numpy().astype(np.uint32), *rest))
    torch.set_rng_state(state["torch"])
    if state["cuda"] and torch.cuda.is_available():
        torch.cuda.set_rng_state_all(state["cuda"][: torch.cuda.device_count()])
    if state["mps"] is not None and torch.backends.mps.is_available():
        torch.mps.set_rng_state(state["mps"])


@contextmanager
def own_randomness(seed: int) -> Iterator[None]:
    """Seed the generators within the block; afterwards they continue as if it had not run."""
    before = rng_state()
    set_seed(seed)
    try:
        yield
    finally:
        restore_rng_state(before)


# ---------------------------------------------------------------- finding and checking files


def one_line(value: object) -> str:
    """Return another library's error, or text from a file, as a short line for a message."""
    text = " ".join(str(value).split())[:200] or type(value).__name__
    return "".join(character if character.isprintable() else "?" for character in text)


def _find_file(path: Path) -> Path:
    """Return the images file or the table at `path`."""
    if path.is_file():
        return path
    if not path.is_dir():
        raise DataError(f"{path} does not exist; give a dataset folder such as dataset/train.")
    for name in (OUR_IMAGES, *OLDER_TABLES):
        if (path / name).is_file():
            return path / name
    found = sorted(path.glob(IDX_IMAGES_PATTERN))
    if len(found) > 1:
        names = ", ".join(file.name for file in found)
        raise DataError(f"{path} holds several sets ({names}); give the path of one of them.")
    if not found:
        raise DataError(
            f"{path} holds no dataset: expected {OUR_IMAGES} or another pair of IDX files, "
            f"or {OLDER_TABLES[0]}."
        )
    return found[0]


def _read_checked(file: Path) -> bytes:
    """Return the content of a file; it must match its checksum if a SHA256SUMS lists it."""
    if not file.is_file():
        raise DataError(f"{file} is missing; a dataset is a pair of images and labels.")
    if file.stat().st_size > MAX_BYTES:
        raise DataError(f"{file} is larger than {MAX_BYTES} bytes; split it into smaller datasets.")
    content = file.read_bytes()
    for folder in (file.parent, file.parent.parent):
        expected = _listed_sum(folder / "SHA256SUMS", file.relative_to(folder).as_posix())
        if expected and hashlib.sha256(content).hexdigest() != expected:
            raise DataError(
                f"{file} does not match its checksum in {folder / 'SHA256SUMS'}: "
                "it was changed or damaged; download it again."
            )
    return content


def _listed_sum(sums: Path, name: str) -> str | None:
    """Return the checksum of a file in a SHA256SUMS, or None if it is not listed."""
    if not sums.is_file():
        return None
    for line in sums.read_text(encoding="utf-8", errors="replace").splitlines():
        digest, _, listed = line.partition("  ")
        if listed == name:
            return digest
    return None


# ---------------------------------------------------------------- IDX


def _read_idx_pair(images_file: Path) -> tuple[np.ndarray, np.ndarray]:
    """Return images, uint8 (N, 28, 28), and labels, int64 (N,), of a pair of IDX files."""
    labels_name = images_file.name.replace("images", "labels").replace("idx3", "idx1")
    if labels_name == images_file.name:
        raise DataError(
            f"{images_file} is not the images file of a dataset: "
            f"expected a name such as {OUR_IMAGES}, data.arrow or data.parquet."
        )
    labels_file = images_file.with_name(labels_name)
    images = _read_idx(images_file, dimensions=3)
    labels = _read_idx(labels_file, dimensions=1)
    _check_pair(images_file, images, labels)
    return images, labels.astype(np.int64)


def _read_idx(file: Path, dimensions: int) -> np.ndarray:
    """Read a uint8 IDX file (http://yann.lecun.com/exdb/mnist): magic number, sizes, bytes."""
    content = _read_checked(file)
    header_size = 4 + 4 * dimensions
    stream: io.BytesIO | gzip.GzipFile = io.BytesIO(content)
    if content[:2] == b"\x1f\x8b":
        stream = gzip.GzipFile(fileobj=io.BytesIO(content))
    try:
        header = stream.read(header_size)
        if len(header) < header_size or header[:4] != bytes((0, 0, 8, dimensions)):
            raise DataError(
                f"{file} is not an IDX file of {dimensions}-dimensional bytes: "
                f"it begins with {header[:4].hex() or 'nothing'}, not 000008{dimensions:02x}."
            )
        shape = struct.unpack(f">{dimensions}I", header[4:])
        if dimensions == 3 and shape[1:] != (IMAGE_SIZE, IMAGE_SIZE):
            raise DataError(f"{file} has images of {shape[1]} x {shape[2]}; expected 28 x 28.")
        size = math.prod(shape)
        if size > MAX_BYTES:
            raise DataError(
                f"{file} states {size} bytes of data in its header; at most {MAX_BYTES} are read."
            )
        # The system gives memory to a bytearray only where it is written, so that a false header
        # takes none. torch.from_numpy needs an array that is writable, which this one is.
        body = bytearray(size)
        held = 0
        while count := stream.readinto(memoryview(body)[held:]):
            held += count
        more = stream.read(1)  # without unpacking all of a longer file
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise DataError(
            f"{file} is cut short or damaged ({one_line(error)}); download it again."
        ) from None
    if held < size or more:
        raise DataError(
            f"{file} is damaged: its header states {size} bytes of data, but it holds "
            f"{'more' if more else f'only {held}'}."
        )
    return np.frombuffer(body, np.uint8).reshape(shape)


# ---------------------------------------------------------------- the older Arrow tables


def _read_table(file: Path) -> tuple[np.ndarray, np.ndarray]:
    """Read an Arrow or parquet table with columns `image` (PNG bytes) and `label`."""
    try:
        import pyarrow
        import pyarrow.ipc
        import pyarrow.parquet
    except ImportError:
        raise DataError(f"{file} needs pyarrow: pip install pyarrow, or use IDX files.") from None
    from PIL import Image, UnidentifiedImageError

    buffer = pyarrow.BufferReader(_read_checked(file))
    try:
        if file.suffix == ".parquet":
            table = pyarrow.parquet.read_table(buffer)
        elif buffer.read(6) == b"ARROW1":
            table = pyarrow.ipc.open_file(buffer).read_all()
        else:
            buffer.seek(0)
            table = pyarrow.ipc.open_stream(buffer).read_all()
        table.validate(full=True)  # pyarrow reads the values of a damaged table unchecked
    except (pyarrow.ArrowException, OSError, ValueError) as error:
        raise DataError(f"{file} is not a readable table ({one_line(error)}).") from None
    _check_columns(file, table)
    labels = table["label"].to_numpy()
    images = np.zeros((len(table), IMAGE_SIZE, IMAGE_SIZE), np.uint8)
    not_a_png = UnidentifiedImageError, Image.DecompressionBombError
    for i, cell in enumerate(table["image"].to_pylist()):
        png = cell["bytes"] if isinstance(cell, dict) else cell
        try:
            with Image.open(io.BytesIO(png)) as picture:
                if picture.size != (IMAGE_SIZE, IMAGE_SIZE):
                    raise ValueError("it is {} x {} pixels".format(*picture.size))
                images[i] = np.asarray(picture.convert("L"))
        except (*not_a_png, SyntaxError, TypeError, ValueError, OSError) as error:
            raise DataError(
                f"{file}: image {i} is not a 28 x 28 PNG ({one_line(error)})."
            ) from None
    _check_pair(file, images, labels)
    return images, labels.astype(np.int64)


def _check_columns(file: Path, table: Any) -> None:
    """Raise DataError unless the table has pictures and labels, none missing, and not too many."""
    from pyarrow import types

    kinds = dict(zip(table.schema.names, table.schema.types))
    if not {"image", "label"} <= set(kinds) or len(kinds) < table.num_columns:
        raise DataError(
            f"{file} has the columns {one_line(', '.join(table.schema.names))}; "
            "expected `image` and `label`, once each."
        )
    image, label = kinds["image"], kinds["label"]
    if types.is_struct(image) and image.get_field_index("bytes") >= 0:
        image = image.field("bytes").type
    if not (types.is_binary(image) or types.is_large_binary(image)) or not types.is_integer(label):
        raise DataError(
            f"{file} has images of type {one_line(kinds['image'])} and labels of type "
            f"{one_line(label)}; expected the bytes of PNG files, and integers."
        )
    if table["label"].null_count or table.num_rows > MAX_BYTES // IMAGE_SIZE**2:
        raise DataError(
            f"{file} has {table.num_rows} rows and {table['label'].null_count} missing labels; "
            f"expected at most {MAX_BYTES // IMAGE_SIZE**2} rows, each with a label."
        )


def _check_pair(file: Path, images: np.ndarray, labels: np.ndarray) -> None:
    """Raise DataError unless there is one label in 0 to 9 for each image."""
    if len(images) != len(labels):
        raise DataError(
            f"{file} has {len(images)} images but its labels are {len(labels)}; "
            "they are not a pair."
        )
    whole = np.issubdtype(labels.dtype, np.integer)
    if len(labels) and not (whole and labels.min() >= 0 and labels.max() < NUM_CLASSES):
        raise DataError(f"{file} has labels outside 0 to {NUM_CLASSES - 1}.")
