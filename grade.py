"""Score what inference.py wrote: SSIM, MSE, FID, the compression bonus, the grade."""

from __future__ import annotations

import argparse
import hashlib
import json
import platform
from pathlib import Path
from typing import Any

import numpy as np

from data_utils import NUM_CLASSES, DataError, MNISTDataset
from lab import command, metrics
from lab.checkpoint import write_whole

EXAMPLES = """examples:
  python grade.py                                 both tasks of runs/, against dataset/valid
  python grade.py --test_data_path dataset/test   what inference.py --data_path dataset/test wrote
  python grade.py --no-Genwithlabel --VAEwolabel_output_dir my_run/inference
"""
TASKS = tuple(metrics.CAPS)
MAX_FILE_BYTES = 4 * 1024**3  # far above any output of this lab; bounds what is read


class GradeError(ValueError):
    """Outputs are missing or malformed; the message names the file and what is wrong."""


# ---------------------------------------------------------------- reading outputs


def read_outputs(folder: Path, task: str, count: int, gen_num: int) -> dict[str, Any]:
    """Read the outputs of a task: recon (count, 28, 28), samples (10, gen_num, 28, 28) or None,
    latent_dim, and submission_sha256 where it is known. recon is None for a model that, having no
    encoder, only generates.

    `folder` holds our arrays or the older tree of PNG files. Raises GradeError.
    """
    facts = _read_facts(folder)
    if facts.get("task", task) != task:
        raise GradeError(f"{folder} holds outputs of {facts['task']}, not of {task}.")
    if (folder / "recon.npy").exists() or (folder / "codes.npy").exists():
        recon = _read_array(folder / "recon.npy", np.uint8, (count, 28, 28))
        codes = _read_array(folder / "codes.npy", np.float16, (count, None))
        latent_dim = codes.shape[1]
    elif (folder / "recon").is_dir():
        recon = np.stack([_read_png(folder / "recon" / f"recon_{i}.png") for i in range(count)])
        _refuse_png(folder / "recon" / f"recon_{count}.png", f"more than {count} images")
        latent_dim = _stated_latent_dim(folder, facts)
    elif facts.get("generates_only") is True and task == "Genwithlabel":
        recon, latent_dim = None, _stated_latent_dim(folder, facts)
    elif facts.get("generates_only") is True:
        raise GradeError(
            f"{folder} is of a model without an encoder, and {task} grades reconstructions only; "
            "train it with --task Genwithlabel."
        )
    else:
        raise GradeError(
            f"{folder} has no outputs (recon.npy or recon/recon_0.png); run inference.py first."
        )
    if not 1 <= latent_dim <= 784:
        raise GradeError(f"{folder} has latent_dim {latent_dim}; expected 1 to 784.")
    samples = _read_samples(folder, gen_num) if task == "Genwithlabel" else None
    return {
        "recon": recon,
        "samples": samples,
        "latent_dim": latent_dim,
        "submission_sha256": facts.get("submission_sha256"),
    }


def _stated_latent_dim(folder: Path, facts: dict[str, Any]) -> int:
    """Return the width that is stated where no codes are there to measure it on."""
    latent_dim = facts.get("latent_dim")
    if not isinstance(latent_dim, int) or isinstance(latent_dim, bool):
        raise GradeError(f"{folder / 'hyperparams.json'} has no whole number latent_dim.")
    return latent_dim


def _read_facts(folder: Path) -> dict[str, Any]:
    file = folder / "hyperparams.json"
    if not file.is_file():
        return {}
    try:
        facts = json.loads(file.read_text(encoding="utf-8"))
    except ValueError as error:
        raise GradeError(f"{file} is not JSON ({error}).") from None
    if not isinstance(facts, dict):
        raise GradeError(f"{file} holds no table of names and values.")
    return facts


