"""One stage of one submission, run inside the sandbox: encode, decode or generate.

    python -m staff.stage '{"stage": "encode", "task": "VAEwolabel", ...}'

Everything a stage may know lies in one folder: `submission.py`, `checkpoint.pth`, and its inputs as
.npy files. What it has to say goes through one pipe, in this order, and is believed in nothing:

    1. a line of JSON once the inputs are read: what fails before it is not the student's fault
    2. a line of JSON before any line of the student's code has run: what the checkpoint holds
    3. a line of JSON at the end: that all went well, or what went wrong
    4. the array, as a .npy file

The process belongs to the student as soon as their file is loaded, so nothing that is here can be
a defence: those are the walls around it (`sandbox.py`) and the checks of its parent (`task.py`).
"""

from __future__ import annotations

import io
import json
import os
import resource
import sys
import traceback
from pathlib import Path
from typing import Any

SIGNATURE = 500  # numbers that stand for all the weights, to find copies of a model


def set_limits(limits: dict[str, int]) -> None:
    """Bound what this process and its children may take; it has no right to raise it again."""
    for name, value in limits.items():
        kind = getattr(resource, f"RLIMIT_{name}")
        _, hard = resource.getrlimit(kind)
        value = value if hard == resource.RLIM_INFINITY else min(value, hard)
        resource.setrlimit(kind, (value, value))


def facts_of(state: dict[str, Any], file: Path) -> dict[str, Any]:
    """Return what a checkpoint holds, read before the student's code can have a say."""
    import torch

    weights = [value for value in state["model_state_dict"].values() if torch.is_tensor(value)]
    whole = [value for value in weights if not value.is_floating_point()]
    return {
        "task": state.get("task"),
        "latent_dim": state.get("latent_dim"),
        "checkpoint_bytes": file.stat().st_size,
        "whole_number_bytes": sum(value.numel() * value.element_size() for value in whole),
        "signature": signature_of(weights),
    }


def signature_of(weights: list) -> list[float]:
    """Return a few of the weights' values, spread over them all: equal for equal models."""
    import torch

    values = [value.flatten().float() for value in weights if value.is_floating_point()]
    if not values:
        return []
    values = torch.cat(values)
    chosen = torch.linspace(0, len(values) - 1, min(SIGNATURE, len(values))).long()
    return [round(value, 6) for value in values[chosen].nan_to_num().tolist()]


def read_inputs(folder: Path) -> dict[str, Any]:
    """Return the stage's arrays by name; labels are zeros where it may not see them."""
    import numpy as np

    inputs = {file.stem: np.load(file, allow_pickle=False) for file in folder.glob("*.npy")}
    count = max((len(array) for array in inputs.values()), default=0)
    return {"labels": np.zeros(count, np.int64), **inputs}


def run(order: dict[str, Any], folder: Path, inputs: dict[str, Any], tell: Any) -> bytes:
    """Do the stage and return its array as the bytes of a .npy file.

    Raises ContractError and the like where the submission is at fault, and whatever it raises.
    """
    import numpy as np
    import torch

    from lab.checkpoint import CheckpointError, load
    from lab.convolutions import use_fast_convolutions
    from lab.stages import decode_codes, encode_images, generate_samples
    from lab.submission import Submission

    torch.set_num_threads(order["threads"])
    file = folder / "checkpoint.pth"
    state = load(file)
    facts = facts_of(state, file)
    tell(facts)
    if order["stage"] == "facts":
        return b""

    task, latent_dim = order["task"], facts["latent_dim"]
    if not isinstance(latent_dim, int) or isinstance(latent_dim, bool):
        raise CheckpointError("checkpoint.pth does not say latent_dim; train it with train.py.")
    variant = state.get("variant", "")
    submission = Submission(
        folder / "submission.py", task, latent_dim, variant if isinstance(variant, str) else ""
    )
    try:
        submission.model.load_state_dict(state["model_state_dict"])
    except (RuntimeError, TypeError, AttributeError) as error:
        raise CheckpointError(
            f"the weights do not fit {submission.class_name}; hand in the file they were trained "
            f"from ({str(error).splitlines()[-1].strip()[:200]})."
        ) from None
    submission.model.eval()
    encodes = order["stage"] == "encode"
    use_fast_convolutions(
        submission.model, submission.try_encode if encodes else submission.try_decode
    )

    if order["stage"] == "generate":
        array = generate_samples(submission, order["gen_num"], order["seed"])
    elif not submission.has_encoder:
        return b""  # it only generates
    elif order["stage"] == "encode":
        array = encode_images(submission, inputs["images"], inputs["labels"])
    else:
        array = decode_codes(submission, inputs["codes"], inputs["labels"])
    buffer = io.BytesIO()
    # A transposed tensor is as good a code as any, and comes back in the order it is read in.
    np.save(buffer, np.ascontiguousarray(array), allow_pickle=False)
    return buffer.getvalue()


def kind_of(error: BaseException | None) -> str:
    """Return the status for what the student's code raised; None where it raised nothing."""
    if error is None:
        return "contract breach"
    no_memory = isinstance(error, MemoryError) or "can't allocate memory" in str(error)
    return "out of memory" if no_memory else "student error"


def main() -> None:
    """Read the order, do it, tell."""
    order = json.loads(sys.argv[1])
    set_limits(order["limits"])
    pipe = os.fdopen(order["pipe"], "wb")
    sys.path.insert(0, order["lab"])

    def tell(words: dict[str, Any]) -> None:
        pipe.write(json.dumps(words).encode() + b"\n")
        pipe.flush()

    if order["stage"] == "probe":
        from staff import probe

        tell({"started": True})
        tell(probe.look(order))
        return
    from staff.quick_torch import import_torch

    import_torch()
    from lab.checkpoint import CheckpointError
    from lab.loading import ContractError
    from lab.stages import InferenceError

    folder = Path(order["folder"])
    inputs = read_inputs(folder)
    for name in ("submission.py", "checkpoint.pth"):
        (folder / name).open("rb").close()
    tell({"started": True})
    try:
        array = run(order, folder, inputs, tell)
    except BaseException as error:
        traceback.print_exc()
        ours = isinstance(error, (CheckpointError, ContractError, InferenceError))
        theirs = error.__cause__ if ours else error  # what their code raised, where it did
        message = str(error) if ours else f"{type(error).__name__}: {error}"
        tell({"error": kind_of(theirs), "message": message[:1000]})
    else:
        tell({"done": True})
        pipe.write(array)
        pipe.flush()
    sys.stdout.flush()
    os._exit(0)  # torch takes half a second to say goodbye


if __name__ == "__main__":
    main()
