"""Measure the simple methods that a report compares a model with, on the lab's own splits.

python -m staff.build_references     a minute on 2 cores; writes lab/report/references.json
"""

from __future__ import annotations

import json

from data_utils import MNISTDataset
from lab import ROOT, command
from lab.checkpoint import write_whole
from lab.report.references import STORED, measure_simple

SPLITS = ("valid", "test")
LATENT_DIMS = range(1, 65)  # a report measures others itself
DIGITS = 6


def rounded(value: object) -> object:
    """Return a value with every float in it rounded."""
    if isinstance(value, dict):
        return {name: rounded(one) for name, one in value.items()}
    if isinstance(value, list):
        return [rounded(one) for one in value]
    return round(value, DIGITS) if isinstance(value, float) else value


def main() -> None:
    """Measure, write references.json."""
    found = {}
    for split in SPLITS:
        dataset = MNISTDataset(ROOT / "dataset" / split)
        found[dataset.sha256] = {"split": split, **measure_simple(dataset, LATENT_DIMS)}
    with write_whole(STORED) as file:
        file.write((json.dumps(rounded(found), indent=1) + "\n").encode())
    print(f"{STORED.relative_to(ROOT)}: {STORED.stat().st_size:,} bytes")


if __name__ == "__main__":
    command.run(main)
