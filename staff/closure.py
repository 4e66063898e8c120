"""The import closure of a program: all files of the lab that it imports, found in the source.

The files that the sandbox mounts, that the grader's hash covers and that autograder.zip contains
are derived from it, so that no list must be kept by hand.
"""

from __future__ import annotations

import ast
import functools
from collections.abc import Iterable, Iterator
from pathlib import Path

from lab import ROOT
from lab.checks.rubric import RUBRIC_FILE
from lab.evaluation.judge import JUDGE_FILE

DATA_FILES = (JUDGE_FILE, RUBRIC_FILE)  # that the lab's modules read; no import shows them


def closure(entries: Iterable[Path], root: Path = ROOT) -> list[Path]:
    """Return the files below `root` that the entries run, sorted.

    Args:
        entries: paths of Python files below `root`. They and their packages are in the closure.
        root: the folder that imports start from.

    Imports inside functions count. Imports in `if TYPE_CHECKING:` do not. Modules that are found
    only at run time (importlib, a subprocess) are not seen; give them as entries.

    Raises ValueError for a relative import.
    """
    found: set[Path] = set()
    left = [file for entry in entries for file in _files_of(_dotted(entry, root), root)]
    while left:
        file = left.pop()
        if file not in found:
            found.add(file)
            left += imported_files(file, root)
    return sorted(found)


def imported_files(file: Path, root: Path = ROOT, for_types: bool = False) -> list[Path]:
    """Return the files below `root` that one file imports, with the packages that contain them.

    for_types: also count imports in `if TYPE_CHECKING:`.
    """
    names = imported_names(file, for_types)
    found = {path for name in names for path in _files_of(name, root)}
    return sorted(found - {file})


def imported_names(file: Path, for_types: bool = False) -> set[str]:
    """Return the dotted names that a file imports, of modules or of their members."""
    try:
        return set(_imported_in(file.read_text(encoding="utf-8"), for_types))
    except ValueError as error:
        raise ValueError(f"{file}, {error}") from None


@functools.lru_cache(maxsize=1024)  # a closure is computed often, and parsing is most of it
def _imported_in(source: str, for_types: bool) -> frozenset[str]:
    names: set[str] = set()
    for node in _nodes(ast.parse(source), for_types):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            if node.level:
                raise ValueError(f"line {node.lineno}: imports are absolute in this lab.")
            names |= {f"{node.module}.{alias.name}" for alias in node.names}
    return frozenset(names)


def _nodes(tree: ast.AST, for_types: bool) -> Iterator[ast.AST]:
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING" and not for_types:
            continue
        yield node
        yield from _nodes(node, for_types)


def _dotted(file: Path, root: Path) -> str:
    """Return the name by which Python imports a file: staff.stage."""
    return ".".join(file.relative_to(root).with_suffix("").parts)


def _files_of(name: str, root: Path) -> Iterator[Path]:
    """Yield the file of a module and of each package that contains it, if they are below root."""
    parts = name.split(".")
    for length in range(1, len(parts) + 1):
        path = root.joinpath(*parts[:length])
        for file in (path / "__init__.py", path.with_suffix(".py")):
            if file.is_file():
                yield file
