"""Build the handout for students: the lab without solutions, tests, zoo, staff and test split."""

from __future__ import annotations

import argparse
import re
import subprocess
import sys
from collections.abc import Collection, Iterable, Mapping
from fnmatch import fnmatch
from pathlib import Path

from lab import ROOT, command
from lab.checkpoint import replace_folder, write_whole
from staff.site import FOLDER as SITE
from staff.solutions import HandoutError, blank, for_students
from staff.zips import is_program, zip_bytes

EXAMPLES = """examples:
  python -m staff.handout                  dist/handout.zip and dist/handout/, with a quick check
  python -m staff.handout --full-proof     the check also runs `make demo` on all data: minutes
  python -m staff.handout --out ~/course
"""
# Files, and folders with their content. A new file of the repository is handed out unless it is
# listed here. The proof reports documents that name something on this list.
LEFT_OUT = (
    ".ci",
    "CHANGELOG.md",
    "CITATION.cff",
    "benchmarks",
    "dataset/test",
    "docs/CONTRIBUTING.md",
    "docs/explorer.html",  # is large; students make their own
    "docs/deterministic.md",  # its command is one of the benchmarks
    "docs/gallery",  # pictures of the zoo
    "docs/gallery.md",
    "docs/growth.png",
    "docs/reliability.md",  # its command is one of the benchmarks
    "docs/reference.md",  # its command is one of the benchmarks
    "docs/results.md",
    "docs/security.md",
    "docs/speed.md",
    "docs/speed.png",
    "pyproject.toml",  # configures ruff, mypy and pytest, which only the tests need
    "requirements/bench.txt",
    "requirements/docs.txt",
    "requirements/staff.txt",
    "requirements/test.txt",
    "staff",
    "tests",
    "zoo",
)
FOLDER = "handout"  # the only folder at the top of the zip


# ---------------------------------------------------------------- its content


def tracked(root: Path, out: Path) -> list[str]:
    """Return the names of the repository's files, as git lists them.

    Without a git checkout these are all files except those that .gitignore names and those of the
    folder `out`. Raises HandoutError if git fails.
    """
    if (root / ".git").exists():
        listing = subprocess.run(["git", "-C", root, "ls-files", "-z"], capture_output=True)
        if listing.returncode != 0:
            raise HandoutError(f"git does not list the files: {listing.stderr.decode().strip()}")
        return sorted(listing.stdout.decode("utf-8").split("\0")[:-1])
    patterns = [word.rstrip("/") for word in (root / ".gitignore").read_text().split()]
    return sorted(
        path.relative_to(root).as_posix()
        for path in root.rglob("*")
        if path.is_file()
        and not is_ignored(path.relative_to(root), patterns)
        and out.resolve() not in path.resolve().parents
    )


def is_ignored(path: Path, patterns: Iterable[str]) -> bool:
    """Return whether patterns of .gitignore match a path: of a name, or of the path of a folder."""
    places = [path, *path.parents]
    return any(
        place.as_posix() == pattern if "/" in pattern else fnmatch(place.name, pattern)
        for pattern in patterns
        for place in places
    )


def is_left_out(name: str) -> bool:
    """Return whether a file of the repository is left out of the handout."""
    return any(name == entry or name.startswith(f"{entry}/") for entry in LEFT_OUT)


def build(root: Path, names: Iterable[str]) -> dict[str, bytes]:
    """Return the handout's files by name, sorted. Raises HandoutError, OSError.

    The site and the notebook are made of the documents and the submission as students get them.
    """
    files = {}
    for name in sorted(names):
        if is_left_out(name):
            continue
        content = (root / name).read_bytes()
        if b"\0" not in content:  # the rule by which git recognises text
            content = as_handed_out(name, content.decode("utf-8")).encode("utf-8")
        files[name] = content
    sums = files["dataset/SHA256SUMS"].decode().splitlines(keepends=True)
    kept = (line for line in sums if f"dataset/{line.split()[1]}" in files)
    files["dataset/SHA256SUMS"] = "".join(kept).encode()
    made = {f"{SITE}/{name}": content for name, content in site_of(files).items()}
    made["lab.ipynb"] = notebook_of(files["submission.py"].decode("utf-8"))
    return dict(sorted((files | made).items()))


