"""Build autograder.zip, the file to upload to Gradescope.

It contains `setup.sh`, `run_autograder`, the files of the lab that grading runs, the split to grade
on and the training split. The same input gives the same bytes. Gradescope's containers may forbid
bubblewrap. In that case nothing is graded and the result says so, unless the zip was built with
--unsafe-no-isolation.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from data_utils import DataError, MNISTDataset
from lab import ROOT, command
from lab.checkpoint import write_whole
from lab.diagnostics import JUDGE_FILE
from staff import idx
from staff.closure import closure
from staff.pages import TEMPLATES
from staff.permissions import write_for_owner_only
from staff.zips import zip_bytes

HERE = Path(__file__).resolve().parent
EXAMPLES = """examples:
  python -m staff.gradescope.build
  python -m staff.gradescope.build --test_data dataset/private
"""
# What runs in the container: the grader, and inside its sandbox the stage.
ENTRIES = (HERE / "run.py", ROOT / "staff" / "stage.py")
REQUIREMENTS = (ROOT / "requirements.txt", ROOT / "requirements" / "staff.txt")
OPTIONS = "@OPTIONS@"  # replaced in run_autograder


def lab_files() -> list[Path]:
    """Return the lab's files that grading needs: code, pages, requirements, the judge's weights."""
    return [*closure(ENTRIES), *sorted(TEMPLATES.iterdir()), *REQUIREMENTS, JUDGE_FILE]


def split_files(data: Path) -> dict[str, bytes]:
    """Return the files of a split by name, and its sums if it has any. Raises DataError, OSError.

    A split in another format than the lab's is converted.
    """
    dataset = MNISTDataset(data)  # a split that cannot be read is found here, not on Gradescope
    if not (data / idx.IMAGES).is_file():
        return idx.split_files(dataset.images, dataset.labels)
    names = [idx.IMAGES, idx.LABELS, "SHA256SUMS"]
    return {name: (data / name).read_bytes() for name in names if (data / name).is_file()}


def contents(test_data: Path, train_data: Path, options: str = "") -> dict[str, bytes]:
    """Return the files of the zip by name. Raises DataError, OSError.

    options: what run_autograder passes to staff/gradescope/run.py.
    """
    run = (HERE / "run_autograder").read_text(encoding="utf-8").replace(OPTIONS, options)
    files = {"setup.sh": (HERE / "setup.sh").read_bytes(), "run_autograder": run.encode()}
    for path in lab_files():
        files[f"lab/{path.relative_to(ROOT).as_posix()}"] = path.read_bytes()
    for split, data in (("test", test_data), ("train", train_data)):
        for name, content in split_files(data).items():
            files[f"lab/dataset/{split}/{name}"] = content
    return files


def build(out: Path, test_data: Path, train_data: Path, options: str = "") -> Path:
    """Write autograder.zip and return its path. Raises DataError, OSError."""
    content = zip_bytes(contents(test_data, train_data, options))
    with write_whole(out) as file:
        file.write(content)
    return out


def make_parser() -> argparse.ArgumentParser:
    """Return the parser of build.py."""
    parser = command.make_parser(__doc__, EXAMPLES)
    add = parser.add_argument
    add("--out", type=Path, default=Path("dist/autograder.zip"), help="the file to write")
    add("--test_data", type=Path, default=ROOT / "dataset" / "test", help="the split to grade on")
    add(
        "--train_data",
        type=Path,
        default=ROOT / "dataset" / "train",
        help="training images, to recognise copies of them",
    )
    add(
        "--unsafe-no-isolation",
        action="store_true",
        help="grade where bubblewrap cannot run; a submission can then read the whole split",
    )
    return parser


def main() -> None:
    """Parse, build the zip, print where it is."""
    parser = make_parser()
    args = parser.parse_args()
    write_for_owner_only()
    with command.clear_errors(parser.prog, DataError, OSError):
        options = ["--unsafe-no-isolation"] if args.unsafe_no_isolation else []
        options += ["--quiet"] if args.test_data.resolve() != ROOT / "dataset" / "test" else []
        file = build(args.out, args.test_data, args.train_data, " ".join(options))
    print(f"written: {file} ({file.stat().st_size / 1e6:.1f} MB); upload it as the autograder")


if __name__ == "__main__":
    command.run(main)
