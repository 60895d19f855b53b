"""The command that trains a network."""

import io
import json
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from killable import TrainingServer
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from torch import Tensor

from bp_torch.dashboard import tags
from bp_torch.data import Dataset
from bp_torch.functional.linear import Linear
from bp_torch.nn import ACTIVATIONS
from bp_torch.training.backends import COSTS
from bp_torch.training.state import run
from bp_torch.training.state.run_dir import unpack

Run = Callable[..., tuple[int, str, str]]
Finished = tuple[Path, subprocess.CompletedProcess[str]]
SCRIPT = Path(__file__).parents[2] / "scripts" / "train.py"
QUICK = ("--data", "digits", "--epochs", "2", "--batch-size", "2000", "--compare-every", "5")
DIVERGING = ("--activation", "relu", "--cost", "cross_entropy", "--learning-rate", "1e30")


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Finished:
    """A folder with a finished run, and the process that trained it."""
    folder = tmp_path_factory.mktemp("finished")
    flags = ("--data", "digits", "--epochs", "1", "--batch-size", "2000", "--compare-every", "5")
    command = [sys.executable, str(SCRIPT), *flags, "--run-name", "first"]
    return folder, subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False, timeout=240)


def events(folder: Path) -> EventAccumulator:
    accumulator = EventAccumulator(str(folder), size_guidance={"scalars": 0, "tensors": 0})
    accumulator.Reload()
    return accumulator


def test_the_output_of_a_run(finished: Finished) -> None:
    _, done = finished
    assert done.returncode == 0, done.stderr
    lines = done.stderr.splitlines()
    assert lines[:2] == ["data: Synthetic digits in the style of MNIST", "step 0 of 10; time left: ?"]
    last = r"step 10 of 10, epoch 1/1, cost \d\.\d+, accuracy \d+\.\d+%, gradients 60/60; time left: 00:00"
    assert re.fullmatch(last, lines[-1])
    for text in (
        "60 of 60 comparisons with autograd agree",
        "tensorboard --logdir=runs, then open http://localhost:6006/#backprop",
        "logging",
        "checkpoints",
    ):
        assert text in done.stdout


def test_the_files_of_a_run(finished: Finished) -> None:
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
    assert "Synthetic digits" in config["data_origin"]
    assert unpack((folder / "checkpoint.safetensors").read_bytes()).values["step"] == 10
    assert not [path for path in folder.iterdir() if path.name.endswith(".new")]


def test_the_curves_are_read_back(finished: Finished) -> None:
    folder = finished[0] / "runs" / "first"
    board, summary = events(folder), json.loads((folder / "summary.json").read_text())
    groups = {tag.partition("/")[0] for tag in board.Tags()["scalars"]}
    assert {"learning", "agreement", "health"} <= groups
    last = board.Scalars(tags.TEST_ACCURACY)[-1]
    assert (last.step, last.value) == (9, pytest.approx(summary["test_accuracy"]))
    assert set(board.Tags()["images"]) == {tags.FIRST_WEIGHTS, tags.WORST_DIGITS, tags.NUDGES}
    assert {tags.weights("hidden1.weight"), tags.RUN_START} <= set(board.Tags()["tensors"])
    assert [frame.step for frame in board.Tensors(tags.FRAME)] == list(range(10)), "all, being fewer than 60"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--bogus", "1"), "--bogus"),
        (("stray",), "stray"),
        (("--data", "cifar"), "--data"),
        (("--learning-rate", "fast"), "--learning-rate"),
        (("--learning-rate", "-1"), "--learning-rate"),
        (("--hidden", "16", "0"), "--hidden"),
        (("--run-name", "a/b"), "--run-name"),
        (("--resume", "nothing"), "there is no"),
        (("--replay", "nothing"), "there is no"),
        (("--replay", "a", "--resume", "b"), "--resume and --replay are mutually exclusive"),
        (("--hidden", "100000", "100000"), "the maximum is 100,000,000"),
        (("--data", "digits", "--runs-dir", "occupied"), "occupied"),
        (("--data", "mnist", "--mnist-source", "nowhere"), "nowhere"),
        (("--data", "mnist", "--mnist-source", "."), "train-images-idx3-ubyte.gz"),
    ],
)
def test_bad_usage_prints_one_line_and_changes_nothing(
    tmp_path: Path,
    arguments: tuple[str, ...],
    message: str,
    small_digits: Dataset,
    monkeypatch: pytest.MonkeyPatch,
    run_script: Run,
) -> None:
    if "digits" in arguments:
        monkeypatch.setattr(run, "load", lambda *_, **__: small_digits)
    (tmp_path / "occupied").write_text("a file, not a folder")
    monkeypatch.chdir(tmp_path)
    status, out, err = run_script(SCRIPT, *arguments)
    assert (status, out) == (2, "")
    assert len(err.strip().splitlines()) == 1
    assert err.startswith("error: ")
    assert message in err
    assert not (tmp_path / "runs").exists()