def notebook_of(submission: str) -> bytes:
    """Return lab.ipynb with the text of submission.py in a cell. Raises HandoutError."""
    try:
        from staff.notebook import notebook
    except ModuleNotFoundError as error:
        raise _not_installed(error) from None
    return notebook(submission)


def site_of(files: Mapping[str, bytes], for_staff: Collection[str] = ()) -> dict[str, bytes]:
    """Return the documents among the files as a site, by name. Raises HandoutError.

    for_staff: names of the documents that are in the section for staff.
    """
    try:
        from staff.site import pages
    except ModuleNotFoundError as error:
        raise _not_installed(error) from None
    return pages.build(files, for_staff)


def _not_installed(error: ModuleNotFoundError) -> HandoutError:
    return HandoutError(
        f"{error.name} is not installed; expected the packages of requirements/docs.txt: "
        f"{sys.executable} -m pip install -r requirements/docs.txt"
    )


def as_handed_out(name: str, text: str) -> str:
    """Return a text file as students get it. Raises HandoutError.

    Commands and examples use the validation split instead of the test split.
    """
    text = text.replace("\r\n", "\n")
    if name == "submission.py":
        return blank(text, name)
    if name.endswith(".md") or name == "Makefile":
        text = for_students(text, name)
    return re.sub(r"\bdataset/test\b", "dataset/valid", text)


# ---------------------------------------------------------------- writing it


def archive(files: dict[str, bytes]) -> bytes:
    """Return the zip of the handout, in which all files are in the folder FOLDER."""
    return zip_bytes({f"{FOLDER}/{name}": content for name, content in files.items()})


def write_folder(files: dict[str, bytes], folder: Path) -> None:
    """Write the files into a folder, and replace an existing folder.

    The folder is replaced only when all files are written. Raises OSError.
    """
    with replace_folder(folder) as temporary:
        for name, content in files.items():
            path = temporary / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content)
            if is_program(content):
                path.chmod(0o755)


# ---------------------------------------------------------------- the command


def make_parser() -> argparse.ArgumentParser:
    """Return the parser of handout.py."""
    parser = command.make_parser(__doc__, EXAMPLES)
    parser.add_argument(
        "--out", type=Path, default=Path("dist"), help="folder for the zip and folder"
    )
    proof = parser.add_mutually_exclusive_group()
    proof.add_argument("--no-proof", action="store_true", help="build without checks")
    proof.add_argument(
        "--full-proof",
        action="store_true",
        help="also run `make demo` on all data",
    )
    return parser


def main() -> None:
    """Build the handout, check it, write it, print where it is."""
    parser = make_parser()
    options = parser.parse_args()
    with command.clear_errors(parser.prog, HandoutError):
        names = tracked(ROOT, options.out)
        files = build(ROOT, names)
        content = archive(files)
        if not (ROOT / ".git").exists():
            print(f"{ROOT} is not a git checkout: every file in it counts as part of the lab")
        made = len(files.keys() - set(names))
        print(f"{len(files) - made} of the repository's {len(names)} files are handed out")
        print(f"{made} files are made of them: the site {SITE}/, and lab.ipynb")
        if options.no_proof:
            print("the handout was not checked (--no-proof)")
        else:
            from staff.handout_proof import prove  # imports torch

            reference = (ROOT / "submission.py").read_text(encoding="utf-8")
            prove(content, reference, LEFT_OUT, options.full_proof)
        with write_whole(options.out / "handout.zip") as file:
            file.write(content)
        write_folder(files, options.out / FOLDER)
    size = sum(map(len, files.values()))
    print(f"{options.out / 'handout.zip'}: {len(content) / 1e6:.1f} MB")
    print(f"{options.out / FOLDER}: the same files, {size / 1e6:.1f} MB")


if __name__ == "__main__":
    command.run(main)
