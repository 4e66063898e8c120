"""Write measured figures into documents, so that no figure is typed by hand."""

from __future__ import annotations

from pathlib import Path


def put_blocks(file: Path, blocks: dict[str, str]) -> None:
    """Replace each block between `<!-- NAME: begin -->` and `<!-- NAME: end -->`."""
    text = file.read_text(encoding="utf-8")
    for name, block in blocks.items():
        begin, end = markers(name)
        before, rest = text.split(begin)
        text = before + begin + block + end + rest.split(end)[1]
    file.write_text(text, encoding="utf-8")


def block_in(file: Path, name: str) -> str:
    """Return the block between the two markers."""
    begin, end = markers(name)
    return file.read_text(encoding="utf-8").split(begin)[1].split(end)[0]


def markers(name: str) -> tuple[str, str]:
    """Return the lines before and after a block."""
    return f"<!-- {name}: begin -->\n", f"<!-- {name}: end -->\n"
