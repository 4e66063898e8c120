"""Write the files of one student into their folder, under the names that the grader expects."""

from __future__ import annotations

import hashlib
from pathlib import Path

from lab.checkpoint import replace_folder
from lab.hand_in import MANIFEST
from staff.archives import ArchiveError
from staff.class_folder import keys_of
from staff.collect.hand_in import MAX_BYTES, HandIn, read_facts
from staff.submissions import CODE, MAX_CHECKPOINT_BYTES, HandedInError, copied
from staff.text import as_line

MAX_HELP = 500  # characters


def write_student(hand_in: HandIn, folder: Path) -> list[str]:
    """Write what was chosen, and return the names of the files.

    Without code, archives that cannot be read are written as they are: grading says what is wrong
    with them. What cannot be copied is noted in `hand_in`. Raises OSError.
    """
    with replace_folder(folder) as temporary:
        sums = {}
        for kind, file in sorted(hand_in.chosen.items()):
            target = temporary / kind
            try:
                copied(file.found, target, MAX_BYTES.get(kind, MAX_CHECKPOINT_BYTES))
            except (HandedInError, ArchiveError) as error:
                target.unlink(missing_ok=True)
                hand_in.say(file.label, str(error))
                if kind == CODE and file.box in hand_in.archives:
                    hand_in.unread.append(hand_in.archives[file.box])
            else:
                with target.open("rb") as opened:
                    sums[kind] = hashlib.file_digest(opened, "sha256").hexdigest()
        if CODE not in sums:
            _keep_archives(hand_in, temporary)
        _compare(hand_in, sums)
        return sorted(file.name for file in temporary.iterdir())


def _keep_archives(hand_in: HandIn, folder: Path) -> None:
    for file, name in zip(hand_in.unread, keys_of(file.path.name for file in hand_in.unread)):
        target = folder / f"{name}{file.suffix}"
        try:
            copied(file.found, target, MAX_CHECKPOINT_BYTES)
        except HandedInError as error:
            target.unlink(missing_ok=True)
            hand_in.say(file.label, str(error))


def _compare(hand_in: HandIn, sums: dict[str, str]) -> None:
    """Note the files that differ from the manifest beside them, which is the student's as well."""
    manifest = hand_in.chosen.get(MANIFEST)
    if manifest is None:
        return
    stated = read_facts(manifest).get("files")
    if not isinstance(stated, dict):
        hand_in.say(manifest.label, "is not a manifest of submit.py")
        return
    for kind, sha256 in sums.items():
        file = hand_in.chosen[kind]
        entry = stated.get(file.path.name) if file.place == manifest.place else None
        if isinstance(entry, dict) and entry.get("sha256") != sha256:
            words = "was changed after submit.py: its manifest has another hash"
            hand_in.say(file.label, words)


def declared_help(hand_in: HandIn) -> str:
    """Return the help that the manifest declares, on one line."""
    manifest = hand_in.chosen.get(MANIFEST)
    words = read_facts(manifest).get("help") if manifest else ""
    return as_line(words)[:MAX_HELP] if isinstance(words, str) else ""
