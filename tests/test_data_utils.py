"""The dataset loader: the lab's splits, other IDX datasets, older tables, damaged files."""

from __future__ import annotations

import gzip
import hashlib
import io
import random
import shutil
import struct

import numpy as np
import pytest
import torch
from conftest import ROOT, run, write_dataset, write_idx
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

import data_utils
from data_utils import Batches, DataError, MNISTDataset, own_randomness, to_float, to_uint8


@pytest.mark.parametrize("split, count", [("train", 50_000), ("valid", 10_000), ("test", 10_000)])
def test_the_splits_have_the_stated_sizes(split, count):
    dataset = MNISTDataset(ROOT / "dataset" / split)
    assert dataset.images.shape == (count, 28, 28) and dataset.images.dtype == np.uint8
    assert dataset.labels.shape == (count,) and dataset.labels.dtype == np.int64
    assert set(dataset.labels) == set(range(10))


def test_split_is_the_published_order():
    """Train and valid together have the published MD5 checksum of the training images."""
    parts = [MNISTDataset(ROOT / "dataset" / split) for split in ("train", "valid")]
    pixels = b"".join(part.images.tobytes() for part in parts)
    header = bytes([0, 0, 8, 3]) + b"".join(n.to_bytes(4, "big") for n in (60_000, 28, 28))
    assert hashlib.md5(header + pixels).hexdigest() == "6bbc9ace898e44ae57da46a324031adb"
    test = MNISTDataset(ROOT / "dataset" / "test")
    header = bytes([0, 0, 8, 3]) + b"".join(n.to_bytes(4, "big") for n in (10_000, 28, 28))
    content = header + test.images.tobytes()
    assert hashlib.md5(content).hexdigest() == "2646ac647ad5339dbf082846283269ea"


def test_build_refuses_a_wrong_file(tmp_path):
    (tmp_path / "train-images-idx3-ubyte").write_bytes(b"not MNIST")
    result = run("staff.build_dataset", tmp_path, "--out", tmp_path / "out")
    assert result.returncode != 0 and "MD5" in result.stderr
    assert not (tmp_path / "out").exists()


def test_a_changed_file_of_the_lab_is_found(tmp_path, tiny_set):
    folder = write_dataset(tmp_path / "train", tiny_set.images, tiny_set.labels)
    sums = [
        f"{hashlib.sha256(file.read_bytes()).hexdigest()}  train/{file.name}\n"
        for file in sorted(folder.iterdir())
    ]
    (tmp_path / "SHA256SUMS").write_text("".join(sums))
    assert len(MNISTDataset(folder)) == len(tiny_set)
    write_idx(folder / "labels-idx1-ubyte.gz", 9 - tiny_set.labels)
    with pytest.raises(DataError, match="labels-idx1-ubyte.gz does not match its checksum"):
        MNISTDataset(folder)


@pytest.mark.parametrize("suffix", ["", ".gz"])
def test_other_datasets_in_mnists_format_can_be_read(tmp_path, tiny_set, suffix):
    """A published folder holds two pairs; the path of the images file chooses one."""
    for name, count in (("train", 100), ("t10k", 20)):
        write_idx(tmp_path / f"{name}-images-idx3-ubyte{suffix}", tiny_set.images[:count])
        write_idx(tmp_path / f"{name}-labels-idx1-ubyte{suffix}", tiny_set.labels[:count])
    assert len(MNISTDataset(tmp_path / f"t10k-images-idx3-ubyte{suffix}")) == 20
    with pytest.raises(DataError, match="several sets"):
        MNISTDataset(tmp_path)


def png(image: np.ndarray) -> bytes:
    file = io.BytesIO()
    Image.fromarray(image).save(file, "PNG")
    return file.getvalue()


def test_a_table_of_pictures_of_another_size_is_refused(tmp_path):
    pyarrow = pytest.importorskip("pyarrow")
    cells = [png(np.zeros((1, 1), np.uint8))]
    table = pyarrow.table({"image": cells, "label": [3]})
    with pyarrow.ipc.new_file(tmp_path / "data.arrow", table.schema) as writer:
        writer.write_table(table)
    with pytest.raises(DataError, match="image 0 is not a 28 x 28 PNG .it is 1 x 1 pixels"):
        MNISTDataset(tmp_path)


@pytest.mark.parametrize("kind", ["stream", "file", "parquet", "huggingface"])
def test_older_tables(tmp_path, tiny_set, kind):
    pyarrow = pytest.importorskip("pyarrow")
    parquet = pytest.importorskip("pyarrow.parquet")
    cells = [png(image) for image in tiny_set.images]
    if kind == "huggingface":
        cells = [{"bytes": cell, "path": None} for cell in cells]
    table = pyarrow.table({"image": cells, "label": tiny_set.labels})
    path = tmp_path / ("data.parquet" if kind == "parquet" else "data.arrow")
    if kind == "parquet":
        parquet.write_table(table, path)
    else:
        new = pyarrow.ipc.new_file if kind == "file" else pyarrow.ipc.new_stream
        with new(path, table.schema) as writer:
            writer.write_table(table)
    dataset = MNISTDataset(tmp_path)
    assert np.array_equal(dataset.images, tiny_set.images)
    assert dataset.sha256 == tiny_set.sha256


def _cut(folder, tiny):
    file = folder / "images-idx3-ubyte.gz"
    file.write_bytes(file.read_bytes()[:-2000])


