"""Write explorer.html into the folder of a run: a page in which the trained model runs.

One file, which opens without network. Sliders move the code, and the decoder draws it; draw a digit
and watch the encoder.
"""

from __future__ import annotations

import argparse
import os
import sys
import webbrowser
from dataclasses import dataclass, fields
from pathlib import Path

from lab import command
from lab.metrics import TASKS
from lab.settings import SettingsError, add_options, option

EXAMPLES = """examples:
  python explore.py                                 the newest run
  python explore.py runs/Genwithlabel
  python explore.py runs/VAEwolabel/epoch_3.pth     another checkpoint than the best
  python explore.py runs/VAEwolabel --no_open       write the page only
"""
PAGE = "explorer.html"


@dataclass(frozen=True, kw_only=True)
class ExploreOptions:
    """Which run, and which images."""

    run: Path | None = None
    task: str | None = option(None, "only for older checkpoints, which do not state it", TASKS, str)
    latent_dim: int | None = option(
        None, "only for older checkpoints, which do not state it", kind=int
    )
    submission: Path | None = option(None, "the run's own copy if not given", kind=Path)
    data_path: Path = option(Path("dataset/valid"), "images to pick from", kind=Path)
    no_open: bool = False


def explore(options: ExploreOptions) -> tuple[Path, list[str]]:
    """Write the page; return its path, and one sentence for each part that it lacks.

    Raises ExportError, InferenceError, SettingsError, CheckpointError, ContractError, DataError,
    OSError.
    """
    from lab.explorer.export import expect_packages

    expect_packages()
    from data_utils import MNISTDataset
    from lab import checkpoint
    from lab.explorer.document import build
    from lab.trained import load_trained, newest_run

    path = options.run or newest_run(options.task)
    if not path.is_file():
        path = checkpoint.best_or_newest(path)
    state = checkpoint.load(path)
    submission = load_trained(path, state, options.task, options.latent_dim, options.submission)
    facts = {
        "name": path.parent.resolve().name,
        "checkpoint": path.name,
        "epoch": state["epoch"],
        "var": state.get("settings", {}).get("var"),
    }
    page, held = build(submission, MNISTDataset(options.data_path), facts)
    with checkpoint.write_whole(path.parent / PAGE) as file:
        file.write(page.encode())
    return path.parent / PAGE, [
        f"the {name} cannot run in a browser ({half['why']}); the page says what it shows instead"
        for name, half in held.items()
        if half["precision"] is None
    ]


def show(page: Path) -> bool:
    """Open a page in the browser; return whether there is one with a window."""
    has_windows = sys.platform in ("win32", "darwin")
    if not (has_windows or os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY")):
        return False  # a browser in the terminal cannot run the page
    return webbrowser.open(page.resolve().as_uri())


def make_parser() -> argparse.ArgumentParser:
    """Return the parser of explore.py."""
    parser = command.make_parser(__doc__, EXAMPLES)
    parser.add_argument(
        "run", type=Path, nargs="?", help="folder of a run, or a checkpoint; the newest run if none"
    )
    own = ("run", "no_open")
    add_options(parser, [each for each in fields(ExploreOptions) if each.name not in own])
    parser.add_argument("--no_open", action="store_true", help="do not open the page")
    return parser


def main() -> None:
    """Parse, write the page, print its path, open it."""
    parser = make_parser()
    options = ExploreOptions(**vars(parser.parse_args()))

    from data_utils import DataError
    from lab.checkpoint import CheckpointError
    from lab.explorer.export import ExportError
    from lab.loading import ContractError
    from lab.stages import InferenceError

    errors = (ExportError, InferenceError, CheckpointError, ContractError, DataError)
    with command.clear_errors(parser.prog, *errors, SettingsError):
        page, missing = explore(options)
    for sentence in missing:
        print(sentence)
    print(f"{page}: {page.stat().st_size / 1e6:.1f} MB")
    if not (options.no_open or show(page)):
        print("open it in a browser")


if __name__ == "__main__":
    command.run(main)
