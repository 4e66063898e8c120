"""The folder that inference.py writes and grade.py reads.

codes.npy         float16 (N, latent_dim)
recon.npy         uint8 (N, 28, 28)
samples.npy       uint8 (10, n, 28, 28)
hyperparams.json  the checkpoint, data and options that the arrays were made with

The older layout has recon/recon_{i}.png and gen/{label}/{j}.png instead of arrays.
"""

from __future__ import annotations

import io
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from data_utils import MAX_LATENT_DIM, NUM_CLASSES, one_line
from lab import arrays
from lab.checkpoint import replace_folder, write_whole

MAX_PNG_BYTES = 1 << 20
MAX_FACTS_BYTES = 1 << 20  # of hyperparams.json, which has about 1000


class OutputsError(ValueError):
    """Outputs are missing or malformed; the message names the file and what is wrong."""


@dataclass(frozen=True)
class Outputs:
    """The outputs of a model for one split.

    Attributes:
        recon: uint8 (N, 28, 28); None for a model that only generates.
        samples: uint8 (10, n, 28, 28); None for VAEwolabel.
        latent_dim: width of the codes: of codes.npy, or as stated if there is no such file.
        submission_sha256: of the submission file; None if unknown.
    """

    recon: np.ndarray | None
    samples: np.ndarray | None
    latent_dim: int
    submission_sha256: str | None


# ---------------------------------------------------------------- writing


def write_array(folder: Path, name: str, array: np.ndarray) -> None:
    """Write NAME.npy into the folder, whole or not at all."""
    with write_whole(folder / f"{name}.npy") as file:
        # np.save to a full disk does not say that the disk is full.
        file.write(arrays.npy_bytes(array))


def write_facts(folder: Path, facts: dict[str, Any]) -> None:
    """Write hyperparams.json. Other entries of an existing file stay. Raises OSError."""
    with write_whole(folder / "hyperparams.json") as file:
        file.write(json.dumps({**known_facts(folder), **facts}, indent=2).encode())


def write_png_tree(folder: Path, outputs: dict[str, np.ndarray]) -> None:
    """Write the older layout, one PNG file per image. Each tree appears when it is complete."""
    from tqdm import tqdm  # here, because grade.py would spend a tenth of its time on the import

    trees = {
        "recon": {f"recon_{i}.png": image for i, image in enumerate(outputs.get("recon", ()))},
        "gen": {
            f"{label}/{j}.png": image
            for label, images in enumerate(outputs.get("samples", ()))
            for j, image in enumerate(images)
        },
    }
    for name, files in trees.items():
        if not files:
            continue
        with replace_folder(folder / name) as tree:
            for path, image in tqdm(files.items(), desc=f"{name}/*.png", unit="file", leave=False):
                (tree / path).parent.mkdir(parents=True, exist_ok=True)
                Image.fromarray(image).save(tree / path)


# ---------------------------------------------------------------- reading


def read_outputs(folder: Path, task: str, count: int, gen_num: int) -> Outputs:
    """Read the outputs of a task on a split of `count` images, with `gen_num` samples per label.

    The folder holds arrays or the older PNG files. Raises OutputsError.
    """
    facts = read_facts(folder)
    if facts.get("task", task) != task:
        raise OutputsError(f"{folder} holds outputs of {one_line(facts['task'])}, not of {task}.")
    recon: np.ndarray | None
    if (folder / "recon.npy").exists() or (folder / "codes.npy").exists():
        recon = read_array(folder / "recon.npy", np.uint8, (count, 28, 28))
        codes = read_array(folder / "codes.npy", np.float16, (count, None))
        latent_dim = codes.shape[1]
    elif (folder / "recon").is_dir():
        recon = np.stack([_read_png(folder / "recon" / f"recon_{i}.png") for i in range(count)])
        _refuse_more_pngs(folder / "recon", count)
        latent_dim = _stated_latent_dim(folder, facts)
    elif facts.get("generates_only") is True and task == "Genwithlabel":
        recon, latent_dim = None, _stated_latent_dim(folder, facts)
    elif facts.get("generates_only") is True:
        raise OutputsError(
            f"{folder} is of a model without an encoder, but {task} grades only reconstructions; "
            "train it with --task Genwithlabel."
        )
    else:
        raise OutputsError(
            f"{folder} has no outputs (recon.npy or recon/recon_0.png); run inference.py first."
        )
    if not 1 <= latent_dim <= MAX_LATENT_DIM:
        raise OutputsError(f"{folder} has latent_dim {latent_dim}; expected 1 to {MAX_LATENT_DIM}.")
    samples = read_samples(folder, gen_num) if task == "Genwithlabel" else None
    code = facts.get("submission_sha256")  # whatever a damaged file has instead goes no further
    return Outputs(recon, samples, latent_dim, code if isinstance(code, str) else None)


