"""The command line, driven as a user does."""

import io
import json
import os
import re
import runpy
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import torch
from killable import TrainingServer, wait_for
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from torch import Tensor

from bp_torch.dashboard import tags
from bp_torch.data import Dataset
from bp_torch.functional.linear import Linear
from bp_torch.nn import ACTIVATIONS
from bp_torch.training.backends import COSTS
from bp_torch.training.state import run
from bp_torch.training.state.run_dir import unpack

SCRIPT = Path(__file__).parents[2] / "scripts" / "train.py"
QUICK = ("--data", "digits", "--epochs", "2", "--batch-size", "2000", "--compare-every", "5")


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, subprocess.CompletedProcess[str]]:
    folder = tmp_path_factory.mktemp("finished")
    flags = ("--data", "digits", "--epochs", "1", "--batch-size", "2000", "--compare-every", "5")
    command = [sys.executable, str(SCRIPT), *flags, "--run-name", "first"]
    return folder, subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False, timeout=240)


def events(folder: Path) -> EventAccumulator:
    accumulator = EventAccumulator(str(folder), size_guidance={"scalars": 0, "tensors": 0})
    accumulator.Reload()
    return accumulator


def test_a_run_says_what_it_did(finished: tuple[Path, subprocess.CompletedProcess[str]]) -> None:
    _, done = finished
    assert done.returncode == 0, done.stderr
    said = done.stderr.splitlines()
    assert said[:2] == ["data: Digits drawn by bp_torch in the manner of MNIST", "step 0 of 10; time left: ?"]
    last = (
        r"step 10 of 10, epoch=1 of 1, gradients agree=60/60, cost=\d\.\d+, test accuracy=\d+\.\d+%; time left: 00:00"
    )
    assert re.fullmatch(last, said[-1])
    for said in (
        "60 of 60 comparisons with autograd agree",
        "tensorboard --logdir runs, then open http://localhost:6006/#backprop",
        "logging",
        "checkpoints",
    ):
        assert said in done.stdout


def test_a_run_leaves_its_files(finished: tuple[Path, subprocess.CompletedProcess[str]]) -> None:
    folder = finished[0] / "runs" / "first"
    summary = json.loads((folder / "summary.json").read_text())
    assert set(summary) >= {
        "data", "test_accuracy", "train_accuracy", "train_cost", "epochs", "steps", "seconds", "examples_per_second",
        "backend", "gradient_checks", "gradient_checks_passed", "worst_gradient_ratio", "torch",
    }  # fmt: skip
    assert (summary["data"], summary["epochs"], summary["steps"], summary["backend"]) == ("digits", 1, 10, "functions")
    assert summary["gradient_checks"] == summary["gradient_checks_passed"] == 60
    config = json.loads((folder / "config.json").read_text())
    assert (config["data"], config["batch_size"], config["hidden"]) == ("digits", 2000, [16, 16])
    assert "Digits drawn" in config["data_origin"]
    assert unpack((folder / "checkpoint.safetensors").read_bytes()).values["step"] == 10
    assert not [path for path in folder.iterdir() if path.name.endswith(".new")]


def test_the_curves_can_be_read_back(finished: tuple[Path, subprocess.CompletedProcess[str]]) -> None:
    folder = finished[0] / "runs" / "first"
    board, summary = events(folder), json.loads((folder / "summary.json").read_text())
    groups = {tag.partition("/")[0] for tag in board.Tags()["scalars"]}
    assert {"learning", "agreement", "health"} <= groups
    last = board.Scalars(tags.TEST_ACCURACY)[-1]
    assert (last.step, last.value) == (9, pytest.approx(summary["test_accuracy"]))
    assert set(board.Tags()["images"]) == {tags.FIRST_WEIGHTS, tags.WORST_DIGITS, tags.NUDGES}
    assert {tags.weights("hidden1.weight"), tags.RUN_START} <= set(board.Tags()["tensors"])
    assert [frame.step for frame in board.Tensors(tags.FRAME)] == list(range(10)), "60 would be taken of a longer run"


