"""One stage of one submission, run inside the sandbox: encode, decode, generate, record, ...

    python -m staff.stage '{"stage": "encode", "task": "VAEwolabel", ...}'

A stage reads only one folder, with `submission.py`, `checkpoint.pth`, and its inputs as .npy files.
"record" needs the code alone: it runs the experiments of `lab/checks/record.py`. "initial" only
builds the model. "sketch" runs none of the code: it returns what the checkpoint states. "replay" is
in `replay_stage.py`, "measure" in `measure_stage.py`.
It writes to one pipe, in this order:

    1. a line of JSON once the inputs are read; an error before it is the grader's
    2. a line of JSON before any of the student's code runs: what the checkpoint holds
    3. a line of JSON at the end: that the stage succeeded, or what went wrong
    4. the array, as a .npy file; of "record", the recordings; of the last three, JSON

The student's code can change anything in this process once it is loaded, so nothing in this file is
a defence, and the parent process trusts none of the output. The defences are the isolation
(`sandbox.py`) and the checks of the parent process (`task.py`).
"""

from __future__ import annotations

import json
import math
import os
import resource
import sys
import traceback
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np
    from torch import Tensor

Tell = Callable[[dict[str, Any]], None]
SIGNATURE = 500  # values taken from the weights, to find copies of a model
MAX_ROWS = 100  # of the history of a training
HISTORY = (  # its columns, in the order of a row
    *("step", "lr", "train_loss", "valid_loss", "valid_reconstruction_loss"),
    *("valid_kl_divergence", "valid_ssim", "skipped_steps"),
)


def set_limits(limits: dict[str, int]) -> None:
    """Limit what this process and its children may use. The limits cannot be raised again."""
    for name, value in limits.items():
        kind = getattr(resource, f"RLIMIT_{name}")
        _, hard = resource.getrlimit(kind)
        value = value if hard == resource.RLIM_INFINITY else min(value, hard)
        resource.setrlimit(kind, (value, value))


def facts_of(state: dict[str, Any], file: Path) -> dict[str, Any]:
    """Return facts about a checkpoint. Call it before any of the student's code runs.

    Args:
        state: the loaded checkpoint.
        file: its file, for the size.
    """
    import torch

    weights = [value for value in state["model_state_dict"].values() if torch.is_tensor(value)]
    whole = [value for value in weights if not value.is_floating_point()]
    return {
        "task": state.get("task"),
        "latent_dim": state.get("latent_dim"),
        "checkpoint_bytes": file.stat().st_size,
        "whole_number_bytes": sum(value.numel() * value.element_size() for value in whole),
        "signature": signature_of(weights),
        "history": history_of(state),
    }


def signature_of(weights: list[Tensor]) -> list[float]:
    """Return at most SIGNATURE values, spread evenly over the weights; equal for equal models."""
    import torch

    parts = [value.flatten().float() for value in weights if value.is_floating_point()]
    if not parts:
        return []
    values = torch.cat(parts)
    chosen = torch.linspace(0, len(values) - 1, min(SIGNATURE, len(values))).long()
    return [round(value, 6) for value in values[chosen].nan_to_num().tolist()]


