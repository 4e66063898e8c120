"""A graded class without grading: results as staff.grade_class stores them, in a folder."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from lab.checks.rubric import HAND_IN, TESTS, rubric
from staff import sandbox

SCORES = {"n": 120, "ssim": 0.81234, "mse": 0.012345, "fid": 3.25, "raw": 8.3456, "latent_dim": 8}
FLAG = "the samples look like copies of training images"


def graded_class(out: Path, names: list[str], **changes: dict[str, Any]) -> Path:
    """Write the results of students who have all points but two, and return the folder.

    changes: entries of a student's result in place of the usual ones, by the student's name.
    """
    for number, name in enumerate(names, 1):
        result = {**stored_result(name, str(1000 + number)), **changes.get(name, {})}
        folder = out / "students" / name
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "result.json").write_text(json.dumps(result), encoding="utf-8")
    return out


def stored_result(name: str, number: str) -> dict[str, Any]:
    """Return a result as it is stored; the student is Moodle's participant of this number."""
    parts = {
        part.number: {"points": part.points, "of": part.points, "lost": [], "problems": []}
        for part in rubric().values()
        if part.graded in (TESTS, HAND_IN)
    }
    problem = {
        "text": "the KL term has the wrong sign: the loss falls when codes move away from N(0, I)",
        "hint": "check the factor 1/2",
        "untested": False,
    }
    parts["2.3"] |= {"points": 13, "lost": ["kl_sign"], "problems": [problem]}
    tasks = {
        task: {
            "status": "graded",
            "message": "",
            "flags": [],
            "score": score,
            "cap": cap,
            "bonus": 1.0123,
            "counted": "test",
            **SCORES,
            "per_label": [{"label": label, **SCORES} for label in range(10)],
            "stages": {"encode": {"seconds": 1.0, "peak_bytes": 1 << 28}},
            "log": "",
            "signature": [],
        }
        for task, score, cap in (("VAEwolabel", 7.5, 10), ("Genwithlabel", 20.123456, 30))
    }
    return {
        "student": name,
        "name": f"{name.title()} Lovelace",
        "platform": "moodle",
        "number": number,
        "isolation": sandbox.BUBBLEWRAP,
        "status": "graded",
        "message": "",
        "flags": [],
        "completion": {"points": 48, "message": "", "parts": parts},
        "tasks": tasks,
        "score": 27.623456,
        "points": 75.623456,
        "graded_at": "2026-11-28 12:00:00",
        "versions": {"python": "3.12", "torch": "2.13.0"},
        "grader_sha256": "0123456789abcdef",
    }


def flagged(name: str, number: str) -> dict[str, Any]:
    """Return the entries of a flagged student's result, with a private split."""
    tasks = stored_result(name, number)["tasks"]
    tasks["Genwithlabel"] |= {
        "status": "flagged",
        "flags": [FLAG],
        "private": {"ssim": 0.31415, "raw": 2.71828},
    }
    return {"status": "flagged", "flags": [f"Genwithlabel: {FLAG}"], "tasks": tasks}