def _read_array(file: Path, dtype: type, shape: tuple[int | None, ...]) -> np.ndarray:
    """Read an array after checking its header: what it claims bounds what is read."""
    if not file.is_file():
        raise GradeError(f"{file} is missing; run inference.py with all of its stages.")
    if file.stat().st_size > MAX_FILE_BYTES:
        raise GradeError(f"{file} is larger than {MAX_FILE_BYTES} bytes; ours are not.")
    try:
        array = np.load(file, mmap_mode="r", allow_pickle=False)
    except (ValueError, EOFError, OSError, OverflowError) as error:
        raise GradeError(f"{file} is not a whole array that numpy reads ({error}).") from None
    fits = isinstance(array, np.ndarray) and array.ndim == len(shape)
    fits = fits and all(want in (None, came) for want, came in zip(shape, array.shape))
    if not fits or array.dtype != dtype:
        came = f"{array.dtype} {array.shape}" if isinstance(array, np.ndarray) else "no array"
        wanted = f"({', '.join('any' if want is None else str(want) for want in shape)})"
        raise GradeError(
            f"{file} is {came}; expected {np.dtype(dtype)} {wanted}. "
            "Run inference.py on the same data that grade.py is given."
        )
    array = np.array(array)
    if not np.isfinite(array).all():
        raise GradeError(f"{file} has values that are not finite (nan or inf).")
    return array


def _read_samples(folder: Path, gen_num: int) -> np.ndarray:
    """Return the first gen_num samples of each label, uint8 (10, gen_num, 28, 28)."""
    file = folder / "samples.npy"
    if file.exists() or not (folder / "gen").is_dir():
        samples = _read_array(file, np.uint8, (NUM_CLASSES, None, 28, 28))
        if samples.shape[1] < gen_num:
            raise GradeError(
                f"{file} has {samples.shape[1]} samples a label; expected {gen_num} or more: "
                f"run inference.py with --gen_num {gen_num}."
            )
        return samples[:, :gen_num]
    return np.stack(
        [
            [_read_png(folder / "gen" / str(label) / f"{j}.png") for j in range(gen_num)]
            for label in range(NUM_CLASSES)
        ]
    )


def _read_png(file: Path) -> np.ndarray:
    from PIL import Image

    try:
        with Image.open(file, formats=["PNG"]) as picture:
            if picture.size != (28, 28):
                width, height = picture.size
                raise GradeError(f"{file} is {width} x {height} pixels; expected 28 x 28.")
            return np.asarray(picture.convert("L"))
    except FileNotFoundError:
        raise GradeError(f"{file} is missing; run inference.py on the data graded.") from None
    except GradeError:
        raise
    except (Image.DecompressionBombError, OSError, ValueError, SyntaxError) as error:
        raise GradeError(f"{file} is not a readable PNG ({error}).") from None


def _refuse_png(file: Path, what: str) -> None:
    if file.exists():
        raise GradeError(f"{file} should not be there: {what}. Grade the data it was made from.")


# ---------------------------------------------------------------- grading


def grade(
    dataset: MNISTDataset, output_dirs: dict[str, Path], gen_num: int = 100
) -> dict[str, dict[str, Any]]:
    """Score the outputs in each task's folder; returns a dict of results by task.

    Raises GradeError if any of them is missing or malformed.
    """
    results = {}
    provenance = {
        "versions": {"python": platform.python_version(), "numpy": np.__version__},
        "data_sha256": dataset.sha256,
        "code_sha256": _code_sha256(),
    }
    for task, folder in output_dirs.items():
        outputs = read_outputs(folder, task, len(dataset), gen_num)
        results[task] = metrics.score_task(
            task,
            outputs["recon"],
            dataset.images,
            dataset.labels,
            outputs["latent_dim"],
            outputs["samples"],
        )
        results[task] |= {**provenance, "submission_sha256": outputs["submission_sha256"]}
    return results


def _code_sha256() -> str:
    """SHA-256 over the code that makes the score."""
    digest = hashlib.sha256()
    for module in (metrics.__file__, __file__):
        digest.update(Path(module).read_bytes().replace(b"\r\n", b"\n"))
    return digest.hexdigest()


