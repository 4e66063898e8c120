"""Score what inference.py wrote: SSIM, MSE, FID, the compression bonus, the grade."""

from __future__ import annotations

import argparse
import hashlib
import json
import platform
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from lab import command

# isort: split
import numpy as np

from data_utils import DataError, MNISTDataset, one_line
from lab import metrics, outputs
from lab.checkpoint import write_whole
from lab.evaluation import rows_of
from lab.metrics import TASKS
from lab.outputs import OutputsError
from lab.settings import SettingsError, add_options, option

EXAMPLES = """examples:
  python grade.py                                 what inference.py wrote last, of each task
  python grade.py --test_data_path dataset/test   what inference.py --data_path dataset/test wrote
  python grade.py --VAEwolabel_output_dir runs/example/inference
"""
RUNS = Path("runs")
GRADE_HELP = "grade {}; by default, if there are outputs of it and no folder of the other is given"
FOLDER_HELP = f"what inference.py wrote; its latest outputs of the task in {RUNS} if not given"


@dataclass(frozen=True, kw_only=True)
class GradeOptions:
    """What to grade, against which data."""

    test_data_path: Path = option(Path("dataset/valid"), "the data to score on", kind=Path)
    VAEwolabel: bool | None = option(None, GRADE_HELP.format("VAEwolabel"), kind=bool)
    VAEwolabel_output_dir: Path | None = option(None, FOLDER_HELP, kind=Path)
    Genwithlabel: bool | None = option(None, GRADE_HELP.format("Genwithlabel"), kind=bool)
    Genwithlabel_output_dir: Path | None = option(None, FOLDER_HELP, kind=Path)
    gen_num: int = option(100, "samples per label that count for the FID")
    diagnostics: bool = option(
        False, "also measure what docs/metrics.md defines, with the model itself; not graded"
    )
    train_data: Path = option(
        Path("dataset/train"),
        "training images, with which --diagnostics compares samples",
        kind=Path,
    )
    output: Path = option(Path("grade_result.json"), "file for the result", kind=Path)

    def __post_init__(self) -> None:
        if self.gen_num < 1:
            raise SettingsError(f"--gen_num is {self.gen_num}; expected 1 or more.")


# ---------------------------------------------------------------- what to grade


def output_dirs(options: GradeOptions, data_sha256: str) -> dict[str, Path]:
    """Return the folder of each task to grade. Raises OutputsError when there is none.

    Prints a line about a task that is left out because its latest outputs are of other data.
    """
    folders: dict[str, Path | None] = {t: getattr(options, f"{t}_output_dir") for t in TASKS}
    chosen: dict[str, Path] = {}
    others = []  # one sentence per task whose outputs are of other data
    for task, given in folders.items():
        asked: bool | None = getattr(options, task)
        if asked is False or (asked is None and given is None and any(folders.values())):
            continue
        folder = given or outputs.newest_outputs(task, RUNS)
        if folder is None and asked:
            raise OutputsError(f"{RUNS} has no outputs of {task}; run inference.py first.")
        if given is None and (other := _other_data(folder, data_sha256)):
            others.append(
                f"{folder} was made from {other}; to grade it, add --test_data_path {other}."
            )
        elif folder is not None:
            chosen[task] = folder
    if not chosen:
        raise OutputsError(
            " ".join(others) or f"nothing to grade in {RUNS}; run inference.py first."
        )
    for sentence in others:
        print(sentence)
    return chosen


def _other_data(folder: Path | None, data_sha256: str) -> str | None:
    """Return the path of the data that outputs were made from, if these are other data."""
    facts = outputs.known_facts(folder) if folder else {}
    if facts.get("data_sha256", data_sha256) == data_sha256:
        return None
    return one_line(facts.get("data_path"))


# ---------------------------------------------------------------- grading


def grade(
    dataset: MNISTDataset,
    folders: dict[str, Path],
    gen_num: int = 100,
    known: metrics.PerImage | None = None,
) -> dict[str, dict[str, Any]]:
    """Score the outputs in each task's folder; return a dict of results by task.

    Args:
        gen_num: samples per label that count for the FID.
        known: the scores of each image, if the caller has them; then there must be one folder.

    Raises OutputsError if any of the outputs is missing or malformed.
    """
    results = {}
    provenance = {
        "versions": {"python": platform.python_version(), "numpy": np.__version__},
        "data_sha256": dataset.sha256,
        "code_sha256": _code_sha256(),
    }
    for task, folder in folders.items():
        made = outputs.read_outputs(folder, task, len(dataset), gen_num)
        results[task] = metrics.score_task(
            *(task, made.recon, dataset.images, dataset.labels, made.latent_dim, made.samples),
            known=known,
        )
        results[task] |= {**provenance, "submission_sha256": made.submission_sha256}
    return results


def _code_sha256() -> str:
    """Return the SHA-256 of the code that computes the score."""
    digest = hashlib.sha256()
    for module in (metrics.__file__, outputs.__file__, __file__):
        digest.update(Path(module).read_bytes().replace(b"\r\n", b"\n"))
    return digest.hexdigest()


