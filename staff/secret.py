"""The secret of a class: random text that students cannot know.

It decides the private images, the order in which a stage gets images and codes, and the samples
that are examined. It is kept with the results, so that grading again decides the same.
"""

from __future__ import annotations

import hashlib
import secrets
from pathlib import Path

import numpy as np

from lab.checkpoint import write_whole

NAME = "secret"  # of the file
BYTES = 16


class SecretError(ValueError):
    """The stored secret cannot be used; the message says what to do."""


def secret_in(folder: Path) -> str:
    """Return the secret that is stored in a folder; make both if they do not exist.

    Only the owner can read them. Raises SecretError, OSError.
    """
    file = folder / NAME
    make_private_folder(folder)
    if not file.exists():
        with write_whole(file) as opened:
            opened.write(f"{secrets.token_hex(BYTES)}\n".encode())
        file.chmod(0o600)
    text = file.read_text(encoding="utf-8", errors="replace").strip()
    if len(text) < 2 * BYTES:
        raise SecretError(
            f"{file} holds {len(text)} characters; expected at least {2 * BYTES}. Remove the file; "
            "the next run makes a new secret and grades every student again."
        )
    return text


def make_private_folder(folder: Path) -> None:
    """Make a folder that only its owner can enter, or make it so."""
    folder.mkdir(parents=True, exist_ok=True)
    folder.chmod(0o700)


def generator(secret: str, purpose: str) -> np.random.Generator:
    """Return a generator of random numbers for one purpose, such as "samples"."""
    digest = hashlib.sha256(f"{purpose}\n{secret}".encode()).digest()
    return np.random.default_rng(int.from_bytes(digest, "big"))
