"""autograder.zip, and the results.json that it writes."""

from __future__ import annotations

import json
import os
import shutil
import zipfile

import attacks
import pytest
import torch
from conftest import ROOT, run

from staff.gradescope import build
from staff.gradescope.run import in_their_format

needs_walls = pytest.mark.skipif(
    shutil.which("bwrap") is None and not os.environ.get("CI"), reason="bubblewrap is not installed"
)
RUN = "staff.gradescope.run"


def graded(submission, tmp_path, tiny_data, *more, **named):
    file = tmp_path / "results" / "results.json"
    words = [RUN, "--submission", submission, "--results", file, "--gen_num", 20]
    words += ["--test_data", tiny_data, "--train_data", tiny_data, *more]
    said = run(*words, **named)
    return said.returncode, json.loads(file.read_text(encoding="utf-8"))


def test_the_zip_is_the_same_twice_and_has_what_it_needs(tmp_path, tiny_data):
    files = [build.build(tmp_path / f"{n}.zip", tiny_data, tiny_data) for n in range(2)]
    assert files[0].read_bytes() == files[1].read_bytes()
    with zipfile.ZipFile(files[0]) as archive:
        names = archive.namelist()
        assert {"setup.sh", "run_autograder"} <= set(names)
        for name in ("setup.sh", "run_autograder"):
            assert archive.getinfo(name).external_attr >> 16 & 0o111
            assert archive.read(name).startswith(b"#!") and b"@" not in archive.read(name)
        archive.extractall(tmp_path / "there")
    assert not [name for name in names if "zoo" in name or "tests" in name]
    # What runs there finds all that it imports.
    lab = tmp_path / "there" / "lab"
    said = run(RUN, "--help", cwd=lab, env={"PYTHONPATH": str(lab)})
    assert said.returncode == 0, said.stderr


@needs_walls
def test_results_are_in_their_format(tmp_path, tiny_data):
    folder = tmp_path / "handed_in"
    folder.mkdir()
    shutil.copy(ROOT / "model.py", folder / "submission.py")
    torch.save(attacks.state_of("VAEwolabel"), folder / "VAEwolabel.pth")
    status, results = graded(folder, tmp_path, tiny_data)
    assert status == 0 and type(results["score"]) is float and results["score"] > 0
    assert results["score"] == sum(test["score"] for test in results["tests"])
    for test in results["tests"]:
        assert type(test["score"]) is float and type(test["max_score"]) is float
        assert test["status"] in ("passed", "failed")
        hidden = test["name"].endswith("score")
        assert test["visibility"] == ("after_published" if hidden else "visible")
    passed = {test["name"]: test["status"] == "passed" for test in results["tests"]}
    assert passed["VAEwolabel: score"] and not passed["Genwithlabel: score"]
    leaders = {row["name"]: row for row in results["leaderboard"]}
    assert {"VAEwolabel raw", "VAEwolabel ssim", "VAEwolabel mse"} == set(leaders)
    assert leaders["VAEwolabel mse"]["order"] == "asc"
    assert all(type(row["value"]) is float for row in leaders.values())


def test_where_the_grader_fails_there_is_no_score(tmp_path, tiny_data):
    folder = tmp_path / "handed_in"
    folder.mkdir()
    status, results = graded(folder, tmp_path, tiny_data, env={"PATH": str(tmp_path)})
    assert status == 1 and "score" not in results and "not your fault" in results["output"]
    assert "bwrap is missing" in results["extra_data"]["grader"]
    assert [file.name for file in (tmp_path / "results").iterdir()] == ["results.json"]


def test_a_grader_error_is_no_zero():
    result = {"status": "grader error", "message": "no room", "tasks": {}}
    assert "score" not in in_their_format(result)
