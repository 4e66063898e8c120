"""Read damaged files by the thousand, in a child process with bounded memory and time."""

from __future__ import annotations

import hashlib
import multiprocessing
import os
import random
import resource
import shutil
import signal
import tempfile
import warnings
from collections import Counter
from collections.abc import Iterable, Iterator
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import torch

from tests.faults.readers import READERS, Reader

CORPUS = Path(__file__).parent / "corpus"
MEMORY = 2 << 30  # bytes that a child may take in addition to what it starts with
SECONDS = 20  # per case; most take about a millisecond
MESSAGE = 1500  # characters of an error at most


class Hang(BaseException):
    """A case took too long."""


def read_damaged(
    reader: Reader,
    seed: str,
    numbers: Iterable[int],
    keep: Path | None = None,
    start: str = "fork",
) -> Iterator[Counter[str] | str]:
    """Read the cases with these numbers in child processes.

    Yields the counts of each child's outcomes, by "refused" and "read", and a text for each
    defect, with the number of its case. A child that crashes or hangs is a defect of the case that
    it was reading; the next child continues after this case.

    Args:
        reader, seed, numbers: the cases.
        keep: a folder in which the files of each defect are kept.
        start: how the child starts; "forkserver" for a process that has several threads.
    """
    left = list(numbers)
    while left:
        counts, defects, done = _in_child(reader, seed, left, start)
        for number, defect in defects:
            if keep:
                keep_case(keep, reader, _case(reader, reader.files(), seed, number))
            yield f"{reader.name}, case {seed}-{number}: {defect}"
        yield counts
        left = left[done:]


def _in_child(
    reader: Reader, seed: str, numbers: list[int], start: str
) -> tuple[Counter[str], list[tuple[int, str]], int]:
    """Return counts, defects with their case, and how many cases were read."""
    context: Any = multiprocessing.get_context(start)  # with torch loaded already
    if start == "forkserver":
        context.set_forkserver_preload(["tests.faults.readers"])
    receive, send = context.Pipe(duplex=False)
    child = context.Process(target=_read_all, args=(reader, seed, numbers, send))
    child.start()
    send.close()
    counts: Counter[str] = Counter()
    defects: list[tuple[int, str]] = []
    done, ended = 0, False
    try:
        while not ended and receive.poll(SECONDS + 10):
            outcome, text = receive.recv()
            if outcome == "end":
                ended = True
                continue
            if outcome == "defect":
                defects.append((numbers[done], text))
            else:
                counts[outcome] += 1
            done += 1
    except EOFError:  # the child died
        pass
    if not ended and done < len(numbers):
        child.kill()
        child.join()
        defects.append((numbers[done], f"the process ended with {child.exitcode}"))
        done += 1
    child.join()
    return counts, defects, done


def _read_all(reader: Reader, seed: str, numbers: list[int], send: Connection) -> None:
    """Read the cases and send the outcome of each. Runs in the child."""
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    most = pages * os.sysconf("SC_PAGE_SIZE") + MEMORY
    resource.setrlimit(resource.RLIMIT_AS, (most, most))
    signal.signal(signal.SIGALRM, _raise_hang)
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")  # of libraries, about damaged files
    files = reader.files()
    with tempfile.TemporaryDirectory(dir=_memory_folder()) as name:
        folder = Path(name)
        for number in numbers:
            write(folder, {**files, **_case(reader, files, seed, number)})
            send.send(outcome_of(reader, folder))
    send.send(("end", ""))
    os._exit(0)  # without the libraries' own clearing up, which a fork does not need


def _raise_hang(number: int, frame: Any) -> None:
    raise Hang


def _memory_folder() -> str | None:
    return "/dev/shm" if os.access("/dev/shm", os.W_OK) else None


def _case(reader: Reader, files: dict[str, bytes], seed: str, number: int) -> dict[str, bytes]:
    return reader.damage(files, random.Random(f"{seed}-{reader.name}-{number}"))


def write(folder: Path, files: dict[str, bytes]) -> None:
    """Write files into a folder, by name."""
    for name, content in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(content)


def outcome_of(reader: Reader, folder: Path) -> tuple[str, str]:
    """Return "refused", "read" or "defect", and what is wrong."""
    signal.setitimer(signal.ITIMER_REAL, SECONDS)
    try:
        try:
            reader.read(folder)
        finally:
            signal.setitimer(signal.ITIMER_REAL, 0)
        return "read", ""
    except reader.errors as error:
        text = str(error)
        if not 10 <= len(text) <= MESSAGE or not text.isprintable():
            return "defect", f"this message is not one clear sentence: {text[:300]!r}"
        return "refused", ""
    except Hang:
        return "defect", f"not read within {SECONDS} s"
    except BaseException as error:
        return "defect", f"{type(error).__name__}: {str(error)[:300]}{_place_of(error)}"


def _place_of(error: BaseException) -> str:
    """Return file and line of the error."""
    place = error.__traceback__
    while place and place.tb_next:
        place = place.tb_next
    return f" ({Path(place.tb_frame.f_code.co_filename).name}:{place.tb_lineno})" if place else ""


# ---------------------------------------------------------------- what was found


def keep_case(folder: Path, reader: Reader, files: dict[str, bytes]) -> None:
    """Keep the damaged files of a case: FOLDER/READER/HASH/NAME."""
    content = b"".join(files.values())
    case = folder / slug(reader) / hashlib.sha256(content).hexdigest()[:10]
    shutil.rmtree(case, ignore_errors=True)
    write(case, files)


def slug(reader: Reader) -> str:
    """Return the reader's name as the name of a folder."""
    return reader.name.lower().replace(", ", "-").replace(" ", "-")


def corpus() -> list[tuple[Reader, Path]]:
    """Return the kept cases: the reader, and the folder of its damaged files."""
    return [
        (reader, case)
        for reader in READERS.values()
        for case in sorted((CORPUS / slug(reader)).glob("*/"))
    ]
