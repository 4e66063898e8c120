"""Reads what a stage returned: bytes from a stranger, until they are the array expected."""

from __future__ import annotations

import io

import numpy as np


class Breach(Exception):
    """What a stage returned is not what it must be; says how. The student's fault."""


def read_array(said: bytes, name: str, dtype: type, shape: tuple[int, ...]) -> np.ndarray:
    """Read the bytes of a .npy file that must be of this dtype and shape, and finite.

    The header is read first, so that what it claims bounds what is read. Raises Breach.
    """
    wanted = f"{np.dtype(dtype)} {shape}"
    stream = io.BytesIO(said)
    try:
        version = np.lib.format.read_magic(stream)
        read = {(1, 0): np.lib.format.read_array_header_1_0}.get(version)
        if read is None:
            raise ValueError(f"version {version}")
        came_shape, fortran, came_dtype = read(stream, max_header_size=1000)
    except Exception as error:  # numpy parses the header as Python, which can fail in many ways
        raise Breach(f"{name} came back as no array ({error}); expected {wanted}.") from None
    if came_dtype != np.dtype(dtype) or came_shape != shape or fortran:
        raise Breach(f"{name} came back as {came_dtype} {came_shape}; expected {wanted}.")
    values = said[stream.tell() :]
    if len(values) != np.dtype(dtype).itemsize * int(np.prod(shape)):
        raise Breach(f"{name} came back with {len(values)} bytes; expected {wanted}.")
    array = np.frombuffer(values, dtype).reshape(shape)
    if not np.isfinite(array).all():
        raise Breach(f"{name} has values that are not finite (nan or inf).")
    return array


def is_count(value: object, most: int) -> bool:
    """Whether a value is a whole number from 1 to `most`."""
    return isinstance(value, int) and not isinstance(value, bool) and 1 <= value <= most
