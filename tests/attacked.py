"""Classes with attacks on the grader, and what must be true of the result of each attack."""

from __future__ import annotations

import csv
from collections.abc import Iterable, Sequence
from pathlib import Path

import attacks
import torch
from handed_in import hand_in

from staff.statuses import TASKS

ON_SCORES = sorted(  # which the flags and the private split find
    name
    for name, attack in attacks.ATTACKS.items()
    if "flagged" in attack.status or "private" in attack.says
)
ON_WALLS = [name for name in attacks.ATTACKS if name not in ON_SCORES]
SECRET = "lab-secret-4711"  # in the environment of the grader
# An honest stage takes 220 MiB. The bombs must reach their limit before the time is over, also on a
# machine that is slow to hand out memory.
LIMITS = ("--seconds", 4, "--memory", 700)


def write_attacks(
    names: Iterable[str],
    folder: Path,
    trained,
    tiny_data,
    marker: Path,
    last: Sequence[str] = TASKS,
) -> None:
    """Write attacks, and honest students before and after them.

    last: the tasks that the honest student after them hands in.
    """
    weights = {
        task: torch.load(file, weights_only=True)["model_state_dict"]
        for task, file in trained.items()
    }
    stored = attacks.images_to_store(tiny_data)
    for name in names:
        attacks.write(name, attacks.ATTACKS[name], folder / name, marker, weights, stored)
    hand_in(folder / "0-honest", trained)
    hand_in(folder / "zz-honest", trained, last)


def assert_failed(name: str, result: dict) -> None:
    """Check that an attack has the status that it must have, no points, and has seen nothing."""
    attack = attacks.ATTACKS[name]
    assert result["status"] in attack.status, result
    assert attack.says in " ".join([result["message"], *result["flags"]])
    assert result["isolation"] == "bubblewrap"
    if result["status"] not in ("graded", "flagged"):
        assert result["score"] == 0
    log = "".join(task["log"] for task in result["tasks"].values())
    assert SECRET not in log and "SEEN" not in log


def rows_of(out: Path) -> dict[str, dict[str, str]]:
    """Return what grades.csv and staff.csv say of each student."""
    rows: dict[str, dict[str, str]] = {}
    for name in ("grades.csv", "staff.csv"):
        with open(out / name, encoding="utf-8-sig", newline="") as file:
            for row in csv.DictReader(file):
                rows.setdefault(row["Submission"], {}).update(row)
    return rows
