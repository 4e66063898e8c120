"""report.html: the class on one page, with distribution, leaderboard, flags and similar pairs."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
from markupsafe import Markup

from lab import metrics
from lab.checkpoint import write_whole
from lab.checks.rubric import most, rubric
from lab.report import charts
from staff.book import UNKNOWN_TIME
from staff.collect.table import COLLECTED
from staff.pages import picture, render
from staff.sandbox import BUBBLEWRAP
from staff.similar import similar_pairs
from staff.statuses import GRADED, GRADER_ERROR, NO_CHECKPOINT, NOT_HANDED_IN, STATUSES, TASKS
from staff.stored import folder_of
from staff.tables import TableError, read_table

THUMBNAILS = 60
COLUMNS = {  # of the leaderboard, with the number of digits
    "VAEwolabel": {"raw": 3, "ssim": 4, "mse": 5},
    "Genwithlabel": {"raw": 3, "ssim": 4, "mse": 5, "fid": 2},
}
MOST_FREQUENT = 3  # problems listed for a part
GRADE_STEP = 5  # points of a bar of the grades
RAW_STEPS = 10  # bars of the raw scores, from 0 to the cap
RELOAD = 30  # seconds, of the page while the run goes on


def write_report(out: Path, results: list[dict[str, Any]], remaining: int = 0) -> Path:
    """Write report.html for the results of a class and return its path. Raises OSError.

    Args:
        out: folder of the results.
        results: with the sums of the grade book.
        remaining: students whom the run has still to grade.
    """
    counts = Counter(result["status"] for result in results)
    text = render(
        "report.html",
        results=results,
        counts={status: counts[status] for status in STATUSES if counts[status]},
        unsafe=any(result["isolation"] != BUBBLEWRAP for result in results),
        remaining=remaining,
        reload=RELOAD,
        grades=_distribution_of_grades(results),
        raws={task: chart for task in TASKS if (chart := _distribution_of_raw(task, results))},
        late=late_of(out, results),
        missing=missing_of(results),
        columns=COLUMNS,
        leaders=_leaders(results),
        parts=statistics_of_parts(results),
        troubled=[result for result in results if _is_troubled(result)],
        pairs=similar_pairs(out, results),
        thumbs=_thumbnails(out, results),
    )
    with write_whole(out / "report.html") as file:
        file.write(text.encode())
    return out / "report.html"


def _is_troubled(result: dict[str, Any]) -> bool:
    """Return whether a person should look: not graded, flagged, or without a checkpoint."""
    statuses = {task["status"] for task in result["tasks"].values()}
    return result["status"] != GRADED or NO_CHECKPOINT in statuses


def _distribution_of_grades(results: list[dict[str, Any]]) -> Markup:
    totals = [result["total"] for result in results if result["total"] is not None]
    return histogram(totals, GRADE_STEP, most(), f"Students by grade, of {most()}")


def _distribution_of_raw(task: str, results: list[dict[str, Any]]) -> Markup:
    raws = [one["tasks"].get(task, {}).get("raw") for one in results]
    known = [raw for raw in raws if raw is not None]
    cap = metrics.CAPS[task]
    title = f"{task}: students by raw score; the score is at most {cap:g}"
    return histogram(known, cap / RAW_STEPS, max([cap, *known]), title) if known else Markup("")


def histogram(values: Sequence[float], step: float, highest: float, title: str) -> Markup:
    """Return a bar chart of how many values, of 0 to `highest`, are in each step."""
    bins = max(1, math.ceil(highest / step - 1e-9))
    counts = Counter(min(int(value / step + 1e-9), bins - 1) for value in values)
    names = [f"{number * step:g}" for number in range(bins)]
    return charts.bars([counts[number] for number in range(bins)], names, title)


def late_of(out: Path, results: list[dict[str, Any]]) -> dict[str, Any] | None:
    """Return how many students were late; None where nothing says so.

    Has count, and of the grade book, if the course has a due time: days (students by days late),
    from_bank (days), deducted (points), and unknown (students of whom nothing says when they handed
    in). Otherwise count is that of collected.csv, and nothing is known of days.
    """
    if any(result["sums"]["due"] for result in results):
        sums = [result["sums"] for result in results if result["sums"]["days"]]
        return {
            "count": len(sums),
            "days": dict(sorted(Counter(one["days"] for one in sums).items())),
            "from_bank": sum(one["from_bank"] for one in sums),
            "deducted": -sum(one["late"] for one in sums),
            "unknown": sum(UNKNOWN_TIME in result["sums"]["notes"] for result in results),
        }
    with suppress(TableError):
        rows = [row["late"] for _, row in read_table(out / COLLECTED, ("late",))]
        if any(rows):
            return {"count": sum(word == "yes" for word in rows), "days": {}, "unknown": 0}
    return None


def missing_of(results: list[dict[str, Any]]) -> dict[str, int]:
    """Return how many students handed in nothing, and of the others, how many lack each task."""
    there = [one for one in results if one["status"] not in (NOT_HANDED_IN, GRADER_ERROR)]
    without = {
        task: sum(one["tasks"].get(task, {}).get("status") == NO_CHECKPOINT for one in there)
        for task in TASKS
    }
    nothing = sum(one["status"] == NOT_HANDED_IN for one in results)
    return {"handed in nothing": nothing, **{f"without {task}": n for task, n in without.items()}}


def statistics_of_parts(results: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return for each part of the course how the class did.

    Each entry has number, title, of, count (of students with points), mean (of these), full (how
    many have all points), wrong: what was found wrong and in how many submissions, the most
    frequent first, and untested: in how many something was not tested, as another TODO comes first.
    """
    graded = [result for result in results if result["total"] is not None]
    entries = []
    for number, part in rubric().items():
        own = [one for result in graded for one in result["parts"] if one["number"] == number]
        points = [one["points"] for one in own if one["points"] is not None]
        found = [problem for one in own for problem in one["problems"]]
        wrong = Counter(problem["text"] for problem in found if not problem["untested"])
        untested = [any(problem["untested"] for problem in one["problems"]) for one in own]
        entries.append(
            {
                "number": number,
                "title": part.title,
                "of": part.points,
                "count": len(points),
                "mean": float(np.mean(points)) if points else None,
                "full": sum(one >= part.points for one in points),
                "wrong": wrong.most_common(MOST_FREQUENT),
                "untested": sum(untested),
            }
        )
    return entries


def _leaders(results: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return the results with a raw score, the highest first."""
    rows = []
    for result in results:
        raws = [one["raw"] for one in result["tasks"].values() if one.get("raw") is not None]
        if raws:
            rows.append({**result, "raw": sum(raws)})
    return sorted(rows, key=lambda row: -row["raw"])


def _thumbnails(out: Path, results: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return one picture per student, samples if there are any, the highest raw score first."""
    found = []
    for row in _leaders(results)[:THUMBNAILS]:
        folder = folder_of(out, row["student"])
        for task, name in (("Genwithlabel", "samples"), ("VAEwolabel", "recon")):
            if data := picture(folder / f"{task}_{name}.png"):
                raw = row["tasks"].get(task, {}).get("raw")
                found.append({**row, "task": task, "raw": raw, "data": data})
                break
    return found
