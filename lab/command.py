"""What the commands share: help with examples, errors of one sentence, a Ctrl-C that waits."""

from __future__ import annotations

import argparse
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any


class HelpFormatter(argparse.ArgumentDefaultsHelpFormatter, argparse.RawTextHelpFormatter):
    """Shows every default, and the examples as they are written."""


def make_parser(description: str, examples: str) -> argparse.ArgumentParser:
    """Return a parser that shows examples and rejects abbreviated or mistyped options."""
    return argparse.ArgumentParser(
        description=description, epilog=examples, formatter_class=HelpFormatter, allow_abbrev=False
    )


def given_options(parser: argparse.ArgumentParser) -> set[str]:
    """Return the names of the options that the user typed, as against those left at default.

    The parser's defaults are gone afterwards.
    """
    not_given = object()
    parser.set_defaults(**dict.fromkeys(vars(parser.parse_args()), not_given))
    return {name for name, value in vars(parser.parse_args()).items() if value is not not_given}


@contextmanager
def clear_errors(program: str, *expected: type[Exception]) -> Iterator[None]:
    """End the program with one sentence and status 2 on the expected errors and OSError.

    Any other exception is a defect of ours and keeps its traceback.
    """
    try:
        yield
    except (OSError, *expected) as error:
        message = str(error)
        if isinstance(error, OSError) and error.filename:
            message = f"{error.filename}: {error.strerror}"
        print(f"{program}: error: {message}", file=sys.stderr)
        sys.exit(2)
    except KeyboardInterrupt:
        print(f"{program}: stopped", file=sys.stderr)
        sys.exit(130)


@contextmanager
def stop_requests() -> Iterator[threading.Event]:
    """Turn the first Ctrl-C, or a scheduler's SIGTERM, into a stop at the next complete step.

    A second one stops at once.
    """
    stop = threading.Event()

    def request(number: int, frame: object) -> None:
        if stop.is_set():
            raise KeyboardInterrupt
        stop.set()

    if threading.current_thread() is not threading.main_thread():
        yield stop  # Python handles signals in the main thread only
        return
    before = {number: signal.signal(number, request) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield stop
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def plain(value: Any) -> Any:
    """Return an option as JSON and a checkpoint can hold it; paths with / on every system."""
    return value.as_posix() if isinstance(value, Path) else value
