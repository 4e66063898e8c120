"""Stop code that does not end, on every system: another thread raises an exception in it."""

from __future__ import annotations

import ctypes
import threading
from collections.abc import Iterator
from contextlib import contextmanager


class TooLongError(BaseException):
    """Raised in the code. Not an Exception, so that no `except Exception` of a student keeps it."""


@contextmanager
def time_limit(seconds: float) -> Iterator[None]:
    """Raise TooLongError in the block if it has not ended after so many seconds by the clock.

    It is raised once, between two steps of Python, so one long call into C is not interrupted.
    """
    block, ended, lock = threading.get_ident(), threading.Event(), threading.Lock()

    def watch() -> None:
        if not ended.wait(seconds):
            with lock:
                if not ended.is_set():
                    _raise_in(block, ctypes.py_object(TooLongError))

    threading.Thread(target=watch, daemon=True).start()
    try:
        yield
    finally:
        with lock:
            ended.set()
            _raise_in(block, None)  # withdraws what is not raised yet


def _raise_in(thread: int, error: ctypes.py_object[type[BaseException]] | None) -> None:
    # signal.setitimer would do the same, but not on Windows and only in the main thread.
    ctypes.pythonapi.PyThreadState_SetAsyncExc(ctypes.c_ulong(thread), error)