def history_of(state: dict[str, Any]) -> list[list[float | None]]:
    """Return the columns HISTORY of at most MAX_ROWS rows, spread evenly over the training."""
    rows = state.get("counters", {}).get("history")
    rows = [row for row in rows if isinstance(row, dict)] if isinstance(rows, list) else []
    count = min(MAX_ROWS, len(rows))
    chosen = [rows[(number + 1) * len(rows) // count - 1] for number in range(count)]
    return [[_short(row.get(name)) for name in HISTORY] for row in chosen]


def _short(value: object) -> float | None:
    """Return a number with six digits; None for anything else, and where it is not finite."""
    if not isinstance(value, (int, float)):
        return None
    try:
        short = float(f"{value:.6g}")
    except OverflowError:  # an integer beyond the range of a float
        return None
    return short if math.isfinite(short) else None


def _weights_of(tensors: dict[str, Any]) -> dict[str, np.ndarray]:
    """Return the floating-point tensors among the weights of a model."""
    import torch

    return {
        str(name): value.float().numpy()
        for name, value in tensors.items()
        if torch.is_tensor(value) and value.is_floating_point()
    }


def _flat(weights: dict[str, np.ndarray]) -> np.ndarray:
    """Return all weights in one array, float32 (n,)."""
    import numpy as np

    flat = [value.ravel() for value in weights.values()]
    return np.concatenate([*flat, np.zeros(0, np.float32)])


def _unflat(flat: np.ndarray | None, like: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Return what `_flat` made one array of; {} if it is not of these weights."""
    if flat is None or flat.shape != (sum(value.size for value in like.values()),):
        return {}
    found, place = {}, 0
    for name, value in like.items():
        found[name] = flat[place : place + value.size].reshape(value.shape)
        place += value.size
    return found


def record_of(state: dict[str, Any], initial: np.ndarray | None = None) -> bytes:
    """Return what a checkpoint states about its training, and sketches of its weights, as JSON.

    None of the student's code is run. See `integrity.weights.Record`.

    initial: what the stage "initial" returned; None if that failed.
    """
    from staff.integrity.order import in_order
    from staff.integrity.sketch import sketch_of

    weights = _weights_of(state["model_state_dict"])
    begun = _unflat(initial, weights)
    weights, reordered = in_order(weights, begun)
    counters = state.get("counters", {})
    record = {
        "task": state.get("task"),
        "latent_dim": state.get("latent_dim", 0),
        "submission_sha256": state.get("submission_sha256", ""),
        "code_sha256": state.get("code_sha256", ""),
        "settings": state.get("settings", {}),
        "history": counters.get("history", []),
        "first_losses": counters.get("first_losses", []),
        "reordered": reordered,
        "sketches": sketch_of(weights, begun),
    }
    return json.dumps(record, default=str).encode()


def read_inputs(folder: Path) -> dict[str, Any]:
    """Return the stage's arrays by name. Labels are zeros if the stage may not see them."""
    import numpy as np

    inputs = {file.stem: np.load(file, allow_pickle=False) for file in folder.glob("*.npy")}
    count = max((len(array) for array in inputs.values()), default=0)
    return {"labels": np.zeros(count, np.int64), **inputs}


def run(order: dict[str, Any], folder: Path, inputs: dict[str, Any], tell: Tell) -> bytes:
    """Run the stage and return its array as the bytes of a .npy file.

    Args:
        order: stage, threads, task (the checkpoint's, if not given). For "generate" also gen_num,
            seed and same_codes: the last so many columns, if any, are the same codes with each
            label.
        folder: the folder with submission.py and checkpoint.pth.
        inputs: what `read_inputs` returned.
        tell: writes a line of JSON to the parent process.

    Returns b"" for the stage "facts", and for encode and decode of a model that only generates;
    JSON for "sketch", see `record_of`; for "initial" all weights before the training, (n,).

    Raises CheckpointError, ContractError or InferenceError where the submission breaks the
    contract, and any exception that its code raises.
    """
    import numpy as np
    import torch

    from data_utils import set_seed
    from lab.arrays import npy_bytes
    from lab.checkpoint import CheckpointError, load
    from lab.convolutions import use_fast_convolutions
    from lab.split_model import Submission
    from lab.stages import decode_codes, encode_images, generate_samples, same_codes

    torch.set_num_threads(order["threads"])
    file = folder / "checkpoint.pth"
    state = load(file)
    facts = facts_of(state, file)
    tell(facts)
    if order["stage"] == "facts":
        return b""
    if order["stage"] == "sketch":
        return record_of(state, inputs.get("initial"))

    task, latent_dim = order.get("task", facts["task"]), facts["latent_dim"]
    if not isinstance(latent_dim, int) or isinstance(latent_dim, bool):
        raise CheckpointError(
            "checkpoint.pth does not state latent_dim as an integer; train it with train.py."
        )
    variant = state.get("variant", "")
    if order["stage"] == "initial":
        set_seed(state.get("settings", {})["seed"])  # as train.py does before it makes the model
    submission = Submission(
        folder / "submission.py", task, latent_dim, variant if isinstance(variant, str) else ""
    )
    if order["stage"] == "initial":
        return npy_bytes(_flat(_weights_of(submission.model.state_dict())))
    submission.load_weights(state, "checkpoint.pth")
    submission.model.eval()
    trial = submission.try_encode if order["stage"] == "encode" else submission.try_decode
    use_fast_convolutions(submission.model, trial)

    if order["stage"] == "generate":
        array = generate_samples(submission, order["gen_num"], order["seed"])
        if count := order.get("same_codes"):
            more = same_codes(submission, count, order["seed"] + 1)
            array = np.concatenate([array, more], axis=1)
    elif not submission.has_encoder:
        return b""
    elif order["stage"] == "encode":
        array = encode_images(submission, inputs["images"], inputs["labels"])
    else:
        array = decode_codes(submission, inputs["codes"], inputs["labels"])
    return npy_bytes(array)


def run_checks(order: dict[str, Any], folder: Path, tell: Tell) -> bytes:
    """Run the experiments in each setting; return the recordings, each behind its size.

    Args:
        order: threads, and settings: a list of the arguments of `Setting`.
        folder: the folder with submission.py.
        tell: writes a line of JSON to the parent process.
    """
    import torch

    from lab.checks.record import record
    from lab.checks.recording import Setting

    torch.set_num_threads(order["threads"])
    tell({})
    contents = [
        record(folder / "submission.py", Setting(**setting)).to_bytes()
        for setting in order["settings"]
    ]
    return b"".join(len(content).to_bytes(8, "little") + content for content in contents)


def kind_of(error: BaseException | None) -> str:
    """Return the status for an exception of the student's code; error is None if it raised none."""
    if error is None:
        return "contract breach"
    no_memory = isinstance(error, MemoryError) or "can't allocate memory" in str(error)
    return "out of memory" if no_memory else "student error"


def main() -> None:
    """Read the order, run the stage, write its result to the pipe."""
    order = json.loads(sys.argv[1])
    set_limits(order["limits"])
    pipe = os.fdopen(order["pipe"], "wb")
    sys.path.insert(0, order["lab"])

    def tell(facts: dict[str, Any]) -> None:
        pipe.write(json.dumps(facts).encode() + b"\n")
        pipe.flush()

    if order["stage"] == "probe":
        from staff import probe

        tell({"started": True})
        tell(probe.look(order))
        return
    from lab.checkpoint import CheckpointError  # before torch: `lab` sets how it waits
    from staff.quick_torch import import_torch

    import_torch()
    from lab.loading import ContractError
    from lab.stages import InferenceError

    folder, checks = Path(order["folder"]), order["stage"] == "record"
    inputs = read_inputs(folder)
    for name in ("submission.py",) if checks else ("submission.py", "checkpoint.pth"):
        (folder / name).open("rb").close()
    tell({"started": True})
    try:
        if checks:
            array = run_checks(order, folder, tell)
        elif order["stage"] == "replay":  # by name: the Trainer is mounted for this stage alone
            array = import_module("staff.replay_stage").run(order, folder, tell)
        elif order["stage"] == "measure":
            array = import_module("staff.measure_stage").run(order, folder, inputs, tell)
        else:
            array = run(order, folder, inputs, tell)
    except BaseException as error:
        traceback.print_exc()
        from_lab = isinstance(error, (CheckpointError, ContractError, InferenceError))
        from_student = error.__cause__ if from_lab else error  # None if their code raised nothing
        message = str(error) if from_lab else f"{type(error).__name__}: {error}"
        tell({"error": kind_of(from_student), "message": message[:1000]})
    else:
        tell({"done": True})
        pipe.write(array)
        pipe.flush()
    sys.stdout.flush()
    os._exit(0)  # skips half a second of clean-up in torch


if __name__ == "__main__":
    main()
