"""The content of autograder.zip, and the results.json that it writes."""

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
from conftest import ROOT, assert_clear_error, run, write_idx

from data_utils import MNISTDataset
from staff import class_split, idx
from staff.closure import closure
from staff.gradescope import build
from staff.gradescope.run import gradescope_results
from staff.solutions import leaks

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
    expected |= {
        f"staff/templates/{name}" for name in ("feedback.html", "report.html", "style.css")
    }
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


PIP = """#!/bin/sh
echo "$@" >> "$AUTOGRADER/log"
case "$*" in *--index-url*) exit "$CPU_INDEX";; esac
"""


@pytest.mark.parametrize(
    ("card", "cpu_index", "from_cpu_index"),
    [("absent", "0", True), ("absent", "1", True), ("present", "0", False)],
)
def test_setup_installs_no_cuda_packages_without_a_card(
    tmp_path, unpacked, card, cpu_index, from_cpu_index
):
    """Stand-ins for the system's commands log how they are called."""
    programs = {
        "pip": PIP,
        "bin/apt-get": "#!/bin/sh\n",
        "bin/nvidia-smi": f"#!/bin/sh\ntest {card} = present\n",
        "bin/python3": '#!/bin/sh\nmkdir -p "$3/bin" && cp "$AUTOGRADER/pip" "$3/bin/python"\n',
    }
    for name, text in programs.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text)
        (tmp_path / name).chmod(0o755)
    (tmp_path / "source").symlink_to(unpacked.parent)
    path = f"{tmp_path / 'bin'}:{os.environ['PATH']}"
    env = {"PATH": path, "AUTOGRADER": str(tmp_path), "CPU_INDEX": cpu_index}
    subprocess.run(["bash", unpacked.parent / "setup.sh"], env=env, check=True)
    calls = (tmp_path / "log").read_text().splitlines()
    pin = re.search(r"^torch==\S+", (ROOT / "requirements.txt").read_text(), re.MULTILINE)[0]
    cpu = [call for call in calls if "--index-url https://download.pytorch.org/whl/cpu" in call]
    assert [call.endswith(f" {pin}") for call in cpu] == [True] * from_cpu_index
    assert calls[-1].endswith("lab/requirements/staff.txt") and "index" not in calls[-1]


@needs_bubblewrap
def test_results_are_in_gradescopes_format(tmp_path, unpacked):
    folder = tmp_path / "handed_in"
    folder.mkdir()
    shutil.copy(ROOT / "model.py", folder / "submission.py")
    torch.save(attacks.state_of("VAEwolabel"), folder / "VAEwolabel.pth")
    status, results = graded(unpacked, folder, tmp_path)
    assert status == 0, results
    assert type(results["score"]) is float and results["score"] > 0
    assert results["score"] == sum(test["score"] for test in results["tests"])
    for test in results["tests"]:
        assert type(test["score"]) is float and type(test["max_score"]) is float
        assert test["status"] in ("passed", "failed")
        later, staff = test["name"].endswith("score"), test["name"].startswith("for staff")
        expected = "hidden" if staff else "after_published" if later else "visible"
        assert test["visibility"] == expected
    assert "VAEwolabel on the private split: raw" in results["tests"][-1]["output"]
    passed = {test["name"]: test["status"] == "passed" for test in results["tests"]}
    assert passed["VAEwolabel: score"] and not passed["Genwithlabel: score"]
    leaders = {row["name"]: row for row in results["leaderboard"]}
    assert {"VAEwolabel raw", "VAEwolabel ssim", "VAEwolabel mse"} == set(leaders)
    assert leaders["VAEwolabel mse"]["order"] == "asc"
    assert all(type(row["value"]) is float for row in leaders.values())


def test_if_the_grader_fails_there_is_no_score(tmp_path, unpacked):
    folder = tmp_path / "handed_in"
    folder.mkdir()
    status, results = graded(unpacked, folder, tmp_path, env={"PATH": str(tmp_path)})
    assert status == 1 and "score" not in results and "not your fault" in results["output"]
    assert "bwrap is missing" in results["extra_data"]["grader"]
    assert [file.name for file in (tmp_path / "results").iterdir()] == ["results.json"]


def test_a_grader_error_gives_no_score():
    result = {"status": "grader error", "message": "no room", "tasks": {}}
    assert "score" not in gradescope_results(result)
