"""The stage "replay", run inside the sandbox: repeat the first steps of a training.

It builds the model from the code handed in, with the seed and settings that the checkpoint states,
trains a few steps and returns their losses. Then it loads the checkpoint's weights into the model
and returns their validation error, to compare with the last row of the checkpoint's history.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import fields, replace
from itertools import chain, islice
from pathlib import Path
from typing import Any

import torch

from data_utils import MNISTDataset, set_seed
from lab.checkpoint import CheckpointError, load
from lab.contract import check_contract
from lab.settings import Settings, SettingsError
from lab.split_model import Submission
from trainer import Trainer


def run(order: dict[str, Any], folder: Path, tell: Callable[[dict[str, Any]], None]) -> bytes:
    """Return as JSON: losses; whether the weights fit the code; and valid_mse, or None.

    Args:
        order: steps, how many to take; threads.
        folder: with submission.py, checkpoint.pth, and the splits train/ and valid/.
        tell: writes a line of JSON to the parent process.

    Raises CheckpointError, ContractError, and what the student's code raises.
    """
    torch.set_num_threads(order["threads"])
    state = load(folder / "checkpoint.pth")
    settings = settings_of(state)
    train_set, valid_set = MNISTDataset(folder / "train"), MNISTDataset(folder / "valid")
    tell({"train_sha256": train_set.sha256 == state.get("train_sha256")})

    set_seed(settings.seed)  # from here on as train.py does it
    submission = Submission(
        folder / "submission.py", state["task"], state["latent_dim"], state.get("variant", "")
    )
    check_contract(submission, torch.device("cpu"))
    trainer = Trainer(submission, settings, train_set, valid_set, say=_say, progress=False)
    trainer.prepare()
    trainer.model.train()
    batches = chain.from_iterable(map(trainer.batches.epoch, range(settings.epochs)))
    for x, labels in islice(batches, order["steps"]):
        trainer.state.count_step(trainer.training_step(x, submission.visible(labels)))
    losses = trainer.state.first_losses
    fits = _load(trainer, state)
    mse = trainer.validate().get("valid_mse") if fits else None
    return json.dumps({"losses": losses, "fits": fits, "valid_mse": mse}).encode()


def settings_of(state: dict[str, Any]) -> Settings:
    """Return the settings of a checkpoint's run, on the CPU. Raises CheckpointError."""
    known = {field.name for field in fields(Settings)}
    stated = {name: value for name, value in state.get("settings", {}).items() if name in known}
    if "seed" not in stated:
        raise CheckpointError("checkpoint.pth states no seed.")
    try:
        return replace(Settings(**stated), device="cpu", compile="no")
    except (SettingsError, TypeError) as error:
        raise CheckpointError(
            f"checkpoint.pth has settings that are not usable ({error})."
        ) from None


def _load(trainer: Trainer, state: dict[str, Any]) -> bool:
    """Load the checkpoint's weights into the model; return whether they fit."""
    try:
        trainer.model.load_state_dict(state["model_state_dict"])
    except (RuntimeError, TypeError, AttributeError):
        return False
    return True


def _say(words: str) -> None:
    print(words)
