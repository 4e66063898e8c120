"""The content of autograder.zip, its set-up, and runs in a simulated /autograder."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import zipfile
from pathlib import Path

import attacks
import pytest
import torch
from conftest import ROOT, assert_clear_error, run, write_dataset, write_idx
from gradescope import NO_SCORE, REFUSES, broken_rules, lay_out, run_autograder

from data_utils import MNISTDataset
from staff import class_split, idx
from staff.closure import closure
from staff.gradescope import build
from staff.gradescope.run import gradescope_results, in_public_words
from staff.solutions import leaks
from staff.task import FAILED_UNSEEN
from staff.walls import OLDEST

needs_bubblewrap = pytest.mark.skipif(
    shutil.which("bwrap") is None and not os.environ.get("CI"), reason="bubblewrap is not installed"
)
RUN = "staff.gradescope.run"
SECRET = "0f1e2d3c4b5a69788796a5b4c3d2e1f0"  # of a class


@pytest.fixture(scope="module")
def splits(tiny_data) -> build.Splits:
    made = class_split.class_files(MNISTDataset(tiny_data), SECRET, 60)
    private = {name: made[name] for name in build.NAMES}
    data = {"test": tiny_data, "train": tiny_data, "valid": tiny_data}
    return build.Splits(data, private, SECRET)


@pytest.fixture(scope="module")
def packed(tmp_path_factory, splits) -> Path:
    return build.build(tmp_path_factory.mktemp("packed") / "autograder.zip", splits)


@pytest.fixture(scope="module")
def handed_in(tmp_path_factory) -> Path:
    """A submission with one of the two checkpoints, twice."""
    folder = tmp_path_factory.mktemp("handed_in")
    shutil.copy(ROOT / "model.py", folder / "submission.py")
    for name in ("VAEwolabel.pth", "a-copy.pth"):
        torch.save(attacks.state_of("VAEwolabel"), folder / name)
    return folder


@pytest.fixture
def autograder(tmp_path, splits, handed_in) -> Path:
    """A simulated /autograder, with a submission."""
    packed = build.build(tmp_path / "autograder.zip", splits, "--gen_num 20")
    folder = lay_out(tmp_path / "autograder", packed)
    shutil.copytree(handed_in, folder / "submission", dirs_exist_ok=True)
    return folder


@pytest.fixture(scope="module")
def unpacked(tmp_path_factory, packed) -> Path:
    """The lab as Gradescope unpacks it."""
    folder = tmp_path_factory.mktemp("source")
    with zipfile.ZipFile(packed) as archive:
        archive.extractall(folder)
    return folder / "lab"


def graded(lab, submission, tmp_path, *more, env=None):
    """Grade a folder with the unpacked lab; return the exit status and results.json."""
    file = tmp_path / "results" / "results.json"
    words = [RUN, "--submission", submission, "--results", file, "--gen_num", 20, *more]
    completed = run(*words, cwd=lab, env={"PYTHONPATH": str(lab), **(env or {})})
    return completed.returncode, json.loads(file.read_text(encoding="utf-8"))


def test_two_builds_give_the_same_bytes(tmp_path, packed, splits):
    again = build.build(tmp_path / "again.zip", splits)
    assert again.read_bytes() == packed.read_bytes()


def test_a_private_split_is_built_in_by_default_and_kept(tmp_path, tiny_data):
    words = ["--out", tmp_path / "dist" / "autograder.zip"]
    for split in ("test", "train", "valid"):
        words += [f"--{split}_data", tiny_data]
    parsed = [build.make_parser().parse_args([*map(str, words)]) for _ in range(2)]
    first, second = (build.splits_of(args) for args in parsed)
    assert first == second and set(first.private) == set(build.NAMES)
    without = build.make_parser().parse_args([*map(str, words), "--no_private"])
    assert build.splits_of(without).private == {}
    run_words = [*words, "--no_private", "--count", "private"]
    assert_clear_error(run("staff.gradescope.build", *run_words), "--count private needs")


def test_the_zip_contains_what_grading_needs_and_nothing_else(packed):
    entries = [ROOT / "staff" / "gradescope" / "run.py", ROOT / "staff" / "stage.py"]
    expected = {file.relative_to(ROOT).as_posix() for file in closure(entries)}
    expected |= {"requirements.txt", "requirements/staff.txt", "requirements/docs.txt"}
    expected |= {"lab/judge/judge.pth", "lab/checks/rubric.toml"}
    expected |= {f"staff/templates/{name}" for name in ("page.html", "feedback.html", "style.css")}
    pair = ("images-idx3-ubyte.gz", "labels-idx1-ubyte.gz")
    public = ("test", "train", "valid")
    expected |= {f"dataset/{split}/{name}" for split in (*public, "private") for name in pair}
    expected |= {"dataset/private/SHA256SUMS", "secret/secret"}
    with zipfile.ZipFile(packed) as archive:
        names = archive.namelist()
        for name in ("setup.sh", "run_autograder"):
            assert archive.getinfo(name).external_attr >> 16 & 0o111
            assert archive.read(name).startswith(b"#!") and b"@OPTIONS@" not in archive.read(name)
    assert len(names) == len(set(names))
    assert set(names) == {"setup.sh", "run_autograder", *(f"lab/{name}" for name in expected)}
    left_out = {"submission.py", "model.py", "trainer.py", "train.py", "check.py"}
    assert not {f"lab/{name}" for name in left_out} & set(names)
    assert not [name for name in names if "zoo" in name or "tests" in name]


@pytest.mark.parametrize("options", ["", "--unsafe-no-isolation"])
def test_no_solution_is_packed(splits, options):
    """A submission that runs without isolation can read every file of the zip, and print it."""
    files = build.contents(splits, options)
    reference = (ROOT / "submission.py").read_text(encoding="utf-8")
    assert list(leaks(reference, files)) == []
    assert not {"submission.py", "solutions.py"} & {Path(name).name for name in files}
    added = {**files, "lab/staff/solved.py": reference.encode()}
    assert list(leaks(reference, added))  # the check notices one


def test_only_images_labels_and_sums_of_a_private_split_are_packed(tmp_path, tiny_data):
    private = tmp_path / "private"
    words = ["--data", tiny_data, "--out", private]
    assert run("staff.private_split", *words).returncode == 0
    assert set(build.split_files(private)) == {idx.IMAGES, idx.LABELS, "SHA256SUMS"}


def test_a_split_in_another_format_is_converted(tmp_path, tiny_set):
    write_idx(tmp_path / "t10k-images-idx3-ubyte", tiny_set.images)
    write_idx(tmp_path / "t10k-labels-idx1-ubyte", tiny_set.labels)
    converted = idx.split_files(tiny_set.images, tiny_set.labels)
    assert build.split_files(tmp_path) == converted


STAND_INS = {  # for the commands that setup.sh runs; they log how they are called
    "pip": """#!/bin/sh
