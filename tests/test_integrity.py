"""Integrity: copies are found in every disguise, independent work is not, and training replays."""

from __future__ import annotations

import itertools
import json
import shutil

import numpy as np
import pytest
from classmates import CODE_DISGUISES, HONEST, renamed
from conftest import ROOT, assert_clear_error, run
from handed_in import needs_bubblewrap
from stolen import permuted, trained_further, with_other_history, with_other_names
from torch import nn

from data_utils import set_seed
from lab import checkpoint
from lab.code_digest import code_digest
from lab.split_model import Submission
from staff import sandbox
from staff.integrity import code as codes
from staff.integrity import weights
from staff.integrity.code import Code, Rarity, baseline, read_code
from staff.integrity.findings import CODE, RUN, TRAINED, WEIGHTS, findings_of
from staff.integrity.order import in_order
from staff.integrity.subjects import ENDLESS, Subject, subject_of
from staff.integrity.syntax import prints_of
from staff.integrity.weights import read_record
from staff.replay import ACCEPTED, REJECTED, UNKNOWN, Verdict, compare, replay
from staff.stage import _flat, _weights_of, record_of
from staff.statuses import TASKS
from staff.submissions import Student
from staff.walls import Limits
from train import TrainOptions, train

VICTIM = 6
STUDENT = ROOT / "tests" / "submissions" / "student.py"


def code_of(text: str) -> Code:
    """Return the code of a source that is trusted, without the process that reads others."""
    prints: dict[int, list[tuple[int, int]]] = {}
    for value, first, last in prints_of(text):
        prints.setdefault(value, []).append((first, last))
    digest = code_digest(text)
    return Code(codes.hashlib.sha256(text.encode()).hexdigest(), digest, prints)


def subjects_of(texts: list[str]) -> list[Subject]:
    return [Subject(f"s{i}", f"student {i}", "", code_of(text)) for i, text in enumerate(texts)]


# ---------------------------------------------------------------- code


def test_no_pair_of_twenty_independent_students_is_a_finding():
    assert findings_of(subjects_of(HONEST)).clusters == []


@pytest.mark.parametrize("name", CODE_DISGUISES)
def test_a_copy_is_found_in_every_disguise(name):
    copy = CODE_DISGUISES[name](HONEST[VICTIM])
    assert name == "verbatim" or copy != HONEST[VICTIM]
    (cluster,) = findings_of(subjects_of([*HONEST, copy])).clusters
    assert [one.name for one in cluster.subjects] == [f"student {i}" for i in (20, VICTIM)]


def test_helper_functions_and_variables_stand_where_they_are_used():
    """Whatever its path, the computation has the same fingerprints."""
    nested = "return torch.cat([F.relu(self.fc(x.flatten(1))), self.table(y)], 1), x.mean()"
    plain = f"class A:\n    def encode(self, x, y):\n        {nested}\n"
    detour = """
def first(layer, image, *, start=1):
    if image is None:
        raise ValueError("no image")
    flat = image.flatten(start)
    len(flat)
    return F.relu(layer(flat))

class A:
    def encode(self, x, y):
        h = first(self.fc, x)
        labels = self.look_up(y)
        return torch.cat([h, labels], 1), x.mean()

    def look_up(self, y):
        return self.table(y)
"""
    loop = "def f(x):\n    return f(f(x))\ndef g(x):\n    return h(x)\ndef h(x):\n    return g(x)\n"
    starts = "import torch\nimport torch.nn.functional as F\n"
    found = [{one for one, _, _ in prints_of(starts + text)} for text in (plain, detour)]
    assert found[0] == found[1] and len(found[0]) > 5
    assert prints_of(loop + plain)  # a recursion ends


def test_the_members_of_a_group_do_not_accuse_each_other():
    text = HONEST[VICTIM]
    ada, bob, eve, *others = subjects_of([text, text, renamed(text), *HONEST[:3]])
    ada.group, bob.group = frozenset([bob.key]), frozenset([ada.key])
    found = findings_of([ada, bob, *others])
    assert found.clusters == []
    assert [words for _, words in found.notes if "one group with student 1" in words]
    (cluster,) = findings_of([ada, bob, eve, *others]).clusters
    pairs = [tuple(one.key for one in finding.pair) for finding in cluster.findings]
    assert sorted(pairs) == [("s0", "s2"), ("s1", "s2")]


