"""Shared by the commands: help with examples, errors of one sentence, and requests to stop.

Beside the project's path, only the standard library is imported here, so `--help` and errors in
options are fast, and a missing package can be explained.
"""

from __future__ import annotations

import argparse
import difflib
import errno
import io
import os
import shlex
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from types import FrameType, TracebackType
from typing import Any, NoReturn

from lab import ROOT

STATUS_OF_ERROR = 2
# The packages of requirements.txt, by the names under which they are imported.
CORE_PACKAGES = ("PIL", "matplotlib", "numpy", "scipy", "skimage", "torch", "tqdm")
# What asks a command to stop: Ctrl-C, a scheduler, a terminal that closes (Windows has no SIGHUP).
STOP_SIGNALS = [
    getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name)
]
_last_signal = signal.SIGINT


class HelpFormatter(argparse.ArgumentDefaultsHelpFormatter, argparse.RawTextHelpFormatter):
    """Shows every default value, and the examples with their line breaks."""


class Parser(argparse.ArgumentParser):
    """Reports an error in one line, and names the nearest option where one is mistyped."""

    def parse_args(self, args: Iterable[str] | None = None, namespace: Any = None) -> Any:
        """Return the options; end the program with status 2 at a word that is none of them."""
        options, unknown = self.parse_known_args(args, namespace)
        if unknown:
            word = unknown[0].partition("=")[0]
            known = [name for action in self._actions for name in action.option_strings]
            near = difflib.get_close_matches(word, known, 1, cutoff=0.7)
            self.error(f"unknown option {word}" + (f"; did you mean {near[0]}?" if near else ""))
        return options

    def error(self, message: str) -> NoReturn:
        """End the program with one line and status 2."""
        end = "" if message.endswith("?") else ";"
        self.exit(STATUS_OF_ERROR, f"{self.prog}: error: {message}{end} see --help\n")


def make_parser(description: str | None, examples: str) -> argparse.ArgumentParser:
    """Return a parser that shows examples and rejects abbreviated or mistyped options."""
    return Parser(
        description=description, epilog=examples, formatter_class=HelpFormatter, allow_abbrev=False
    )


def as_typed(*words: object) -> str:
    """Return a command of the lab as a user types it: `python WORDS`, quoted where needed."""
    texts = ["python", *map(str, words)]
    return subprocess.list2cmdline(texts) if sys.platform == "win32" else shlex.join(texts)


def given_options(parser: argparse.ArgumentParser) -> set[str]:
    """Return the names of the options that the user typed, without those left at their default.

    Changes the parser: afterwards it has no defaults.
    """
    not_given = object()
    parser.set_defaults(**dict.fromkeys(vars(parser.parse_args()), not_given))
    return {name for name, value in vars(parser.parse_args()).items() if value is not not_given}


def run(main: Callable[[], object]) -> None:
    """Run the main() of a command: `if __name__ == "__main__": command.run(main)`.

    Ctrl-C ends the process with one line on stderr and status 130, also while libraries are
    imported. A reader that closes the output, as `| head -1` does, ends it with status 1.
    """
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):  # a name that a locale cannot show is no error
            stream.reconfigure(errors="backslashreplace")
    # A shell may start a background job with SIGINT ignored; then it stays ignored.
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        signal.signal(signal.SIGINT, _interrupt)
    try:
        try:
            main()
        except KeyboardInterrupt:
            sys.exit(_report_interrupt(Path(sys.argv[0]).name))
        finally:
            print(end="", flush=True)  # at exit, Python would report a closed pipe by itself
    except BrokenPipeError:  # see docs.python.org/3/library/signal.html#note-on-sigpipe
        _discard_output((1, 2))
        sys.exit(1)


