"""The handout: no solutions, no broken references, and checks that find faults."""

from __future__ import annotations

import shlex
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
from conftest import ROOT, assert_clear_error, run
from hypothesis import given
from hypothesis import strategies as st
from offline import offline

from staff import handout_proof
from staff.handout import LEFT_OUT, archive, as_handed_out, build, tracked, write_folder
from staff.solutions import (
    BEGIN,
    END,
    OPTIONAL,
    WIDTH,
    HandoutError,
    blank,
    for_students,
    leaks,
    regions,
    solutions,
)

REFERENCE = (ROOT / "submission.py").read_text(encoding="utf-8")
DEMO = [
    "        # TODO 1.2: add the numbers of self.all. Use sum.",
    "        # Hint: it is one line.",
    f"        {BEGIN}",
    "        return sum(self.all)  # quickly",
    f"        {END}",
    "",
    "    # Optional: a helper.",
    f"    {BEGIN}",
    "    def helper(self):",
    "        return 1",
    "",
    f"    {END}",
]


@pytest.fixture(scope="module")
def files() -> dict[str, bytes]:
    """The handout, built from this repository."""
    return build(ROOT, tracked(ROOT, ROOT / "dist"))


@pytest.fixture
def folder(tmp_path, files) -> Path:
    """The handout as a folder, without the training split."""
    small = {name: content for name, content in files.items() if "/train/" not in name}
    write_folder(small, tmp_path / "handout")
    return tmp_path / "handout"


# ---------------------------------------------------------------- regions


@given(st.lists(st.sampled_from(["B", "E", "x"])))
def test_markers_must_come_in_pairs(lines):
    marks = "".join(lines).replace("x", "")
    text = "\n".join(lines)
    if marks == "BE" * (len(marks) // 2):
        found = regions(text, "B", "E", "file")
        assert [lines[i] for pair in found for i in pair] == list(marks)
    else:
        with pytest.raises(HandoutError, match=r"file, line \d+: "):
            regions(text, "B", "E", "file")


@pytest.mark.parametrize(
    "lines, message",
    [
        (["", BEGIN, "", BEGIN, END], "line 4: .* again before the end of line 2's"),
        (["x", END], "line 2: .* without its ### BEGIN"),
        ([*DEMO, "# TODO 2.1: y", BEGIN, "z"], "line 14: .* without its ### END"),
        (["# a comment", "", BEGIN, END], "line 3: a solution without a comment right above"),
        ([*DEMO, "# TODO 9: never closed", "pass"], "line 13: a TODO without a solution"),
        ([*DEMO, *DEMO], "line 13: a second TODO 1.2"),
    ],
)
def test_faults_of_markers_are_found_where_they_are(lines, message):
    with pytest.raises(HandoutError, match=f"mine.py, {message}"):
        blank("\n".join(lines), "mine.py")


def test_a_todo_replaces_its_solution():
    assert blank("\n".join(DEMO)).split("\n") == [
        *DEMO[:2],
        '        raise NotImplementedError("TODO 1.2: add the numbers of self.all")',
        *DEMO[5:7],
    ]
    assert blank("\n".join(DEMO), keep={"1.2"}).split("\n") == [*DEMO[:2], *DEMO[3:4], *DEMO[5:7]]


def code(indent: int, todo: int) -> st.SearchStrategy[tuple[list[str], list[str]]]:
    """Lines before a solution, and the solution with its comment, markers and body."""
    words = st.text("abc ,(", min_size=1).map(str.strip).filter(bool)
    space = " " * indent
    return st.tuples(
        st.lists(words.map(lambda line: space + line)),
        st.lists(words.map(lambda line: f"{space}secret {line}"), min_size=1).map(
            lambda body: [f"{space}# TODO {todo}: do.", space + BEGIN, *body, space + END]
        ),
    )


@given(st.integers(0, 12).flatmap(lambda n: st.tuples(code(n, 1), code(2 * n, 2))))
def test_blank_changes_the_solutions_and_nothing_else(parts):
    text, stubs, filled = [], [], []
    for number, (before, solution) in enumerate(parts, 1):
        indent = solution[0][: len(solution[0]) - len(solution[0].lstrip())]
        text += [*before, *solution]
        stubs += [*before, solution[0], f'{indent}raise NotImplementedError("TODO {number}: do")']
        filled += [*before, solution[0], *solution[2:-1]]
    assert blank("\n".join(text)) == "\n".join(stubs)
    assert blank("\n".join(text), keep={"1", "2"}) == "\n".join(filled)


def test_the_students_submission():
    blanked = blank(REFERENCE)
    assert 'raise NotImplementedError("TODO 2.2.2: run x through the encoder")' in blanked
    assert blanked.count("raise NotImplementedError(") == 9
    assert all(len(line) <= WIDTH for line in blanked.split("\n"))
    comments = [line for line in REFERENCE.split("\n") if "# Hint" in line or "# Optional" in line]
    assert len(comments) == 4 and all(line in blanked for line in comments)
    every = {solution.number for solution in solutions(REFERENCE)}
    assert OPTIONAL in every and len(every) == 10
    without_marks = [line for line in REFERENCE.split("\n") if line.strip() not in (BEGIN, END)]
    assert blank(REFERENCE, keep=every).split("\n") == without_marks


def test_a_document_for_students():
    text = (
        "one\n\n<!-- staff: begin -->\nsecret\n<!-- staff: end -->\n\n| row | <!-- staff -->\n"
        "<!-- handout: begin\nshown\nhandout: end -->\ndataset/test/images, dataset/tests\n\n"
    )
    shown = "one\n\nshown\ndataset/{}/images, dataset/tests\n"
    assert for_students(text, "README.zh.md") == shown.format("test")
    assert as_handed_out("README.zh.md", text) == shown.format("valid")
    makefile = "a:\n# staff: begin\nb:\n# staff: end\nc:\n"
    assert for_students(makefile, "Makefile") == "a:\nc:\n"
    with pytest.raises(HandoutError, match="Makefile, line 2: # staff: begin without its"):
        for_students(makefile.replace("end", "ende"), "Makefile")


# ---------------------------------------------------------------- what is built


def test_what_is_handed_out(files):
    tops = {name.split("/")[0] for name in files}
    assert not tops & {"staff", "zoo", "tests", "benchmarks", ".ci", ".git"}
    assert {"check.py", "submission.py", "README.md", "Makefile", "run_sweep.sh"} <= tops
    assert {"docs/site/index.html", "docs/site/docs/handout.zh.html", "lab.ipynb"} <= files.keys()
    assert len([name for name in tops if not name.startswith(".")]) <= 24, sorted(tops)
    assert {"lab/judge/judge.pth", "dataset/valid/images-idx3-ubyte.gz"} <= files.keys()
    assert not [name for name in files if name.startswith("dataset/test")]
    assert b"test/" not in files["dataset/SHA256SUMS"]
    assert files["check.py"] == (ROOT / "check.py").read_bytes()


def test_the_same_files_give_the_same_bytes(tmp_path, files):
    assert archive(dict(reversed(files.items()))) == archive(files)
    for name in tracked(ROOT, ROOT / "dist"):  # with the line ends of a checkout on Windows
        content = (ROOT / name).read_bytes()
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content if b"\0" in content else content.replace(b"\n", b"\r\n"))
    for name in ("runs/mine.py", "dist/old.py", "sweeps/__pycache__/plan.pyc"):
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"not ours")
    again = build(tmp_path, tracked(tmp_path, tmp_path / "dist"))
    assert archive(again) == archive(files)


