"""Build the site: every document of the repository as a page that opens from disk."""

from __future__ import annotations

import argparse
from pathlib import Path

from lab import ROOT, command
from staff.handout import is_left_out, site_of, tracked, write_folder
from staff.solutions import HandoutError

EXAMPLES = """examples:
  python -m staff.site.build               dist/site; open its index.html in a browser
  python -m staff.site.build --out ~/site
"""


def make_parser() -> argparse.ArgumentParser:
    """Return the parser of build.py."""
    parser = command.make_parser(__doc__, EXAMPLES)
    parser.add_argument("--out", type=Path, default=Path("dist/site"), help="folder to write")
    return parser


def main() -> None:
    """Build, write, print where it is."""
    parser = make_parser()
    options = parser.parse_args()
    with command.clear_errors(parser.prog, HandoutError):
        names = tracked(ROOT, options.out)
        files = {name: (ROOT / name).read_bytes() for name in names}
        site = site_of(files, {name for name in names if is_left_out(name)})
        write_folder(site, options.out)
    pages = sum(name.endswith(".html") for name in site)
    print(f"{pages} pages; open {options.out / 'index.html'} in a browser")


if __name__ == "__main__":
    command.run(main)
