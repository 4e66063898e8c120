"""Which of the lab's files a program runs: the closure of its imports, read from the source.

What the sandbox mounts, what the grader's hash covers and what autograder.zip carries follow from
it, so that none of the three is a list kept by hand.
"""

from __future__ import annotations

import ast
from collections.abc import Iterable, Iterator
from pathlib import Path

from lab import ROOT


def closure(entries: Iterable[Path], root: Path = ROOT) -> list[Path]:
    """Return the files below `root` that the entries run, themselves included, sorted.

    Imports inside functions count; those for type checkers alone (`if TYPE_CHECKING:`) do not.
    """
    found: set[Path] = set()
    left = [entry.resolve() for entry in entries]
    while left:
        file = left.pop()
        if file not in found:
            found.add(file)
            left += imported_files(file, root)
    return sorted(found)


def imported_files(file: Path, root: Path = ROOT, for_types: bool = False) -> list[Path]:
    """Return the files below `root` that one file imports, and the packages they are in.

    for_types: count imports for type checkers too.
    """
    names = imported_names(file, for_types)
    found = {path for name in names for path in _files_of(name, root)}
    return sorted(found - {file})


def imported_names(file: Path, for_types: bool = False) -> set[str]:
    """Return the dotted names that a file imports: of modules, or of what is in them."""
    names: set[str] = set()
    for node in _nodes(ast.parse(file.read_text(encoding="utf-8")), for_types):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            if node.level:
                raise ValueError(f"{file}, line {node.lineno}: imports are absolute in this lab.")
            names |= {f"{node.module}.{alias.name}" for alias in node.names}
    return names


def _nodes(tree: ast.AST, for_types: bool) -> Iterator[ast.AST]:
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING" and not for_types:
            continue
        yield node
        yield from _nodes(node, for_types)


def _files_of(name: str, root: Path) -> Iterator[Path]:
    """Yield the file of a module and those of the packages around it, where they are the lab's."""
    parts = name.split(".")
    for length in range(1, len(parts) + 1):
        place = root.joinpath(*parts[:length])
        for file in (place / "__init__.py", place.with_suffix(".py")):
            if file.is_file():
                yield file
