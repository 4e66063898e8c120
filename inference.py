"""Reconstruct images and draw samples with a trained model, in three stages.

encode    images to codes      codes.npy    float16 (N, latent_dim)
decode    codes to images      recon.npy    uint8 (N, 28, 28)
generate  labels to images     samples.npy  uint8 (10, n, 28, 28)
"""

from __future__ import annotations

import argparse
import hashlib
import io
import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from data_utils import NUM_CLASSES, DataError, MNISTDataset, to_float, to_uint8
from lab import command, plots
from lab.checkpoint import CheckpointError, load, to_infer_from, write_whole
from lab.imports import end_with_python, import_torch

if TYPE_CHECKING:
    import torch

    from lab.contract import Submission

EXAMPLES = """examples:
  python inference.py                                             the newest run, on dataset/valid
  python inference.py --checkpoint_path runs/VAEwolabel/best.pth --data_path dataset/test
  python inference.py --stage generate --gen_num 1000             more samples, nothing else
  python inference.py --png                                       one PNG file an image as well
"""
STAGES = ("encode", "decode", "generate")
BATCH_SIZE = 4096  # images at once
CPU_BATCH_SIZE = 1000  # and no more on a CPU: what is computed of them stays in its cache
MANIFOLD_SIDE = 15.0  # of the square around the origin, as the seeds' pictures have it


class InferenceError(ValueError):
    """Inference cannot go on as asked; says what to do."""


# ---------------------------------------------------------------- the three stages


def encode_images(
    submission: Submission, images: np.ndarray, labels: np.ndarray, batch_size: int = BATCH_SIZE
) -> np.ndarray:
    """Return the codes, float16 (N, latent_dim), of images uint8 (N, 28, 28)."""
    codes = [
        submission.encode(to_float(x), y).half().cpu().numpy()
        for x, y in _batches(submission, images, labels, batch_size)
    ]
    codes = np.concatenate(codes)  # (N, latent_dim)
    if not np.isfinite(codes).all():
        raise InferenceError(
            "the codes do not fit float16 (beyond 65504, or not finite); "
            "train with a lower --lr or a larger --var."
        )
    return codes


def decode_codes(
    submission: Submission, codes: np.ndarray, labels: np.ndarray, batch_size: int = BATCH_SIZE
) -> np.ndarray:
    """Return the reconstructions, uint8 (N, 28, 28), of codes float16 (N, latent_dim)."""
    recon = [
        to_uint8(submission.decode(z.float(), y))
        for z, y in _batches(submission, codes, labels, batch_size)
    ]
    return np.concatenate(recon)  # (N, 28, 28)


def generate_samples(
    submission: Submission, gen_num: int, seed: int, batch_size: int = BATCH_SIZE
) -> np.ndarray:
    """Return `gen_num` samples of each label, uint8 (10, gen_num, 28, 28)."""
    import torch

    labels = torch.arange(NUM_CLASSES).repeat_interleave(gen_num)  # (10 n,)
    chunk = _images_at_once(submission, batch_size)
    images = submission.generate(labels, seed, chunk)  # (10 n, 28, 28)
    return to_uint8(images).reshape(NUM_CLASSES, gen_num, 28, 28)


def _batches(
    submission: Submission, values: np.ndarray, labels: np.ndarray, batch_size: int
) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
    import torch

    at_once = _images_at_once(submission, batch_size)
    for first in range(0, len(values), at_once):
        chunk = slice(first, first + at_once)
        yield (
            torch.from_numpy(values[chunk]).to(submission.device),
            torch.from_numpy(labels[chunk]).to(submission.device),
        )


def _images_at_once(submission: Submission, batch_size: int) -> int:
    return min(batch_size, CPU_BATCH_SIZE) if submission.device.type == "cpu" else batch_size


# ---------------------------------------------------------------- one run of inference