def test_an_error_is_one_line_in_an_ascii_terminal(monkeypatch: pytest.MonkeyPatch, run_script: Run) -> None:
    streams = {name: io.TextIOWrapper(io.BytesIO(), encoding="ascii") for name in ("stdout", "stderr")}
    for name, stream in streams.items():
        monkeypatch.setattr(sys, name, stream)
    assert run_script(SCRIPT, "--learning-rate", "-1", "--run-name", "σ")[0] == 2
    streams["stderr"].seek(0)
    assert streams["stderr"].read() == "error: --learning-rate must be from 1e-38 to 1e+38, got -1.0\n"
    assert run_script(SCRIPT, "--run-name", "σ/σ")[0] == 2
    streams["stderr"].seek(0)
    assert "got '\\u03c3/\\u03c3'" in streams["stderr"].read()


def test_the_error_for_an_unknown_choice_lists_all_choices(run_script: Run) -> None:
    for flag, choices in (("--activation", ACTIVATIONS), ("--cost", COSTS)):
        status, _, err = run_script(SCRIPT, flag, "nothing")
        assert status == 2
        assert all(text in err for text in (flag, *choices))


def test_an_existing_run_is_refused_or_overwritten(server: TrainingServer) -> None:
    assert server.train(*QUICK, "--run-name", "once") == 0
    files = [path for path in (server.folder / "runs" / "once").rglob("*") if path.is_file()]
    before = {path: path.read_bytes() for path in files}
    for flags, message in (
        ((*QUICK, "--run-name", "once"), "error: run 'once' exists"),
        (("--resume", "once"), "all of its 2 epochs are done"),
        (("--resume", "once", "--seed", "9"), "--seed 9 cannot change"),
        (("--resume", "once", "--epochs", "1"), "cannot resume 'once' with --epochs 1: 2 epochs are done"),
        (("--replay", "once"), "it was not ended by NaN or infinity"),
    ):
        assert server.train(*flags) == 2
        assert message in server.stderr()
        assert server.stderr().count("\n") == 1
    assert before == {path: path.read_bytes() for path in files}
    assert server.train(*QUICK, "--run-name", "once", "--overwrite") == 0
    assert before != {path: path.read_bytes() for path in files if path.exists()}


def test_a_finished_run_is_extended(server: TrainingServer) -> None:
    folder = server.folder / "runs" / "longer"
    assert server.train(*QUICK, "--seed", "1", "--run-name", "longer") == 0
    summary = (folder / "summary.json").read_bytes()
    assert server.train("--resume", "longer", "--seed", "0") == 2, "it is the default, but not the seed of the run"
    assert "--seed 0 cannot change when a run is resumed, which has 1" in server.stderr()
    assert server.train("--resume", "longer") == 2
    assert "all of its 2 epochs are done; continue with --epochs 4" in server.stderr()
    assert server.train("--resume", "longer", "--epochs", "4", kill_at=12) == -signal.SIGKILL
    assert server.train("--resume", "longer", "--epochs", "4") == 0, server.stderr()
    assert (folder / "summary.2_epochs.json").read_bytes() == summary
    assert json.loads((folder / "summary.json").read_text())["epochs"] == 4
    assert json.loads((folder / "config.json").read_text())["epochs"] == 4
    assert [event.step for event in events(folder).Scalars(tags.TEST_ACCURACY)] == [0, 1, 2, 3]
    for checkpoint in folder.glob("*.safetensors"):
        checkpoint.unlink()
    assert server.train("--resume", "longer", "--epochs", "6") == 2, "which would begin again"
    assert "no checkpoint, only summary.json" in server.stderr()
    assert (folder / "summary.json").exists()


