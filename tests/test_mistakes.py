"""Points per TODO: a table of typical mistakes, each with what it costs, and honest designs."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from conftest import ROOT, SUBMISSIONS
from honest import HONEST
from mistakes import BASE, MISTAKES

from lab.checks.model import notes
from lab.checks.points import Points, judge
from lab.checks.record import record
from lab.checks.recording import PUBLIC, Recording, Setting, hidden_setting
from lab.checks.rubric import HAND_IN, PERSON, SCORE, TASK_OF_SCORE, TESTS, most, rubric
from lab.metrics import CAPS
from staff.solutions import blank, solutions

HIDDEN = hidden_setting(np.random.default_rng(7))
NAMES = [mistake.name for mistake in MISTAKES]


def points_of(path, *settings: Setting) -> dict[str, Points]:
    return judge([(record(path, setting), setting) for setting in settings or (PUBLIC,)])


def costs(found: dict[str, Points]) -> dict[str, int]:
    """Return the points lost, by TODO, where any are."""
    lost = {number: one.part.points - one.points for number, one in found.items()}
    return {number: points for number, points in lost.items() if points}


def words_of(found: dict[str, Points]) -> str:
    return "\n".join(
        f"{problem.text}; {problem.hint}" for one in found.values() for problem in one.problems()
    )


# ---------------------------------------------------------------- the rubric


def test_the_points_of_the_course_add_up():
    parts = rubric()
    assert most() == 130
    assert (most(PERSON), most(TESTS, HAND_IN), most(SCORE)) == (40, 50, 40)
    for part in parts.values():
        if part.graded == TESTS:
            assert sum(check.points for check in part.checks) == part.points, part.number
    assert {task: parts[number].points for number, task in TASK_OF_SCORE.items()} == CAPS


def test_the_rubric_names_every_todo_and_every_check():
    reference = (ROOT / "submission.py").read_text(encoding="utf-8")
    todos = {one.number for one in solutions(reference)} - {"Optional"}
    tested = {part.number for part in rubric().values() if part.graded == TESTS}
    assert tested == todos
    recording = record(BASE)
    for number, points in judge([(recording, PUBLIC)]).items():
        assert points.lost == {}
        names = {check.name for check in rubric()[number].checks}
        checked = judge([(Recording(problems={"file": "nothing"}), PUBLIC)])[number].lost
        assert checked.keys() == names, number


# ---------------------------------------------------------------- mistakes


@pytest.mark.parametrize("mistake", MISTAKES, ids=NAMES)
def test_a_mistake_costs_its_points_once(tmp_path, mistake):
    file = tmp_path / "submission.py"
    file.write_text(mistake.text, encoding="utf-8")
    recording = record(file)
    found = judge([(recording, PUBLIC)])
    expected = {number: points for number, points in mistake.costs.items() if points}
    said = "\n".join([words_of(found), *notes(recording)])
    assert costs(found) == expected, said
    for words in mistake.words:
        assert words in said


def test_the_table_has_different_mistakes():
    assert len(MISTAKES) >= 30 and len({mistake.text for mistake in MISTAKES}) == len(MISTAKES)
    assert len(set(NAMES)) == len(NAMES)


@pytest.mark.parametrize("mistake", MISTAKES[::4], ids=NAMES[::4])
def test_hidden_sizes_judge_the_same(tmp_path, mistake):
    file = tmp_path / "submission.py"
    file.write_text(mistake.text, encoding="utf-8")
    expected = {number: points for number, points in mistake.costs.items() if points}
    assert costs(points_of(file, HIDDEN)) == expected


# ---------------------------------------------------------------- what has all points


@pytest.mark.parametrize("name", HONEST)
def test_an_honest_design_has_all_points(tmp_path, name):
    file = tmp_path / "submission.py"
    file.write_text(HONEST[name], encoding="utf-8")
    found = points_of(file, PUBLIC, HIDDEN)
    assert costs(found) == {}, words_of(found)


@pytest.mark.parametrize("name", ["submission.py", "model.py", "zoo/conv_cvae.py", "zoo/record.py"])
def test_the_labs_own_models_have_all_points(name):
    todos = {"submission.py", "model.py"}
    found = points_of(ROOT / name)
    lost = {n: p for n, p in costs(found).items() if name in todos or not n.startswith("2.")}
    assert lost == {}, words_of(found)


# ---------------------------------------------------------------- unfinished files


def test_the_blank_file_has_no_points_and_each_todo_adds_its_own(tmp_path):
    reference = (ROOT / "submission.py").read_text(encoding="utf-8")
    file = tmp_path / "submission.py"
    numbers = [one.number for one in solutions(reference)]
    done = ["Optional"]  # methods that the other solutions of GenModel call
    for number in ["Optional", *numbers[:-1]]:
        done.append(number)
        file.write_text(blank(reference, keep=done), encoding="utf-8")
        found = points_of(file)
        full = {todo for todo, one in found.items() if one.points == one.part.points}
        assert full == set(done) - {"Optional"}
        assert all(one.points == 0 for todo, one in found.items() if todo not in done)


def test_forward_and_the_loss_are_checked_before_the_rest_is_written(tmp_path):
    file, text = tmp_path / "submission.py", BASE.read_text(encoding="utf-8")
    for begin in ("super().__init__()", "super().__init__(latent_dim)"):
        text = text.replace(begin, 'raise NotImplementedError("TODO 2.2.1: layers")')
    file.write_text(text, encoding="utf-8")
    found = points_of(file)
    assert [todo for todo, one in found.items() if one.points] == ["2.2.4", "2.3", "3.4"]
    for todo in ("2.2.2", "2.2.3"):
        ((problem),) = found[todo].problems()
        assert "before TODO 2.2.1" in problem.text


def test_a_file_that_does_not_load_has_no_points(tmp_path):
    file = tmp_path / "submission.py"
    file.write_text("import torch\nx = = 1\n", encoding="utf-8")
    found = points_of(file)
    assert sum(one.points for one in found.values()) == 0
    assert "line 2" in words_of(found)


# ---------------------------------------------------------------- recordings


def test_a_recording_survives_as_bytes():
    recording = record(SUBMISSIONS / "own_loss.py")
    again = Recording.from_bytes(recording.to_bytes())
    assert again.problems == recording.problems and again.arrays.keys() == recording.arrays.keys()
    for name, array in recording.arrays.items():
        np.testing.assert_array_equal(again.arrays[name], array)


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"[]\n",
        b'{"shapes": {"a": [-1]}, "problems": {}}\n',
        b'{"shapes": {"a": [1e9]}, "problems": {}}\n',
        b'{"shapes": {"a": [70000]}, "problems": {}}\n' + bytes(280_000),
        b'{"shapes": {"a": [2]}, "problems": {}}\n1234',
        b'{"shapes": {"a": "1"}, "problems": {}}\n',
        b"[" * 100_000,
    ],
)
def test_what_is_no_recording_is_refused(content):
    with pytest.raises(ValueError, match="recording"):
        Recording.from_bytes(content)


def test_settings_can_be_told_apart():
    """A mean over dimensions, over the batch and over pixels must not look alike."""
    for seed in range(50):
        setting = hidden_setting(np.random.default_rng(seed))
        sizes = {setting.latent_dim, setting.other_dim, setting.batch, 2, 784, 1}
        assert len(sizes) == 6
        assert dataclasses.asdict(setting).keys() == dataclasses.asdict(PUBLIC).keys()
