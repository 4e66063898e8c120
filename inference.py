"""Reconstruct images and draw samples with a trained model, in three stages.

encode    images to codes      codes.npy    float16 (N, latent_dim)
decode    codes to images      recon.npy    uint8 (N, 28, 28)
generate  labels to images     samples.npy  uint8 (10, n, 28, 28)
"""

from __future__ import annotations

import argparse
import hashlib
import shutil
from dataclasses import dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lab import command, deterministic

# isort: split
import numpy as np

from lab.lock import FolderInUseError, only_one
from lab.metrics import TASKS
from lab.outputs import (
    OutputsError,
    known_facts,
    read_array,
    write_array,
    write_facts,
    write_png_tree,
)
from lab.settings import CONVOLUTIONS, DEVICES, SettingsError, add_options, option

if TYPE_CHECKING:
    from data_utils import MNISTDataset
    from lab.split_model import Submission

EXAMPLES = """examples:
  python inference.py                                             the newest run, on dataset/valid
  python inference.py --checkpoint_path runs/VAEwolabel/best.pth --data_path dataset/test
  python inference.py --stage generate --gen_num 1000             more samples, nothing else
  python inference.py --png                                       one PNG file per image as well
"""
STAGES = ("encode", "decode", "generate")


@dataclass(frozen=True, kw_only=True)
class InferenceOptions:
    """Which checkpoint, on which data, into which folder."""

    checkpoint_path: Path | None = option(
        None, "a checkpoint; the newest run's best if not given", kind=Path
    )
    task: str | None = option(None, "only for older checkpoints, which do not state it", TASKS, str)
    latent_dim: int | None = option(
        None, "only for older checkpoints, which do not state it", kind=int
    )
    submission: Path | None = option(None, "the run's own copy if not given", kind=Path)
    save_dir: Path | None = option(
        None, "folder of the outputs; RUN/inference if not given", kind=Path
    )
    data_path: Path = option(Path("dataset/valid"), "dataset to reconstruct", kind=Path)
    inf_num: int = option(0, "reconstruct only the first N images; 0 is all")
    gen_num: int = option(100, "samples per label")
    batch_size: int = option(4096, "images processed at once; at most 1000 on a CPU")
    seed: int = option(42, "seed of the samples")
    stage: str = option("all", "run only this stage and draw no pictures", ("all", *STAGES))
    png: bool = option(False, "write one PNG file per image as well")
    device: str = option("auto", "device to compute on", DEVICES)
    convolutions: str = option("fast", "as in train.py", CONVOLUTIONS)
    deterministic: bool = option(False, "same bytes on every x86 machine, as in train.py")

    def __post_init__(self) -> None:
        for name in ("batch_size", "gen_num"):
            if getattr(self, name) < 1:
                raise SettingsError(f"--{name} is {getattr(self, name)}; expected 1 or more.")
        if self.inf_num < 0:
            raise SettingsError(f"--inf_num is {self.inf_num}; expected 0 (all) or more.")
        if not 0 <= self.seed < 2**32:
            raise SettingsError(f"--seed is {self.seed}; expected 0 to {2**32 - 1}.")


def infer(options: InferenceOptions) -> Path:
    """Run the stages asked for and return the folder of the outputs.

    Raises InferenceError, SettingsError, OutputsError, CheckpointError, ContractError, DataError,
    OSError.
    """
    from data_utils import MNISTDataset
    from lab import checkpoint
    from lab.device import keep_freed_memory
    from lab.pictures import draw_outputs
    from lab.trained import newest_run

    keep_freed_memory()
    path = options.checkpoint_path or newest_run(options.task)
    submission = load_submission(path, checkpoint.load(path), options)
    dataset = MNISTDataset(options.data_path)
    count = options.inf_num or len(dataset)
    images, labels = dataset.images[:count], dataset.labels[:count]
    folder = options.save_dir or path.parent / "inference"
    facts = _facts(submission, path, dataset, len(images), options)
    with only_one(folder, "--save_dir"), submission.explained("inference", only_theirs=True):
        stages = _stages(submission, options.stage, folder)
        arrays = _run_stages(submission, stages, images, labels, folder, options, facts)
        if options.stage == "all":
            draw_outputs(submission, images, labels, arrays, folder)
        if options.png:
            write_png_tree(folder, arrays)
    return folder


def load_submission(path: Path, state: dict[str, Any], options: InferenceOptions) -> Submission:
    """Return the trained model of a checkpoint, ready to run."""
    from lab.convolutions import use_fast_convolutions
    from lab.device import pick_device
    from lab.trained import load_trained

    stated = options.task, options.latent_dim, options.submission
    submission = load_trained(path, state, *stated)
    if _sha256(submission.path) != state.get("submission_sha256", _sha256(submission.path)):
        print(
            f"{submission.path} is not the code that {path} was trained from, so the results may "
            "be others; leave --submission out to use the run's own copy"
        )
    submission.model.to(pick_device(options.device)).eval()
    if options.convolutions == "fast":
        use_fast_convolutions(submission.model, submission.try_encode, submission.try_decode)
    return submission


# ---------------------------------------------------------------- the stages


