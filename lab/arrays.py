"""Read and write .npy files whose content is not trusted: a header is checked before its values.

numpy's own `load` accepts any dtype and shape, and trusts the size that the header states. Here the
caller says what is expected, and nothing else is read.
"""

from __future__ import annotations

import io
import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import DTypeLike

MAGIC = b"\x93NUMPY\x01\x00"  # version 1.0, which numpy writes for every plain dtype
MAX_HEADER_BYTES = 1000  # numpy's own headers of plain arrays have 118
MAX_BYTES = 1024**3  # of values: 1.3 million images


class ArrayError(ValueError):
    """An array is damaged or not of the expected dtype and shape; the message says what came."""


def read_array(
    stream: io.BufferedIOBase, name: str, dtype: DTypeLike, shape: Sequence[int | None]
) -> np.ndarray:
    """Read a .npy file, which must hold exactly one finite array of this dtype and shape.

    Args:
        stream: the file, opened for reading in binary mode and seekable.
        name: its name in error messages, for example its path.
        dtype: the expected dtype, byte order included.
        shape: the expected shape; None stands for any length of that axis.

    The size that the header states is compared with the bytes that follow before these are read,
    so a false header cannot make this function allocate memory. Pickled objects are never loaded.

    Returns a writable array in C order. Raises ArrayError, with what was expected and what came.
    """
    expected = f"{np.dtype(dtype)} {_text_of(shape)}"

    def incomplete(reason: object) -> ArrayError:
        return ArrayError(f"{name} is not a complete .npy array ({reason}); expected {expected}.")

    try:
        came_shape, fortran_order, came_dtype = _read_header(stream)
    except Exception as error:  # numpy parses the header as Python, which fails in many ways
        raise incomplete(error) from None
    if came_dtype.hasobject:
        raise incomplete("it holds Python objects")
    start = stream.tell()
    found = stream.seek(0, io.SEEK_END) - start
    stated = came_dtype.itemsize * math.prod(came_shape)
    if found != stated:
        raise incomplete(f"it has {found} bytes of values, and its header states {stated}")
    if found > MAX_BYTES:
        raise ArrayError(f"{name} is larger than {MAX_BYTES} bytes; expected {expected}.")
    fits = len(came_shape) == len(shape)
    fits = fits and all(wanted in (None, came) for wanted, came in zip(shape, came_shape))
    if not fits or came_dtype != np.dtype(dtype) or fortran_order:
        order = " in Fortran order" if fortran_order else ""
        raise ArrayError(
            f"{name} is {came_dtype} {_text_of(came_shape)}{order}; expected {expected}."
        )
    stream.seek(start)
    values = bytearray(stated)
    if stream.readinto(values) != stated:
        raise incomplete("it became shorter while it was read")
    array: np.ndarray = np.frombuffer(values, came_dtype).reshape(came_shape)
    if not np.isfinite(array).all():
        raise ArrayError(f"{name} has values that are not finite (nan or inf).")
    return array


def _read_header(stream: io.BufferedIOBase) -> tuple[tuple[int, ...], bool, np.dtype]:
    """Return shape, whether the order is Fortran's, and dtype; the stream is then at the values."""
    magic, length = stream.read(len(MAGIC)), stream.read(2)  # little-endian uint16
    size = int.from_bytes(length, "little")
    if magic != MAGIC or size > MAX_HEADER_BYTES:
        raise ValueError("it has no header of a .npy file, version 1.0")
    return np.lib.format.read_array_header_1_0(io.BytesIO(length + stream.read(size)))


def _text_of(shape: Sequence[int | None]) -> str:
    """Return a shape as numpy prints it, with `any` for None."""
    lengths = ["any" if length is None else str(length) for length in shape]
    return f"({', '.join(lengths)}{',' if len(lengths) == 1 else ''})"


def npy_bytes(array: np.ndarray) -> bytes:
    """Return an array as the bytes of a .npy file, in C order, as `read_array` expects it."""
    buffer = io.BytesIO()
    np.save(buffer, np.asarray(array, order="C"), allow_pickle=False)
    return buffer.getvalue()
