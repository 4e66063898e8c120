"""Take the pictures of report.html and explorer.html that README.md and the student guide show.

    python -m benchmarks.screenshots runs/demo-Genwithlabel

The run must have both pages: see report.py and explore.py.
"""

from __future__ import annotations

import io
from pathlib import Path

from PIL import Image

from benchmarks.commands import make_parser
from lab import ROOT
from lab.checkpoint import write_whole
from tests.browsers import Opened, address_of, chromium

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
    print(f"{to}: {to.stat().st_size / 1000:.0f} kB")


def main() -> None:
    """Take both pictures."""
    parser = make_parser("benchmarks.screenshots", __doc__)
    parser.add_argument("run", type=Path, help="folder of a run with report.html and explorer.html")
    run = parser.parse_args().run
    take(run / "report.html", ROOT / "docs" / "course" / "report.png", "svg")
    take(run / "explorer.html", ROOT / "docs" / "explorer.png", "html[data-ready]")


if __name__ == "__main__":
    main()
