"""report.html: the whole class on a page. Distribution, leaderboard, flags, similar pairs."""

from __future__ import annotations

import base64
import io
import itertools
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np

from lab import plots
from lab.checkpoint import write_whole
from staff.pages import picture, render
from staff.sandbox import BUBBLEWRAP
from staff.statuses import GRADED, MOST, STATUSES, TASKS

SAME_WEIGHTS = 0.9999  # correlation of the weights' signatures
# Correlation of the errors on each image. Two seeds of zoo/record.py have 0.972, a VAE and a CVAE
# of one design 0.960, models of different designs less.
SAME_ERRORS = 0.99
THUMBNAILS = 60
COLUMNS = {  # of the leaderboard, with their digits
    "VAEwolabel": {"raw": 3, "ssim": 4, "mse": 5},
    "Genwithlabel": {"raw": 3, "ssim": 4, "mse": 5, "fid": 2},
}
MANY = 200  # pairs that are listed at most


def write_report(out: Path, results: list[dict[str, Any]]) -> Path:
    """Write report.html for the results of a class and return its path."""
    counts = Counter(result["status"] for result in results)
    text = render(
        "report.html",
        results=results,
        counts={status: counts[status] for status in STATUSES if counts[status]},
        unsafe=any(result["isolation"] != BUBBLEWRAP for result in results),
        distribution=base64.b64encode(_distribution(results)).decode(),
        columns=COLUMNS,
        leaders=_leaders(results),
        troubled=[result for result in results if result["status"] != GRADED],
        pairs=similar_pairs(out, results),
        thumbs=_thumbnails(out, results),
    )
    with write_whole(out / "report.html") as file:
        file.write(text.encode())
    return out / "report.html"


def _distribution(results: list[dict[str, Any]]) -> bytes:
    """Draw how many students have which grade."""
    scores = [result["score"] for result in results if result["score"] is not None]
    drawing = plots.figure(8, 3)
    axes = drawing.subplots()
    axes.hist(scores, bins=np.arange(0, MOST + 2, 2), color="tab:blue", edgecolor="white")
    axes.set(xlabel=f"grade, of {MOST:g}", ylabel="students", xlim=(0, MOST))
    axes.yaxis.get_major_locator().set_params(integer=True)
    buffer = io.BytesIO()
    drawing.savefig(buffer, format="png", dpi=110)
    return buffer.getvalue()


def _leaders(results: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return the students with a raw score, the highest first."""
    rows = []
    for result in results:
        raws = [one["raw"] for one in result["tasks"].values() if one.get("raw") is not None]
        if raws:
            rows.append({**result, "raw": sum(raws)})
    return sorted(rows, key=lambda row: -row["raw"])


def _thumbnails(out: Path, results: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return a picture of each student's last task, the best first."""
    found = []
    for row in _leaders(results)[:THUMBNAILS]:
        folder = out / "students" / row["student"]
        for task, name in (("Genwithlabel", "samples"), ("VAEwolabel", "recon")):
            if data := picture(folder / f"{task}_{name}.png"):
                raw = row["tasks"].get(task, {}).get("raw")
                found.append({**row, "task": task, "raw": raw, "data": data})
                break
    return found


def similar_pairs(out: Path, results: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return pairs of students whose models are alike, by weights or by the errors they make."""
    pairs = []
    for task in TASKS:
        able = [
            result for result in results if result["tasks"].get(task, {}).get("raw") is not None
        ]
        errors = {one["student"]: _errors(out, one["student"], task) for one in able}
        for a, b in itertools.combinations(able, 2):
            weights = _correlation(*(np.array(x["tasks"][task]["signature"]) for x in (a, b)))
            wrong = _correlation(errors[a["student"]], errors[b["student"]])
            why = []
            if weights > SAME_WEIGHTS:
                why.append(f"the weights (correlation {weights:.5f})")
            if wrong > SAME_ERRORS:
                why.append(f"the errors on each image (correlation {wrong:.4f})")
            if why:
                names = [a["name"], b["name"]]
                words = " and ".join(why)
                pairs.append({"names": names, "task": task, "why": words, "by": (weights, wrong)})
    return sorted(pairs, key=lambda pair: pair["by"], reverse=True)[:MANY]


def _errors(out: Path, student: str, task: str) -> np.ndarray:
    file = out / "students" / student / f"{task}_errors.npy"
    return np.load(file, allow_pickle=False) if file.is_file() else np.zeros(0)


def _correlation(a: np.ndarray, b: np.ndarray) -> float:
    """Return the correlation of two rows of numbers; 0 where it means nothing."""
    if len(a) != len(b) or len(a) < 2 or not a.std() or not b.std():
        return 0.0
    return float(np.corrcoef(a, b)[0, 1])
