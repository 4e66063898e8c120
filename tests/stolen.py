"""Checkpoints in disguise: what someone does who hands in another student's weights."""

from __future__ import annotations

import copy
from typing import Any

import torch

# Of tests/submissions/student.py: layers whose outputs are hidden units, and what reads these.
HIDDEN = {"fc1": ("fc_mu", "fc_log_var"), "fc2": ("fc3",)}


def with_other_names(state: dict[str, Any]) -> dict[str, Any]:
    """Give every layer a new name."""
    weights = state["model_state_dict"]
    renamed = {
        f"my_{i}.{name.split('.')[-1]}": value for i, (name, value) in enumerate(weights.items())
    }
    return {**state, "model_state_dict": renamed}


def permuted(state: dict[str, Any]) -> dict[str, Any]:
    """Change the order of the hidden units, so that the model computes the same."""
    weights = copy.deepcopy(dict(state["model_state_dict"]))
    for layer, readers in HIDDEN.items():
        order = torch.randperm(
            len(weights[f"{layer}.bias"]), generator=torch.Generator().manual_seed(1)
        )
        for name in (f"{layer}.weight", f"{layer}.bias"):
            weights[name] = weights[name][order]
        for reader in readers:
            weights[f"{reader}.weight"] = weights[f"{reader}.weight"][:, order]
    return {**state, "model_state_dict": weights}


def with_other_history(state: dict[str, Any]) -> dict[str, Any]:
    """Forge the record of the training: other times, other losses."""
    counters = copy.deepcopy(state["counters"])
    for row in counters["history"]:
        row["seconds"] = row["seconds"] * 1.37 + 0.5
    counters["first_losses"] = [loss * 1.01 for loss in counters["first_losses"]]
    return {**state, "counters": counters, "submission_sha256": "0" * 64, "code_sha256": "1" * 64}


def trained_further(state: dict[str, Any], amount: float = 0.02, seed: int = 2) -> dict[str, Any]:
    """Change every weight a little, as an epoch of fine-tuning does."""
    generator = torch.Generator().manual_seed(seed)
    weights = {
        name: value + amount * value.std() * torch.randn(value.shape, generator=generator)
        if value.is_floating_point() and value.numel() > 1
        else value
        for name, value in state["model_state_dict"].items()
    }
    return {**state, "model_state_dict": weights}
