"""All layouts of downloads: which parser reads a name, and what a download holds."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from staff.archives import is_archive
from staff.collect import canvas, gradescope, moodle
from staff.collect.source import Source
from staff.tables import TableError
from staff.text import name_as_text

PARSERS = (moodle.parse, gradescope.parse, canvas.parse)  # Canvas's rule fits most names


@dataclass(frozen=True)
class Piece:
    """A file or folder of a download.

    Attributes:
        path: where it is.
        label: its name as text.
        sources: whose it is: of a group on Gradescope, each member; empty if nobody knows.
    """

    path: Path
    label: str
    sources: tuple[Source, ...]


def source_of(name: str) -> Source | None:
    """Return whose a file or folder is, by its name alone; None if no platform wrote the name."""
    return next((found for parse in PARSERS if (found := parse(name))), None)


def pieces_of(download: Path) -> list[Piece]:
    """Return what a download holds, in the order of the names.

    A folder or zip whose name no platform wrote belongs to the student with this id or name.
    Raises TableError if there is no download, or Gradescope's table cannot be read.
    """
    if not download.is_dir():
        raise TableError(
            f"{download} is not a folder; expected a platform's download, unpacked into a folder."
        )
    paths = _visible(download)
    if len(paths) == 1 and (paths[0] / gradescope.METADATA).is_file():
        paths = _visible(paths[0])  # the folder of the export itself
    tables = [path for path in paths if path.name == gradescope.METADATA]
    submitters = gradescope.read_submitters(tables[0]) if tables else {}
    pieces = []
    for path in paths:
        if path in tables:
            continue
        label = name_as_text(path.name)
        source = source_of(label)
        sources = submitters.get(label) or ([source] if source else [])
        if not sources and (path.is_dir() or is_archive(path.name)):
            sources = [Source("", label if path.is_dir() else Path(label).stem)]
        pieces.append(Piece(path, label, tuple(sources)))
    return pieces


def _visible(folder: Path) -> list[Path]:
    return [
        path for path in sorted(folder.iterdir()) if not path.name.startswith((".", "__MACOSX"))
    ]