def test_five_copies_are_one_cluster():
    disguises = [CODE_DISGUISES[name] for name in ("verbatim", "renamed", "reordered", "extracted")]
    copies = [disguise(HONEST[VICTIM]) for disguise in disguises]
    (cluster,) = findings_of(subjects_of([*HONEST, *copies])).clusters
    assert len(cluster.subjects) == 5 and len(cluster.findings) == 10


def test_what_everybody_may_share_is_no_finding():
    """The demo with small changes, by five students."""
    demo = (ROOT / "model.py").read_text(encoding="utf-8")
    texts = [demo.replace("400", str(width)) for width in range(300, 305)]
    assert code_of(demo).is_baseline
    assert findings_of(subjects_of([*HONEST, *texts])).clusters == []


def test_a_digest_is_of_what_the_code_does():
    text = STUDENT.read_text(encoding="utf-8")
    edited = "# mine\n" + text.replace("\n\n", "\n\n# why\n\n")
    assert code_digest(text) == code_digest(edited)
    assert code_digest(text) != code_digest(text.replace("256", "257"))
    assert code_digest('def f():\n    "doc"\n    return 1') == code_digest("def f(): return 1")
    assert code_digest("a = " + "1 + " * 500 + "1")


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"(" * 50_000 + b")" * 50_000, "nested too deeply|no Python"),
        (b"a = " + b"-" * 90_000 + b"1", "nested too deeply"),
        (b"a = " + b"1 + " * 40_000 + b"1", "nested too deeply"),
        (b"\xff\xfe\0", "no Python"),
        (b"def f(:", "no Python"),
        (b"x = 1\n" * 50_000, "more than 200,000 bytes"),
    ],
)
def test_hostile_source_is_a_problem_of_the_submission(content, words):
    code = read_code(content)
    assert codes.baseline() and not code.prints
    assert any(word in code.problem for word in words.split("|"))


def test_the_reader_agrees_with_the_process():
    text = HONEST[0]
    code = read_code(text.encode())
    assert code.prints == code_of(text).prints and code.digest == code_digest(text)
    assert code.own == frozenset(code.prints) - baseline() and not code.is_baseline
    assert Rarity([code.own]).likeness(code.own, code.own) == 1


# ---------------------------------------------------------------- weights


@pytest.fixture(scope="module")
def runs(tmp_path_factory, tiny_data) -> list:
    """Folders of short trainings of three students, and of two more with the first one's code.

    The fourth has another seed; the fifth has the same, so that its weights are equal.
    """
    folder, found = tmp_path_factory.mktemp("runs"), []
    texts = [STUDENT.read_text(encoding="utf-8"), HONEST[1], HONEST[2]]
    for number, (text, seed) in enumerate(zip([*texts, texts[0], texts[0]], (42, 42, 42, 1, 42))):
        file = folder / f"{number}.py"
        file.write_text(text, encoding="utf-8")
        options = TrainOptions(
            submission=file, save_dir=folder / str(number), epochs=4, batch_size=30, seed=seed,
            train_data=tiny_data, valid_data=tiny_data, eval_num=50, save_loss_plot=False,
            latent_dim=4,
        )  # fmt: skip
        train(options, progress=False)
        found.append(options.folder)
    return found


def state_of(run_folder) -> dict:
    return checkpoint.load(run_folder / "best.pth")


def model_of(run_folder) -> nn.Module:
    """Return the model of a run before its training."""
    state = state_of(run_folder)
    set_seed(state["settings"]["seed"])
    return Submission(run_folder / "submission.py", state["task"], state["latent_dim"]).model


def initial_of(run_folder) -> np.ndarray:
    """Return what the stage "initial" does."""
    return _flat(_weights_of(model_of(run_folder).state_dict()))


def owner(key: str, text: str, state: dict, year: str = "", initial=None) -> Subject:
    record = read_record(record_of(state, initial))
    assert record is not None
    return Subject(key, key, year, code_of(text), {"VAEwolabel": record})