def add_diagnostics(
    results: dict[str, dict[str, Any]],
    dataset: MNISTDataset,
    folders: dict[str, Path],
    options: GradeOptions,
) -> None:
    """Add to each result what lab/evaluation measures of the model that made the outputs.

    Raises SettingsError, OutputsError, DataError, CheckpointError, ContractError.
    """
    # The one part of grading that needs torch and the model.
    from lab import checkpoint
    from lab.evaluation.evaluate import enough, evaluate
    from lab.evaluation.samples import LEAST
    from lab.trained import load_trained

    if not enough(dataset):
        raise SettingsError(
            f"--diagnostics needs {LEAST} images of each label or more; "
            "give another --test_data_path."
        )
    train = MNISTDataset(options.train_data)
    for task, folder in folders.items():
        path = _checkpoint_of(folder)
        state = checkpoint.load(path)
        made = outputs.read_outputs(folder, task, len(dataset), options.gen_num)
        results[task]["diagnostics"] = evaluate(
            load_trained(path, state),
            state.get("settings", {}).get("var"),
            dataset,
            train,
            made.recon,
            made.samples,
        )


def _checkpoint_of(folder: Path) -> Path:
    """Return the checkpoint that outputs were made from. Raises OutputsError if it is gone."""
    facts = outputs.known_facts(folder)
    path = Path(str(facts.get("checkpoint", "")))
    if not path.is_file():
        raise OutputsError(
            f"--diagnostics needs the model of {folder}, {one_line(path)}, which does not exist; "
            "run inference.py again."
        )
    if hashlib.sha256(path.read_bytes()).hexdigest() != facts.get("checkpoint_sha256"):
        raise OutputsError(
            f"{one_line(path)} has changed since {folder} was made; run inference.py again."
        )
    return path


# ---------------------------------------------------------------- the command


def table(results: dict[str, dict[str, Any]]) -> str:
    """Return the results as a table for the terminal, one row per label below each task."""
    lines = []
    for task, result in results.items():
        lines += [
            f"{task}: {result['score']:.2f} / {result['cap']:.0f}"
            f"   (raw {result['raw']:.4f}, n = {result['n']}, latent_dim {result['latent_dim']}, "
            f"bonus {result['bonus']:.4f})",
            f"  {'label':>5} {'n':>6} {'ssim':>8} {'mse':>9} {'fid':>8} {'raw':>9}",
        ]
        for row in ({**result, "label": "all"}, *result["per_label"]):
            columns = (("ssim", 8, 4), ("mse", 9, 5), ("fid", 8, 3), ("raw", 9, 4))
            cells = " ".join(_cell(row[name], width, digits) for name, width, digits in columns)
            lines.append(f"  {row['label']:>5} {row['n']:>6} {cells}")
        if result["fid_pooled"] is not None:
            lines.append(f"  fid with all labels in one: {result['fid_pooled']:.3f} (not graded)")
        lines += _diagnostics_lines(result.get("diagnostics", {}))
        if result["ssim"] is None:
            lines.append("  this model has no encoder: there are no points for reconstructions")
        lines.append("")
    return "\n".join(lines)


def _diagnostics_lines(diagnostics: dict[str, Any]) -> list[str]:
    """Return one line per measure, with the value of real images beside that of the model."""
    if not diagnostics:
        return []
    lines = [
        f"  95 % of raw: {diagnostics['raw_low']:.3f} to {diagnostics['raw_high']:.3f}"
        "   (other images, other samples; not graded, like what follows)",
        f"  {'':<20} {'model':>10} {'real images':>12}",
    ]
    for name, value, real in rows_of(diagnostics):
        lines.append(f"  {name:<20} {_cell(value, 10, 4)} {_cell(real, 12, 4)}")
    return lines


def _cell(value: float | None, width: int, digits: int) -> str:
    return f"{'-':>{width}}" if value is None else f"{value:{width}.{digits}f}"


def make_parser() -> argparse.ArgumentParser:
    """Return the parser of grade.py."""
    parser = command.make_parser(__doc__, EXAMPLES)
    add_options(parser, fields(GradeOptions))
    return parser


def main() -> None:
    """Parse, grade, print the table, write the result."""
    parser = make_parser()
    typed = parser.parse_args()
    errors: tuple[type[Exception], ...] = (OutputsError, DataError, SettingsError)
    if typed.diagnostics:
        from lab.checkpoint import CheckpointError
        from lab.loading import ContractError

        errors += (CheckpointError, ContractError)
    with command.clear_errors(parser.prog, *errors):
        options = GradeOptions(**vars(typed))
        dataset = MNISTDataset(options.test_data_path)
        folders = output_dirs(options, dataset.sha256)
        for task, folder in folders.items():
            print(f"grading {task} in {folder}")
        results = grade(dataset, folders, options.gen_num)
        if options.diagnostics:
            add_diagnostics(results, dataset, folders, options)
        with write_whole(options.output) as file:
            file.write(json.dumps(results, indent=2).encode())
    print(table(results))
    print(f"the result is in {options.output}")


if __name__ == "__main__":
    command.run(main)
