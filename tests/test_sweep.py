"""Sweeps as a user runs them (whole, killed, stopped, failing, on a cluster), and their parts."""

from __future__ import annotations

import csv
import io
import json
import os
import re
import shlex
import shutil
import signal
import socket
import subprocess
import sys
import time
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
from conftest import ROOT, SUBMISSIONS, assert_clear_error, reachable_sockets, run, start
from filelock import FileLock, Timeout
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

import sweep
import train
from data_utils import MNISTDataset
from lab import cluster as clusters
from lab.workers import local_workers
from sweeps import draft, estimate, pictures, plan, report, search, trial
from sweeps.runner import Sweep
from sweeps.workers import workers_for

EPOCHS = 24  # more than a second per trial, so that it can be interrupted in the middle
VARIANCES, RATES = ("0.5", "0.1"), ("0.001", "0.01")
FIGURES = ("ssim", "mse", "raw")
KILL = getattr(signal, "SIGKILL", signal.SIGTERM)


def words(tiny_data: Path, folder: Path, *more: object) -> list[str]:
    """The command line of a sweep with four short trials of the MLP."""
    command = f"sweep.py --submission model.py --epochs {EPOCHS} --batch_size 40 --eval_num 50"
    data = ["--train_data", tiny_data, "--valid_data", tiny_data, "--save_dir", folder]
    grid = ["--var", *VARIANCES, "--lr", *RATES]
    return [*command.split(), *map(str, [*data, *grid, *more])]