echo "$@" >> "$AUTOGRADER/log"
case "$*" in *--index-url*) exit "$CPU_INDEX";; esac
""",
    "bin/apt-get": '#!/bin/sh\necho "apt-get $*" >> "$AUTOGRADER/log"\n',
    "bin/bwrap": '#!/bin/sh\necho "bubblewrap $BUBBLEWRAP"\n',
    "bin/nvidia-smi": '#!/bin/sh\ntest "$CARD" = present\n',
    "bin/python3": """#!/bin/sh
test "$1" = --version && echo "Python $PYTHON" && exit
mkdir -p "$3/bin" && cp "$AUTOGRADER/pip" "$3/bin/python"
""",
}


def set_up(folder: Path, source: Path, **values: str) -> tuple[subprocess.CompletedProcess, list]:
    """Run setup.sh with stand-ins; return how it ended and the commands that it ran."""
    for name, text in STAND_INS.items():
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_text(text)
        (folder / name).chmod(0o755)
    (folder / "source").symlink_to(source)
    path = f"{folder / 'bin'}:{os.environ['PATH']}"
    chosen = {"BUBBLEWRAP": "0.9.0", "PYTHON": "3.12.3", "CARD": "absent", "CPU_INDEX": "0"}
    env = {"PATH": path, "AUTOGRADER": str(folder), **chosen, **values}
    words = ["bash", source / "setup.sh"]
    ended = subprocess.run(words, env=env, capture_output=True, text=True)
    return ended, (folder / "log").read_text().splitlines()


@pytest.mark.parametrize(
    ("card", "cpu_index", "from_cpu_index"),
    [("absent", "0", True), ("absent", "1", True), ("present", "0", False)],
)
def test_setup_installs_no_cuda_packages_without_a_card(
    tmp_path, unpacked, card, cpu_index, from_cpu_index
):
    ended, calls = set_up(tmp_path, unpacked.parent, CARD=card, CPU_INDEX=cpu_index)
    assert ended.returncode == 0, ended.stderr
    pin = re.search(r"^torch==\S+", (ROOT / "requirements.txt").read_text(), re.MULTILINE)[0]
    cpu = [call for call in calls if "--index-url https://download.pytorch.org/whl/cpu" in call]
    assert [call.endswith(f" {pin}") for call in cpu] == [True] * from_cpu_index
    assert calls[-1].endswith("lab/requirements/staff.txt") and "index" not in calls[-1]


@pytest.mark.parametrize(
    ("versions", "found"),
    [
        ({"BUBBLEWRAP": "0.6.1"}, "has bubblewrap 0.6.1; expected 0.8 or newer"),  # Ubuntu 22.04
        ({"BUBBLEWRAP": ""}, "has bubblewrap of an unknown version; expected 0.8 or newer"),
        ({"PYTHON": "3.10.12"}, "has Python 3.10.12; expected 3.11 or newer"),
        ({"BUBBLEWRAP": "0.8.0", "PYTHON": "3.11.2"}, ""),  # Debian 12
        ({"BUBBLEWRAP": "0.11.0", "PYTHON": "3.14.0"}, ""),
    ],
)
def test_setup_refuses_an_image_that_is_too_old(tmp_path, unpacked, versions, found):
    ended, calls = set_up(tmp_path, unpacked.parent, **versions)
    if not found:
        assert ended.returncode == 0 and not ended.stderr
        return
    assert ended.returncode == 2 and ended.stderr.count("\n") == 1
    assert found in ended.stderr and "choose the Base Image OS Ubuntu" in ended.stderr
    assert len(calls) == 2 and calls[1].startswith("apt-get install")  # nothing else was installed


def test_setup_expects_what_the_sandbox_and_the_lab_need():
    text = (ROOT / "staff" / "gradescope" / "setup.sh").read_text()
    oldest = dict(re.findall(r"^expect (\w+) .* ([0-9.]+)$", text, re.MULTILINE))
    needed = re.search(r'requires-python = ">=([0-9.]+)', (ROOT / "pyproject.toml").read_text())[1]
    assert oldest == {"bubblewrap": ".".join(map(str, OLDEST)), "Python": needed}


@needs_bubblewrap
def test_a_run_in_autograder_writes_results_by_the_published_rules(autograder):
    ended = run_autograder(autograder)
    content = (autograder / "results" / "results.json").read_bytes()
    assert ended.returncode == 0, ended.stderr
    assert broken_rules(content) == []
    results = json.loads(content)
    assert results["score"] > 0 and results["extra_data"]["isolation"] == "bubblewrap"
    assert results["stdout_visibility"] == "hidden"
    for test in results["tests"]:
        later, staff = test["name"].endswith("score"), test["name"].startswith("for staff")
        expected = "hidden" if staff else "after_published" if later else "visible"
        assert test["visibility"] == expected
    assert "VAEwolabel on the private split: raw" in results["tests"][-1]["output"]
    tests = {test["name"]: test for test in results["tests"]}
    assert tests["VAEwolabel: score"]["status"] == "passed"
    assert tests["Genwithlabel: score"]["status"] == "failed"
    missing = tests["Genwithlabel: your code and checkpoint run"]["output"]
    assert "hand in Genwithlabel.pth" in missing
    assert "a second checkpoint of VAEwolabel" in tests["a-copy.pth"]["output"]
    leaders = {row["name"]: row for row in results["leaderboard"]}
    assert {"VAEwolabel raw", "VAEwolabel ssim", "VAEwolabel mse"} == set(leaders)
    assert leaders["VAEwolabel mse"]["order"] == "asc"
    for breach, changed in BREACHES.items():
        rules = broken_rules(json.dumps({**results, **changed}).encode())
        assert len(rules) == 1 and breach in rules[0]


ROW = {"name": "a", "score": 1.0, "max_score": 1.0}
BREACHES = {  # a rule by a change of the results that breaks it
    "not JSON": {"execution_time": float("nan")},
    "score is '1'": {"score": "1"},
    "not their sum": {"score": 1.0, "tests": [{**ROW, "score": 0.5}]},
    "2.0 of 1.0 points": {"score": 2.0, "tests": [{**ROW, "score": 2.0}]},
    "has points": {"score": 1.0, "tests": [{**ROW, "visibility": "hidden"}]},
    "visibility private": {"score": 1.0, "tests": [{**ROW, "visibility": "private"}]},
    "stdout_visibility no": {"stdout_visibility": "no"},
    "status flagged": {"score": 1.0, "tests": [{**ROW, "status": "flagged"}]},
    "name is None": {"score": 1.0, "tests": [{**ROW, "name": None}]},
    "value is True": {"leaderboard": [{"name": "a", "value": True}]},
    "order up": {"leaderboard": [{"name": "a", "value": 1, "order": "up"}]},
    "not published": {"points": 1},
    "as HTML": {"output": "<b>", "output_format": "simple_format"},
    "bytes": {"output": "x" * 1_000_000},
}


@needs_bubblewrap
def test_a_container_that_refuses_namespaces_is_told_to_staff_and_scores_nothing(autograder):
    ended = run_autograder(autograder, *REFUSES)
    content = (autograder / "results" / "results.json").read_bytes()
    assert ended.returncode == 2 and "Traceback" not in ended.stderr
    assert ended.stderr.count("\n") == 1  # staff read it as the output of the autograder
    for words in (
        "error: bubblewrap does not run here (bwrap: ",
        "Nothing was graded",
        "grade_class",
    ):
        assert words in ended.stderr
    results = json.loads(content)
    assert results["output"].startswith("The grader failed, which is not your fault")
    assert "bwrap" not in results["output"] and results["tests"] == []
    assert broken_rules(content) == [NO_SCORE]  # so that Gradescope counts nothing


SECRET_PIXEL = 255  # in the corner of the secret images; no public digit reaches it
SEES_SECRET = """        if (x.flatten(1)[:, 0] == 1).any():
            print("SECRET", x)
            raise RuntimeError(f"SECRET {x}")