def read_facts(folder: Path) -> dict[str, Any]:
    """Return the entries of hyperparams.json; {} if it does not exist. Raises OutputsError."""
    file = folder / "hyperparams.json"
    if not file.is_file():
        return {}
    if file.stat().st_size > MAX_FACTS_BYTES:
        raise OutputsError(
            f"{file} is larger than {MAX_FACTS_BYTES} bytes; run inference.py again."
        )
    try:
        facts = json.loads(file.read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:  # RecursionError: too deeply nested
        raise OutputsError(
            f"{file} is not JSON ({one_line(error)}); run inference.py again."
        ) from None
    if not isinstance(facts, dict):
        raise OutputsError(
            f"{file} is not a JSON object of names and values; run inference.py again."
        )
    return facts


def known_facts(folder: Path) -> dict[str, Any]:
    """Return the entries of hyperparams.json; {} if it cannot be read."""
    try:
        return read_facts(folder)
    except (OutputsError, OSError):
        return {}


def newest_outputs(task: str, runs: Path) -> Path | None:
    """Return the folder of a task's outputs that inference.py wrote last into a run in `runs`."""
    found = [
        (file.stat().st_mtime_ns, file.parent)
        for file in runs.glob("*/inference/hyperparams.json")
        if known_facts(file.parent).get("task") == task
    ]
    return max(found)[1] if found else None


def read_array(file: Path, dtype: type, shape: tuple[int | None, ...]) -> np.ndarray:
    """Read a .npy file of this dtype and shape; None in the shape allows any length.

    Raises OutputsError.
    """
    if not file.is_file():
        raise OutputsError(f"{file} is missing; run inference.py with all of its stages.")
    try:
        with open(file, "rb") as stream:
            return arrays.read_array(stream, str(file), dtype, shape)
    except arrays.ArrayError as error:
        raise OutputsError(
            f"{error} Run inference.py on the same data that grade.py is given."
        ) from None


def read_samples(folder: Path, gen_num: int) -> np.ndarray:
    """Return the first gen_num samples of each label, uint8 (10, gen_num, 28, 28).

    Raises OutputsError.
    """
    file = folder / "samples.npy"
    if file.exists() or not (folder / "gen").is_dir():
        samples = read_array(file, np.uint8, (NUM_CLASSES, None, 28, 28))
        if samples.shape[1] < gen_num:
            raise OutputsError(
                f"{file} has {samples.shape[1]} samples per label; expected {gen_num} or more: "
                f"run inference.py with --gen_num {gen_num}."
            )
        return samples[:, :gen_num]
    return np.stack(
        [
            np.stack([_read_png(folder / "gen" / str(label) / f"{j}.png") for j in range(gen_num)])
            for label in range(NUM_CLASSES)
        ]
    )


def _stated_latent_dim(folder: Path, facts: dict[str, Any]) -> int:
    """Return latent_dim as hyperparams.json states it, for outputs without codes.npy."""
    latent_dim = facts.get("latent_dim")
    if not isinstance(latent_dim, int) or isinstance(latent_dim, bool):
        raise OutputsError(
            f"{folder / 'hyperparams.json'} has no integer latent_dim; run inference.py again."
        )
    return latent_dim


def _read_png(file: Path) -> np.ndarray:
    try:
        if file.stat().st_size > MAX_PNG_BYTES:
            raise OutputsError(
                f"{file} is larger than {MAX_PNG_BYTES} bytes; expected 28 x 28 pixels."
            )
        with Image.open(io.BytesIO(file.read_bytes()), formats=["PNG"]) as picture:
            if picture.size != (28, 28):
                width, height = picture.size
                raise OutputsError(f"{file} is {width} x {height} pixels; expected 28 x 28.")
            return np.asarray(picture.convert("L"))
    except FileNotFoundError:
        raise OutputsError(
            f"{file} is missing; run inference.py on the data that is graded."
        ) from None
    except OutputsError:
        raise
    # MemoryError: Pillow makes room for as much as a damaged chunk states.
    except (Image.DecompressionBombError, MemoryError, OSError, ValueError, SyntaxError) as error:
        raise OutputsError(f"{file} is not a readable PNG ({one_line(error)}).") from None


def _refuse_more_pngs(folder: Path, count: int) -> None:
    file = folder / f"recon_{count}.png"
    if file.exists():
        raise OutputsError(
            f"{file} exists, but the graded data have only {count} images; "
            "grade the data that inference.py used."
        )
