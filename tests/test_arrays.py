"""Arrays from untrusted files: only the expected array is read, everything else is refused."""

from __future__ import annotations

import io
import tracemalloc

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as some

from lab.arrays import MAGIC, ArrayError, npy_bytes, read_array

CODES = np.arange(12, dtype=np.float16).reshape(3, 4)


def read(content: bytes, shape: tuple[int | None, ...] = (3, 4)) -> np.ndarray:
    return read_array(io.BytesIO(content), "codes", np.float16, shape)


def npy(array: np.ndarray, **how) -> bytes:
    buffer = io.BytesIO()
    np.save(buffer, array, **how)
    return buffer.getvalue()


def header(words: bytes) -> bytes:
    return MAGIC + len(words).to_bytes(2, "little") + words


@pytest.mark.parametrize("shape", [(3, 4), (None, 4), (3, None), (None, None)])
def test_the_expected_array_is_read(shape, tmp_path):
    array = read(npy_bytes(CODES), shape)
    assert np.array_equal(array, CODES) and array.dtype == np.float16
    array[0, 0] = 1  # writable
    (tmp_path / "codes.npy").write_bytes(npy_bytes(CODES))
    with open(tmp_path / "codes.npy", "rb") as file:
        assert np.array_equal(read_array(file, "codes", np.float16, shape), CODES)
    assert np.array_equal(np.load(tmp_path / "codes.npy"), CODES)


def test_an_array_in_any_order_is_written_in_c_order():
    assert npy_bytes(np.asfortranarray(CODES)) == npy_bytes(CODES)
    assert np.load(io.BytesIO(npy_bytes(np.float32(2.5)))).shape == ()
    assert read(npy_bytes(CODES[:0]), (None, 4)).shape == (0, 4)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "codes is not a complete .npy array"),
        (b"\x93NUMPY", "no header of a .npy file"),
        (b"PK\x03\x04 an .npz file", "no header of a .npy file"),
        (npy(np.zeros((3, 4))), r"codes is float64 \(3, 4\); expected float16 \(3, 4\)"),
        (npy(CODES.astype(">f2")), r"codes is >f2 \(3, 4\)"),
        (npy(np.zeros((4, 3), np.float16)), r"codes is float16 \(4, 3\)"),
        (npy(np.zeros(12, np.float16)), r"codes is float16 \(12,\)"),
        (npy(np.full((3, 4), np.nan, np.float16)), r"not finite \(nan or inf\)"),
        (npy(np.full((3, 4), -np.inf, np.float16)), r"not finite \(nan or inf\)"),
        (npy(np.array([{"a": 1}], object), allow_pickle=True), "holds Python objects"),
        (npy(CODES)[:-1], "it has 23 bytes of values, and its header states 24"),
        (npy(CODES) + b"more", "it has 28 bytes of values, and its header states 24"),
        (npy(np.asfortranarray(CODES)), r"\(3, 4\) in Fortran order"),
        (header(b" " * 2000), "no header of a .npy file"),
        (header(b"(" * 900), "not a complete .npy array"),
    ],
)
def test_other_content_is_refused(content, message):
    with pytest.raises(ArrayError, match=message):
        read(content)


def test_messages_name_an_axis_of_any_length():
    with pytest.raises(ArrayError, match=r"expected float16 \(any, 5\)"):
        read(npy(CODES), (None, 5))


@pytest.mark.parametrize("rows", [10**12, 10**30, -3])
def test_a_false_header_takes_no_memory(rows):
    words = b"{'descr': '<f2', 'fortran_order': False, 'shape': (%d, 4), }\n" % rows
    tracemalloc.start()
    with pytest.raises(ArrayError, match="not a complete .npy array"):
        read(header(words) + b"few", (None, 4))
    assert tracemalloc.get_traced_memory()[1] < 1 << 20
    tracemalloc.stop()


@given(some.text("{}()[]'descrfotanhp:,<f20123456789 \n\x00é", max_size=120), some.binary())
def test_no_header_does_more_than_raise_array_error(words, rest):
    with pytest.raises(ArrayError):
        read(header(words.encode("latin-1")) + rest)