def kinds(one: Subject, other: Subject) -> set[str]:
    found = findings_of([one, other])
    return {finding.kind for cluster in found.clusters for finding in cluster.findings}


@pytest.mark.parametrize(
    ("disguise", "expected"),
    [
        (lambda state: state, {RUN, TRAINED}),
        (with_other_names, {RUN, TRAINED}),
        (trained_further, {RUN, TRAINED}),
        (lambda state: with_other_history(with_other_names(state)), {WEIGHTS}),
        (lambda state: with_other_history(permuted(with_other_history(state))), {WEIGHTS}),
        (lambda state: with_other_history(trained_further(permuted(state))), {WEIGHTS}),
    ],
)
def test_stolen_weights_are_found_in_every_disguise(runs, disguise, expected):
    victim = owner("ada", STUDENT.read_text(encoding="utf-8"), state_of(runs[0]))
    thief = owner("eve", HONEST[3], disguise(state_of(runs[0])))
    assert kinds(victim, thief) == expected
    last_year = owner("old", STUDENT.read_text(encoding="utf-8"), state_of(runs[0]), "2025")
    assert kinds(thief, last_year) == expected


def test_independent_trainings_are_no_finding(runs):
    texts = [STUDENT.read_text(encoding="utf-8"), HONEST[1], HONEST[2]]
    honest = [owner(f"s{i}", text, state_of(run)) for i, (text, run) in enumerate(zip(texts, runs))]
    assert findings_of(honest).clusters == []
    records = [one.records["VAEwolabel"] for one in honest]
    records.append(read_record(record_of(state_of(runs[3]))))  # the same code, another seed
    for one, other in itertools.combinations(records, 2):
        assert weights.likeness(one, other) < 0.2


def test_equal_weights_before_the_training_are_no_finding(runs):
    """Two designs with the same layers and seed, hardly trained, are near each other."""
    initial = initial_of(runs[0])
    state = with_other_history(state_of(runs[0]))
    begun = {**state, "model_state_dict": model_of(runs[0]).state_dict()}
    one, other = trained_further(begun), trained_further(begun, seed=3)
    texts = STUDENT.read_text(encoding="utf-8"), HONEST[3]
    for known, expected in ((None, {WEIGHTS}), (initial, set())):
        ada = owner("ada", texts[0], one, initial=known)
        bob = owner("bob", texts[1], with_other_history(other), initial=known)
        assert kinds(ada, bob) == expected
    thief = owner("eve", texts[1], with_other_history(one), initial=initial)
    assert kinds(ada, thief) == {WEIGHTS}


def test_fine_tuned_weights_of_a_common_seed(runs, monkeypatch):
    """The thief's code begins with the same weights, and the record is of their own training."""
    text, initial = STUDENT.read_text(encoding="utf-8"), initial_of(runs[0])
    victim = owner("ada", text, state_of(runs[0]), initial=initial)
    tuned = trained_further(state_of(runs[0]), 0.002)
    own = {**state_of(runs[1]), "model_state_dict": tuned["model_state_dict"]}
    for short, state, expected, words in (
        (0, own, {WEIGHTS}, ""),
        (10_000, own, set(), "steps explain it"),
        (0, with_other_history(tuned), set(), "the same computation"),
        (10_000, with_other_history(permuted(tuned)), {WEIGHTS}, ""),
    ):
        monkeypatch.setattr(weights, "SHORT", short)
        thief = owner("eve", HONEST[3], state, initial=initial)
        assert kinds(victim, thief) == expected
        found = findings_of([victim, thief])
        assert [words in one.words for one in found.explained] == [True] * (not expected)
    assert any("in another order" in note for one, note in found.notes if one is thief)
    monkeypatch.setattr(weights, "SHORT", 0)
    thief = owner("eve", HONEST[3], with_other_history(tuned), initial=initial)
    thief.replays["VAEwolabel"] = Verdict(REJECTED, "its losses are others.")
    assert kinds(victim, thief) == {WEIGHTS}


