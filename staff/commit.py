"""Which commit of the lab runs, for results that can be computed again years later."""

from __future__ import annotations

import functools
import subprocess

from lab import ROOT

COMMAND = ("git", "describe", "--always", "--match=", "--abbrev=40", "--dirty")


@functools.cache
def commit() -> str:
    """Return the commit of the lab, with "-dirty" if a file has changed since; "" if unknown."""
    if not (ROOT / ".git").exists():  # the repository around it, if any, is not the lab's
        return ""
    try:
        found = subprocess.run(
            COMMAND, cwd=ROOT, capture_output=True, text=True, check=True, timeout=10
        )
    except (OSError, subprocess.SubprocessError):
        return ""
    return found.stdout.strip()
