"""Build autograder.zip, the file to upload to Gradescope.

It contains `setup.sh`, `run_autograder`, the files of the lab that grading runs, the split to grade
on, a private split, and the training and validation splits. The private split is made by a secret,
which is kept beside the zip: the same input and secret give the same bytes, so a new build grades
all students on the same images. Gradescope's containers may forbid bubblewrap. In that case nothing
is graded and the result says so, unless the zip was built with --unsafe-no-isolation.
"""

from __future__ import annotations

import argparse
from dataclasses import dataclass
from pathlib import Path

from data_utils import DataError, MNISTDataset
from lab import ROOT, command
from lab.checkpoint import write_whole
from staff import class_split, idx
from staff.closure import DATA_FILES, closure
from staff.pages import TEMPLATES
from staff.permissions import write_for_owner_only
from staff.private_split import PrivateSplitError
from staff.secret import NAME, PRIVATE, secret_in
from staff.seeds import SeedError
from staff.zips import zip_bytes

HERE = Path(__file__).resolve().parent
EXAMPLES = """examples:
  python -m staff.gradescope.build
  python -m staff.gradescope.build --count private       the private split's scores count
  python -m staff.gradescope.build --private_data dataset/private
"""
# What runs in the container: the grader, and inside its sandbox the stage.
ENTRIES = (HERE / "run.py", ROOT / "staff" / "stage.py")
PAGES = tuple(
    TEMPLATES / name for name in ("page.html", "feedback.html", "style.css")
)  # a student's
REQUIREMENTS = (  # the second names the other two
    ROOT / "requirements.txt",
    ROOT / "requirements" / "staff.txt",
    ROOT / "requirements" / "docs.txt",
)
NAMES = (idx.IMAGES, idx.LABELS, "SHA256SUMS")  # of the files of a split
OPTIONS = "@OPTIONS@"  # replaced in run_autograder


def lab_files() -> list[Path]:
    """Return the lab's files that grading needs: code, pages, requirements, the judge's weights."""
    return [*closure(ENTRIES), *PAGES, *REQUIREMENTS, *DATA_FILES]


def split_files(data: Path) -> dict[str, bytes]:
    """Return the files of a split by name, and its sums if it has any. Raises DataError, OSError.

    A split in another format than the lab's is converted.
    """
    dataset = MNISTDataset(data)  # a split that cannot be read is found here, not on Gradescope
    if not (data / idx.IMAGES).is_file():
        return idx.split_files(dataset.images, dataset.labels)
    return {name: (data / name).read_bytes() for name in NAMES if (data / name).is_file()}


@dataclass(frozen=True)
class Splits:
    """What autograder.zip holds beside the code.

    Attributes:
        data: folder of each public split by name: test, train, valid.
        private: files of the private split by name; {} without one.
        secret: of the class; see `staff/secret.py`.
    """

    data: dict[str, Path]
    private: dict[str, bytes]
    secret: str


def contents(splits: Splits, options: str = "") -> dict[str, bytes]:
    """Return the files of the zip by name. Raises DataError, OSError.

    options: what run_autograder passes to staff/gradescope/run.py.
    """
    run = (HERE / "run_autograder").read_text(encoding="utf-8").replace(OPTIONS, options)
    files = {"setup.sh": (HERE / "setup.sh").read_bytes(), "run_autograder": run.encode()}
    for path in lab_files():
        files[f"lab/{path.relative_to(ROOT).as_posix()}"] = path.read_bytes()
    packed = {split: split_files(data) for split, data in splits.data.items()}
    for split, own in (packed | {"private": splits.private}).items():
        for name, content in own.items():
            files[f"lab/dataset/{split}/{name}"] = content
    files[f"lab/secret/{NAME}"] = f"{splits.secret}\n".encode()
    return files


def build(out: Path, splits: Splits, options: str = "") -> Path:
    """Write autograder.zip and return its path. Raises DataError, OSError."""
    content = zip_bytes(contents(splits, options))
    with write_whole(out) as file:
        file.write(content)
    return out


def splits_of(args: argparse.Namespace) -> Splits:
    """Return what the options of the command choose; make the secret at the first build.

    Raises DataError, SeedError, PrivateSplitError, OSError.
    """
    secret = secret_in(args.out.parent / PRIVATE)
    private: dict[str, bytes] = {}
    if args.private_data is not None:
        private = split_files(args.private_data)
    elif not args.no_private:
        made = class_split.class_files(MNISTDataset(args.test_data), secret, args.private_images)
        private = {name: made[name] for name in NAMES if name in made}
    names = ("test", "train", "valid")
    return Splits({name: getattr(args, f"{name}_data") for name in names}, private, secret)


def make_parser() -> argparse.ArgumentParser:
    """Return the parser of build.py."""
    parser = command.make_parser(__doc__, EXAMPLES)
    add = parser.add_argument
    add("--out", type=Path, default=Path("dist/autograder.zip"), help="the file to write")
    class_split.add_options(parser)
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
    with command.clear_errors(parser.prog, DataError, SeedError, PrivateSplitError, OSError):
        class_split.check_options(args.private_images, args.no_private, args.count)
        options = ["--unsafe-no-isolation"] if args.unsafe_no_isolation else []
        options += ["--quiet"] if args.test_data.resolve() != ROOT / "dataset" / "test" else []
        options += ["--count", "private"] if args.count == "private" else []
        file = build(args.out, splits_of(args), " ".join(options))
    print(f"written: {file} ({file.stat().st_size / 1e6:.1f} MB); upload it as the autograder")


if __name__ == "__main__":
    command.run(main)