def rows_in(folder: Path) -> list[dict[str, str]]:
    with open(folder / "results.csv", encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def figures_in(folder: Path) -> dict[tuple[str, str], tuple[str, ...]]:
    """The scores by var and lr, at full precision; the sweep must be complete."""
    rows = rows_in(folder)
    assert [row["status"] for row in rows] == ["finished"] * 4
    return {(row["var"], row["lr"]): tuple(row[name] for name in FIGURES) for row in rows}


def records_in(folder: Path) -> dict[str, dict]:
    files = folder.glob("trials/*/trial.json")
    return {file.parent.name: json.loads(file.read_text(encoding="utf-8")) for file in files}


def wait_until(happened, seconds: float = 120):
    """Wait until `happened` returns something true, and return it."""
    end = time.monotonic() + seconds
    while not (what := happened()):
        assert time.monotonic() < end, f"did not happen within {seconds} s"
        time.sleep(0.02)
    return what


@pytest.fixture(scope="module")
def sweep_folder(tmp_path_factory, tiny_data) -> Path:
    """A sweep of four trials without interruption."""
    folder = tmp_path_factory.mktemp("sweep") / "whole"
    result = run(*words(tiny_data, folder))
    assert result.returncode == 0, result.stdout + result.stderr
    (folder / "stdout.txt").write_text(result.stdout)
    return folder


# ---------------------------------------------------------------- a whole sweep


def test_output_of_a_sweep(sweep_folder):
    printed = (sweep_folder / "stdout.txt").read_text()
    assert re.search(
        r"4 trials to run, \d at once: about .+, until \d\d:\d\d; about .+ GB", printed
    )
    rows = rows_in(sweep_folder)
    assert {(row["var"], row["lr"]) for row in rows} == {
        (variance, rate) for variance in VARIANCES for rate in RATES
    }
    assert all(row["threads"] == rows[0]["threads"] for row in rows)
    assert all(float(row["seconds"]) > 0 and row["skipped_steps"] == "0" for row in rows)
    assert not any(row["error"] for row in rows)
    table = (sweep_folder / "results.md").read_text()
    scores = [float(line.split("|")[5]) for line in table.splitlines()[2:]]
    assert scores == sorted(scores, reverse=True) and len(scores) == 4
    for name in ("results.csv", "results.md", "heatmap.png", "contact_sheet.png"):
        assert str(sweep_folder / name) in printed
    for name in ("heatmap.png", "contact_sheet.png"):
        assert min(Image.open(sweep_folder / name).size) > 200


def test_the_contact_sheet_of_a_vae_shows_reconstructions(sweep_folder, tiny_data):
    labels = MNISTDataset(tiny_data).labels
    for folder in (sweep_folder / "trials").iterdir():
        shown, recon = np.load(folder / "shown.npy"), np.load(folder / "inference" / "recon.npy")
        for label in range(10):
            assert np.array_equal(shown[label], recon[np.flatnonzero(labels == label)[0]])


def test_a_sweep_drafts_the_section_of_a_report(sweep_folder, tiny_data, tmp_path):
    text = (sweep_folder / draft.NAME).read_text(encoding="utf-8")
    assert str(sweep_folder / draft.NAME) in (sweep_folder / "stdout.txt").read_text()
    sweep_command, train_command = re.findall(r"```bash\npython (.+)\n```", text)
    assert shlex.split(sweep_command) == words(tiny_data, sweep_folder)
    best = max(rows_in(sweep_folder), key=lambda row: float(row["raw"]))
    typed = shlex.split(train_command)
    options = vars(train.make_parser().parse_args(typed[1:]))
    for name, value in records_in(sweep_folder)[best["trial"]]["options"].items():
        assert str(options[name]) == str(value), name  # whatever is not typed is the default
    assert "`batch_size` 40" in text and "`var`" in text.splitlines()[0]
    rows = (sweep_folder / "results.md").read_text(encoding="utf-8").splitlines()
    assert len(rows) == 6 and all(row in text for row in rows)
    pictures_shown = re.findall(r"!\[\w+\]\((.+)\)", text)
    assert {"heatmap.png", "contact_sheet.png"} == set(pictures_shown)
    assert text.count(draft.TO_WRITE) == len(draft.QUESTIONS)


def test_a_draft_in_which_someone_wrote_is_kept(sweep_folder, tiny_data, tmp_path):
    copy = tmp_path / "copy"
    shutil.copytree(sweep_folder, copy)
    file = copy / draft.NAME
    begun = file.read_text(encoding="utf-8").replace(draft.TO_WRITE, "I expected", 1)
    file.write_text(begun, encoding="utf-8")
    result = run(*words(tiny_data, copy, "--report"))
    assert result.returncode == 0 and "is kept" in result.stdout, result.stderr
    assert file.read_text(encoding="utf-8") == begun
    file.unlink()
    assert run(*words(tiny_data, copy, "--report")).returncode == 0
    assert draft.TO_WRITE in file.read_text(encoding="utf-8")
    assert "--report" not in file.read_text(encoding="utf-8")


def test_a_trial_scores_what_the_three_commands_score(sweep_folder, tiny_data, tmp_path):
    """Equal to the last digit, with the same number of threads."""
    row = rows_in(sweep_folder)[1]
    threads = {"OMP_NUM_THREADS": row["threads"]}
    other = {} if threads.items() <= os.environ.items() else {"env": threads}
    options = f"--submission model.py --epochs {EPOCHS} --batch_size 40"
    options += f" --var {row['var']} --lr {row['lr']}"
    data = f"--train_data {tiny_data} --valid_data {tiny_data} --eval_num 50"
    for command in (
        f"train.py {options} {data} --save_dir {tmp_path}",
        f"inference.py --checkpoint_path {tmp_path / 'best.pth'} --data_path {tiny_data}",
        f"grade.py --test_data_path {tiny_data} --VAEwolabel_output_dir {tmp_path / 'inference'} "
        f"--no-Genwithlabel --output {tmp_path / 'grade.json'}",
    ):
        result = run(*command.split(), **other)
        assert result.returncode == 0, result.stderr
    graded = json.loads((tmp_path / "grade.json").read_text())["VAEwolabel"]
    assert [repr(graded[name]) for name in FIGURES] == [row[name] for name in FIGURES]


def test_finished_trials_are_not_run_again(sweep_folder, tiny_data):
    files = sorted(sweep_folder.glob("trials/**/*"))
    before = [(file, file.stat().st_mtime_ns) for file in files if file.is_file()]
    result = run(*words(tiny_data, sweep_folder))
    assert result.returncode == 0, result.stderr
    assert "timing" not in result.stdout
    assert [(file, file.stat().st_mtime_ns) for file, _ in before] == before
    assert sorted(sweep_folder.glob("trials/**/*")) == files
    assert run(*words(tiny_data, sweep_folder, "--report")).returncode == 0
    assert [(file, file.stat().st_mtime_ns) for file, _ in before] == before


def test_a_trial_leaves_its_best_weights_or_none(sweep_folder, tiny_data, tmp_path):
    for folder in (sweep_folder / "trials").iterdir():
        assert [file.name for file in folder.glob("*.pth")] == ["best.pth"]
    one = ["--var", 0.5, "--lr", 0.01, "--epochs", 1, "--workers", 1]
    result = run(*words(tiny_data, tmp_path, *one, "--no-keep_weights"))
    assert result.returncode == 0, result.stderr
    assert [row["status"] for row in rows_in(tmp_path)] == ["finished"]
    assert not list(tmp_path.rglob("*.pth")) and not list(tmp_path.rglob("recon.npy"))
    assert (tmp_path / "contact_sheet.png").is_file()


# ---------------------------------------------------------------- interrupted


def in_the_middle(folder: Path) -> str | None:
    """Return a running trial that is less than half done, once another trial is finished."""
    records = records_in(folder)
    if not any(record["status"] == "finished" for record in records.values()):
        return None
    for name, record in records.items():
        files = (folder / "trials" / name).glob("epoch_*.pth")
        reached = max((int(file.stem[6:]) for file in files), default=0)
        if record["status"] == "running" and 0 < reached < EPOCHS / 2:
            return name
    return None


def held(folder: Path) -> bool:
    """Whether a process runs any trial of the sweep."""
    for lock in folder.glob("trials/*/.lock"):
        try:
            FileLock(lock).acquire(timeout=0).lock.release()
        except Timeout:
            return True
    return False


@pytest.mark.skipif(os.name == "nt", reason="Windows sends Ctrl-C in another way")
def test_a_sweep_that_is_stopped_and_then_killed_continues_and_repeats_nothing(
    sweep_folder, tiny_data, tmp_path
):
    process = start(*words(tiny_data, tmp_path), start_new_session=True)
    wait_until((tmp_path / ".lock").exists)
    second = run(*words(tiny_data, tmp_path))
    assert_clear_error(second, f"in use by process {process.pid} on")
    wait_until(lambda: in_the_middle(tmp_path))
    assert not reachable_sockets(process)
    os.killpg(process.pid, signal.SIGINT)  # to every process of the job, as a terminal does
    stdout, stderr = process.communicate(timeout=120)
    assert process.returncode == 130, stderr
    assert "Traceback" not in stderr and "run the same command to continue" in stdout
    states = [row["status"] for row in rows_in(tmp_path)]
    assert set(states) <= {"finished", "interrupted", "waiting"} and "interrupted" in states
    assert list(tmp_path.glob("trials/*/interrupted.pth"))  # the last complete step

    process = start(*words(tiny_data, tmp_path))
    name = wait_until(lambda: in_the_middle(tmp_path))
    process.kill()
    process.communicate()
    wait_until(lambda: not held(tmp_path))  # the workers end with it
    before = records_in(tmp_path)
    done = [name for name, record in before.items() if record["status"] == "finished"]
    assert done and len(done) < 4
    log = (tmp_path / "trials" / name / "output.log").read_text()

    result = run(*words(tiny_data, tmp_path))
    assert result.returncode == 0, result.stderr
    assert figures_in(tmp_path) == figures_in(sweep_folder)
    after = records_in(tmp_path)
    assert all(after[name] == before[name] for name in done)
    added = (tmp_path / "trials" / name / "output.log").read_text()[len(log) :]
    assert "continuing after epoch" in added


# ---------------------------------------------------------------- on a cluster


@pytest.fixture
def cluster(tmp_path, monkeypatch):
    """A scheduler and two workers on loopback, each a process, set up as docs/cluster.md says."""
    if shutil.which("openssl") is None:
        pytest.skip("openssl, which makes the certificate, is not installed")
    document = (ROOT / "docs" / "cluster.md").read_text(encoding="utf-8")
    (make,) = re.findall("^openssl .*", document, re.M)
    subprocess.run(shlex.split(make), cwd=tmp_path, check=True, capture_output=True)
    for name, file in re.findall(r"^export (\w+)=\$PWD/(.*)", document, re.M):
        monkeypatch.setenv(name, str(tmp_path / file))  # the sweep inherits it
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    address = f"tls://127.0.0.1:{port}"
    worker = f"worker {address} --nthreads 1 --no-nanny --no-dashboard".split()
    scheduler = "scheduler --protocol tls --host 127.0.0.1 --no-dashboard --port"
    commands = [
        [*scheduler.split(), str(port)],
        worker,
        worker,
    ]
    logs = open(tmp_path / "cluster.log", "w")  # noqa: SIM115  closed below
    processes = [
        subprocess.Popen(
            [sys.executable, "-m", "dask", *command],
            env=environment,
            cwd=tmp_path,
            stdout=logs,
            stderr=logs,
        )
        for command in commands
    ]
    yield address, processes[1:], processes[0]
    for process in processes:
        process.kill()
        process.wait()
    logs.close()


def test_a_lost_worker_and_a_lost_scheduler_lose_nothing(
    cluster, sweep_folder, tiny_data, tmp_path
):
    address, workers, scheduler = cluster
    folder = tmp_path / "sweep"
    process = start(*words(tiny_data, folder, "--scheduler", address))
    name = wait_until(lambda: in_the_middle(folder))
    log = folder / "trials" / name / "output.log"
    before = log.read_text()
    pid = int(records_in(folder)[name]["process"].split(":")[1])
    (killed,) = (worker for worker in workers if worker.pid == pid)
    killed.kill()  # the other worker continues the trial, and does not start it again
    wait_until(lambda: "continuing after epoch" in log.read_text()[len(before) :])
    assert sum(worker.poll() is None for worker in workers) == 1

    scheduler.kill()
    stdout, stderr = process.communicate(timeout=120)
    result = subprocess.CompletedProcess("sweep.py", process.returncode, stdout, stderr)
    assert_clear_error(result, "connection to the cluster's scheduler was lost", "the same command")
    wait_until(lambda: not held(folder))
    assert run(*words(tiny_data, folder)).returncode == 0
    assert figures_in(folder) == figures_in(sweep_folder)


def test_workers_that_cannot_find_the_lab_are_a_clear_error(tiny_data, tmp_path):
    code = "from distributed import LocalCluster\nif __name__ == '__main__':\n"
    code += (
        "    with LocalCluster(n_workers=1, threads_per_worker=1, dashboard_address=None) as c:\n"
    )
    code += "        print(c.scheduler_address, flush=True)\n        input()\n"
    (tmp_path / "elsewhere.py").write_text(code)
    other = subprocess.Popen(
        [sys.executable, "elsewhere.py"],
        cwd=tmp_path,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    address = other.stdout.readline().strip()
    scheduler = ["--scheduler", address, "--insecure-scheduler"]
    result = run(*words(tiny_data, tmp_path / "s", *scheduler))
    other.communicate("\n")
    assert_clear_error(result, "PYTHONPATH")


def test_no_scheduler_is_a_clear_error(tiny_data, tmp_path):
    scheduler = ["--scheduler", "tcp://127.0.0.1:9", "--insecure-scheduler"]
    result = run(*words(tiny_data, tmp_path, *scheduler))
    assert_clear_error(result, "no Dask scheduler answers", "dask scheduler")


def test_a_scheduler_without_tls_or_certificate_is_refused():
    with (
        pytest.raises(clusters.ClusterError, match=r"not a tls:// address.*docs/cluster\.md"),
        clusters.scheduler_at("tcp://127.0.0.1:9"),
    ):
        pass
    with (
        pytest.raises(clusters.ClusterError, match=r"name no certificate.*docs/cluster\.md"),
        clusters.scheduler_at("tls://127.0.0.1:9"),
    ):
        pass


def test_a_worker_sees_its_gpu_also_after_it_is_started_again():
    with local_workers(2, [{"GPU": "a"}, {"GPU": "b"}]) as two:
        for _ in range(2):
            gpus = [two.submit(os.getenv, "GPU").result() for _ in range(2)]  # in turn
            assert sorted(gpus) == ["a", "b"]
            os.kill(two.submit(os.getpid).result(), KILL)  # started again, it sees the same


def test_workers_leave_no_semaphores_behind(tmp_path):
    """Workers that printed are killed at the end; Python then warns of what they left."""
    code = """from lab.workers import local_workers
from tqdm import tqdm

if __name__ == "__main__":
    with local_workers(1) as workers:
        workers.submit(tqdm.write, "word").result()
"""
    (tmp_path / "tiny.py").write_text(code, encoding="utf-8")
    done = subprocess.run(
        [sys.executable, tmp_path / "tiny.py"],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "word\n", "")


@pytest.mark.parametrize(
    ("given", "workers", "gpus_seen"),
    [({}, 2, ["0", "1"]), ({"trials_per_gpu": 3}, 6, ["0", "1"]), ({"workers": 5}, 5, ["0", "1"])],
)
def test_gpus_are_shared_as_asked(given, workers, gpus_seen, monkeypatch):
    started = []

    @contextmanager
    def local_workers(count, environments):
        started.append((count, [one["CUDA_VISIBLE_DEVICES"] for one in environments]))
        yield "workers"

    monkeypatch.setattr("sweeps.workers._gpus", lambda: ["0", "1"])
    monkeypatch.setattr("sweeps.workers.local_workers", local_workers)
    options = {"scheduler": None, "workers": None, "trials_per_gpu": None, **given}
    with workers_for(options, trials=100, device="cuda") as (found, threads):
        assert found == "workers" and threads >= 1
    assert started == [(workers, gpus_seen)]


# ---------------------------------------------------------------- failures


def test_a_failed_trial_is_recorded_and_can_be_run_again(tiny_data, tmp_path, monkeypatch):
    mark = tmp_path / "all_is_fine"
    monkeypatch.setenv("ALL_IS_FINE", str(mark))
    data = ["--train_data", tiny_data, "--valid_data", tiny_data, "--epochs", 1]
    folder = tmp_path / "sweep"
    asked = ["sweep.py", "--submission", SUBMISSIONS / "fails_sometimes.py", *data]
    asked += ["--save_dir", folder, "--latent_dim", 3, 7, 6, 5]

    result = run(*asked)
    assert result.returncode == 1 and "2 of 4 trials failed" in result.stdout, result.stderr
    rows = {row["latent_dim"]: row for row in rows_in(folder)}
    assert rows["7"]["status"] == "failed" and "seven is too many" in rows["7"]["error"]
    assert rows["6"]["status"] == "failed" and "its worker died" in rows["6"]["error"]
    assert rows["3"]["status"] == rows["5"]["status"] == "finished"
    assert "built with 5" not in result.stdout + result.stderr  # only in the trial's output.log
    assert "built with 5" in (folder / "trials" / rows["5"]["trial"] / "output.log").read_text()
    for name in ("curve.png", "pareto.png", "contact_sheet.png"):
        assert (folder / name).is_file()

    mark.touch()
    before = records_in(folder)
    assert run(*asked).returncode == 1  # without --retry-failed, a failed trial is not run again
    assert records_in(folder) == before
    assert run(*asked, "--retry-failed").returncode == 0
    after = records_in(folder)
    for latent_dim, row in rows.items():
        assert after[row["trial"]]["status"] == "finished"
        assert (after[row["trial"]] == before[row["trial"]]) == (latent_dim in "35")


def test_trials_of_changed_code_are_not_in_one_table(tiny_data, tmp_path):
    mine = tmp_path / "mine.py"
    mine.write_bytes((ROOT / "model.py").read_bytes())
    data = ["--train_data", tiny_data, "--valid_data", tiny_data, "--epochs", 1]
    asked = ["sweep.py", "--submission", mine, *data, "--save_dir", tmp_path / "s"]
    asked += ["--var", 0.5, "--lr", 0.01]
    assert run(*asked).returncode == 0
    before = records_in(tmp_path / "s")
    mine.write_bytes((ROOT / "model.py").read_bytes() + b"\n# changed\n")
    assert_clear_error(run(*asked), "not the code of the trials", "--overwrite")
    assert records_in(tmp_path / "s") == before
    assert run(*asked, "--overwrite").returncode == 0
    (changed,) = records_in(tmp_path / "s").values()
    assert changed["submission_sha256"] != next(iter(before.values()))["submission_sha256"]


@pytest.mark.parametrize(
    ("options", "mention"),
    [
        ("--lr 0.1 -1", "lr is -1"),
        ("--epochs 0", "epochs is 0"),
        ("--trials 3", "--search tpe"),
        ("--search tpe --var 0.5 --lr 0.1", "two values"),
        ("--search tpe --trials 0", "--trials is 0"),
        ("--search tpe --task VAEwolabel Genwithlabel", "one --task"),
        ("--trials_per_gpu 2 --device cpu", "no GPU"),
        ("--workers 0", "--workers is 0"),
        ("--scheduler tcp://127.0.0.1:9 --workers 2", "--workers is for this machine"),
        ("--valid_data dataset/test", "must not use the test split"),
        ("--submission nowhere.py", "nowhere.py does not exist"),
        ("--train_data nowhere", "nowhere"),
        ("--latent_dim 20 785", "latent_dim is 785"),
        ("--train_data dataset/test", "must not use the test split"),
    ],
)
def test_wrong_options_are_one_sentence(options, mention, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(ROOT)
    monkeypatch.setattr(sys, "argv", ["sweep.py", *options.split(), "--save_dir", f"{tmp_path}/s"])
    with pytest.raises(SystemExit) as ended:
        sweep.main()
    stdout, stderr = capsys.readouterr()
    result = subprocess.CompletedProcess("sweep.py", ended.value.code, stdout, stderr)
    assert_clear_error(result, mention)
    assert not (tmp_path / "s" / "trials").exists()


def test_without_dask_the_error_says_what_to_install(tmp_path):
    code = "import sys, runpy; sys.modules['distributed'] = None; sys.argv = ['sweep.py'];"
    code += "runpy.run_path('sweep.py', run_name='__main__')"
    result = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=120
    )
    assert_clear_error(result, "pip install -r requirements/sweep.txt")


@pytest.mark.skipif(os.name == "nt", reason="bash")
def test_run_sweep_sh_runs_sweep_py():
    result = subprocess.run(
        ["bash", "run_sweep.sh", "--trials", "three"], cwd=ROOT, capture_output=True, text=True
    )
    assert_clear_error(result, "--trials: invalid int value: 'three'")
    assert os.access(ROOT / "run_sweep.sh", os.X_OK)


# ---------------------------------------------------------------- which trials


def values_of(*typed: str) -> dict[str, list]:
    parser = sweep.make_parser()
    options = vars(parser.parse_args([word for text in typed for word in text.split()]))
    names = {word[2:] for text in typed for word in text.split() if word.startswith("--")}
    return plan.chosen_values(options, names)


def test_the_default_is_the_grid_of_var_and_lr():
    values = values_of()
    assert values["var"] == [0.5, 0.25, 0.22, 0.2] and values["lr"] == [1e-3, 2e-3, 5e-3, 6e-3]
    assert values["latent_dim"] == [20] and values["task"] == ["VAEwolabel"]


def test_given_values_replace_the_grid():
    assert values_of("--var 0.3")["var"] == [0.3] and len(values_of("--var 0.3")["lr"]) == 4
    several = values_of("--var 0.5 0.25 --latent_dim 10 20 30 --seed 1 2")
    sizes = {name: len(given) for name, given in several.items() if len(given) > 1}
    assert sizes == {"var": 2, "latent_dim": 3, "seed": 2}
    preset = values_of("--preset latent --task Genwithlabel")
    assert preset["latent_dim"] == [10, 20, 30] and preset["var"] == [0.5]
    assert values_of("--preset var --var 0.1")["var"] == [0.1]


def make_trial(one_each: dict) -> trial.Trial:
    paths = {name: Path(one_each[name]) for name in trial.PATHS}
    return trial.Trial({**one_each, **paths}, Path("/sweep"), Path("/"), Path("/code.py"))


def test_a_grid_is_every_combination_once():
    values = values_of("--var 0.5 0.1 0.5 --lr 0.01 0.02 --seed 1 2")
    grid = search.Grid(values, make_trial)
    found = [(t.options["var"], t.options["lr"], t.options["seed"]) for t in grid]
    assert len(found) == len(set(found)) == len(grid) == 8
    assert grid.names == ["lr", "var", "seed"]


@settings(max_examples=50)
@given(
    st.floats(1e-6, 10), st.floats(1e-6, 10), st.integers(1, 784), st.sampled_from(["a.py", "b.py"])
)
def test_a_trial_is_named_by_all_of_its_options(var, lr, latent_dim, submission):
    values = {name: given[0] for name, given in values_of().items()}
    changed = values | {"var": var, "lr": lr, "latent_dim": latent_dim}
    changed["submission"] = Path(submission)
    assert make_trial(changed).name == make_trial(dict(reversed(changed.items()))).name
    for name, other in (("var", var * 1.0001), ("eval_num", 7), ("precision", "fp32")):
        assert make_trial(changed | {name: other}).name != make_trial(changed).name
    assert re.fullmatch(r"[\w.+-]{1,120}", make_trial(changed).name)


def finished(raw: float) -> dict:
    return {"status": "finished", "raw": raw}


def score(one: trial.Trial) -> float:
    """A function with its maximum at var 0.02 and 24 dimensions."""
    return -abs(np.log(one.options["var"] / 0.02)) - 0.02 * abs(one.options["latent_dim"] - 24)


def test_tpe_searches_between_the_values_and_learns():
    values = values_of("--var 0.001 1 --latent_dim 2 60 --lr_schedule cosine constant")
    tpe = search.Tpe(values, make_trial, 60, [])
    scores = []
    for one in tpe:
        assert 0.001 <= one.options["var"] <= 1 and 2 <= one.options["latent_dim"] <= 60
        assert one.options["var"] == float(f"{one.options['var']:.3g}")
        assert one.options["lr_schedule"] in ("cosine", "constant")
        scores.append(score(one))
        tpe.tell(one, finished(scores[-1]))
    assert len(scores) == len(tpe.trials) == 60
    assert np.mean(scores[-20:]) > np.mean(scores[:10]) + 0.5


def test_tpe_continues_from_known_trials():
    values = values_of("--var 0.001 1 --latent_dim 2 60")
    first = search.Tpe(values, make_trial, 12, [])
    known = []
    for one in first:
        first.tell(one, finished(score(one)))
        known.append((one, finished(score(one))))
    elsewhere = make_trial({name: given[0] for name, given in values.items()} | {"var": 5.0})
    again = search.Tpe(values, make_trial, 16, [*known, (elsewhere, finished(100))])
    assert list(again.trials) == [one.name for one, _ in known]
    picked = [one for one in again]
    assert len(picked) == 16 and len({one.name for one in picked}) == 16
    assert again.study.best_value == max(score(one) for one, _ in known)


def test_tpe_ends_when_all_combinations_were_tried():
    values = values_of("--lr_schedule cosine constant --precision fp32 bf16")
    tpe = search.Tpe(values, make_trial, 40, [])
    for one in tpe:
        tpe.tell(one, {"status": "failed"})
    assert len(tpe.trials) == 4


def test_a_search_runs_and_continues(tiny_data, tmp_path):
    data = ["--train_data", tiny_data, "--valid_data", tiny_data, "--epochs", 1]
    asked = ["sweep.py", "--submission", "model.py", *data, "--save_dir", tmp_path / "s"]
    asked += ["--search", "tpe", "--var", 0.01, 1, "--lr", 1e-3, 1e-2, "--workers", 1, "--trials"]
    result = run(*asked, 2)
    assert result.returncode == 0, result.stderr
    first = records_in(tmp_path / "s")
    assert run(*asked, 3).returncode == 0
    second = records_in(tmp_path / "s")
    assert len(first) == 2 and len(second) == len(rows_in(tmp_path / "s")) == 3
    assert all(second[name] == record for name, record in first.items())
    assert all(0.01 <= record["options"]["var"] <= 1 for record in second.values())
    assert Image.open(tmp_path / "s" / "heatmap.png").size[0] > 400


# ---------------------------------------------------------------- time and disk space


def test_expected_seconds_include_the_time_outside_epochs():
    timed = [{"epoch_seconds": 2.0, "epochs_done": 1, "total_seconds": 5.0}]
    assert estimate.expected_seconds([10] * 8, timed, at_once=2) == 8 * (10 * 2 + 3) / 2
    assert estimate.expected_seconds([10], timed, at_once=16) == 23
    assert estimate.expected_seconds([10] * 8, [], at_once=2) == 0


def test_a_disk_that_is_too_small_is_a_clear_error(tiny_data, tmp_path, monkeypatch, capsys):
    values = values_of(f"--train_data {tiny_data} --valid_data {tiny_data}")
    grid = search.Grid(
        values,
        lambda one: trial.Trial(
            one | {name: Path(one[name]) for name in trial.PATHS}, tmp_path, ROOT, ROOT / "model.py"
        ),
    )
    runner = Sweep(grid, {}, tmp_path)
    first = next(iter(grid))
    first.folder.mkdir(parents=True)
    (first.folder / "epoch_1.pth").write_bytes(bytes(10_000_000))
    usage = type("usage", (), {"free": 100_000_000})
    monkeypatch.setattr("sweeps.runner.shutil.disk_usage", lambda folder: usage)
    with pytest.raises(
        plan.SweepError, match=r"room for 0\.1 GB and the sweep needs about 0\.3 GB"
    ):
        runner._announce(first, at_once=1)
    usage.free = 10_000_000_000
    runner._announce(first, at_once=1)
    assert "16 trials to run, 1 at once" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("seconds", "words"),
    [(3, "3 s"), (300, "5 min"), (7200, "2.0 h"), (864000, "10.0 days")],
)
def test_in_words(seconds, words):
    assert estimate.in_words(seconds) == words


# ---------------------------------------------------------------- pictures


def drawn(draw, *arguments) -> tuple[int, int]:
    file = io.BytesIO()
    draw(file, *arguments)
    picture = Image.open(file)
    assert np.asarray(picture.convert("L")).std() > 5
    return picture.size


def scored(**options) -> dict:
    """A row as report.over_seeds returns it."""
    row = {"n": 1, **options}
    for name in ("raw", "ssim", "mse"):
        row |= {name: row.get(name, 0.5), f"{name}_spread": 0.0}
    return row


def test_over_seeds_means_and_spreads():
    rows = [
        {"var": 0.5, "seed": 1, "ssim": 0.8, "mse": 0.1, "fid": None, "raw": 9.0, "score": 9.0},
        {"var": 0.5, "seed": 2, "ssim": 0.9, "mse": 0.2, "fid": None, "raw": 11.0, "score": 10.0},
        {"var": 0.1, "seed": 1, "ssim": 0.7, "mse": 0.3, "fid": None, "raw": 8.0, "score": 8.0},
    ]
    first, second = report.over_seeds(rows, ["var"])
    assert (first["var"], first["n"], first["raw"]) == (0.5, 2, 10.0)
    assert first["raw_spread"] == pytest.approx(2**0.5) and "fid" not in first
    assert (second["n"], second["raw"], second["raw_spread"]) == (1, 8.0, 0.0)
    for row in rows:
        row |= {"status": "finished", "task": "VAEwolabel", "trial": f"t{row['seed']}"}
    table = report.main_table(rows, ["var", "seed"])
    assert re.search(r"\| 0.5 +\| 2 \| 0.8500 ± 0.0707 .* 10.0000 ± 1.4142", table)
    (best,) = report.best_of(rows, ["var", "seed"])
    assert best["label"] == "var 0.5 (mean of 2 seeds)" and best["trial"] == "t2"


def test_pictures_are_drawn_for_every_kind_of_sweep():
    grid = [scored(var=v, lr=r, raw=v + r) for v in (0.5, 0.25) for r in (1e-3, 5e-3)]
    width, height = drawn(pictures.heatmap, grid, grid[:3], [])  # one trial has no score
    assert width > height > 200
    wide = [scored(var=v, lr=v / 100, raw=v) for v in (0.01, 0.1, 0.3, 0.5, 1.0)]
    drawn(pictures.heatmap, wide, wide, ["latent_dim"])  # a search: dots
    drawn(pictures.curve, [scored(lr=r) for r in (1e-4, 1e-3, 1e-2)], "lr")
    drawn(pictures.curve, [scored(submission=s) for s in ("a.py", "b.py")], "submission")
    drawn(pictures.pareto, [scored(latent_dim=d, raw=10 - d / 10) for d in (10, 20, 30)])
    samples = np.random.default_rng(0).integers(0, 256, (10, 28, 28), dtype=np.uint8)
    tiles = {(0.5, 1e-3): samples, (0.25, 5e-3): samples}  # the other two tiles are grey
    matrix = drawn(pictures.matrix, "Samples", tiles, "var", "lr", report.word)
    assert matrix[0] > 2 * 5 * 28 * 2
    drawn(pictures.rows_of_images, "Samples", [samples] * 3, ["a", "b", "c"], 2)


@pytest.mark.parametrize(
    "name, values, texts",
    [
        ("latent_dim", (2, 10, 20), ["2", "10", "20"]),
        ("lr", (1e-4, 1e-3, 1e-2), ["0.0001", "0.001", "0.01"]),
        ("batch_size", (64, 128, 130, 256), ["64", "128", "256"]),
        ("seed", tuple(range(1, 1000)), ["1", "3", "7", "16", "35", "76", "164", "354", "763"]),
        ("submission", ("a.py", "b.py"), ["a.py", "b.py"]),
    ],
)
def test_the_values_of_a_sweep_are_the_ticks_of_its_curve(monkeypatch, name, values, texts):
    figures = []
    made = pictures.plots.figure
    monkeypatch.setattr(
        pictures.plots, "figure", lambda *size: figures.append(made(*size)) or figures[0]
    )
    drawn(pictures.curve, [scored(**{name: value}) for value in values], name)
    for axes in figures[0].axes:
        assert [tick.get_text() for tick in axes.get_xticklabels()] == texts
        assert not axes.get_xticklabels(minor=True)
