"""The command line of the gradient checker."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
SCRIPT = ROOT / "scripts" / "check_gradients.py"
MINE = """
import torch

class Square(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x):
        ctx.save_for_backward(x)
        return x * x

    @staticmethod
    def backward(ctx, grad_output):
        (x,) = ctx.saved_tensors
        return 2 * x * grad_output

class Wrong(Square):
    @staticmethod
    def backward(ctx, grad_output):
        return grad_output

def raising(x):
    raise ValueError("not today\\nor tomorrow")

class Layers:
    dense = torch.nn.Linear(4, 3)

samples = [(torch.randn(3),), (torch.randn(2, 2),)]

labelled = [(torch.randn(4, 3), torch.tensor([0, 2, 1, 1]))]
"""

Run = Callable[..., tuple[int, str, str]]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "mine.py").write_text(MINE)
    (tmp_path / "broken.py").write_text("raise ValueError('one line\\nand another')")
    (tmp_path / "exiting.py").write_text("import sys; sys.exit('bye')")
    return tmp_path


@pytest.fixture
def check(folder: Path, run_script: Run, monkeypatch: pytest.MonkeyPatch) -> Run:
    """Run the script in the folder; returns exit status, stdout and stderr."""
    monkeypatch.chdir(folder)
    monkeypatch.setattr(sys, "path", [*sys.path])

    def check(*arguments: str) -> tuple[int, str, str]:
        for name in ("mine", "broken", "exiting"):
            sys.modules.pop(name, None)
        return run_script(SCRIPT, *arguments)

    return check


@pytest.mark.parametrize(
    "arguments",
    [
        ("mine:Square", "--shapes", "4x3"),
        ("mine.py:Square", "--shapes", "4", "2x2", "--reference", "torch:square"),
        ("torch.nn.functional:linear", "--shapes", "5x4,3x4,3", "--reference", "torch.nn.functional:linear"),
        ("./mine.py:Square", "--samples", "mine.py:samples"),
        ("torch.nn.functional:cross_entropy", "--samples", "mine:labelled"),
        ("mine:Layers.dense", "--shapes", "5x4", "--reference", "torch.nn.functional:linear"),
    ],
)
def test_a_correct_function_of_the_user(check: Run, arguments: tuple[str, ...]) -> None:
    status, out, err = check(*arguments)
    assert status == 0, err
    assert "PASSED" in out.splitlines()[0]
    assert err == ""


def test_a_wrong_function(check: Run) -> None:
    status, out, _ = check("mine:Wrong", "--shapes", "4", "--reference", "torch:square")
    assert status == 1
    for part in ("Wrong(x) against square: FAILED", "hand-written", "expected", "WRONG EQUATION"):
        assert part in out


def test_as_json(check: Run) -> None:
    status, out, _ = check("mine:Wrong", "--shapes", "4", "--json")
    assert status == 1
    report = json.loads(out)
    assert report["passed"] is False
    assert report["inputs"] == ["x"]
    assert {result["check"] for result in report["results"]} >= {"gradient", "linearity"}


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("nothing",), "unknown function 'nothing'; expected file.py:function or one of linear, "),
        (("linear", "mine:Square"), "one function of your own at a time"),
        (("mine:Square",), "needs samples"),
        (("mine:Square", "--shapes", "3", "--samples", "mine:samples"), "needs only one of --shapes or --samples"),
        (("mine:Square", "--shapes", "3", "--planted"), "--planted and --seeds have no effect with the name"),
        (("linear", "--seeds", "3"), "--planted and --seeds have no effect with the name"),
        (("linear", "--runs-dir", "mine"), "--runs-dir has no effect with the name"),
        (("--planted", "--runs-dir", "mine"), "--planted writes no run"),
        (("relu", "relu"), "a function is named twice"),
        (("linear", "--reference", "torch:square"), "need a function of your own, before them: file.py:function"),
        (("mine:Nothing", "--shapes", "3"), "'mine' has no 'Nothing'"),
        (("nowhere:Square", "--shapes", "3"), "cannot import nowhere: ModuleNotFoundError"),
        (("broken:Square", "--shapes", "3"), "cannot import broken: ValueError: one line"),
        (("exiting:Square", "--shapes", "3"), "cannot import exiting: SystemExit: bye"),
        (("mine:", "--shapes", "3"), "must be package.module:object"),
        (("nowhere.py:Square", "--shapes", "3"), "there is no file nowhere.py"),
        (("mine:Square", "--shapes", "3xfour"), "--shapes '3xfour' must be sizes such as 5x4,3x4"),
        (("mine:Square", "--shapes", ""), "--shapes '' must be sizes such as"),
        (("mine:Square", "--shapes", "-3"), "--shapes"),
        (("mine:Square", "--shapes", "100000x100000"), "a Tensor may have 0 to 200,000 components"),
        (("mine:Square", "--shapes", "0"), "every input is empty"),
        (("mine:Square", "--shapes", "3,3"), "the function raised TypeError"),
        (("mine:raising", "--shapes", "3"), "error: sample 0: the function raised ValueError: not today"),
        (("mine:Square", "--shapes", "3", "--reference", "torch:add"), "the reference raised TypeError"),
        (("mine:Square", "--samples", "mine:Square"), "samples must be a list of argument tuples"),
        (("--runs-dir", "mine.py"), "mine.py"),
        (("--seeds", "0"), "--seeds"),
        (("--seeds", "many"), "--seeds"),
        (("--bogus",), "--bogus"),
    ],
)
def test_bad_usage_prints_one_line(check: Run, folder: Path, arguments: tuple[str, ...], message: str) -> None:
    before = sorted(folder.iterdir())
    status, out, err = check(*arguments)
    assert status == 2
    assert len(err.strip().splitlines()) == 1, err
    assert err.startswith("error: ")
    assert message in err
    assert not out
    assert [path for path in sorted(folder.iterdir()) if path.name != "__pycache__"] == before


def test_a_training_run_in_the_folder_is_not_changed(check: Run, folder: Path) -> None:
    (folder / "runs" / "gradients").mkdir(parents=True)
    (folder / "runs" / "gradients" / "config.json").write_text("{}")
    status, _, err = check()
    assert status == 2
    assert "holds a training run" in err
    assert [path.name for path in (folder / "runs" / "gradients").iterdir()] == ["config.json"]


def test_functions_of_the_catalogue_by_name(check: Run, folder: Path) -> None:
    before = sorted(folder.iterdir())
    status, out, err = check("relu", "tanh")
    assert status == 0, err
    assert [line.split("|")[1].strip() for line in out.splitlines()[:4]] == ["function", "---", "relu", "tanh"]
    assert sorted(folder.iterdir()) == before  # only a check of the whole catalogue is written for TensorBoard


def test_ctrl_c_prints_only_interrupted(tmp_path: Path) -> None:
    process = subprocess.Popen(
        [sys.executable, str(SCRIPT)],
        cwd=tmp_path,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
        preexec_fn=partial(signal.signal, signal.SIGINT, signal.SIG_DFL),  # ignored in a background job of a shell
    )
    assert process.stdout is not None
    lines = [process.stdout.readline() for _ in range(3)]
    assert lines[2].startswith("| linear")  # its workers have checked a function
    os.killpg(process.pid, signal.SIGINT)
    out, err = process.communicate(timeout=240)
    assert process.returncode == 130
    assert err.strip() == "interrupted"
    assert "caught of" not in out  # the scoreboard, its last table
