"""The page about a student's model that their feedback links: lab/report, of what grading computed.

Nothing runs here. Codes, reconstructions and samples are those of the public test split, read as
arrays of the expected kind; the history is numbers that the sandbox read from the checkpoint.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from data_utils import MNISTDataset
from lab.checkpoint import write_whole
from lab.report.measured import Measured
from lab.report.page import build
from staff.stage import HISTORY, MAX_ROWS
from staff.stored import report_file

LARGEST, SMALLEST = 1e30, 1e-30  # of the numbers in a chart


def write_model_report(
    folder: Path,
    scores: dict[str, Any],
    identity: dict[str, Any],
    history: object,
    outputs: Path,
    task: str,
    dataset: MNISTDataset,
    shown: int | None = None,
) -> Path:
    """Write the page of a task into a student's folder and return its path. Raises OSError.

    Args:
        folder: the student's.
        scores: what `metrics.score_task` returned for the outputs.
        identity: what was graded, by name: hashes.
        history: what the stage says that `stage.history_of` returned; not trusted.
        outputs: folder with codes.npy, recon.npy and samples.npy, those that there are.
        task: VAEwolabel or Genwithlabel.
        dataset: the public images that the outputs are of.
        shown: only the codes and reconstructions of the first images are on the page; None: of all.
    """
    arrays = {
        name: np.load(file, allow_pickle=False)
        for name in ("codes", "recon", "samples")
        if (file := outputs / f"{name}.npy").exists()
    }
    found = Measured(
        name=task,
        task=task,
        facts=identity,
        history=rows_of(history),
        scores=scores,
        samples=arrays.get("samples"),
    )
    if "recon" in arrays:
        codes, recon = (arrays[name][:shown] for name in ("codes", "recon"))
        found.add_reconstructions(codes, recon, dataset.images[:shown])
    with write_whole(report_file(folder, task)) as written:
        written.write(build([found], dataset, handed_in=True).encode())
    return report_file(folder, task)


def rows_of(history: object) -> list[dict[str, float | None]]:
    """Return the rows of a history by column, whatever came in its place."""
    rows = history[:MAX_ROWS] if isinstance(history, list) else []
    return [
        {name: _number(cell) for name, cell in zip(HISTORY, row)}
        for row in rows
        if isinstance(row, list) and len(row) == len(HISTORY)
    ]


def _number(cell: object) -> float | None:
    """Return a number that a chart can hold; None for anything else."""
    if not isinstance(cell, (int, float)) or isinstance(cell, bool) or not abs(cell) < LARGEST:
        return None
    return float(cell) if abs(cell) > SMALLEST else 0.0