def _explain_missing_package(
    kind: type[BaseException], error: BaseException, trace: TracebackType | None
) -> None:
    """Report a package that is not installed in one sentence, any other error as Python does."""
    if not isinstance(error, ModuleNotFoundError) or error.name not in CORE_PACKAGES:
        sys.__excepthook__(kind, error, trace)
        return
    windows = sys.platform == "win32"
    activate = ".venv\\Scripts\\activate" if windows else "source .venv/bin/activate"
    todo = f"activate the lab's environment first: {activate}"
    if not (ROOT / ".venv").is_dir() or Path(sys.prefix).resolve() == (ROOT / ".venv").resolve():
        todo = 'set up the lab first: see "Set-up" in README.md'
    print(
        f"{Path(sys.argv[0]).name}: error: this Python, {sys.executable}, has no package "
        f"{error.name}; {todo}",
        file=sys.stderr,
    )
    sys.exit(STATUS_OF_ERROR)


# The commands import this module first, so it also explains a failed import of their own.
sys.excepthook = _explain_missing_package


def _interrupt(number: int, frame: FrameType | None) -> None:
    """Raise KeyboardInterrupt, or end the process if it is importing something.

    Libraries swallow an exception in their imports or turn it into another one: of 24 interrupts
    of `import torch, matplotlib, skimage`, three were lost and one ended in another traceback.
    """
    while frame is not None:
        if frame.f_code.co_filename == "<frozen importlib._bootstrap>":
            with suppress(Exception):
                sys.stdout.flush()
            os._exit(_report_interrupt(Path(sys.argv[0]).name))
        frame = frame.f_back
    raise KeyboardInterrupt


def _report_interrupt(program: str) -> int:
    """Print that the program was interrupted; return the exit status."""
    print(f"{program}: interrupted", file=sys.stderr, flush=True)
    return status_of_stop()


def status_of_stop() -> int:
    """Return the exit status after a stop: 128 + the signal, as shells report it; 130 is Ctrl-C."""
    return 128 + _last_signal


@contextmanager
def clear_errors(program: str, *expected: type[Exception]) -> Iterator[None]:
    """End the program with one sentence and status 2 on the expected errors and OSError.

    Ctrl-C ends it with one line and status 130. A closed pipe is left to `run`. Any other exception
    is a defect of the lab and keeps its traceback.
    """
    errors: tuple[type[Exception], ...] = (OSError, *expected)
    try:
        yield
    except BrokenPipeError:
        raise
    except errors as error:
        message = str(error)
        if isinstance(error, OSError) and error.filename:
            message = f"{error.filename}: {error.strerror}"
        elif isinstance(error, OSError) and error.errno == errno.ENOSPC:  # of a write to a log
            message = f"{error.strerror}; make room, then run the command again."
        print(f"{program}: error: {message}", file=sys.stderr)
        sys.exit(STATUS_OF_ERROR)
    except KeyboardInterrupt:
        sys.exit(_report_interrupt(program))


@contextmanager
def stop_requests() -> Iterator[threading.Event]:
    """Turn the first of STOP_SIGNALS into a request to stop: an event.

    The caller stops at the next complete step and exits with `status_of_stop()`. A second signal
    raises KeyboardInterrupt. Signals that the process ignores, as `nohup` asks for, stay ignored.
    """
    stop = threading.Event()
    terminals = [number for number in (1, 2) if os.isatty(number)]

    def request(number: int, frame: object) -> None:
        global _last_signal
        _last_signal = signal.Signals(number)
        if number == getattr(signal, "SIGHUP", None):
            _discard_output(terminals)  # they are gone, so printing to them would fail
        if stop.is_set():
            raise KeyboardInterrupt
        stop.set()

    if threading.current_thread() is not threading.main_thread():
        yield stop  # Python handles signals in the main thread only
        return
    before = {
        number: signal.signal(number, request)
        for number in STOP_SIGNALS
        if signal.getsignal(number) is not signal.SIG_IGN
    }
    try:
        yield stop
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _discard_output(descriptors: Iterable[int]) -> None:
    nowhere = os.open(os.devnull, os.O_WRONLY)
    for descriptor in descriptors:
        os.dup2(nowhere, descriptor)
    os.close(nowhere)


def plain(value: Any) -> Any:
    """Return an option as JSON and a checkpoint can store it; paths get / on every system."""
    return value.as_posix() if isinstance(value, Path) else value
