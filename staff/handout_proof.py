"""Check the handout in a temporary copy: it contains no solution, and its commands work.

Each step takes the unzipped folder and returns a short text about what it checked. It raises
HandoutError if the handout has a fault.
"""

from __future__ import annotations

import hashlib
import io
import json
import os
import re
import shlex
import shutil
import subprocess
import sys
import tempfile
import time
import zipfile
from collections.abc import Callable, Sequence
from pathlib import Path

from data_utils import MNISTDataset
from lab.checks.points import judge
from lab.checks.record import record
from lab.checks.recording import PUBLIC
from lab.checks.rubric import TESTS, most, rubric
from staff.idx import write_split
from staff.notebook import code_of
from staff.solutions import BEGIN, END, OPTIONAL, HandoutError, blank, leaks, solutions
from staff.statuses import TASKS

QUICK_RECIPE = "--epochs 1 --batch_size 50 --train_data tiny --valid_data tiny"
QUICK_IMAGES = 300  # the first of dataset/valid; several of each label


def prove(content: bytes, reference: str, left_out: Sequence[str], full: bool = False) -> None:
    """Unzip the handout, run every step, and print one line per step. Raises HandoutError.

    Args:
        content: the zip.
        reference: the text of submission.py with its solutions.
        left_out: files and folders of the repository that are not in the handout.
        full: run `make demo` on all data, as students do.
    """
    with tempfile.TemporaryDirectory() as temporary:
        with zipfile.ZipFile(io.BytesIO(content)) as packed:
            packed.extractall(temporary)
        (folder,) = Path(temporary).iterdir()
        steps: dict[str, Callable[[], str]] = {
            "every Python file compiles": lambda: compiles(folder),
            "it contains no solution": lambda: has_no_solutions(folder, reference),
            "it has no broken references": lambda: has_no_broken_references(folder, left_out),
            "the data match their checksums": lambda: sums_match(folder),
            "the blank submission has no points": lambda: blank_has_no_points(folder),
            "each TODO gives its own points": lambda: todo_by_todo(folder, reference),
            "with the solutions, check.py passes": lambda: passes_filled_in(folder, reference),
            "with the solutions, `make demo` runs": (
                lambda: demo_in_full(folder) if full else demo(folder)
            ),
        }
        for name, step in steps.items():
            start = time.perf_counter()
            found = step()
            print(f"  ok    {name}: {found} ({time.perf_counter() - start:.1f} s)", flush=True)


# ---------------------------------------------------------------- its files


def compiles(folder: Path) -> str:
    """Check that every .py file compiles."""
    files = sorted(folder.rglob("*.py"))
    for file in files:
        name = file.relative_to(folder).as_posix()
        try:
            compile(file.read_bytes(), name, "exec", dont_inherit=True)
        except (SyntaxError, ValueError) as error:
            line = getattr(error, "lineno", None) or 1
            raise HandoutError(f"{name}, line {line} does not compile: {error}") from None
    return f"{len(files)} files"


def has_no_solutions(folder: Path, reference: str) -> str:
    """Check that no file has a solution marker or lines of a solution (see `leaks`)."""
    files = {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }
    for name, content in files.items():
        if BEGIN.encode() in content or END.encode() in content:
            raise HandoutError(f"{name} has a marker of a solution.")
    for name, content in files.items():
        if name.endswith(".ipynb"):  # its lines of code stand in quotation marks
            files[name] = code_of(content).encode()
    for leak in leaks(reference, files):
        raise HandoutError(leak)
    return f"{len(files)} files, {len(solutions(reference))} solutions"


def has_no_broken_references(folder: Path, left_out: Sequence[str]) -> str:
    """Check that no text names a file that was left out, a missing link or an unknown target."""
    # A folder at the top is searched with its slash: "tests" alone is an ordinary word.
    names = "|".join(re.escape(f"{name}/" if name.isalpha() else name) for name in left_out)
    missing = re.compile(rf"(?<![\w-])(?:{names})(?:(?<=/)|(?!\w))")
    targets = set(re.findall(r"^([a-z]+):", _read(folder / "Makefile"), re.MULTILINE))
    texts = [path for path in sorted(folder.rglob("*")) if _is_text(path)]
    for path in texts:
        name = path.relative_to(folder).as_posix()
        for number, line in enumerate(_read(path).split("\n"), 1):
            place = f"{name}, line {number}"
            if found := missing.search(line):
                raise HandoutError(f"{place} names {found[0]}, which is not in the handout.")
            if path.suffix != ".md" and name != "Makefile":
                continue
            for link in re.findall(r"\]\((?!http|#)([^)#]+)", line):
                if not (path.parent / link).exists():
                    raise HandoutError(f"{place} links to {link}, which is not in the handout.")
            for target in re.findall(r"(?:^|^# |`)make ([a-z]+)(?=`|$|  )", line):
                if target not in targets:
                    raise HandoutError(f"{place} names `make {target}`, which is not a target.")
    return f"{len(texts)} texts"


