"""Write report.html for one run, or for several that are compared: one file that opens from disk.

It shows the score and its terms, the training, reconstructions from best to worst, samples, what
each dimension of the code does, and the settings.
"""

from __future__ import annotations

import argparse
import os
from dataclasses import dataclass
from pathlib import Path

from lab import command
from lab.settings import SettingsError

EXAMPLES = """examples:
  python report.py                                     the newest run
  python report.py runs/Genwithlabel                   writes runs/Genwithlabel/report.html
  python report.py runs/VAEwolabel runs/example        both on one page
  python report.py runs/sweep --output compared.html   every run of a sweep
"""
PAGE = "report.html"
MOST_RUNS = 12  # on one page


@dataclass(frozen=True, kw_only=True)
class ReportOptions:
    """Which runs, on which images, to which file; `make_parser` describes each."""

    runs: list[Path]
    data_path: Path = Path("dataset/valid")
    output: Path | None = None
    diagnostics: bool = False


def write_report(options: ReportOptions, progress: bool = True) -> Path:
    """Measure the runs, write the page, return its path.

    Raises SettingsError, InferenceError, CheckpointError, ContractError, DataError, OSError.
    """
    from tqdm import tqdm

    from data_utils import MNISTDataset
    from lab import checkpoint
    from lab.report.measure import measure
    from lab.report.page import build
    from lab.report.references import TRAIN
    from lab.trained import newest_run

    paths = [path for run in options.runs for path in runs_in(run)] or [newest_run(None)]
    if len(paths) > MOST_RUNS:
        raise SettingsError(
            f"{len(paths)} runs are too many for one page; expected at most {MOST_RUNS}. "
            "Name those to compare."
        )
    dataset = MNISTDataset(options.data_path)
    bar = tqdm(paths, unit="run", leave=False, disable=not progress)
    train = MNISTDataset(TRAIN) if options.diagnostics else None
    measured = [measure(path, dataset, train) for path in bar]
    _name_apart(measured, paths)
    first = paths[0] if paths[0].is_dir() else paths[0].parent
    output = options.output or (first if len(paths) == 1 else first.parent) / PAGE
    with checkpoint.write_whole(output) as file:
        file.write(build(measured, dataset).encode())
    return output


def runs_in(path: Path) -> list[Path]:
    """Return the run itself, or the runs in a folder of runs, such as that of a sweep, sorted."""
    if path.is_dir() and not list(path.glob("*.pth")):
        found = {file.parent for file in path.rglob("best.pth")}
        if found:
            return sorted(found)
    return [path]


def _name_apart(measured: list, paths: list[Path]) -> None:
    """Give runs of the same name their folder's path as name."""
    if len({run.name for run in measured}) < len(measured):
        folders = [(path if path.is_dir() else path.parent).resolve() for path in paths]
        common = Path(os.path.commonpath(folders))
        for run, folder in zip(measured, folders):
            run.name = folder.relative_to(common).as_posix()


def make_parser() -> argparse.ArgumentParser:
    """Return the parser of report.py."""
    parser = command.make_parser(__doc__, EXAMPLES)
    add = parser.add_argument
    add("runs", type=Path, nargs="*", help="folders of runs or of sweeps, or checkpoints")
    add("--data_path", type=Path, default=ReportOptions.data_path, help="images to measure with")
    add("--output", type=Path, help=f"the file to write; {PAGE} beside the run if not given")
    add("--diagnostics", action="store_true", help="add measures that are not graded: some minutes")
    return parser


def main() -> None:
    """Parse, write the report, print where it is."""
    parser = make_parser()
    options = ReportOptions(**vars(parser.parse_args()))

    from data_utils import DataError
    from lab.checkpoint import CheckpointError
    from lab.loading import ContractError
    from lab.stages import InferenceError

    errors = (InferenceError, CheckpointError, ContractError, DataError, SettingsError)
    with command.clear_errors(parser.prog, *errors):
        page = write_report(options)
    print(f"{page}: {page.stat().st_size / 1e6:.1f} MB; open it in a browser")


if __name__ == "__main__":
    command.run(main)
