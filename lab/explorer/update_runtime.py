"""Replace the vendored onnxruntime-web by a version of the npm package. Needs npm and network.

Writes into lab/explorer/runtime: the two files that the page holds, gzipped, and runtime.json with
version, licence and SHA-256 of the unpacked files.
"""

from __future__ import annotations

import argparse
import gzip
import hashlib
import json
import subprocess
import tarfile
import tempfile
from pathlib import Path

from lab import command
from lab.checkpoint import write_whole
from lab.explorer.document import HERE, RUNTIME

EXAMPLES = """examples:
  python -m lab.explorer.update_runtime                    the newest version
  python -m lab.explorer.update_runtime --version 1.30.0
"""
PACKAGE = "onnxruntime-web"
LICENCE = "MIT"  # the text in runtime/LICENSE


class UpdateError(ValueError):
    """The package cannot be fetched, or is not what is expected."""


def fetch(version: str) -> dict[str, bytes]:
    """Return the files of the npm package by name. Raises UpdateError."""
    with tempfile.TemporaryDirectory() as folder:
        words = ["npm", "pack", "--silent", f"{PACKAGE}@{version}"]
        try:
            packed = subprocess.run(words, cwd=folder, capture_output=True, text=True)
        except FileNotFoundError:
            raise UpdateError("npm is not installed; it fetches the package.") from None
        if packed.returncode != 0:
            raise UpdateError(f"npm pack failed: {' '.join(packed.stderr.split())[:300]}")
        with tarfile.open(next(Path(folder).glob("*.tgz"))) as archive:
            files = {}
            for member in archive.getmembers():
                content = archive.extractfile(member)
                if content is not None:
                    files[member.name.removeprefix("package/")] = content.read()
    return files


def write(files: dict[str, bytes], folder: Path) -> dict:
    """Write the runtime into a folder; return what runtime.json says. Raises UpdateError."""
    package = json.loads(files["package.json"])
    if package["license"] != LICENCE:
        raise UpdateError(f"{PACKAGE} is under {package['license']}; expected {LICENCE}.")
    facts = {"name": PACKAGE, "version": package["version"], "license": LICENCE, "sha256": {}}
    for name in RUNTIME:
        content = files[f"dist/{name}"]
        facts["sha256"][name] = hashlib.sha256(content).hexdigest()
        with write_whole(folder / f"{name}.gz") as file:
            file.write(gzip.compress(content, 9, mtime=0))
    with write_whole(folder / "runtime.json") as file:
        file.write(json.dumps(facts, indent=2).encode() + b"\n")
    return facts


def make_parser() -> argparse.ArgumentParser:
    """Return the parser of update_runtime.py."""
    parser = command.make_parser(__doc__, EXAMPLES)
    parser.add_argument("--version", default="latest", help="version of the npm package")
    return parser


def main() -> None:
    """Parse, fetch, write, print the version."""
    parser = make_parser()
    options = parser.parse_args()
    with command.clear_errors(parser.prog, UpdateError):
        facts = write(fetch(options.version), HERE / "runtime")
    print(f"{PACKAGE} {facts['version']}")


if __name__ == "__main__":
    command.run(main)
