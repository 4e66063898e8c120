"""Damaged files: every reader refuses them with one clear sentence, or reads them right."""

from __future__ import annotations

import os
import sys
import zipfile

import numpy as np
import pytest
import torch

from data_utils import OUR_IMAGES, DataError, MNISTDataset
from lab import checkpoint
from lab.arrays import ArrayError, read_array
from lab.checkpoint import CheckpointError
from lab.outputs import OutputsError, read_facts
from staff.idx import LABELS, gzipped, idx_bytes
from tests.faults import damage
from tests.faults.mutations import gzip_bomb
from tests.faults.readers import READERS

LONG = os.environ.get("FAULTS") == "long"
CASES = 10_000 if LONG else 200
MANY = ("checkpoint, bytes", "checkpoint, values", "sweep record")  # ten times as slow as others
LARGE = 3 << 30  # bytes

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="needs fork and RLIMIT_AS")


@pytest.mark.parametrize("name", READERS)
def test_damaged_files_are_refused_or_read_right(name, tmp_path):
    reader = READERS[name]
    count = CASES if LONG or name not in MANY else CASES // 5
    outcomes = list(
        damage.read_damaged(reader, "test", range(round(count * reader.share)), tmp_path)
    )
    defects = [one for one in outcomes if isinstance(one, str)]
    assert not defects, f"kept in {tmp_path}: {defects[:5]}"


@pytest.mark.parametrize("name", READERS)
def test_valid_files_are_read(name, tmp_path):
    """Otherwise every damaged file would be refused for the wrong reason."""
    damage.write(tmp_path, READERS[name].files())
    READERS[name].read(tmp_path)


@pytest.mark.parametrize(
    ("reader", "case"), damage.corpus(), ids=lambda value: getattr(value, "name", "")
)
def test_what_was_found_before(reader, case, tmp_path):
    files = {file.relative_to(case).as_posix(): file for file in case.rglob("*") if file.is_file()}
    damage.write(tmp_path, reader.files())
    damage.write(tmp_path, {name: file.read_bytes() for name, file in files.items()})
    assert damage.outcome_of(reader, tmp_path) in (("refused", ""), ("read", ""))


def test_an_optimizer_state_of_another_shape_is_refused(tmp_path):
    """torch's fused Adam would write outside the memory of such a state."""
    reader = READERS["checkpoint, values"]
    damage.write(tmp_path, reader.files())
    state = torch.load(tmp_path / "epoch_1.pth", weights_only=True)
    moments = state["optimizer_state_dict"]["state"]
    shape = moments[0]["exp_avg"].shape
    for wrong in (torch.zeros(1), torch.zeros(()), torch.zeros(1).expand(shape)):
        moments[0]["exp_avg"] = wrong
        checkpoint.save(tmp_path / "epoch_1.pth", state)
        with pytest.raises(CheckpointError, match="another shape"):
            reader.read(tmp_path)


# ---------------------------------------------------------------- more bytes than fit in memory


def sparse(file, start: bytes = b""):
    """Write a file of 3 GiB that takes no space on the disk."""
    with open(file, "wb") as opened:
        opened.write(start)
        opened.truncate(LARGE)
    return file


def test_files_of_gigabytes_are_refused_before_they_are_read(tmp_path):
    tracked = (DataError, ArrayError, CheckpointError, OutputsError)
    sparse(tmp_path / OUR_IMAGES)
    sparse(tmp_path / "hyperparams.json")
    header = b"{'descr': '|u1', 'fortran_order': False, 'shape': (%d,), }" % (LARGE - 128)
    text = b"\x93NUMPY\x01\x00\x76\x00" + header.ljust(117) + b"\n"
    with open(sparse(tmp_path / "codes.npy", text), "rb") as stream, pytest.raises(tracked) as npy:
        read_array(stream, "codes.npy", np.uint8, (None,))
    with pytest.raises(tracked, match="larger than"):
        MNISTDataset(tmp_path)
    with pytest.raises(tracked, match="larger than"):
        checkpoint.load(sparse(tmp_path / "best.pth"))
    with pytest.raises(tracked, match="larger than"):
        read_facts(tmp_path)
    assert "larger than" in str(npy.value)


def test_a_bomb_is_not_unpacked(tmp_path):
    """A file of 3 MB that unpacks to 3 GiB, and states five images in its header."""
    header = idx_bytes(np.zeros((5, 28, 28)))[:16]
    (tmp_path / OUR_IMAGES).write_bytes(gzip_bomb(header, LARGE))
    (tmp_path / LABELS).write_bytes(gzipped(idx_bytes(np.zeros(5))))
    with pytest.raises(DataError, match="it holds more"):
        MNISTDataset(tmp_path)


def test_a_checkpoint_that_unpacks_to_more_than_its_size_is_refused(tmp_path):
    """torch reads a compressed checkpoint, so a small file could take any amount of memory."""
    whole, packed = tmp_path / "whole.pth", tmp_path / "packed.pth"
    state = {"w": torch.zeros(1 << 20)}
    checkpoint.save(whole, {"epoch": 1, "model_state_dict": state, "optimizer_state_dict": {}})
    with (
        zipfile.ZipFile(whole) as archive,
        zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as written,
    ):
        for member in archive.infolist():
            written.writestr(member.filename, archive.read(member))
    assert packed.stat().st_size < 100_000 < whole.stat().st_size
    assert torch.load(packed, weights_only=True)["model_state_dict"]["w"].shape == (1 << 20,)
    assert checkpoint.load(whole)["epoch"] == 1
    with pytest.raises(CheckpointError):
        checkpoint.load(packed)