def _stages(submission: Submission, stage: str, folder: Path) -> tuple[str, ...]:
    """Return the stages to run: a model without an encoder can only generate."""
    stages = STAGES if stage == "all" else (stage,)
    if submission.has_encoder:
        return stages
    if "generate" not in stages:
        raise SettingsError(
            f"{submission.class_name} of {submission.path} has no encoder, so there is no stage "
            f"{stage}; leave --stage out to generate only."
        )
    print(f"{submission.class_name} has no encoder: it generates samples and reconstructs nothing")
    return ("generate",)


def _remove_outdated(submission: Submission, stages: tuple[str, ...], folder: Path) -> None:
    """Remove the outputs that the stages will write, and those that depend on them.

    Otherwise, after a kill between two stages, the outputs of two models would be graded as one.
    """
    depends = {"encode": ("codes", "recon"), "decode": ("recon",), "generate": ("samples",)}
    outdated = {name for stage in stages for name in depends[stage]}
    if not submission.has_encoder:  # files of an earlier model
        outdated = {"codes", "recon", "samples"}
    # The PNG files go first: they count only where there are no arrays.
    for tree, name in (("recon", "recon"), ("gen", "samples")):
        if name in outdated:
            shutil.rmtree(folder / tree, ignore_errors=True)
    for name in outdated:
        (folder / f"{name}.npy").unlink(missing_ok=True)


def _run_stages(
    submission: Submission,
    stages: tuple[str, ...],
    images: np.ndarray,
    labels: np.ndarray,
    folder: Path,
    options: InferenceOptions,
    facts: dict[str, Any],
) -> dict[str, np.ndarray]:
    """Run the stages, write facts and arrays into the folder, return the arrays by name."""
    from tqdm import tqdm

    from lab.stages import decode_codes, encode_images, generate_samples

    arrays: dict[str, np.ndarray] = {}
    for stage in tqdm(stages, unit="stage", leave=False):
        if stage == "encode":
            name, array = "codes", encode_images(submission, images, labels, options.batch_size)
        elif stage == "decode":
            codes = arrays.get("codes")
            if codes is None:
                codes = _read_codes(folder / "codes.npy", (len(labels), submission.latent_dim))
            name, array = "recon", decode_codes(submission, codes, labels, options.batch_size)
        else:
            how = options.gen_num, options.seed, options.batch_size
            name, array = "samples", generate_samples(submission, *how)
        if not arrays:  # from here on, the folder is this model's
            _remove_outdated(submission, stages, folder)
            write_facts(folder, facts)
        write_array(folder, name, array)
        arrays[name] = array
    return arrays


def _read_codes(file: Path, shape: tuple[int, int]) -> np.ndarray:
    from lab.stages import InferenceError

    if not file.is_file():
        raise InferenceError(f"{file} does not exist; run --stage encode first.")
    return read_array(file, np.float16, shape)


def _facts(
    submission: Submission, path: Path, dataset: MNISTDataset, count: int, options: InferenceOptions
) -> dict[str, Any]:
    """Return the entries of hyperparams.json: what the arrays were made from."""
    return {
        "task": submission.task,
        "latent_dim": submission.latent_dim,
        "checkpoint": path.as_posix(),
        "checkpoint_sha256": _sha256(path),
        "submission_sha256": _sha256(submission.path),
        "data_path": options.data_path.as_posix(),
        "data_sha256": dataset.sha256,
        "n": count,
        "gen_num": options.gen_num,
        "seed": options.seed,
        "generates_only": not submission.has_encoder,
    }


def _sha256(file: Path) -> str:
    return hashlib.sha256(file.read_bytes()).hexdigest()


# ---------------------------------------------------------------- the command


def grade_command(options: InferenceOptions, folder: Path) -> str:
    """Return the command that grades the outputs in the folder, as a user types it."""
    words = [f"--{known_facts(folder)['task']}_output_dir", folder]
    if options.data_path != InferenceOptions.data_path:
        words += ["--test_data_path", options.data_path]
    if options.gen_num < InferenceOptions.gen_num:  # grade.py needs as many by default
        words += ["--gen_num", options.gen_num]
    return command.as_typed("grade.py", *words)


def make_parser() -> argparse.ArgumentParser:
    """Return the parser of inference.py."""
    parser = command.make_parser(__doc__, EXAMPLES)
    add_options(parser, fields(InferenceOptions))
    return parser


def main() -> None:
    """Parse, infer, print the paths of the outputs."""
    parser = make_parser()
    typed = parser.parse_args()
    if typed.deterministic:
        deterministic.pin()  # before torch is imported

    from data_utils import DataError
    from lab.checkpoint import CheckpointError
    from lab.loading import ContractError
    from lab.stages import InferenceError

    errors = (InferenceError, OutputsError, CheckpointError, ContractError, DataError)
    with command.clear_errors(parser.prog, *errors, SettingsError, FolderInUseError):
        options = InferenceOptions(**vars(typed))
        folder = infer(options)
    print(f"the outputs are in {folder}:")
    for file in sorted(folder.glob("[!.]*")):
        print(f"  {file.name}")
    run = Path(known_facts(folder)["checkpoint"]).parent
    print(f"to look at the model:\n  {command.as_typed('report.py', run)}")
    print(f"  {command.as_typed('explore.py', run)}")
    if options.stage == "all" and not options.inf_num:  # otherwise there is not all that is graded
        print(f"next:\n  {grade_command(options, folder)}")


if __name__ == "__main__":
    command.run(main)
