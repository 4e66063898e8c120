"""Points per TODO: a table of typical mistakes, each with what it costs, and honest designs."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from conftest import ROOT, SUBMISSIONS
from honest import HONEST
from mistakes import BASE, MISTAKES

from lab.checks.found import NOT_DONE, RAISED
from lab.checks.model import notes
from lab.checks.points import Points, judge
from lab.checks.record import record
from lab.checks.recording import PUBLIC, Recording, Setting, hidden_setting
from lab.checks.rubric import HAND_IN, PERSON, SCORE, TASK_OF_SCORE, TESTS, most, rubric
from lab.metrics import CAPS
from staff.chinese import in_chinese
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
    said = "\n".join([words_of(found), *notes(recording, PUBLIC)])
    assert costs(found) == expected, said
    for words in mistake.words:
        assert words in said
    problems = [one for points in found.values() for one in points.problems()]
    assert all(in_chinese(one.hint) != one.hint for one in problems)
    made_here = [one.text for one in problems if not one.kind.startswith((RAISED, NOT_DONE))]
    assert all(in_chinese(text) != text for text in made_here), made_here


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


EDITS = {  # of the base: right, though unusual
    "log_var clamped in place, in the loss": (
        "    B = x.size(0)\n",
        "    log_var.clamp_(-10, 10)\n    B = x.size(0)\n",
    ),
    "log_var clamped in place, in the draw": (
        "std = torch.exp(0.5",
        "log_var.clamp_(-9, 9)\n        std = torch.exp(0.5",
    ),
    "keywords in another order": (
        "self.decode(z, labels)",
        "self.decode(labels=labels, z=z)",
    ),
    "the last layer starts at zero": (
        "self.fc3 = nn.Linear(256, 784)",
        "self.fc3 = nn.Linear(256, 784)\n        nn.init.zeros_(self.fc3.weight)",
    ),
    "mu and log_var start at zero": (
        "self.fc2 = nn.Linear(latent_dim, 256)",
        "for layer in (self.fc_mu, self.fc_log_var):\n"
        "            nn.init.zeros_(layer.weight), nn.init.zeros_(layer.bias)\n"
        "        self.fc2 = nn.Linear(latent_dim, 256)",
    ),
    "noise only in training": (
        "return mu + std * eps",
        "return mu + std * eps if self.training else mu",
    ),
}


@pytest.mark.parametrize("name", EDITS)
def test_an_unusual_way_of_writing_it_has_all_points(tmp_path, name):
    file, (old, new) = tmp_path / "submission.py", EDITS[name]
    text = BASE.read_text(encoding="utf-8")
    assert old in text
    file.write_text(text.replace(old, new), encoding="utf-8")
    found = points_of(file)
    assert costs(found) == {}, words_of(found)


OF_A_LEARNED_PRIOR = {  # mistakes beside a learned prior, which excuses none of them
    "decode does not undo it": ("self.decoder(self.from_standard(z, labels))", "self.decoder(z)"),
    "decode has a prior of its own": (
        "self.decoder(self.from_standard(z, labels))",
        "self.decoder(z * self.prior_log_scale[labels].exp())",
    ),
    "sigma is exp(log_var)": ("mu + torch.exp(0.5 * log_var)", "mu + torch.exp(log_var)"),
    "log_var multiplies the noise": ("mu + torch.exp(0.5 * log_var)", "mu + log_var"),
    "no noise": ("self.to_standard(self.reparameterize(mu, log_var)", "self.to_standard(mu"),
    "drawn, but not used": (
        "z = self.to_standard(self.reparameterize(mu, log_var), labels)",
        "self.reparameterize(mu, log_var)\n"
        "        z = self.to_standard(mu + torch.randn_like(mu), labels)",
    ),
}


@pytest.mark.parametrize("name", OF_A_LEARNED_PRIOR)
def test_a_learned_prior_excuses_no_mistake(tmp_path, name):
    file, (old, new) = tmp_path / "submission.py", OF_A_LEARNED_PRIOR[name]
    text = HONEST["a learned prior, standardised in forward"]
    assert old in text
    file.write_text(text.replace(old, new), encoding="utf-8")
    for setting in (PUBLIC, HIDDEN):
        found = points_of(file, setting)
        assert "2.2.4" in costs(found), words_of(found)


# ---------------------------------------------------------------- what deserves no points

IDLE = """
import torch
from torch import nn

class VAE(nn.Module):
    def __init__(self, latent_dim=20):
        super().__init__()
        self.layer = nn.Linear(1, 1)
    def encode(self, x, labels): BODY
    def decode(self, z, labels): BODY
    def forward(self, x, labels): BODY

def vae_loss(recon_x, x, mu, log_var, var=0.5):
    LOSS