def test_hidden_units_are_put_back_in_their_order():
    """Also between two layers, behind channels of several columns, and after a training."""
    rng = np.random.default_rng(0)
    shapes = {"a": (48, 200), "b": (32, 48), "c": (5, 32 * 4)}
    begun = {name: rng.standard_normal(shape) for name, shape in shapes.items()}
    trained = {name: one + 0.5 * rng.standard_normal(one.shape) for name, one in begun.items()}
    first, second = rng.permutation(48), rng.permutation(32)
    moved = {
        "a": trained["a"][first],
        "b": trained["b"][second][:, first],
        "c": trained["c"].reshape(5, 32, 4)[:, second].reshape(5, -1),
    }
    found, count = in_order(moved, begun)
    assert count == 3
    for name, one in trained.items():
        assert np.allclose(found[name], one, atol=1e-6)
    assert in_order(trained, begun)[1] == 0
    other = {name: rng.standard_normal(shape) for name, shape in shapes.items()}
    assert in_order(other, begun)[1] == 0  # of another seed


def test_equal_weights_of_the_unchanged_demo_are_explained(runs):
    """Both trained the same code with the same seed: equal weights, and two runs."""
    demo = (ROOT / "model.py").read_text(encoding="utf-8")
    found = findings_of([owner("a", demo, state_of(runs[0])), owner("b", demo, state_of(runs[4]))])
    assert not found.clusters
    (one,) = found.explained
    assert one.likeness == 1 and "unchanged demo" in one.words


def test_a_forged_record_is_no_record(runs):
    content = record_of(state_of(runs[0]))
    plain = json.loads(content)
    assert read_record(content) is not None
    for forged in (
        {"sketches": [{**plain["sketches"][0], "rows": "00"}]},
        {"history": "none"},
        {"latent_dim": "a"},
        {"sketches": [{**plain["sketches"][0], "shape": [1 << 40, -1]}]},
        {"settings": []},
    ):
        assert read_record(json.dumps({**plain, **forged}).encode()) is None
    assert read_record(b"[" * 100_000) is None


def test_edited_comments_are_a_note_and_no_finding(runs):
    text = STUDENT.read_text(encoding="utf-8")
    for edit, words in (
        ("# a comment\n", "only comments or layout"),
        ("EXTRA = [1]\n", "another version of the code"),
    ):
        found = findings_of([owner("ada", edit + text, state_of(runs[0]))])
        assert not found.clusters and words in found.notes[0][1]
    assert findings_of([owner("ada", text, state_of(runs[0]))]).notes == []


# ---------------------------------------------------------------- replay


@needs_bubblewrap
def test_replay_accepts_honest_checkpoints_and_rejects_swapped_ones(runs, tiny_data):
    files = [(run / "submission.py", run / "best.pth") for run in runs[:3]]
    records = [read_record(record_of(state_of(run))) for run in runs[:3]]
    splits = {"train": tiny_data, "valid": tiny_data}

    def verdict(code: int, weights_of: int):
        return replay(files[code][0], files[weights_of][1], records[weights_of], splits, Limits())

    for number in range(3):
        found = verdict(number, number)
        assert found.kind == ACCEPTED, found.why
        assert found.exact or number > 0
    for code, other in ((0, 1), (1, 2), (2, 0)):
        assert verdict(code, other).kind == REJECTED


@needs_bubblewrap
def test_replay_sees_an_edit_that_changes_the_computation_and_stolen_weights(
    runs, tiny_data, tmp_path
):
    text, state = STUDENT.read_text(encoding="utf-8"), state_of(runs[0])
    splits, file = {"train": tiny_data, "valid": tiny_data}, tmp_path / "submission.py"
    stolen = tmp_path / "stolen.pth"
    checkpoint.save(stolen, {**state, "model_state_dict": state_of(runs[3])["model_state_dict"]})
    for code, weights_file, kind in (
        ("# a comment\n" + text, runs[0] / "best.pth", ACCEPTED),
        (text.replace("F.relu", "F.gelu"), runs[0] / "best.pth", REJECTED),
        (text + "\nraise RuntimeError('no')\n", runs[0] / "best.pth", UNKNOWN),
    ):
        file.write_text(code, encoding="utf-8")
        record = read_record(record_of(checkpoint.load(weights_file)))
        assert replay(file, weights_file, record, splits, Limits()).kind == kind