def table(results: dict[str, dict[str, Any]]) -> str:
    """Return the results as a table for the terminal, with a row a label below each task's."""
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
        for name, value in result.get("diagnostics", {}).items():
            lines.append(f"  {name:<20} {value:.4f} (not graded)")
        if result["ssim"] is None:
            lines.append("  this model has no encoder: there are no points for reconstructions")
        lines.append("")
    return "\n".join(lines)


def _cell(value: float | None, width: int, digits: int) -> str:
    return f"{'-':>{width}}" if value is None else f"{value:{width}.{digits}f}"


def add_diagnostics(
    results: dict[str, dict[str, Any]],
    output_dirs: dict[str, Path],
    dataset: MNISTDataset,
    options: dict[str, Any],
) -> None:
    """Add to the result of Genwithlabel what the judge sees in its samples; see diagnostics.py.

    Raises GradeError when there is no such result, DataError.
    """
    from lab.diagnostics import diagnose  # the one part of grading that needs torch

    if "Genwithlabel" not in results:
        raise GradeError("--diagnostics looks at the samples of Genwithlabel, which is not graded.")
    if min(np.bincount(dataset.labels, minlength=NUM_CLASSES)) < 2:
        raise GradeError("--diagnostics needs two images of each label or more.")
    samples = _read_samples(output_dirs["Genwithlabel"], options["gen_num"])
    train_images = MNISTDataset(options["train_data"]).images
    found = diagnose(samples, dataset.images, dataset.labels, train_images)
    results["Genwithlabel"]["diagnostics"] = found


# ---------------------------------------------------------------- the command


def make_parser() -> argparse.ArgumentParser:
    """Return the parser of grade.py."""
    parser = command.make_parser(__doc__, EXAMPLES)
    add = parser.add_argument
    add("--test_data_path", type=Path, default=Path("dataset/valid"), help="the data to score on")
    for task in TASKS:
        add(
            f"--{task}",
            action=argparse.BooleanOptionalAction,
            help=f"grade {task}; if neither is said, where there are outputs",
        )
        add(
            f"--{task}_output_dir",
            type=Path,
            default=Path("runs") / task / "inference",
            help="what inference.py wrote",
        )
    add("--gen_num", type=int, default=100, help="samples a label that count for the FID")
    add("--diagnostics", action="store_true", help="have the judge look at the samples; not graded")
    add("--train_data", type=Path, default=Path("dataset/train"), help="for --diagnostics: copies?")
    add("--output", type=Path, default=Path("grade_result.json"), help="where the result goes")
    return parser


def chosen_outputs(options: dict[str, Any]) -> dict[str, Path]:
    """Return the folder of each task to grade. Raises GradeError when there is none."""
    folders = {task: options[f"{task}_output_dir"] for task in TASKS}
    chosen = {
        task: folder
        for task, folder in folders.items()
        if options[task] or (options[task] is None and folder.is_dir())
    }
    if not chosen:
        looked = ", ".join(str(folder) for task, folder in folders.items() if options[task] is None)
        raise GradeError(f"nothing to grade in {looked or 'any task'}; run inference.py first.")
    return chosen


def main() -> None:
    """Parse, grade, print the table, write the result."""
    parser = make_parser()
    options = vars(parser.parse_args())
    with command.clear_errors(parser.prog, GradeError, DataError):
        if options["gen_num"] < 1:
            raise GradeError(f"--gen_num is {options['gen_num']}; expected 1 or more.")
        output_dirs = chosen_outputs(options)
        dataset = MNISTDataset(options["test_data_path"])
        results = grade(dataset, output_dirs, options["gen_num"])
        if options["diagnostics"]:
            add_diagnostics(results, output_dirs, dataset, options)
        with write_whole(options["output"]) as file:
            file.write(json.dumps(results, indent=2).encode())
    print(table(results))
    print(f"the result is in {options['output']}")


if __name__ == "__main__":
    main()
