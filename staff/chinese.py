"""The Chinese of what students read on their pages; chinese.toml is the one list of it."""

from __future__ import annotations

import functools
import re
import tomllib
from pathlib import Path

LIST = Path(__file__).resolve().parent / "chinese.toml"
GAP = "{}"  # in a text, for what differs from case to case


def in_chinese(text: str) -> str:
    """Return a text of the checks or of the grader in Chinese; unchanged if the list lacks it.

    What stands in a gap may itself be a text of the list.
    """
    for pattern, chinese in _patterns():
        if match := pattern.fullmatch(text):
            return chinese.format(*map(in_chinese, match.groups()))
    return text


def texts() -> dict[str, dict[str, str]]:
    """Return the list: the Chinese of each English text, by section."""
    return tomllib.loads(LIST.read_text(encoding="utf-8"))


@functools.cache
def _patterns() -> list[tuple[re.Pattern[str], str]]:
    """Return the English texts as patterns, with their Chinese; the most literal ones first."""
    all_texts = {en: zh for section in texts().values() for en, zh in section.items()}
    return [
        (re.compile(re.escape(en).replace(re.escape(GAP), "(.+?)"), re.DOTALL), all_texts[en])
        for en in sorted(all_texts, key=lambda en: -len(en.replace(GAP, "")))
    ]