def test_a_checkpoint_without_the_first_losses_accuses_nobody(runs, tmp_path):
    record = read_record(record_of(state_of(runs[0])))
    older = weights.Record(**{**weights.as_plain(record), "first_losses": ()})
    assert replay(STUDENT, runs[0] / "best.pth", older, {}, Limits()).kind == UNKNOWN
    seedless = weights.Record(**{**weights.as_plain(record), "settings": {}})
    assert replay(STUDENT, runs[0] / "best.pth", seedless, {}, Limits()).kind == UNKNOWN
    stated = list(record.first_losses)
    assert compare(record, [one * 1.001 for one in stated], None).kind == ACCEPTED
    assert compare(record, [one * 1.01 for one in stated], None).kind == REJECTED
    assert compare(record, stated, 10.0).kind == REJECTED  # the weights are of another run


# ---------------------------------------------------------------- the command


@needs_bubblewrap
def test_code_that_does_not_end_is_run_once(runs, tmp_path, monkeypatch):
    """Its weights are compared all the same: a sketch runs no student's code."""
    stages, run_stage = [], sandbox.run_stage

    def noted(stage: str, *more, **named):
        stages.append(stage)
        return run_stage(stage, *more, **named)

    monkeypatch.setattr(sandbox, "run_stage", noted)
    folder = tmp_path / "eve"
    folder.mkdir()
    (folder / "submission.py").write_text("while True:\n    pass\n", encoding="utf-8")
    for task in TASKS:
        shutil.copy(runs[0] / "best.pth", folder / f"{task}.pth")
    student = Student("eve", "eve", "", "", folder)
    limits = Limits(cpu_seconds=3, seconds=60)
    found = subject_of(student, tmp_path / "work", {"train": folder, "valid": folder}, limits)
    assert stages == ["initial", "sketch", "sketch"]
    assert found.problems == [ENDLESS] and found.records and not found.replays


@needs_bubblewrap
def test_a_class_and_an_earlier_year(runs, tmp_path, tiny_data):
    """Two honest students, one whose name is HTML, and one who took the code of last year."""
    folder, before = tmp_path / "class", tmp_path / "before"
    for parent, name, number in (
        (folder, "ada<b>", 1), (folder, "bob", 2), (folder, "eve", 0), (before, "old", 3),
    ):  # fmt: skip
        (parent / name).mkdir(parents=True)
        shutil.copy(runs[number] / "submission.py", parent / name)
        shutil.copy(runs[number] / "best.pth", parent / name / "VAEwolabel.pth")
    eve = folder / "eve" / "submission.py"
    eve.write_text(renamed(eve.read_text(encoding="utf-8")), encoding="utf-8")
    done = run("staff.integrity", before, tmp_path / "old", "--label", "2025")
    assert done.returncode == 0 and "1 submissions, 0 clusters" in done.stdout, done.stderr
    kept = tmp_path / "old" / "fingerprints.json"
    data = ["--train_data", tiny_data, "--valid_data", tiny_data]
    words = ["staff.integrity", folder, tmp_path / "out", "--earlier", kept, "--replay", *data]
    done = run(*words)
    assert done.returncode == 0 and "3 submissions, 1 clusters" in done.stdout, (
        done.stdout + done.stderr
    )
    found = json.loads((tmp_path / "out" / "integrity.json").read_text(encoding="utf-8"))
    (cluster,) = found["clusters"]
    assert cluster["students"] == ["eve", "fingerprints-0"]
    assert {finding[2] for finding in cluster["findings"]} == {CODE, TRAINED}
    page = (tmp_path / "out" / "integrity.html").read_text(encoding="utf-8")
    assert "ada&lt;b&gt;" in page and "ada<b>" not in page and "old (2025)" in page
    assert 'class="shared"' in page and page.count("comes from this code") == 3
    assert not list((tmp_path / "out" / ".work").iterdir())
    kept.write_text("{}", encoding="utf-8")
    assert_clear_error(run(*words), "holds no fingerprints")
