"""Compare the submissions of a class with each other and with those of earlier years.

No grade depends on it, and no student sees it.
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path

from tqdm import tqdm

from lab import ROOT, command
from lab.checkpoint import write_whole
from lab.lock import FolderInUseError, only_one
from staff import sandbox
from staff.class_folder import students_in
from staff.integrity.findings import Findings, findings_of
from staff.integrity.page import write_page
from staff.integrity.subjects import (
    FingerprintsError,
    Subject,
    read_fingerprints,
    subject_of,
    write_fingerprints,
)
from staff.permissions import private_folder, write_for_owner_only
from staff.replay import REJECTED
from staff.submissions import HandedInError

EXAMPLES = """examples:
  python -m staff.integrity handed_in integrity                      code and weights
  python -m staff.integrity handed_in integrity --replay             also repeat first steps
  python -m staff.integrity handed_in integrity --earlier 2025.json  also with an earlier year
"""


def make_parser() -> argparse.ArgumentParser:
    """Return the parser of the command."""
    parser = command.make_parser(__doc__, EXAMPLES)
    add = parser.add_argument
    add("folder", type=Path, help="the submissions, as Moodle, Canvas or Gradescope export them")
    add("out", type=Path, help="folder for integrity.html and fingerprints.json")
    add("--earlier", type=Path, nargs="+", default=[], help="fingerprints.json of earlier years")
    add("--label", default=time.strftime("%Y"), help="name of this class in later years; the year")
    add(
        "--replay",
        action="store_true",
        help="repeat the first steps of each training: does a checkpoint come from its code?",
    )
    add("--train_data", type=Path, default=ROOT / "dataset" / "train", help="training split")
    add("--valid_data", type=Path, default=ROOT / "dataset" / "valid", help="validation split")
    add(
        "--unsafe-no-isolation",
        action="store_true",
        help="read the checkpoints without isolation, and replay with all your rights",
    )
    return parser


def main() -> None:
    """Parse, read every submission, compare, write the page."""
    parser = make_parser()
    options = parser.parse_args()
    errors = (HandedInError, sandbox.SandboxError, FingerprintsError, FolderInUseError)
    write_for_owner_only()
    with command.clear_errors(parser.prog, *errors), only_one(options.out, "OUT"):
        students = [one for one in students_in(options.folder) if one.path.exists()]
        earlier = [one for file in options.earlier for one in read_fingerprints(file)]
        isolation = sandbox.NONE if options.unsafe_no_isolation else sandbox.BUBBLEWRAP
        if isolation == sandbox.BUBBLEWRAP:
            sandbox.probe()
        work = private_folder(private_folder(options.out) / ".work")
        splits = {"train": options.train_data.resolve(), "valid": options.valid_data.resolve()}
        subjects: list[Subject] = []
        for student in tqdm(students, unit="student", dynamic_ncols=True):
            limits = sandbox.Limits()
            replayed = splits if options.replay else None
            subjects.append(subject_of(student, work, replayed, limits, isolation))
        found = findings_of([*subjects, *earlier])
        write_page(options.out / "integrity.html", [*subjects, *earlier], found)
        write_fingerprints(options.out / "fingerprints.json", options.label, subjects)
        with write_whole(options.out / "integrity.json") as file:
            file.write(json.dumps(as_plain(found), indent=1).encode())
    rejected = sum(v.kind == REJECTED for one in subjects for v in one.replays.values())
    print(f"{len(subjects)} submissions, {len(found.clusters)} clusters")
    if options.replay:
        print(f"{rejected} checkpoints do not come from their code")
    print(f"page:         {options.out / 'integrity.html'}")
    print(f"for later:    {options.out / 'fingerprints.json'}")


def as_plain(found: Findings) -> dict[str, list]:
    """Return the findings as plain values, for other programs of the staff."""
    return {
        "clusters": [
            {
                "students": [one.key for one in cluster.subjects],
                "findings": [
                    [*(one.key for one in finding.pair), finding.kind, finding.words]
                    for finding in cluster.findings
                ],
            }
            for cluster in found.clusters
        ],
        "explained": [[*(one.key for one in f.pair), f.kind, f.words] for f in found.explained],
        "notes": [[one.key, words] for one, words in found.notes],
    }


if __name__ == "__main__":
    command.run(main)
