"""Make the live explorer of the project's front page, and the pictures of the two pages.

    python -m benchmarks.showcase      3 minutes on 2 cores

Trains the reports' conditional VAE, writes its report and its explorer, and takes pictures of both
in Chromium. docs/explorer.html is the explorer itself; GitHub Pages can serve docs/.
"""

from __future__ import annotations

import io
import shutil
import sys
import tempfile
from pathlib import Path

from PIL import Image

from benchmarks.commands import make_parser, timed
from lab import ROOT
from lab.checkpoint import write_whole
from tests.browsers import Opened, address_of, chromium

DOCS = ROOT / "docs"
MODEL = ["--submission", "zoo/conv_cvae.py", "--task", "Genwithlabel"]
RECIPE = ["--epochs", "10", "--batch_size", "256", "--lr", "3e-3", "--var", "0.1"]
LARGEST = 8_000_000  # bytes of the live page
SIZE = {"width": 1100, "height": 720}
COLORS = 64  # which makes a picture a third of the size


def take(page: Path, to: Path, ready: str) -> None:
    """Write the upper part of a page as a picture, once an element is there."""
    with chromium() as browser:
        shown = Opened(browser, address_of(page), viewport=SIZE, locale="en-US")
        shown.page.wait_for_selector(ready, state="attached", timeout=60_000)
        content = shown.page.screenshot()
    picture = Image.open(io.BytesIO(content)).convert("RGB").quantize(COLORS)
    with write_whole(to) as file:
        picture.save(file, "PNG", optimize=True)


def main() -> None:
    """Train, write the pages, take the pictures, print the sizes."""
    make_parser("benchmarks.showcase", __doc__).parse_args()
    with tempfile.TemporaryDirectory() as folder:
        run = Path(folder) / "conv_cvae"
        timed(sys.executable, "train.py", *MODEL, *RECIPE, "--save_dir", run)
        timed(sys.executable, "report.py", run)
        timed(sys.executable, "explore.py", run, "--no_open")
        size = (run / "explorer.html").stat().st_size
        if size > LARGEST:
            sys.exit(f"the explorer has {size:,} bytes; expected at most {LARGEST:,}.")
        shutil.copyfile(run / "explorer.html", DOCS / "explorer.html")
        take(run / "report.html", DOCS / "course" / "report.png", "svg")
        take(run / "explorer.html", DOCS / "explorer.png", "html[data-ready]")
    for file in (DOCS / "explorer.html", DOCS / "course" / "report.png", DOCS / "explorer.png"):
        print(f"{file.relative_to(ROOT)}: {file.stat().st_size / 1e6:.2f} MB")


if __name__ == "__main__":
    main()
