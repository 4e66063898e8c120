"""docs/reliability.md: its tables are those of the stored results, and nothing in them is wrong."""

from __future__ import annotations

import re

from benchmarks import figures, soak
from benchmarks.markdown import block_in
from lab import ROOT
from tests.faults import damage, kills
from tests.faults.readers import READERS

STORED = figures.read(soak.FIGURES)
ROWS = [row for part in soak.PARTS for row in STORED[part].values()]


def test_the_tables_are_those_of_the_stored_results():
    for name, block in soak.blocks(STORED).items():
        assert block_in(soak.PAGE, name) == block, name


def test_every_command_and_reader_was_tried_and_nothing_was_wrong():
    assert set(STORED["kill"]) == set(soak.KILLS) == set(kills.SUBJECTS)
    assert set(STORED["bytes"]) == set(READERS)
    assert [row["defects"] for row in ROWS] == [[]] * len(ROWS)
    assert all(row["wrong"] == 0 and row["trials"] == row["planned"] > 0 for row in ROWS)


def test_named_tests_exist():
    named = re.findall(r"`(test_\w+\.py)`", soak.PAGE.read_text(encoding="utf-8"))
    assert named
    for name in named:
        assert (ROOT / "tests" / "faults" / name).is_file(), name


def test_a_trial_that_goes_wrong_is_counted(monkeypatch, tmp_path):
    """A defect ends in the row, with its text."""
    import threading

    row = soak.continued({}, "numbers", "trainings", 3)
    trials = [lambda: [("finished", [])], lambda: [("defect", ["lr=1: nan"])]]
    soak.run("test", trials, row, 2, threading.Event())
    assert row["trials"] == 2 and row["wrong"] == 1 and row["defects"] == ["lr=1: nan"]
    assert row["outcomes"] == {"finished": 1, "defect": 1}
    again = soak.continued({"numbers": {"trainings": row}}, "numbers", "trainings", 3)
    assert again["trials"] == 2  # continues where it stopped
    assert soak.continued({"numbers": {"trainings": row}}, "numbers", "trainings", 2)["trials"] == 0


def test_the_corpus_is_small():
    assert damage.corpus()
    files = [file for file in damage.CORPUS.rglob("*") if file.is_file()]
    assert sum(file.stat().st_size for file in files) < 1 << 20