def test_private_images_and_seeds_are_handed_out_by_no_copy_without_git(tmp_path):
    shutil.copy(ROOT / ".gitignore", tmp_path)
    for name in ("dataset/private/images-idx3-ubyte.gz", "dataset/private.seed", "runs/a/best.pth"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(b"secret")
    (tmp_path / "dataset" / "private.md").write_bytes(b"shown")
    assert tracked(tmp_path, tmp_path / "dist") == [".gitignore", "dataset/private.md"]


def test_programs_are_executable(files, tmp_path):
    (tmp_path / "handout.zip").write_bytes(archive(files))
    with zipfile.ZipFile(tmp_path / "handout.zip") as packed:
        modes = {info.filename: info.external_attr >> 16 & 0o777 for info in packed.infolist()}
    assert modes.pop("handout/run_sweep.sh") == 0o755 and set(modes.values()) == {0o644}


# ---------------------------------------------------------------- the checks find faults


def test_a_line_of_a_solution_in_the_submission_is_a_leak(folder):
    handout_proof.has_no_solutions(folder, REFERENCE)
    file = folder / "submission.py"
    clean = file.read_text(encoding="utf-8")
    file.write_text(clean + "# return sigma\nsigma = torch.exp(0.5 * log_var)\n", encoding="utf-8")
    handout_proof.has_no_solutions(folder, REFERENCE)  # this line is also outside the solutions
    file.write_text(clean + "  z = self.reparameterize(mu, log_var)  # (B, d)\n", encoding="utf-8")
    with pytest.raises(HandoutError, match="line of a solution: z = self.reparam"):
        handout_proof.has_no_solutions(folder, REFERENCE)


def test_three_lines_of_a_solution_anywhere_are_a_leak(folder):
    body = next(s.body for s in solutions(REFERENCE) if s.number == "3.2")
    file = folder / "docs" / "notes.md"
    file.write_text("\n".join(line.strip() for line in body[:2]), encoding="utf-8")
    handout_proof.has_no_solutions(folder, REFERENCE)
    file.write_text("\n\n# and\n".join(line.strip() for line in body), encoding="utf-8")
    with pytest.raises(HandoutError, match="docs/notes.md has lines of a solution: features = "):
        handout_proof.has_no_solutions(folder, REFERENCE)
    file.write_text(BEGIN, encoding="utf-8")
    with pytest.raises(HandoutError, match="docs/notes.md has a marker"):
        handout_proof.has_no_solutions(folder, REFERENCE)


@pytest.mark.parametrize("solution", solutions(REFERENCE), ids=lambda solution: solution.number)
def test_each_solution_is_found_where_it_leaks(solution):
    leaked = "\n".join(solution.body).encode()
    assert list(leaks(REFERENCE, {"submission.py": leaked}))
    assert list(leaks(REFERENCE, {"other.py": leaked}))


def test_the_proof_fails_on_what_does_not_compile(files):
    with pytest.raises(HandoutError, match="check.py, line 2 does not compile"):
        handout_proof.prove(archive({**files, "check.py": b"\nx = (\n"}), REFERENCE, LEFT_OUT)


@pytest.mark.parametrize(
    "name, words, message",
    [
        ("README.md", "see `zoo/`", "line 1 names zoo/, which is not"),
        ("check.py", "# see staff/build_judge.py", "line 1 names staff/"),
        ("inference.py", "--data_path dataset/test", "line 1 names dataset/test"),
        ("docs/cluster.md", "[a](../README.md) [b](nowhere.md)", "line 1 links to nowhere.md"),
        ("README.zh.md", "then `make test`", "line 1 names `make test`"),
        ("Makefile", "# make bench   x", "line 1 names `make bench`"),
    ],
)
def test_broken_references_in_documents(folder, name, words, message):
    handout_proof.has_no_broken_references(folder, LEFT_OUT)
    (folder / name).write_text(f"{words}\ndemo:\nclean:\n", encoding="utf-8")
    with pytest.raises(HandoutError, match=f"{name}, {message}"):
        handout_proof.has_no_broken_references(folder, LEFT_OUT)


def test_sums_that_do_not_match(folder):
    with pytest.raises(HandoutError, match="dataset/train/images"):  # it is not in this folder
        handout_proof.sums_match(folder)


def test_a_todo_that_no_check_reaches(tmp_path):
    extra = [
        "    def extra(self):",
        "        # TODO 4.1: never called.",
        f"        {BEGIN}",
        "        pass",
        f"        {END}",
        "",
        "    def reparameterize(",
    ]
    reference = REFERENCE.replace(extra[-1], "\n".join(extra))
    with pytest.raises(HandoutError, match="no check reaches TODO 4.1"):
        handout_proof.todo_by_todo(tmp_path, reference)


def test_a_solution_that_does_not_work(tmp_path):
    reference = REFERENCE.replace("        z = self.to_standard(", "        z = self.to_nothing(")
    with pytest.raises(HandoutError, match="TODO 3.4 filled in: all points for "):
        handout_proof.todo_by_todo(tmp_path, reference)


def test_a_makefile_that_does_not_work(folder):
    file = folder / "Makefile"
    text = file.read_text(encoding="utf-8")
    file.write_text(text.replace("lab.demo", "lab.nowhere"), encoding="utf-8")
    with pytest.raises(HandoutError, match="`make demo` fails: .*Error"):
        handout_proof.demo(folder)


# ---------------------------------------------------------------- the command


def test_the_command_builds_and_checks_the_handout(tmp_path, files):
    """Build, check and write, without a network; the second time gives the same bytes."""
    command = shlex.join([sys.executable, "-m", "staff.handout", "--out", str(tmp_path / "dist")])
    words = offline() or ["sh", "-c"]
    result = subprocess.run([*words, command], cwd=ROOT, capture_output=True, text=True)
    assert result.returncode == 0, result.stderr
    assert result.stdout.count("  ok    ") == 8
    assert "2.2.1 2.2.2 2.2.3 2.2.4 2.3 3.1 3.2 3.3 3.4" in result.stdout
    content = (tmp_path / "dist" / "handout.zip").read_bytes()
    with zipfile.ZipFile(tmp_path / "dist" / "handout.zip") as packed:
        unzipped = {name: packed.read(name) for name in packed.namelist()}
    assert unzipped == {f"handout/{name}": content for name, content in files.items()}
    folder = tmp_path / "dist" / "handout"
    assert {path for path in folder.rglob("*") if path.is_file()} == {folder / n for n in files}
    (folder / "stale.py").touch()
    result = run("staff.handout", "--out", tmp_path / "dist", "--no-proof")
    assert "not checked" in result.stdout and "  ok  " not in result.stdout
    assert (tmp_path / "dist" / "handout.zip").read_bytes() == content
    assert not (folder / "stale.py").exists()
    assert sorted(p.name for p in (tmp_path / "dist").iterdir()) == ["handout", "handout.zip"]


def test_a_fault_is_one_sentence_and_writes_nothing(tmp_path):
    for name in ("staff", "lab", "dataset"):
        shutil.copytree(ROOT / name, tmp_path / name, ignore=shutil.ignore_patterns("*.gz"))
    shutil.copy(ROOT / ".gitignore", tmp_path)
    (tmp_path / "submission.py").write_text(f"x = 1\n{END}\n", encoding="utf-8")
    result = run("staff.handout", "--no-proof", cwd=tmp_path, env={"PYTHONPATH": str(tmp_path)})
    assert_clear_error(result, "submission.py, line 2", END)
    assert not (tmp_path / "dist").exists()