def _short(folder, tiny):
    raw = gzip.decompress((folder / "images-idx3-ubyte.gz").read_bytes())
    (folder / "images-idx3-ubyte.gz").write_bytes(gzip.compress(raw[:-1]))


def _long(folder, tiny):
    raw = gzip.decompress((folder / "images-idx3-ubyte.gz").read_bytes())
    (folder / "images-idx3-ubyte.gz").write_bytes(gzip.compress(raw + b"\0"))


def _foreign(folder, tiny):
    (folder / "images-idx3-ubyte.gz").write_bytes(b"\x89PNG\r\n and so on")


def _swapped(folder, tiny):
    shutil.copy(folder / "labels-idx1-ubyte.gz", folder / "images-idx3-ubyte.gz")


def _no_labels(folder, tiny):
    (folder / "labels-idx1-ubyte.gz").unlink()


def _too_few_labels(folder, tiny):
    write_idx(folder / "labels-idx1-ubyte.gz", tiny.labels[:-1])


def _label_ten(folder, tiny):
    write_idx(folder / "labels-idx1-ubyte.gz", tiny.labels + 1)


def _size(folder, tiny):
    write_idx(folder / "images-idx3-ubyte.gz", tiny.images[:, :27])


def _empty(folder, tiny):
    write_dataset(folder, tiny.images[:0], tiny.labels[:0])


@pytest.mark.parametrize(
    "change, words",
    [
        (_cut, "cut short"),
        (_short, "its header states"),
        (_long, "holds more"),
        (_foreign, "begins with 89504e47"),
        (_swapped, "not an IDX file of 3"),
        (_no_labels, "labels-idx1-ubyte.gz is missing"),
        (_too_few_labels, "not a pair"),
        (_label_ten, "labels outside 0 to 9"),
        (_size, "27 x 28"),
        (_empty, "holds no images"),
    ],
)
def test_damaged_files_are_named(tmp_path, tiny_set, change, words):
    folder = write_dataset(tmp_path / "set", tiny_set.images, tiny_set.labels)
    change(folder, tiny_set)
    with pytest.raises(DataError, match=words) as caught:
        MNISTDataset(folder)
    assert str(folder) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_missing_and_empty_folders(tmp_path):
    with pytest.raises(DataError, match="does not exist"):
        MNISTDataset(tmp_path / "nowhere")
    with pytest.raises(DataError, match="holds no dataset"):
        MNISTDataset(tmp_path)


HUGE = st.sampled_from([0, 1, 28, 2**31, 2**32 - 1])
HEADERS = st.tuples(HUGE, HUGE, HUGE).map(lambda sizes: struct.pack(">I3I", 0x803, *sizes))


@settings(max_examples=100)
@given(st.binary(max_size=300) | HEADERS, st.booleans())
def test_no_bytes_crash_the_loader(tmp_path_factory, content, zipped):
    """Any content gives a DataError; large sizes in a header take no memory."""
    folder = tmp_path_factory.mktemp("fuzz")
    (folder / "images-idx3-ubyte").write_bytes(gzip.compress(content) if zipped else content)
    write_idx(folder / "labels-idx1-ubyte", np.zeros(1))
    with pytest.raises(DataError):
        MNISTDataset(folder)


def test_a_dataloader_can_batch_the_dataset(tiny_set):
    image, label = tiny_set[3]
    assert image.shape == (1, 28, 28) and image.dtype == torch.float32
    assert image.max() == tiny_set.images[3].max() / 255 and label == tiny_set.labels[3]
    batch, labels = next(iter(torch.utils.data.DataLoader(tiny_set, batch_size=5)))
    assert batch.shape == (5, 1, 28, 28) and labels.dtype == torch.int64


@settings(max_examples=30)
@given(batch_size=st.integers(1, 130), epoch=st.integers(0, 5), seed=st.integers(0, 2**31))
def test_batches_hold_each_image_once(tiny_set, batch_size, epoch, seed):
    batches = Batches(tiny_set, batch_size, "cpu", seed)
    seen = [x for x, _ in batches.epoch(epoch)]
    assert len(seen) == len(batches)
    images = np.concatenate([to_uint8(x.squeeze(1)) for x in seen])
    left_out = len(tiny_set) - len(images)
    assert left_out in ((0, 1) if batch_size > 1 else (0,))
    expected = {image.tobytes() for image in tiny_set.images}
    assert len({image.tobytes() for image in images}) >= len(expected) - left_out


def test_batches_resume_where_they_stopped(tiny_set):
    batches = Batches(tiny_set, 16, "cpu", seed=7)
    whole = [labels for _, labels in batches.epoch(3)]
    rest = [labels for _, labels in batches.epoch(3, skip=4)]
    assert all(torch.equal(a, b) for a, b in zip(whole[4:], rest))
    other = [labels for _, labels in batches.epoch(4)]
    assert not all(torch.equal(a, b) for a, b in zip(whole, other))


def test_bytes_survive_the_conversion_to_float_and_back(tiny_set):
    images = torch.from_numpy(tiny_set.images)
    assert np.array_equal(to_uint8(to_float(images)[:, 0]), tiny_set.images)


def test_own_randomness_does_not_change_later_random_numbers():
    def draw():
        return random.random(), np.random.rand(), torch.rand(1).item()

    data_utils.set_seed(1)
    expected = draw()
    data_utils.set_seed(1)
    with own_randomness(5):
        inside = draw()
    assert draw() == expected
    with own_randomness(5):
        assert draw() == inside
