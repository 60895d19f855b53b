"""The command line of the gradient checker, driven as a user does."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
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
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "mine.py").write_text(MINE)
    (tmp_path / "broken.py").write_text("1 / 0")
    return tmp_path


def run(*arguments: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, str(ROOT / "scripts" / "check_gradients.py"), *arguments]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    return subprocess.run(command, cwd=cwd, capture_output=True, text=True, check=False, timeout=240, env=environment)


@pytest.mark.parametrize(
    "arguments",
    [
        ("mine:Square", "--inputs", "randn(4, 3)"),
        ("mine:Square", "--inputs", "randn(4, dtype=float64)", "randn(2, 2)", "--reference", "torch:square"),
        ("mine:Square", "--samples", "mine:samples"),
        ("mine:Layers.dense", "--inputs", "randn(5, 4)", "--reference", "torch.nn.functional:linear"),
    ],
)
def test_a_right_function_of_ones_own(folder: Path, arguments: tuple[str, ...]) -> None:
    done = run(*arguments, cwd=folder)
    assert done.returncode == 0, done.stderr
    assert "PASSED" in done.stdout.splitlines()[0]
    assert done.stderr == ""


def test_a_wrong_one(folder: Path) -> None:
    done = run("mine:Wrong", "--inputs", "randn(4)", "--reference", "torch:square", cwd=folder)
    assert done.returncode == 1
    for part in ("Wrong(x), judged by square: FAILED", "hand-written", "expected", "WRONG EQUATION"):
        assert part in done.stdout


def test_as_json(folder: Path) -> None:
    done = run("mine:Wrong", "--inputs", "randn(4)", "--json", cwd=folder)
    assert done.returncode == 1
    report = json.loads(done.stdout)
    assert report["passed"] is False
    assert {result["check"] for result in report["results"]} >= {"gradient", "Taylor remainder"}


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (("nothing",), "'nothing' is none of linear"),
        (("linear", "mine:Square"), "one package.module:function at a time"),
        (("mine:Square",), "needs samples"),
        (("mine:Square", "--inputs", "randn(3)", "--samples", "mine:samples"), "either --inputs or --samples"),
        (("linear", "--reference", "torch:square"), "go with a package.module:function"),
        (("mine:Nothing", "--inputs", "randn(3)"), "module 'mine' has no attribute 'Nothing'"),
        (("nowhere:Square", "--inputs", "randn(3)"), "cannot import nowhere: ModuleNotFoundError"),
        (("broken:Square", "--inputs", "randn(3)"), "cannot import broken: ZeroDivisionError"),
        (("mine:", "--inputs", "randn(3)"), "must be package.module:object"),
        (("mine:Square", "--inputs", "randn(3"), "no expression"),
        (("mine:Square", "--inputs", "open('x')"), "is not known"),
        (("mine:Square", "--inputs", "zeros(0)"), "every input is empty"),
        (("mine:Square", "--inputs", "randint(0, 3, (4,))"), "no input that needs a gradient"),
        (("mine:Square", "--inputs", "randn(3), 2"), "the function raised TypeError"),
        (("mine:raising", "--inputs", "randn(3)"), "the function raised ValueError: not today"),
        (("mine:Square", "--inputs", "randn(3)", "--reference", "torch:add"), "the reference raised TypeError"),
        (("mine:Square", "--samples", "mine:Square"), "samples must be a list of argument tuples"),
        (("--runs-dir", "mine.py"), "mine.py"),
        (("--seeds", "0"), "--seeds"),
        (("--seeds", "many"), "--seeds"),
        (("--bogus",), "--bogus"),
    ],
)
def test_bad_input_gets_one_line(folder: Path, arguments: tuple[str, ...], says: str) -> None:
    before = sorted(folder.iterdir())
    done = run(*arguments, cwd=folder)
    assert done.returncode == 2
    assert len(done.stderr.strip().splitlines()) == 1, done.stderr
    assert done.stderr.startswith("error: ")
    assert says in done.stderr
    assert not done.stdout
    assert [path for path in sorted(folder.iterdir()) if path.name != "__pycache__"] == before


def test_a_training_run_of_that_name_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "runs" / "gradients").mkdir(parents=True)
    (tmp_path / "runs" / "gradients" / "config.json").write_text("{}")
    done = run(cwd=tmp_path)
    assert done.returncode == 2
    assert "holds a training run" in done.stderr
    assert [path.name for path in (tmp_path / "runs" / "gradients").iterdir()] == ["config.json"]


def test_interrupted_it_stops_without_a_word(tmp_path: Path) -> None:
    command = [sys.executable, str(ROOT / "scripts" / "check_gradients.py"), "cross_entropy", "linear"]
    asked = subprocess.Popen(
        command, cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True
    )
    time.sleep(8)  # until its workers are at work, on a slow machine too
    os.killpg(asked.pid, signal.SIGINT)
    _, said = asked.communicate(timeout=60)
    assert asked.returncode in (0, 130)
    assert said.strip() in ("", "interrupted")


def test_functions_of_the_catalogue_by_name(tmp_path: Path) -> None:
    done = run("relu", "tanh", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert [line.split("|")[1].strip() for line in done.stdout.splitlines()[:4]] == ["function", "---", "relu", "tanh"]
    assert not list(tmp_path.iterdir())  # TensorBoard is shown the whole catalogue or nothing
