"""The secret seed of a private split: generated, read from a file, or typed without an echo.

It never comes from the command line, which other accounts of the machine can read while the
command runs, and which the shell keeps in its history.
"""

from __future__ import annotations

import getpass
import secrets
from pathlib import Path

from lab.checkpoint import write_whole
from staff.permissions import expect_private

GENERATED_BYTES = 32
MIN_CHARACTERS, MIN_DIFFERENT = 20, 8
MAX_BYTES = 4096
KNOWN = ("a long secret phrase", "next year's phrase")  # were in the documents of the lab


class SeedError(ValueError):
    """A seed cannot be read or can be guessed; the message says what to do."""


def seed_of(file: Path) -> tuple[str, bool]:
    """Return the seed in a file, and whether it was generated now because there was no file.

    Raises SeedError, PermissionsError if other accounts can read the file, OSError.
    """
    if not file.exists():
        seed = secrets.token_hex(GENERATED_BYTES)
        with write_whole(file) as opened:
            Path(opened.name).chmod(0o600)
            opened.write(f"{seed}\n".encode())
        return seed, True
    expect_private(file)
    try:
        seed = file.read_bytes()[:MAX_BYTES].decode("utf-8")
    except UnicodeDecodeError:
        raise SeedError(f"{file} is not text in UTF-8; expected one line with the seed.") from None
    return expect_secret(seed, str(file)), False


def asked_seed() -> str:
    """Ask for the seed at the terminal, which does not show it. Raises SeedError."""
    try:
        return expect_secret(getpass.getpass("seed of the private split: "), "what was typed")
    except EOFError:
        raise SeedError("no seed was typed; expected one line at the terminal.") from None


def expect_secret(seed: str, where: str) -> str:
    """Return the seed without white space around it. Raises SeedError if it can be guessed.

    where: what the message calls the seed; the seed itself is not shown.
    """
    seed = seed.strip()
    plain = " ".join(seed.casefold().split())
    signs = plain.replace(" ", "")
    repeats = signs in (signs + signs)[1:-1]  # such as 123412341234
    short = len(plain) < MIN_CHARACTERS or len(set(plain)) < MIN_DIFFERENT
    if short or repeats or plain in KNOWN:
        why = "was in the documents of the lab" if plain in KNOWN else "is short or regular"
        raise SeedError(
            f"the seed, {where}, {why}, so that it can be guessed; expected {MIN_CHARACTERS} "
            "characters or more that nobody can know. Without one, the command generates a seed."
        )
    return seed
