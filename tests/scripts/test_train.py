"""The command line, driven as a user does."""

import json
import os
import re
import runpy
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from mortal import Nursery
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from bp_torch.dashboard import tags

SCRIPT = Path(__file__).parents[2] / "scripts" / "train.py"
QUICK = ("--data", "digits", "--epochs", "2", "--batch-size", "2000", "--compare-every", "5")


def run(*arguments: str, cwd: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, str(SCRIPT), *arguments],
        cwd=cwd,
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, subprocess.CompletedProcess[str]]:
    folder = tmp_path_factory.mktemp("finished")
    return folder, run(*QUICK, "--run-name", "first", cwd=folder)


def events(folder: Path) -> EventAccumulator:
    accumulator = EventAccumulator(str(folder), size_guidance={"scalars": 0, "tensors": 0})
    accumulator.Reload()
    return accumulator


def test_a_run_says_what_it_did(finished: tuple[Path, subprocess.CompletedProcess[str]]) -> None:
    _, done = finished
    assert done.returncode == 0, done.stderr
    said = done.stderr.splitlines()
    assert said[:2] == ["data: Digits drawn by bp_torch in the manner of MNIST", "step 0 of 20; time left: unknown"]
    last = r"step 20 of 20, cost \d\.\d+, gradients agree 120/120, test accuracy \d+\.\d+%; time left: 0:00:00"
    assert re.fullmatch(last, said[-1])
    for said in ("120 of 120 comparisons with autograd agree", "tensorboard --logdir runs", "logging", "checkpoints"):
        assert said in done.stdout


def test_a_run_leaves_its_files(finished: tuple[Path, subprocess.CompletedProcess[str]]) -> None:
    folder = finished[0] / "runs" / "first"
    summary = json.loads((folder / "summary.json").read_text())
    assert set(summary) >= {
        "data", "test_accuracy", "train_accuracy", "train_cost", "epochs", "steps", "seconds", "examples_per_second",
        "backend", "gradient_checks", "gradient_checks_passed", "worst_gradient_ratio", "torch",
    }  # fmt: skip
    assert (summary["data"], summary["epochs"], summary["steps"], summary["backend"]) == ("digits", 2, 20, "functions")
    assert summary["gradient_checks"] == summary["gradient_checks_passed"] == 120
    config = json.loads((folder / "config.json").read_text())
    assert (config["data"], config["batch_size"], config["hidden"]) == ("digits", 2000, [16, 16])
    assert "Digits drawn" in config["data_origin"]
    checkpoint = torch.load(folder / "checkpoint.pt", weights_only=True)
    assert checkpoint["epoch"] == 2
    assert not [path for path in folder.iterdir() if path.name.endswith(".new")]


def test_the_curves_can_be_read_back(finished: tuple[Path, subprocess.CompletedProcess[str]]) -> None:
    folder = finished[0] / "runs" / "first"
    board, summary = events(folder), json.loads((folder / "summary.json").read_text())
    groups = {tag.partition("/")[0] for tag in board.Tags()["scalars"]}
    assert {"learning", "agreement", "health"} <= groups
    last = board.Scalars(tags.TEST_ACCURACY)[-1]
    assert (last.step, last.value) == (19, pytest.approx(summary["test_accuracy"]))
    assert set(board.Tags()["images"]) == {tags.FIRST_WEIGHTS, tags.WORST_DIGITS, tags.NUDGES}
    assert {tags.weights("0.weight"), tags.RUN_START} <= set(board.Tags()["tensors"])
    assert [frame.step for frame in board.Tensors(tags.FRAME)] == list(range(20)), "60 would be taken of a longer run"