def infer(options: dict[str, Any]) -> Path:
    """Do what the options of `make_parser` say and return the folder of the outputs.

    Raises InferenceError, CheckpointError, ContractError, DataError, OSError.
    """
    from lab.contract import Submission, submission_file
    from lab.convolutions import quicken
    from lab.device import keep_freed_memory, pick_device

    for name in ("batch_size", "gen_num"):
        if options[name] < 1:
            raise InferenceError(f"--{name} is {options[name]}; expected 1 or more.")
    if options["inf_num"] < 0:
        raise InferenceError(f"--inf_num is {options['inf_num']}; expected 0 (all) or more.")
    if not 0 <= options["seed"] < 2**32:
        raise InferenceError(f"--seed is {options['seed']}; expected 0 to {2**32 - 1}.")
    keep_freed_memory()
    path = options["checkpoint_path"] or newest_run(options["task"])
    state = load(path)
    task, latent_dim = (_agreed(name, options, state, path) for name in ("task", "latent_dim"))
    file = options["submission"] or submission_file(path, state)
    submission = Submission(file, task, latent_dim, state.get("variant", ""))
    try:
        submission.model.load_state_dict(state["model_state_dict"])
    except (RuntimeError, TypeError, AttributeError) as error:
        reason = str(error).splitlines()[1 if "\n" in str(error) else 0].strip()
        raise CheckpointError(
            f"the weights in {path} do not fit {submission.class_name} of {file} ({reason}); "
            "give the file they were trained from with --submission."
        ) from None
    submission.model.to(pick_device(options["device"])).eval()
    quicken(submission.model, submission.try_encode, submission.try_decode)

    dataset = MNISTDataset(options["data_path"])
    count = options["inf_num"] or len(dataset)
    images, labels = dataset.images[:count], dataset.labels[:count]
    save_dir = options["save_dir"] or path.parent / "inference"
    stages = _stages(submission, options["stage"], save_dir)
    with submission.explained("inference", only_theirs=True):
        outputs = _run_stages(submission, stages, images, labels, save_dir, options)
        if options["stage"] == "all":
            _draw(submission, images, labels, outputs, save_dir)
    facts = {
        **_read_facts(save_dir),  # the run's own, where the outputs go into its very folder
        "task": task,
        "latent_dim": latent_dim,
        "checkpoint": path.as_posix(),
        "checkpoint_sha256": hashlib.sha256(path.read_bytes()).hexdigest(),
        "submission_sha256": hashlib.sha256(Path(file).read_bytes()).hexdigest(),
        "data_path": Path(options["data_path"]).as_posix(),
        "data_sha256": dataset.sha256,
        "n": len(images),
        "gen_num": options["gen_num"],
        "seed": options["seed"],
        "generates_only": not submission.has_encoder,
    }
    with write_whole(save_dir / "hyperparams.json") as out:
        out.write(json.dumps(facts, indent=2).encode())
    if options["png"]:
        _write_png_tree(outputs, save_dir)
    return save_dir


def _stages(submission: Submission, stage: str, save_dir: Path) -> tuple[str, ...]:
    """Return the stages to run: a model without an encoder can only generate."""
    stages = STAGES if stage == "all" else (stage,)
    if submission.has_encoder:
        return stages
    if "generate" not in stages:
        raise InferenceError(
            f"{submission.class_name} of {submission.path} has no encoder, so there is no stage "
            f"{stage}; leave --stage out to generate only."
        )
    print(f"{submission.class_name} has no encoder: it generates samples and reconstructs nothing")
    for name in ("codes.npy", "recon.npy"):  # those of another model would be graded as its own
        (save_dir / name).unlink(missing_ok=True)
    return ("generate",)


def newest_run(task: str | None, runs: Path = Path("runs")) -> Path:
    """Return the checkpoint to use of the run that was trained last. Raises InferenceError."""
    found = []
    for folder in runs.glob("*/"):
        checkpoints = list(folder.glob("*.pth"))
        if checkpoints and task in (None, _read_facts(folder).get("task")):
            found.append((max(file.stat().st_mtime for file in checkpoints), folder))
    if not found:
        wanted = f" of task {task}" if task else ""
        raise InferenceError(
            f"{runs} holds no run{wanted}; train first (python train.py), "
            "or give a checkpoint with --checkpoint_path."
        )
    return to_infer_from(max(found)[1])


