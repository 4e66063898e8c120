"""Gradescope as its documentation describes it: where a submission runs, and what it must write.

Its pages, specs/ for the paths and results.json, and submission_metadata/, are below
https://gradescope-autograders.readthedocs.io/en/latest/.
"""

from __future__ import annotations

import json
import math
import os
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

VISIBILITY = {"hidden", "after_due_date", "after_published", "visible"}
TEXT, NUMBER = (str,), (int, float)
# The published fields and their types. All are optional, but there must be a score somewhere.
FIELDS = {"score": NUMBER, "execution_time": NUMBER, "output": TEXT, "visibility": TEXT}
FIELDS |= {"stdout_visibility": TEXT, "extra_data": (dict,), "tests": (list,)}
FIELDS |= {"leaderboard": (list,)}
FIELDS |= {f"{name}_format": TEXT for name in ("output", "test_output", "test_name")}
TEST_FIELDS = {"score": NUMBER, "max_score": NUMBER, "name": TEXT, "number": TEXT, "output": TEXT}
TEST_FIELDS |= {"tags": (list,), "visibility": TEXT, "extra_data": (dict,), "status": TEXT}
TEST_FIELDS |= {f"{name}_format": TEXT for name in ("output", "name")}
LEADER_FIELDS = {"name": TEXT, "value": (*NUMBER, *TEXT), "order": TEXT}
NO_SCORE = "neither the submission nor each test has a score"
MOST_BYTES = 200_000  # of results.json; the lab's own bound, Gradescope publishes none
METADATA = {
    "id": 123456,
    "created_at": "2026-11-28T14:22:32.365935-08:00",
    "assignment": {"id": 25828, "title": "Lab 2", "total_points": "90.0", "due_date": None},
    "users": [{"email": "ada@example.com", "id": 1234, "name": "Ada"}],
    "previous_submissions": [],
}


# ---------------------------------------------------------------- what a submission must write


def broken_rules(content: bytes) -> list[str]:
    """Return the published rules that the bytes of a results.json break."""
    if len(content) > MOST_BYTES:
        return [f"{len(content):,} bytes"]
    try:
        results = json.loads(content.decode("utf-8"), parse_constant=_refuse)
    except ValueError as error:
        return [f"it is not JSON in UTF-8: {error}"]
    return list(_fields(results)) or list(_values(results))


def _refuse(word: str) -> None:
    raise ValueError(f"{word} is no JSON")


def _fields(results: Any) -> Iterator[str]:
    if not isinstance(results, dict):
        yield "it is no object"
        return
    yield from _types("results", results, FIELDS)
    tests, leaders = results.get("tests", []), results.get("leaderboard", [])
    for entry in tests:
        yield from _types("a test", entry, TEST_FIELDS)
    for entry in leaders:
        yield from _types("the leaderboard", entry, LEADER_FIELDS)


def _values(results: dict[str, Any]) -> Iterator[str]:
    tests, leaders = results.get("tests", []), results.get("leaderboard", [])
    for test in tests:
        yield from _points(test)
    for row in leaders:
        if row.get("order", "desc") not in ("asc", "desc"):
            yield f"the order {row['order']}"
    for one in (results, *tests):
        for name in ("visibility", "stdout_visibility"):
            if one.get(name, "visible") not in VISIBILITY:
                yield f"{name} {one[name]}"
    # The default of `output` is simple_format, which is HTML, but students write what is in it.
    if results.get("output") and results.get("output_format") != "text":
        yield "the output would be read as HTML"
    scores = [test.get("score") for test in tests]
    if "score" not in results and (not scores or None in scores):
        yield NO_SCORE
    elif "score" in results and None not in scores and abs(results["score"] - sum(scores)) > 1e-9:
        yield "the score, which overrides that of the tests, is not their sum"


def _types(where: str, entry: dict[str, Any], fields: dict[str, tuple[type, ...]]) -> Iterator[str]:
    for name, value in entry.items():
        if name not in fields:
            yield f"{where}: the field {name} is not published"
        elif not isinstance(value, fields[name]) or isinstance(value, bool):
            yield f"{where}: {name} is {value!r}"
        elif isinstance(value, float) and not math.isfinite(value):
            yield f"{where}: {name} is {value}"


def _points(test: dict[str, Any]) -> Iterator[str]:
    score, most = test.get("score", 0), test.get("max_score", math.inf)
    if not 0 <= score <= most:
        yield f"{score} of {most} points"
    if test.get("status", "passed") not in ("passed", "failed"):
        yield f"the status {test['status']}"
    # "should only be used for tests which don't contribute points to the total"
    if test.get("visibility") == "hidden" and (score or test.get("max_score")):
        yield "a hidden test has points"


# ---------------------------------------------------------------- where a submission runs

# What a container without the right to make namespaces answers, as Docker's are by default.
REFUSES = ("--unshare-user", "--uid", "0", "--gid", "0", "--disable-userns", "--cap-drop", "ALL")


def lay_out(folder: Path, packed: Path) -> Path:
    """Lay out /autograder in a folder, as the image has it, and return the folder.

    packed: autograder.zip.
    """
    with zipfile.ZipFile(packed) as archive:
        archive.extractall(folder / "source")
    for name in ("setup.sh", "run_autograder"):
        (folder / "source" / name).chmod(0o755)  # zipfile does not keep it, unzip does
    shutil.copy(folder / "source" / "run_autograder", folder / "run_autograder")
    for name in ("submission", "results"):
        (folder / name).mkdir()
    (folder / "submission_metadata.json").write_text(json.dumps(METADATA), encoding="utf-8")
    return folder


def run_in_container(
    folder: Path,
    command: str,
    mounts: list[str],
    options: Sequence[str] = (),
    environment: Mapping[str, str] | None = None,
    seconds: float = 300,
) -> subprocess.CompletedProcess[str]:
    """Run a command as Gradescope's harness does: in /autograder, which is `folder`.

    Args:
        mounts: options of bubblewrap that mount the system.
        options: further ones; by default, root keeps its rights.
        environment: variables in addition to PATH, HOME and the language.
    """
    rights = options or (("--cap-add", "ALL") if os.geteuid() == 0 else ())
    path = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
    kept = {"PATH": path, "HOME": "/root", "LC_ALL": "C.UTF-8", **(environment or {})}
    return subprocess.run(
        ["bwrap", *rights, *mounts, "--chdir", "/autograder", "--", "bash", "-c", command],
        env=kept,
        capture_output=True,
        text=True,
        timeout=seconds,
    )


def this_system(folder: Path) -> list[str]:
    """Return the mounts of the system and the virtual environment that the tests run in.

    folder: what /autograder is.
    """
    words = []
    for entry in sorted(Path("/").iterdir()):
        if entry.is_symlink():
            words += ["--symlink", os.readlink(entry), str(entry)]
        elif entry.is_dir() and entry.name != "autograder":
            words += ["--dev-bind", str(entry), str(entry)]
    mounted = ["--bind", str(folder), "/autograder", "--ro-bind", sys.prefix, "/autograder/venv"]
    return [*words, *mounted]


def run_autograder(folder: Path, *options: str) -> subprocess.CompletedProcess[str]:
    """Run /autograder/run_autograder on the tests' own system."""
    environment = {"OMP_NUM_THREADS": "1"}
    mounts = this_system(folder)
    return run_in_container(folder, "./run_autograder", mounts, options, environment)