def test_stopped_and_resumed(server: TrainingServer) -> None:
    """By SIGTERM: the same parameters bit for bit, no step twice or missing."""
    flags = ("--data", "digits", "--epochs", "2", "--compare-every", "5", "--frames", "0")
    assert server.train(*flags, "--run-name", "unbroken") == 0
    (pid,) = server.begin(*flags, "--run-name", "broken", hold=8)
    server.wait_for_hold()
    os.kill(pid, signal.SIGTERM)
    wait_for(server.folder / "received")
    server.proceed()
    assert server.end() == [143]
    assert (
        server.printed().splitlines()[-1]
        == f"stopped by SIGTERM after 8 of 20 steps; resume with: {server.program} --resume broken"
    )
    assert server.train("--resume", "broken", "--quiet") == 0, server.printed()
    assert server.printed() == "data: a thousand digits\n"
    printed = (server.folder / "stdout0").read_text()
    assert "24 of 24 comparisons" in printed  # those before the break are not forgotten
    unbroken, broken = (server.folder / "runs" / name for name in ("unbroken", "broken"))
    first, second = (unpack((run / "checkpoint.safetensors").read_bytes()) for run in (unbroken, broken))
    assert first.values["step"] == second.values["step"] == 20
    assert first.values["gradient_checks"] == second.values["gradient_checks"] == 24
    for name, tensor in first.tensors.items():
        assert torch.equal(tensor, second.tensors[name])
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
        (("--replay", "a", "--resume", "b"), "--resume and --replay exclude each other"),
        (("--checkpoint-seconds", "-1"), "--checkpoint-seconds"),
        (("--hidden", "100000", "100000"), "the maximum is 100,000,000"),
        (("--data", "digits", "--runs-dir", "occupied"), "occupied"),
        (("--data", "mnist", "--mnist-source", "nowhere"), "nowhere"),
        (("--data", "mnist", "--mnist-source", "."), "train-images-idx3-ubyte.gz"),
    ],
)
def test_bad_input_gets_one_line_and_changes_nothing(
    tmp_path: Path,
    arguments: tuple[str, ...],
    says: str,
    small_digits: Dataset,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    if "digits" in arguments:
        monkeypatch.setattr(run, "load", lambda *_, **__: small_digits)
    (tmp_path / "occupied").write_text("a file, not a folder")
    monkeypatch.chdir(tmp_path)
    assert run_here(monkeypatch, *arguments) == 2
    printed = capsys.readouterr()
    assert len(printed.err.strip().splitlines()) == 1
    assert printed.err.startswith("error: ")
    assert says in printed.err
    assert not printed.out
    assert not (tmp_path / "runs").exists()


def run_here(monkeypatch: pytest.MonkeyPatch, *arguments: str) -> int:
    """Run the script in this process, which has torch already; returns its exit status."""
    monkeypatch.setattr(sys, "argv", [str(SCRIPT), *arguments])
    with pytest.raises(SystemExit) as stopped:
        runpy.run_path(str(SCRIPT), run_name="__main__")
    return int(stopped.value.code or 0)


def test_a_terminal_of_few_characters_gets_one_line_too(monkeypatch: pytest.MonkeyPatch) -> None:
    streams = {name: io.TextIOWrapper(io.BytesIO(), encoding="ascii") for name in ("stdout", "stderr")}
    for name, stream in streams.items():
        monkeypatch.setattr(sys, name, stream)
    assert run_here(monkeypatch, "--learning-rate", "-1", "--run-name", "σ") == 2
    streams["stderr"].seek(0)
    assert streams["stderr"].read() == "error: --learning-rate must be from 1e-38 to 1e+38, got -1.0\n"
    assert run_here(monkeypatch, "--run-name", "σ/σ") == 2
    streams["stderr"].seek(0)
    assert "got '\\u03c3/\\u03c3'" in streams["stderr"].read()


def test_a_bad_choice_is_answered_with_all_of_them(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for flag, choices in (("--activation", ACTIVATIONS), ("--cost", COSTS)):
        assert run_here(monkeypatch, flag, "nothing") == 2
        printed = capsys.readouterr().err
        assert flag in printed
        assert all(choice in printed for choice in choices)


def test_a_run_of_that_name_is_refused_or_overwritten(server: TrainingServer) -> None:
    assert server.train(*QUICK, "--run-name", "once") == 0
    files = [path for path in (server.folder / "runs" / "once").rglob("*") if path.is_file()]
    before = {path: path.read_bytes() for path in files}
    for flags, says in (
        ((*QUICK, "--run-name", "once"), "error: run 'once' exists"),
        (("--resume", "once"), "all of its 2 epochs are done"),
        (("--resume", "once", "--seed", "9"), "--seed 9 does not fit"),
        (("--resume", "once", "--epochs", "1"), "cannot resume 'once' with --epochs 1: 2.0 epochs are done"),
        (("--replay", "once"), "it did not end with a number that is not finite"),
    ):
        assert server.train(*flags) == 2
        assert says in server.printed()
        assert server.printed().count("\n") == 1
    assert before == {path: path.read_bytes() for path in files}
    assert server.train(*QUICK, "--run-name", "once", "--overwrite") == 0
    assert before != {path: path.read_bytes() for path in files if path.exists()}


def test_a_finished_run_is_extended(server: TrainingServer) -> None:
    folder = server.folder / "runs" / "longer"
    assert server.train(*QUICK, "--seed", "1", "--run-name", "longer") == 0
    summary = (folder / "summary.json").read_bytes()
    assert server.train("--resume", "longer", "--seed", "0") == 2, "the default, but another one than that of the run"
    assert "--seed 0 does not fit the run to resume, which has 1" in server.printed()
    assert server.train("--resume", "longer") == 2
    assert "all of its 2 epochs are done; train on with --epochs 4" in server.printed()
    assert server.train("--resume", "longer", "--epochs", "4", before=12) == -signal.SIGKILL
    assert server.train("--resume", "longer", "--epochs", "4") == 0, server.printed()
    assert (folder / "summary.previous.json").read_bytes() == summary
    assert json.loads((folder / "summary.json").read_text())["epochs"] == 4
    assert json.loads((folder / "config.json").read_text())["epochs"] == 4
    assert [event.step for event in events(folder).Scalars(tags.TEST_ACCURACY)] == [0, 1, 2, 3]


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


def test_a_wrong_equation_ends_with_status_1_and_says_where(
    tmp_path: Path, small_digits: Dataset, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    right = Linear.backward

    def wrong(ctx: Any, grad_output: Tensor) -> Any:
        grad_input, grad_weight, grad_bias = right(ctx, grad_output)
        return grad_input, grad_weight, None if grad_bias is None else 1.001 * grad_bias

    monkeypatch.setattr(Linear, "backward", staticmethod(wrong))
    monkeypatch.setattr(run, "load", lambda *_, **__: small_digits)
    monkeypatch.chdir(tmp_path)
    flags = ("--data", "digits", "--epochs", "2", "--compare-every", "5", "--frames", "0")
    assert run_here(monkeypatch, *flags) == 1
    printed = capsys.readouterr()
    assert "step 0: output.bias[" in printed.err
    assert "WRONG EQUATION: hand-written" in printed.err
    assert "12 of 24 comparisons" in printed.out


WILD = ("--activation", "relu", "--cost", "cross_entropy", "--learning-rate", "1e30")


def test_an_infinite_cost_ends_in_one_line_and_can_be_replayed(server: TrainingServer) -> None:
    assert server.train(*QUICK, *WILD, "--batch-size", "100", "--run-name", "x") == 1
    (line,) = [line for line in server.printed().splitlines() if line.startswith("error: ")]
    assert line.startswith(
        "error: the cost is not finite: nan, first in the output of module hidden2 (Linear), at step 1 ("
    )
    assert line.endswith(f"show it with: {server.program} --replay x")
    assert "Traceback" not in server.printed()
    board = events(server.folder / "runs" / "x")
    assert board.Tags()["scalars"]
    assert [event.step for event in board.Tensors(tags.RUN_FAILURE)] == [1]
    kept = (server.folder / "runs" / "x" / "failure.safetensors").read_bytes()
    assert server.train("--replay", "x") == 1, "it is so again"
    told = (server.folder / "stdout0").read_text()
    where = "first in the output of module hidden2 (Linear)"
    assert told.startswith(f"at step 1: the cost is not finite: nan, {where}\nexamples ")
    assert f"\nnow: {where}\n" in told
    assert " and 80 more\n" in told
    assert "\n-> output of module hidden2 (Linear)" in told
    (server.folder / "runs" / "x" / "failure.safetensors").write_bytes(kept[:-1000])
    assert server.train("--replay", "x") == 2
    assert server.printed().startswith("error: cannot read run 'x': its failure.safetensors is damaged")


def test_a_cost_infinite_at_the_end_is_no_success(server: TrainingServer) -> None:
    """One step, after which only the whole sets show what it did."""
    flags = ("--data", "digits", "--epochs", "1", "--batch-size", "1000", "--run-name", "one_step")
    assert server.train(*flags, *WILD) == 1
    assert "error: the cost over a whole set is not finite, first in the" in server.printed()
    assert not (server.folder / "runs" / "one_step" / "checkpoint.safetensors").exists(), (
        "nothing of it is worth keeping"
    )
    assert server.train("--replay", "one_step") == 1, server.printed()
    assert (server.folder / "stdout0").read_text().startswith("at step 0: the cost over a whole set is not finite")
    assert server.train("--resume", "one_step") == 2
    assert "no readable checkpoint, but failure.safetensors" in server.printed()


def test_help_names_every_flag(server: TrainingServer) -> None:
    assert server.train("--help") == 0
    assert "Passes over the training examples." in (server.folder / "stdout0").read_text()
    told = (server.folder / "stdout0").read_text()
    for flag in (
        "--data", "--data-root", "--mnist-source", "--hidden", "--activation", "--cost", "--batch-size",
        "--learning-rate", "--epochs", "--seed", "--backend", "--compare-every", "--frames", "--runs-dir", "--run-name",
        "--resume", "--replay", "--checkpoint-seconds", "--quiet", "--device", "--threads",
    ):  # fmt: skip
        assert flag in told