def _read_facts(folder: Path) -> dict[str, Any]:
    """Return what a hyperparams.json says; nothing where there is none that can be read."""
    try:
        facts = json.loads((folder / "hyperparams.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return facts if isinstance(facts, dict) else {}


def _agreed(name: str, options: dict[str, Any], state: dict, path: Path) -> Any:
    """Return what checkpoint and flag agree on; an older checkpoint may leave it to the flag."""
    asked, saved = options[name], state.get(name)
    if None not in (asked, saved) and asked != saved:
        raise InferenceError(
            f"{path} was trained with --{name} {saved}, not {asked}; "
            f"leave --{name} out, or give another --checkpoint_path."
        )
    if asked is None and saved is None:
        raise InferenceError(f"{path} is of the older layout and does not say; add --{name}.")
    return saved if asked is None else asked


def _run_stages(
    submission: Submission,
    stages: tuple[str, ...],
    images: np.ndarray,
    labels: np.ndarray,
    save_dir: Path,
    options: dict[str, Any],
) -> dict[str, np.ndarray]:
    """Run the stages, each from the file that the one before it wrote; return the arrays."""
    from tqdm import tqdm

    outputs = {}
    for stage in tqdm(stages, unit="stage", leave=False):
        if stage == "encode":
            name, array = "codes", encode_images(submission, images, labels, options["batch_size"])
        elif stage == "decode":
            codes = outputs.get("codes")
            if codes is None:
                codes = _read_codes(save_dir / "codes.npy", len(labels), submission.latent_dim)
            name, array = "recon", decode_codes(submission, codes, labels, options["batch_size"])
        else:
            name = "samples"
            array = generate_samples(
                submission, options["gen_num"], options["seed"], options["batch_size"]
            )
        buffer = io.BytesIO()  # numpy's own write to a full disk does not say that it is full
        np.save(buffer, array, allow_pickle=False)
        with write_whole(save_dir / f"{name}.npy") as file:
            file.write(buffer.getbuffer())
        outputs[name] = array
    return outputs


def _read_codes(path: Path, count: int, latent_dim: int) -> np.ndarray:
    if not path.is_file():
        raise InferenceError(f"{path} does not exist; run --stage encode first.")
    try:
        codes = np.load(path, allow_pickle=False)
    except (ValueError, EOFError) as error:
        raise InferenceError(f"{path} is not an array that numpy reads ({error}).") from None
    if codes.dtype != np.float16 or codes.shape != (count, latent_dim):
        raise InferenceError(
            f"{path} is {codes.dtype} {codes.shape}; expected float16 {(count, latent_dim)}, "
            "from the same data and checkpoint."
        )
    return codes


# ---------------------------------------------------------------- pictures and PNG files


def _draw(
    submission: Submission,
    images: np.ndarray,
    labels: np.ndarray,
    outputs: dict[str, np.ndarray],
    save_dir: Path,
) -> None:
    """Write the pictures beside the arrays."""
    with write_whole(save_dir / "samples.png") as file:
        plots.samples(file, outputs["samples"], submission.task == "Genwithlabel")
    if submission.latent_dim == 2:
        with write_whole(save_dir / "manifold.png") as file:
            plots.manifold(file, manifold(submission), MANIFOLD_SIDE)
    if not submission.has_encoder:
        return
    codes = outputs["codes"]
    with write_whole(save_dir / "recon.png") as file:
        plots.reconstructions(file, images, outputs["recon"])
    with write_whole(save_dir / "interpolation.png") as file:
        plots.interpolation(file, interpolate(submission, codes, labels))
    with write_whole(save_dir / "latent.png") as file:
        plots.latent(file, codes, labels)


def interpolate(
    submission: Submission, codes: np.ndarray, labels: np.ndarray, steps: int = 11
) -> np.ndarray:
    """Walk from one code to another of the same label, for each label that has two.

    The VAE, which sees no labels, walks from each label's code to the next label's.
    Returns uint8 (rows, steps, 28, 28).
    """
    firsts = {label: np.flatnonzero(labels == label)[:2] for label in range(NUM_CLASSES)}
    if submission.task == "Genwithlabel":
        pairs = [(pair[0], pair[-1]) for pair in firsts.values() if len(pair)]
    else:
        known = [pair[0] for pair in firsts.values() if len(pair)]
        pairs = list(zip(known, known[1:] + known[:1]))
    starts, ends = np.array(pairs).T  # (rows,) each
    shares = np.linspace(0, 1, steps)[:, None]  # (steps, 1)
    walks = (1 - shares) * codes[starts, None] + shares * codes[ends, None]
    walks = walks.reshape(-1, codes.shape[1]).astype(np.float16)  # (rows steps, latent_dim)
    images = decode_codes(submission, walks, np.repeat(labels[starts], steps))
    return images.reshape(len(pairs), steps, 28, 28)


def manifold(submission: Submission) -> np.ndarray:
    """Decode a grid over the square, one panel a label: uint8 (panels, n, n, 28, 28)."""
    panel_labels = range(NUM_CLASSES) if submission.task == "Genwithlabel" else [0]
    n = 20 if len(panel_labels) == 1 else 10
    axis = np.linspace(-MANIFOLD_SIDE / 2, MANIFOLD_SIDE / 2, n)
    across, up = np.meshgrid(axis, axis[::-1])  # the picture's top is the larger value
    codes = np.stack([across.ravel(), up.ravel()], axis=1).astype(np.float16)  # (n n, 2)
    panels = [decode_codes(submission, codes, np.full(n * n, label)) for label in panel_labels]
    return np.stack(panels).reshape(-1, n, n, 28, 28)


def _write_png_tree(outputs: dict[str, np.ndarray], save_dir: Path) -> None:
    """Write recon/recon_{i}.png and gen/{label}/{j}.png; a folder appears when it is complete."""
    from PIL import Image
    from tqdm import tqdm

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
        temporary, final = save_dir / f".{name}.tmp", save_dir / name
        shutil.rmtree(temporary, ignore_errors=True)
        try:
            for path, image in tqdm(files.items(), desc=f"{name}/*.png", unit="file", leave=False):
                (temporary / path).parent.mkdir(parents=True, exist_ok=True)
                Image.fromarray(image).save(temporary / path)
            shutil.rmtree(final, ignore_errors=True)
            temporary.rename(final)
        except BaseException:
            shutil.rmtree(temporary, ignore_errors=True)
            raise


# ---------------------------------------------------------------- the command


def make_parser() -> argparse.ArgumentParser:
    """Return the parser of inference.py."""
    parser = command.make_parser(__doc__, EXAMPLES)
    add = parser.add_argument
    add("--checkpoint_path", type=Path, help="a checkpoint; the newest run's best if not given")
    add("--task", choices=("VAEwolabel", "Genwithlabel"), help="the checkpoint knows; checked")
    add("--latent_dim", type=int, help="the checkpoint knows; checked")
    add("--submission", type=Path, help="the run's own copy if not given")
    add("--save_dir", type=Path, help="folder of the outputs; RUN/inference if not given")
    add("--data_path", type=Path, default=Path("dataset/valid"), help="dataset to reconstruct")
    add("--inf_num", type=int, default=0, help="reconstruct only the first so many; 0 is all")
    add("--gen_num", type=int, default=100, help="samples a label")
    add(
        "--batch_size",
        type=int,
        default=BATCH_SIZE,
        help=f"images at once, on a CPU at most {CPU_BATCH_SIZE}; lower it if memory is short",
    )
    add("--seed", type=int, default=42, help="seed of the samples")
    add("--stage", choices=("all", *STAGES), default="all", help="one stage only, no pictures")
    add("--png", action="store_true", help="write one PNG file an image as well")
    add("--device", default="auto", choices=("auto", "cuda", "mps", "cpu"), help="where to run")
    return parser


def main() -> None:
    """Parse, infer, say where things are."""
    parser = make_parser()
    options = vars(parser.parse_args())

    import_torch()
    end_with_python()
    from lab.contract import ContractError
    from lab.settings import SettingsError

    errors = (InferenceError, CheckpointError, ContractError, DataError, SettingsError)
    with command.clear_errors(parser.prog, *errors):
        save_dir = infer(options)
    print(f"the outputs are in {save_dir}:")
    for file in sorted(save_dir.iterdir()):
        print(f"  {file.name}")


if __name__ == "__main__":
    main()
