"""Build autograder.zip, which Gradescope takes as it is.

It holds the lab, the split to grade on, `setup.sh` and `run_autograder`. The same input gives the
same bytes. Gradescope's containers may forbid bubblewrap; then nothing is graded, and the result
says so, unless the zip was built with --unsafe-no-isolation.
"""

from __future__ import annotations

import argparse
import zipfile
from pathlib import Path

from data_utils import DataError, MNISTDataset
from lab import ROOT, command
from lab.checkpoint import write_whole
from lab.diagnostics import JUDGE_FILE

HERE = Path(__file__).resolve().parent
EXAMPLES = """examples:
  python -m staff.gradescope.build
  python -m staff.gradescope.build --test_data dataset/private
"""
LONG_AGO = (1980, 1, 1, 0, 0, 0)  # a zip's first day
OPTIONS = "@OPTIONS@"


def contents(test_data: Path, train_data: Path) -> dict[str, Path]:
    """Return what goes into the zip's lab/, by its place there."""
    files = [*ROOT.glob("*.py"), *ROOT.glob("lab/*.py")]
    files += [
        path for path in (ROOT / "staff").rglob("*") if path.suffix in (".py", ".html", ".css")
    ]
    files += [JUDGE_FILE, ROOT / "requirements.txt", ROOT / "requirements" / "staff.txt"]
    found = {path.relative_to(ROOT).as_posix(): path for path in files if path.is_file()}
    for name, data in (("test", test_data), ("train", train_data)):
        MNISTDataset(data)  # that it can be read is found out now, not there
        found |= {f"dataset/{name}/{path.name}": path for path in data.iterdir() if path.is_file()}
    return found


def build(out: Path, test_data: Path, train_data: Path, options: str = "") -> Path:
    """Write autograder.zip and return its path. Raises DataError, OSError."""
    places = {
        f"lab/{name}": path.read_bytes() for name, path in contents(test_data, train_data).items()
    }
    places["setup.sh"] = (HERE / "setup.sh").read_bytes()
    run = (HERE / "run_autograder").read_text(encoding="utf-8")
    places["run_autograder"] = run.replace(OPTIONS, options).encode()
    with write_whole(out) as file, zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in sorted(places.items()):
            member = zipfile.ZipInfo(name, LONG_AGO)
            member.compress_type = zipfile.ZIP_DEFLATED
            executable = name in ("setup.sh", "run_autograder")
            member.external_attr = (0o755 if executable else 0o644) << 16
            archive.writestr(member, content)
    return out


def make_parser() -> argparse.ArgumentParser:
    """Return the parser of build.py."""
    parser = command.make_parser(__doc__, EXAMPLES)
    add = parser.add_argument
    add("--out", type=Path, default=Path("dist/autograder.zip"), help="the file to write")
    add("--test_data", type=Path, default=ROOT / "dataset" / "test", help="the split to grade on")
    add("--train_data", type=Path, default=ROOT / "dataset" / "train", help="to recognise copies")
    add(
        "--unsafe-no-isolation",
        action="store_true",
        help="grade where bubblewrap cannot run; a submission can then read the whole split",
    )
    return parser


def main() -> None:
    """Parse, build, say where it is."""
    parser = make_parser()
    args = parser.parse_args()
    with command.clear_errors(parser.prog, DataError, OSError):
        options = ["--unsafe-no-isolation"] if args.unsafe_no_isolation else []
        options += ["--quiet"] if args.test_data.resolve() != ROOT / "dataset" / "test" else []
        file = build(args.out, args.test_data, args.train_data, " ".join(options))
    print(f"written: {file} ({file.stat().st_size / 1e6:.1f} MB); upload it as the autograder")


if __name__ == "__main__":
    main()