def sums_match(folder: Path) -> str:
    """Check that SHA256SUMS lists exactly the data files of the handout, with their sums."""
    data = folder / "dataset"
    lines = _read(data / "SHA256SUMS").splitlines()
    listed = {name: digest for digest, name in (line.split() for line in lines)}
    there = {
        path.relative_to(data).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in data.glob("*/*.gz")
    }
    for name in sorted(listed.keys() | there.keys()):
        if listed.get(name) != there.get(name):
            raise HandoutError(f"dataset/{name} and its line in dataset/SHA256SUMS do not agree.")
    return f"{len(there)} files"


def _is_text(path: Path) -> bool:
    return path.is_file() and b"\0" not in path.read_bytes()


def _read(path: Path) -> str:
    return path.read_text(encoding="utf-8")


# ---------------------------------------------------------------- its commands


def blank_has_no_points(folder: Path) -> str:
    """Check that `python check.py` gives the blank submission no point, and names every TODO."""
    result = _run(folder, sys.executable, "check.py", "--quick")
    todos = [part.number for part in rubric().values() if part.graded == TESTS]
    lines = re.findall(r"^(\d[\d.]*) .* 0 / \d+$", result.stdout, re.MULTILINE)
    if result.returncode != 1 or lines != todos:
        raise HandoutError(f"check.py does not give each TODO 0 points: {_last_line(result)}")
    return f"{len(todos)} TODOs"


def todo_by_todo(folder: Path, reference: str) -> str:
    """Check that each TODO, when it is filled in, gives exactly its own points.

    The optional helpers are filled in from the start, because the reference solutions call them.
    """
    todos = [one.number for one in solutions(reference) if one.number != OPTIONAL]
    tested = {part.number for part in rubric().values() if part.graded == TESTS}
    if missed := sorted(set(todos) - tested):
        raise HandoutError(f"no check reaches TODO {', '.join(missed)}.")
    for count, todo in enumerate(todos, 1):
        file, filled = folder / f"filled_{count}.py", set(todos[:count])
        file.write_text(blank(reference, keep={OPTIONAL, *filled}), encoding="utf-8")
        found = judge([(record(file), PUBLIC)])
        full = {number for number, one in found.items() if one.points == one.part.points}
        none = {number for number, one in found.items() if not one.points}
        if full != filled or none != tested - filled:
            raise HandoutError(f"TODO {todo} filled in: all points for {', '.join(sorted(full))}.")
    return " ".join(todos)


def passes_filled_in(folder: Path, reference: str) -> str:
    """Fill in every solution in the folder and check that check.py passes."""
    numbers = {solution.number for solution in solutions(reference)}
    filled_in = blank(reference, keep=numbers)
    (folder / "submission.py").write_text(filled_in, encoding="utf-8")
    result = _run(folder, sys.executable, "check.py", "--quick")
    if result.returncode != 0:
        raise HandoutError(f"the reference fails check.py: {_last_line(result)}")
    return f"{most(TESTS)} points"


def demo(folder: Path) -> str:
    """Check that `make demo` runs on a few images and grades both tasks."""
    whole = MNISTDataset(folder / "dataset" / "valid")
    write_split(folder / "tiny", whole.images[:QUICK_IMAGES], whole.labels[:QUICK_IMAGES])
    return _make_demo(folder, f"DEMO=--no_explorer --data tiny --recipe '{QUICK_RECIPE}'")


def demo_in_full(folder: Path) -> str:
    """Check that `make demo` runs on all data, as students run it."""
    return _make_demo(folder)


def _make_demo(folder: Path, *variables: str) -> str:
    """Run the handout's Makefile with this Python instead of a new virtual environment."""
    if not shutil.which("make"):
        raise HandoutError("the check runs `make demo`: install make, or build with --no-proof.")
    python = folder / ".venv" / "bin" / "python"
    python.parent.mkdir(parents=True, exist_ok=True)
    python.write_text(f'#!/bin/sh\nexec {shlex.quote(sys.executable)} "$@"\n', encoding="utf-8")
    python.chmod(0o755)
    for marker in ("core", "explore"):  # so that make installs nothing
        (folder / ".venv" / marker).touch()
    result = _run(folder, "make", "demo", *variables)
    if result.returncode != 0:
        raise HandoutError(f"`make demo` fails: {_last_line(result)}")
    grades = json.loads(_read(folder / "runs" / "demo-grade.json"))
    if set(grades) != set(TASKS):
        raise HandoutError(f"`make demo` graded {sorted(grades)}; expected both tasks.")
    return ", ".join(
        f"{task} {row['score']:.2f} / {row['cap']:.0f} on {row['n']} images"
        for task, row in grades.items()
    )


def _run(folder: Path, *words: str) -> subprocess.CompletedProcess[str]:
    """Run a command in the folder, without the variables of this repository or an outer make."""
    outer = ("PYTHONPATH", "MAKEFLAGS", "MAKEOVERRIDES", "MFLAGS", "MAKELEVEL")
    environment = {name: value for name, value in os.environ.items() if name not in outer}
    environment["PYTHONIOENCODING"] = "utf-8"
    return subprocess.run(
        words, cwd=folder, env=environment, capture_output=True, encoding="utf-8", errors="replace"
    )


def _last_line(result: subprocess.CompletedProcess[str]) -> str:
    """Return the last line that a command printed, of its errors if there are any."""
    lines = (result.stderr.strip() or result.stdout.strip() or "no output").splitlines()
    return lines[-1].strip()
