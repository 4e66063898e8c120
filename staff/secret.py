"""The secret of a class: random text that students cannot know.

It decides the private images, the order in which a stage gets images and codes, and the samples
that are examined. It is kept with the results, so that grading again decides the same.
"""

from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np

from staff.permissions import private_folder
from staff.seeds import seed_of

NAME = "secret"  # of the file
PRIVATE = ".private"  # of its folder, beside what is made with it


def secret_in(folder: Path) -> str:
    """Return the secret that is stored in a folder; make both if they do not exist.

    Only the owner can read them. Raises SeedError, PermissionsError, OSError.
    """
    secret, _ = seed_of(private_folder(folder) / NAME)
    return secret


def generator(secret: str, purpose: str) -> np.random.Generator:
    """Return a generator of random numbers for one purpose, such as "samples"."""
    digest = hashlib.sha256(f"{purpose}\n{secret}".encode()).digest()
    return np.random.default_rng(int.from_bytes(digest, "big"))
