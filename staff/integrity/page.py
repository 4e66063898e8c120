"""integrity.html: what is alike in a class, with the shared lines side by side. For staff alone."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from lab.checkpoint import write_whole
from staff.integrity.code import shared_lines
from staff.integrity.findings import CODE, Cluster, Finding, Findings
from staff.integrity.subjects import Subject
from staff.pages import render
from staff.replay import REJECTED
from staff.text import as_line

LISTED = 30  # findings of a cluster
SIDES = 5  # pairs of a cluster whose code is shown side by side
MAX_LINES, MAX_WIDTH = 1500, 300  # of a file that is shown
MAX_EXPLAINED = 200


def write_page(file: Path, subjects: Sequence[Subject], found: Findings) -> None:
    """Write the page. Raises OSError."""
    text = render(
        "integrity.html",
        compared=sum(not one.year for one in subjects),
        earlier=sum(bool(one.year) for one in subjects),
        clusters=[_cluster(cluster) for cluster in found.clusters],
        explained=[_finding(one) for one in found.explained[:MAX_EXPLAINED]],
        rejected=[
            {"title": one.title, "words": f"{task}: {verdict.why}"}
            for one in subjects
            for task, verdict in one.replays.items()
            if verdict.kind == REJECTED
        ],
        notes=[{"title": one.title, "words": words} for one, words in found.notes],
    )
    with write_whole(file) as opened:
        opened.write(text.encode())


def _cluster(cluster: Cluster) -> dict[str, Any]:
    shown = [one for one in cluster.findings if one.kind == CODE][:SIDES]
    return {
        "titles": [one.title for one in cluster.subjects],
        "findings": [_finding(one) for one in cluster.findings[:LISTED]],
        "more": max(len(cluster.findings) - LISTED, 0),
        "sides": [_sides(*one.pair) for one in shown],
    }


def _finding(finding: Finding) -> dict[str, Any]:
    return {"titles": [one.title for one in finding.pair], "words": finding.words}


def _sides(one: Subject, other: Subject) -> list[dict[str, Any]]:
    shared = one.code.own & other.code.own
    return [_side(subject, shared) for subject in (one, other)]


def _side(subject: Subject, shared: frozenset[int]) -> dict[str, Any]:
    """Return the lines of a file, as text that is safe to show, and which of them are shared."""
    marked = shared_lines(subject.code, shared)
    lines = [
        {"number": number, "text": as_line(line[:MAX_WIDTH]), "shared": number in marked}
        for number, line in enumerate(subject.code.lines[:MAX_LINES], 1)
    ]
    return {"title": subject.title, "lines": lines}
