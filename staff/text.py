"""Text from submissions that is safe to print, to write and to show.

A name or message of a student may hold escape sequences for a terminal, characters that turn the
direction of writing, or bytes in an unknown encoding. It becomes plain text where it enters.
"""

from __future__ import annotations

import os


def as_text(words: str) -> str:
    """Return a text of printable characters, spaces and line feeds.

    Other white space becomes a space. Control characters, invisible format characters (such as
    those that reverse the direction of writing) and lone surrogates become a question mark.
    """
    return "".join(
        c if c.isprintable() or c == "\n" else " " if c.isspace() else "?" for c in words
    )


def as_line(words: str) -> str:
    """Return the same as `as_text`, on one line."""
    return as_text(words).replace("\n", " ")


def name_as_text(name: str) -> str:
    """Return the name of a file as one line of text, the same under every locale.

    Bytes of a name are UTF-8, or else Latin-1. Python keeps those that the locale cannot decode as
    surrogates.
    """
    raw = os.fsencode(name)
    try:
        return as_line(raw.decode("utf-8"))
    except UnicodeDecodeError:
        return as_line(raw.decode("latin-1"))