"""


def test_students_of_a_secret_split_still_read_what_is_wrong(tmp_path, unpacked, tiny_set):
    """VAE fails on secret images alone, GenModel on all; both print and raise what they see."""
    folder, images = tmp_path / "handed_in", tiny_set.images.copy()
    images.reshape(len(images), -1)[:, 0] = SECRET_PIXEL
    secret = write_dataset(tmp_path / "secret", images, tiny_set.labels)
    encode = "        hidden = F.leaky_relu(self.hidden(x.flatten(1)), 0.2)"
    joined = "torch.cat([x.flatten(1), F.one_hot(labels, 10)], dim=1)"
    code = (ROOT / "model.py").read_text(encoding="utf-8")
    code = code.replace(encode, SEES_SECRET + encode).replace(joined, "x.flatten(1)")
    folder.mkdir()
    (folder / "submission.py").write_text(code, encoding="utf-8")
    for task in ("VAEwolabel", "Genwithlabel"):
        torch.save(attacks.state_of(task), folder / f"{task}.pth")
    words = ["--quiet", "--test_data", secret, "--unsafe-no-isolation"]
    status, results = graded(unpacked, folder, tmp_path, *words)
    assert status == 0 and broken_rules(json.dumps(results).encode()) == []
    seen = {**results, "tests": [one for one in results["tests"] if one["visibility"] != "hidden"]}
    text = json.dumps(seen)
    for word in ("SECRET", "secret", "private", "flag", "execution_time"):
        assert word not in text
    tests = {test["name"]: test for test in seen["tests"]}
    ran = "{}: your code and checkpoint run"
    assert tests[ran.format("VAEwolabel")]["output"] == FAILED_UNSEEN
    assert "submission.py, line 35, during forward" in tests[ran.format("Genwithlabel")]["output"]
    todo = tests["3.2 GenModel: encode"]
    assert (todo["score"], todo["max_score"]) == (0.0, 4.0)
    for words in ("submission.py, line 35", "(5x784 and 794x400)", "Hint: the label is missing"):
        assert words in todo["output"]
    for_staff = results["tests"][-1]
    assert for_staff["visibility"] == "hidden"
    assert "VAEwolabel on the test split: encode: " in for_staff["output"]
    assert "RuntimeError: SECRET" in for_staff["output"]


def test_what_is_said_of_a_timeout_needs_no_second_run():
    one = {"status": "timeout", "message": "encode: used more than 120 seconds.", "log": "SECRET"}
    result = {"tasks": {"VAEwolabel": one}, "flags": ["a"]}
    seen = in_public_words(result, job=None, student=None)
    assert seen == {"tasks": {"VAEwolabel": {**one, "log": ""}}, "flags": ["a"]}


def test_why_no_todo_could_be_checked_is_in_their_rows():
    failed = {"points": 0, "problems": []}
    completion = {"message": "timeout: used more.", "parts": {"2.3": failed, "3.5": failed}}
    result = {"status": "timeout", "message": "", "tasks": {}, "flags": [], "isolation": "none"}
    results = gradescope_results({**result, "completion": completion})
    assert broken_rules(json.dumps(results).encode()) == [] and results["score"] == 0
    tests = {test["name"]: test["output"] for test in results["tests"]}
    assert tests["2.3 vae_loss"] == "It could not be checked: timeout: used more."


def test_a_refused_submission_scores_0_and_every_row_says_why(tmp_path, unpacked):
    folder = tmp_path / "handed_in"
    folder.mkdir()
    (folder / "submission.txt").write_text("my code", encoding="utf-8")
    status, results = graded(unpacked, folder, tmp_path, "--quiet", "--unsafe-no-isolation")
    assert status == 0 and broken_rules(json.dumps(results).encode()) == []
    assert results["score"] == 0
    tests = {test["name"]: test["output"] for test in results["tests"]}
    for name in ("2.3 vae_loss", "3.5 GenModel: trained, and draws"):
        assert (
            tests[name].startswith("It could not be checked: ") and "submission.py" in tests[name]
        )
    assert "submission.py" in tests["VAEwolabel: your code and checkpoint run"]


@needs_bubblewrap
def test_if_the_grader_fails_there_is_no_score(tmp_path, unpacked, handed_in):
    status, results = graded(unpacked, handed_in, tmp_path, env={"PATH": str(tmp_path)})
    assert status == 2 and "score" not in results and "not your fault" in results["output"]
    assert "bwrap is missing" in results["extra_data"]["grader"]
    assert [file.name for file in (tmp_path / "results").iterdir()] == ["results.json"]


def test_a_grader_error_gives_no_score():
    result = {"status": "grader error", "message": "no room", "tasks": {}}
    assert "score" not in gradescope_results(result)