class GenModel(VAE): pass
"""


@pytest.mark.parametrize("body", ["pass", "raise NotImplementedError", "raise SystemExit(1)"])
@pytest.mark.parametrize(
    ("loss", "most_points"),
    [
        ("return torch.zeros(())", 0),
        ("return (mu * float('nan')).sum()", 0),
        ("return mu.square().sum(1).mean()", 4),
        ("raise SystemExit", 0),
        ("return (mu > 0).all()", 0),
    ],
)
def test_code_that_does_nothing_has_no_points_but_for_a_layer(tmp_path, body, loss, most_points):
    file = tmp_path / "submission.py"
    file.write_text(IDLE.replace("BODY", body).replace("LOSS", loss), encoding="utf-8")
    found = points_of(file)
    assert found["2.3"].points <= most_points, words_of(found)
    for todo in ("2.2.2", "2.2.3", "2.2.4", "3.2", "3.3", "3.4"):
        assert found[todo].points == 0, todo


def test_a_genmodel_that_is_the_vae_has_lost_the_points_of_the_label(tmp_path):
    file = tmp_path / "submission.py"
    text = BASE.read_text(encoding="utf-8")
    file.write_text(text[: text.index("class GenModel")] + "class GenModel(VAE):\n    pass\n")
    assert costs(points_of(file)) == {"3.1": 1, "3.3": 3}


def test_values_that_are_not_finite_or_missing_pass_no_check():
    whole, passed = record(BASE), []
    for name in whole.arrays:
        if name.endswith("shape") or name in HARMLESS:
            continue
        for forged in (np.full_like(whole.arrays[name], np.nan), np.zeros(0, np.float32)):
            changed = Recording({**whole.arrays, name: forged}, dict(whole.problems))
            if not costs(judge([(changed, PUBLIC)])):
                passed.append((name, forged.size))
    assert passed == []


# Arrays that decide nothing: of labels in VAE, and where only the shape or the presence counts.
HARMLESS = {
    *("VAE.decode.labels", "VAE.forward.labels", "VAE.encode.labels", "GenModel.encode.labels"),
    *("VAE.other", "GenModel.other", "VAE.other.decode", "GenModel.other.decode"),
    "vae_loss.value",
}


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


# ---------------------------------------------------------------- code that does not end


def test_what_was_stopped_is_not_called_wrong():
    """On a busy machine, an experiment that is stopped says so, and blames no layer."""
    whole, text = record(BASE), "submission.py, during decode: it did not end within 2 seconds"
    for name, todo in (("other.decode", "2.2.1"), ("decode.bright", "2.2.3")):
        arrays = {
            key: one for key, one in whole.arrays.items() if not key.startswith(f"VAE.{name}")
        }
        for grey in ("VAE.decode.images", "VAE.decode.far", "VAE.decode.dark"):
            if name == "decode.bright" and grey in arrays:
                arrays[grey] = np.full_like(arrays[grey], 0.5)
        stopped = Recording(arrays, {**whole.problems, f"VAE.{name}": text})
        said = [one.text for one in judge([(stopped, PUBLIC)])[todo].problems()]
        assert text in said and not any("training moves" in one for one in said), said


FOREVER = "while True: pass"
LOST = {  # by the method that does not end: the points that are lost
    "VAE.__init__": {"2.2.1": 4, "2.2.2": 4, "2.2.3": 4, "3.1": 4, "3.2": 4, "3.3": 6},
    "VAE.decode": {"2.2.3": 4},
    "VAE.forward": {"2.2.4": 3},
    "GenModel.encode": {"3.2": 4},
    "GenModel.decode": {"3.3": 6},
    "vae_loss": {"2.3": 15},
}


def endless(name: str) -> str:
    """Return the base submission, in which a function does not end."""
    lines, inside, names = BASE.read_text(encoding="utf-8").splitlines(), "", []
    for place, line in enumerate(lines):
        if line.startswith("class "):
            inside = line.removeprefix("class ").split("(")[0] + "."
        if line.lstrip().startswith("def "):
            inside = inside if line.startswith(" ") else ""
            names.append(inside + line.split("def ")[1].split("(")[0])
            if names[-1] == name:
                indent = " " * (8 if inside else 4)
                # An `except Exception` does not keep it.
                caught = f"try:\n{indent}    {FOREVER}\n{indent}except Exception: pass"
                lines[place] += f"\n{indent}{caught}"
                return "\n".join(lines)
    raise ValueError(f"{name} is not one of {names}")


@pytest.mark.parametrize("name", LOST)
def test_a_method_that_does_not_end_costs_its_own_points(tmp_path, name):
    file = tmp_path / "submission.py"
    file.write_text(endless(name), encoding="utf-8")
    found = points_of(file, dataclasses.replace(PUBLIC, seconds=0.5))
    assert costs(found) == LOST[name], words_of(found)
    line = 1 + next(n for n, text in enumerate(endless(name).splitlines()) if FOREVER in text)
    said = words_of(found)
    assert f"submission.py, line {line}, during " in said
    assert "it did not end within 0.5 seconds; look there for a loop that never ends" in said


def test_a_file_that_does_not_end_has_no_points(tmp_path):
    file = tmp_path / "submission.py"
    file.write_text(BASE.read_text(encoding="utf-8") + FOREVER, encoding="utf-8")
    found = points_of(file, dataclasses.replace(PUBLIC, seconds=0.1))
    assert sum(one.points for one in found.values()) == 0
    assert "during import: it did not end within 0.6 seconds" in words_of(found)


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
