"""The questions and answers for students: thirty of them, in both languages, with real messages."""

from __future__ import annotations

import re

from conftest import ROOT

ENGLISH, CHINESE = (
    (ROOT / "docs" / name).read_text(encoding="utf-8") for name in ("faq.md", "faq.zh.md")
)
QUESTION = re.compile(r"^### (\d+)\. (.+)$", re.MULTILINE)
# Messages of PyTorch, which no file of the lab contains.
OF_OTHERS = {"mat1 and mat2 shapes cannot be multiplied"}


def messages(text: str) -> list[str]:
    """Return the questions that are a message on the screen: those in code type alone."""
    return [found[1] for _, title in QUESTION.findall(text) if (found := QUOTED.fullmatch(title))]


QUOTED = re.compile(r"`([^`]+)`")


def test_thirty_questions_in_both_languages():
    for text in (ENGLISH, CHINESE):
        assert [int(number) for number, _ in QUESTION.findall(text)] == list(range(1, 31))
    assert messages(ENGLISH) == messages(CHINESE)
    for first, second in zip(*(QUESTION.split(text)[3::3] for text in (ENGLISH, CHINESE))):
        assert set(QUOTED.findall(first)) == set(QUOTED.findall(second))


def test_the_messages_are_those_of_the_lab():
    sources = [*ROOT.glob("*.py"), *(ROOT / "lab").glob("*.py")]
    source = "\n".join(file.read_text(encoding="utf-8") for file in sources)
    # A message stands on several lines of the source, and names a class or method in between.
    source = re.sub(r'"\s*f?"', "", source)
    source = source.replace("self.{name} of {self.class_name}", "self.decode of GenModel")
    for message in set(messages(ENGLISH)) - OF_OTHERS:
        assert message in source, message