def test_stopped_and_gone_on_with(finished: tuple[Path, subprocess.CompletedProcess[str]], tmp_path: Path) -> None:
    """By SIGTERM: the same parameters bit for bit, no step twice or missing."""
    unbroken, broken = finished[0] / "runs" / "first", tmp_path / "runs" / "broken"
    command = [sys.executable, str(SCRIPT), *QUICK, "--run-name", "broken", "--checkpoint-seconds", "0"]
    process = subprocess.Popen(command, cwd=tmp_path, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
    while not (broken / "checkpoint.pt").exists():
        assert process.poll() is None
        time.sleep(0.02)
    process.terminate()
    _, said = process.communicate(timeout=120)
    assert process.returncode == 143
    assert re.fullmatch(r"stopped by SIGTERM after \d+ of 20 steps; go on with --resume broken", said.splitlines()[-1])
    resumed = run("--resume", "broken", "--quiet", cwd=tmp_path)
    assert resumed.returncode == 0, resumed.stderr
    assert resumed.stderr == "data: Digits drawn by bp_torch in the manner of MNIST\n"
    assert "120 of 120 comparisons" in resumed.stdout  # those before the break are not forgotten
    first, second = (torch.load(run / "checkpoint.pt", weights_only=True) for run in (unbroken, broken))
    assert first["epoch"] == second["epoch"] == 2
    assert first["comparisons"] == second["comparisons"] == 120
    for name, parameter in first["parameters"].items():
        assert torch.equal(parameter, second["parameters"][name])
    boards = (events(unbroken), events(broken))
    steps = [{tag: [e.step for e in board.Scalars(tag)] for tag in board.Tags()["scalars"]} for board in boards]
    assert steps[0] == steps[1]


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (("--bogus", "1"), "--bogus"),
        (("stray",), "stray"),
        (("--data", "cifar"), "--data"),
        (("--learning-rate", "fast"), "--learning-rate"),
        (("--learning-rate", "-1"), "--learning-rate"),
        (("--hidden", "16", "0"), "--hidden"),
        (("--batch-size", "0"), "--batch-size"),
        (("--frames", "-1"), "--frames"),
        (("--device", "abacus"), "--device"),
        (("--run-name", "a/b"), "--run-name"),
        (("--device", "meta"), "--device"),
        (("--seed", str(2**64)), "--seed"),
        (("--batch-size", str(10**21)), "--batch-size"),
        (("--resume", "nothing"), "there is no"),
        (("--replay", "nothing"), "there is no"),
        (("--replay", "a", "--resume", "b"), "--resume goes without --replay"),
        (("--checkpoint-seconds", "-1"), "--checkpoint-seconds"),
        (("--hidden", "100000", "100000"), "100,000,000 are the most"),
        (("--data", "digits", "--runs-dir", "occupied"), "occupied"),
        (("--data", "mnist", "--mnist-source", "nowhere"), "nowhere"),
        (("--data", "mnist", "--mnist-source", "."), "train-images-idx3-ubyte.gz"),
    ],
)
def test_bad_input_gets_one_line_and_changes_nothing(
    tmp_path: Path,
    arguments: tuple[str, ...],
    says: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Asked in this process, which has torch already."""
    (tmp_path / "occupied").write_text("a file, not a folder")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", [str(SCRIPT), *arguments])
    with pytest.raises(SystemExit) as stopped:
        runpy.run_path(str(SCRIPT), run_name="__main__")
    said = capsys.readouterr()
    assert stopped.value.code == 2
    assert len(said.err.strip().splitlines()) == 1
    assert said.err.startswith("error: ")
    assert says in said.err
    assert not said.out
    assert not (tmp_path / "runs").exists()


def test_a_run_of_that_name_is_refused_or_overwritten(nursery: Nursery) -> None:
    assert nursery.train(*QUICK, "--run-name", "once") == 0
    files = [path for path in (nursery.folder / "runs" / "once").rglob("*") if path.is_file()]
    before = {path: path.read_bytes() for path in files}
    for flags, says in (
        ((*QUICK, "--run-name", "once"), "error: run 'once' exists"),
        (("--resume", "once"), "all of its 2 epochs are done"),
        (("--resume", "once", "--epochs", "9"), "--epochs 9 does not fit"),
        (("--replay", "once"), "it did not end by a number that is not finite"),
    ):
        assert nursery.train(*flags) == 2
        assert says in nursery.said()
        assert nursery.said().count("\n") == 1
    assert before == {path: path.read_bytes() for path in files}
    assert nursery.train(*QUICK, "--run-name", "once", "--overwrite") == 0
    assert before != {path: path.read_bytes() for path in files if path.exists()}


@pytest.mark.skipif(not Path("/proc/self/maps").exists(), reason="what a process has loaded cannot be seen here")
def test_ctrl_c_while_torch_is_imported_is_answered_in_a_word(tmp_path: Path) -> None:
    early = subprocess.Popen(
        [sys.executable, str(SCRIPT)], cwd=tmp_path, stderr=subprocess.PIPE, text=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),  # which a shell's background has off
    )  # fmt: skip
    while "libtorch" not in Path(f"/proc/{early.pid}/maps").read_text():
        time.sleep(0.01)
    early.send_signal(signal.SIGINT)
    assert early.communicate(timeout=60)[1].strip() == "interrupted"
    assert early.returncode == -signal.SIGINT
    assert not list(tmp_path.iterdir())


def test_a_wrong_equation_ends_with_status_1_and_says_where(tmp_path: Path) -> None:
    plant = (
        "import sys; from bp_torch.functional.linear import Linear\n"
        "right = Linear.backward\n"
        "def wrong(ctx, grad_output):\n"
        "    grad_input, grad_weight, grad_bias = right(ctx, grad_output)\n"
        "    return grad_input, grad_weight, None if grad_bias is None else 1.001 * grad_bias\n"
        "Linear.backward = staticmethod(wrong)\n"
        f"sys.path.insert(0, {str(SCRIPT.parent)!r}); import train; from bp_torch import cli; cli.run(train.main)"
    )
    command = [sys.executable, "-c", plant, *QUICK, "--frames", "0"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False, timeout=120)
    assert done.returncode == 1
    assert "step 0: 4.bias[" in done.stderr
    assert "WRONG EQUATION: hand-written" in done.stderr
    assert "12 of 24 comparisons" in done.stdout


WILD = ("--activation", "relu", "--cost", "cross_entropy", "--learning-rate", "1e30")


def test_an_infinite_cost_ends_in_one_line_and_can_be_replayed(nursery: Nursery) -> None:
    assert nursery.train(*QUICK, *WILD, "--batch-size", "100", "--run-name", "x") == 1
    (line,) = [line for line in nursery.said().splitlines() if line.startswith("error: ")]
    assert line.startswith("error: the cost is not finite: nan, first in the output of layer 2 (Linear), at step 1 (")
    assert line.endswith("look at it by --replay x")
    assert "Traceback" not in nursery.said()
    board = events(nursery.folder / "runs" / "x")
    assert board.Tags()["scalars"]
    assert [event.step for event in board.Tensors(tags.RUN_FAILURE)] == [1]
    kept = (nursery.folder / "runs" / "x" / "failure.pt").read_bytes()
    assert nursery.train("--replay", "x") == 1, "it is so again"
    told = (nursery.folder / "stdout0").read_text()
    where = "first in the output of layer 2 (Linear)"
    assert told.startswith(f"at step 1: the cost is not finite: nan, {where}\nexamples ")
    assert f"\nnow: {where}\n" in told
    assert " and 80 more\n" in told
    assert "\n-> output of layer 2 (Linear)" in told
    (nursery.folder / "runs" / "x" / "failure.pt").write_bytes(kept[:-1000])
    assert nursery.train("--replay", "x") == 2
    assert nursery.said().startswith("error: cannot read run 'x': its failure.pt is damaged")


def test_a_plain_terminal_gets_one_line_too(tmp_path: Path) -> None:
    done = run("--learning-rate", "-1", cwd=tmp_path, PYTHONIOENCODING="ascii")
    assert done.stderr == "error: --learning-rate must be a positive number, got -1.0\n"


def test_a_cost_infinite_at_the_end_is_no_success(nursery: Nursery) -> None:
    """One step, after which only the whole sets show what it did."""
    flags = ("--data", "digits", "--epochs", "1", "--batch-size", "1000", "--run-name", "one_step")
    assert nursery.train(*flags, *WILD) == 1
    assert "error: the cost over a whole set is not finite, first in the" in nursery.said()
    assert not (nursery.folder / "runs" / "one_step" / "checkpoint.pt").exists(), "nothing of it is worth keeping"
    assert nursery.train("--replay", "one_step") == 1, nursery.said()
    assert (nursery.folder / "stdout0").read_text().startswith("at step 0: the cost over a whole set is not finite")
    assert nursery.train("--resume", "one_step") == 2
    assert "no checkpoint that can be read, but failure.pt" in nursery.said()


def test_help_names_every_flag(nursery: Nursery) -> None:
    assert nursery.train("--help") == 0
    told = (nursery.folder / "stdout0").read_text()
    for flag in (
        "--data", "--data-root", "--mnist-source", "--hidden", "--activation", "--cost", "--batch-size",
        "--learning-rate", "--epochs", "--seed", "--backend", "--compare-every", "--frames", "--runs-dir", "--run-name",
        "--resume", "--replay", "--checkpoint-seconds", "--quiet", "--device", "--threads",
    ):  # fmt: skip
        assert flag in told