@pytest.mark.skipif(not Path("/proc/self/maps").exists(), reason="the loaded libraries of a process cannot be listed")
def test_ctrl_c_while_torch_is_imported_prints_only_interrupted(tmp_path: Path) -> None:
    process = subprocess.Popen(
        [sys.executable, str(SCRIPT)], cwd=tmp_path, stderr=subprocess.PIPE, text=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),  # ignored in a background job of a shell
    )  # fmt: skip
    while "libtorch" not in Path(f"/proc/{process.pid}/maps").read_text():
        time.sleep(0.01)
    process.send_signal(signal.SIGINT)
    assert process.communicate(timeout=60)[1].strip() == "interrupted"
    assert process.returncode == 130
    assert not list(tmp_path.iterdir())


def test_a_wrong_equation_is_located_and_ends_with_status_1(
    tmp_path: Path, small_digits: Dataset, monkeypatch: pytest.MonkeyPatch, run_script: Run
) -> None:
    correct = Linear.backward

    def wrong(ctx: Any, grad_output: Tensor) -> Any:
        grad_input, grad_weight, grad_bias = correct(ctx, grad_output)
        return grad_input, grad_weight, None if grad_bias is None else 1.001 * grad_bias

    monkeypatch.setattr(Linear, "backward", staticmethod(wrong))
    monkeypatch.setattr(run, "load", lambda *_, **__: small_digits)
    monkeypatch.chdir(tmp_path)
    flags = ("--data", "digits", "--epochs", "2", "--compare-every", "5", "--frames", "0")
    status, out, err = run_script(SCRIPT, *flags)
    assert status == 1
    assert "step 0: output.bias[" in err
    assert "WRONG EQUATION: hand-written" in err
    assert "12 of 24 comparisons" in out


def test_an_infinite_cost_ends_in_one_line_and_can_be_replayed(server: TrainingServer) -> None:
    assert server.train(*QUICK, *DIVERGING, "--batch-size", "100", "--run-name", "x") == 1
    (line,) = server.errors()
    assert line.startswith("error: the cost is not finite: nan, first in the output of module hidden2 (Linear), at ")
    assert line.endswith(f"show it with: {server.program} --replay=x")
    board = events(server.folder / "runs" / "x")
    assert board.Tags()["scalars"]
    assert [event.step for event in board.Tensors(tags.RUN_FAILURE)] == [1]
    content = (server.folder / "runs" / "x" / "failure.safetensors").read_bytes()
    assert server.train("--replay", "x") == 1, "it fails again"
    printed = server.stdout()
    where = "first in the output of module hidden2 (Linear)"
    assert printed.startswith(f"at step 1: the cost is not finite: nan, {where}\nexamples ")
    assert f"\nrecomputed: {where}\n" in printed
    assert " and 80 more\n" in printed
    assert "\n-> output of module hidden2 (Linear)" in printed
    (server.folder / "runs" / "x" / "failure.safetensors").write_bytes(content[:-1000])
    assert server.train("--replay", "x") == 2
    assert server.stderr().startswith("error: cannot read run 'x': its failure.safetensors is damaged")


def test_an_infinite_cost_after_the_last_step_is_a_failure(server: TrainingServer) -> None:
    """The only step diverges, which only the evaluation shows."""
    flags = ("--data", "digits", "--epochs", "1", "--batch-size", "1000", "--run-name", "one_step")
    assert server.train(*flags, *DIVERGING) == 1
    assert "error: the training or test cost is not finite, first in the" in server.stderr()
    assert not (server.folder / "runs" / "one_step" / "checkpoint.safetensors").exists(), (
        "non-finite weights are not saved"
    )
    assert server.train("--replay", "one_step") == 1, server.stderr()
    assert server.stdout().startswith("at step 0: the training or test cost is not finite")
    assert server.train("--resume", "one_step") == 2
    assert "no checkpoint, only failure.safetensors; look at it with --replay one_step" in server.stderr()


def test_help_names_every_flag(server: TrainingServer) -> None:
    assert server.train("--help") == 0
    printed = server.stdout()
    assert "Passes over the training examples." in printed
    for flag in (
        "--data", "--data-root", "--mnist-source", "--hidden", "--activation", "--cost", "--batch-size",
        "--learning-rate", "--epochs", "--seed", "--backend", "--compare-every", "--frames", "--runs-dir", "--run-name",
        "--resume", "--replay", "--checkpoint-seconds", "--quiet", "--device", "--threads",
    ):  # fmt: skip
        assert flag in printed
