"""The command line of the gradient checker, driven as a user does; in this process where that shows as much."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest
from planted import command

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

Said = tuple[int, str, str]
Asked = Callable[..., Said]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "mine.py").write_text(MINE)
    (tmp_path / "broken.py").write_text("raise ValueError('one line\\nand another')")
    (tmp_path / "leaving.py").write_text("import sys; sys.exit('gone')")
    return tmp_path


@pytest.fixture
def ask(folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Asked:
    """Ask in this process: exit status, stdout, stderr."""
    monkeypatch.chdir(folder)
    monkeypatch.setattr(sys, "path", [*sys.path])

    def asked(*arguments: str) -> Said:
        monkeypatch.setattr(sys, "argv", [str(SCRIPT), *arguments])
        for name in ("mine", "broken", "leaving"):
            sys.modules.pop(name, None)
        with pytest.raises(SystemExit) as stopped:
            command.main()
        said = capsys.readouterr()
        return int(stopped.value.code or 0), said.out, said.err

    return asked


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
def test_a_right_function_of_ones_own(ask: Asked, arguments: tuple[str, ...]) -> None:
    status, out, err = ask(*arguments)
    assert status == 0, err
    assert "PASSED" in out.splitlines()[0]
    assert err == ""


def test_a_wrong_one(ask: Asked) -> None:
    status, out, _ = ask("mine:Wrong", "--shapes", "4", "--reference", "torch:square")
    assert status == 1
    for part in ("Wrong(x) against square: FAILED", "hand-written", "expected", "WRONG EQUATION"):
        assert part in out


def test_as_json(ask: Asked) -> None:
    status, out, _ = ask("mine:Wrong", "--shapes", "4", "--json")
    assert status == 1
    report = json.loads(out)
    assert report["passed"] is False
    assert report["inputs"] == ["x"]
    assert {result["check"] for result in report["results"]} >= {"gradient", "linearity"}


@pytest.mark.parametrize(
    ("arguments", "says"),
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
        (("linear", "--reference", "torch:square"), "need a function of your own: file.py:function"),
        (("mine:Nothing", "--shapes", "3"), "'mine' has no 'Nothing'"),
        (("nowhere:Square", "--shapes", "3"), "cannot import nowhere: ModuleNotFoundError"),
        (("broken:Square", "--shapes", "3"), "cannot import broken: ValueError: one line"),
        (("leaving:Square", "--shapes", "3"), "cannot import leaving: SystemExit: gone"),
        (("mine:", "--shapes", "3"), "must be package.module:object"),
        (("nowhere.py:Square", "--shapes", "3"), "cannot import nowhere.py: ModuleNotFoundError"),
        (("mine:Square", "--shapes", "3xfour"), "--shapes '3xfour' must be sizes such as 5x4,3x4"),
        (("mine:Square", "--shapes", ""), "--shapes '' must be sizes such as"),
        (("mine:Square", "--shapes", "-3"), "--shapes"),
        (("mine:Square", "--shapes", "100000x100000"), "a Tensor may have 0 to 200,000 components"),
        (("mine:Square", "--shapes", "0"), "every input is empty"),
        (("mine:Square", "--shapes", "3,3"), "the function raised TypeError"),
        (("mine:raising", "--shapes", "3"), "the function raised ValueError: not today"),
        (("mine:Square", "--shapes", "3", "--reference", "torch:add"), "the reference raised TypeError"),
        (("mine:Square", "--samples", "mine:Square"), "samples must be a list of argument tuples"),
        (("--runs-dir", "mine.py"), "mine.py"),
        (("--seeds", "0"), "--seeds"),
        (("--seeds", "many"), "--seeds"),
        (("--bogus",), "--bogus"),
    ],
)
def test_bad_input_gets_one_line(ask: Asked, folder: Path, arguments: tuple[str, ...], says: str) -> None:
    before = sorted(folder.iterdir())
    status, out, err = ask(*arguments)
    assert status == 2
    assert len(err.strip().splitlines()) == 1, err
    assert err.startswith("error: ")
    assert says in err
    assert not out
    assert [path for path in sorted(folder.iterdir()) if path.name != "__pycache__"] == before


def test_a_training_run_of_that_name_is_left_alone(ask: Asked, folder: Path) -> None:
    (folder / "runs" / "gradients").mkdir(parents=True)
    (folder / "runs" / "gradients" / "config.json").write_text("{}")
    status, _, err = ask()
    assert status == 2
    assert "holds a training run" in err
    assert [path.name for path in (folder / "runs" / "gradients").iterdir()] == ["config.json"]


def run(*arguments: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, str(SCRIPT), *arguments]
    return subprocess.run(command, cwd=cwd, capture_output=True, text=True, check=False, timeout=240)


def test_in_a_process_of_its_own(folder: Path, ask: Asked) -> None:
    """Something wrong has status 1; the other two are told in this one, by the same exit."""
    wrong = run("mine:Wrong", "--shapes", "4", cwd=folder)
    assert (wrong.returncode, wrong.stderr) == (1, "")
    right, neither = (ask(f"mine:{name}", "--shapes", "4") for name in ("Square", "raising"))
    assert (right[0], right[2]) == (0, "")
    assert neither == (2, "", "error: sample 0: the function raised ValueError: not today\n")


def test_functions_of_the_catalogue_by_name(ask: Asked, folder: Path) -> None:
    before = sorted(folder.iterdir())
    status, out, err = ask("relu", "tanh")
    assert status == 0, err
    assert [line.split("|")[1].strip() for line in out.splitlines()[:4]] == ["function", "---", "relu", "tanh"]
    assert sorted(folder.iterdir()) == before  # TensorBoard shows the whole catalogue or nothing


def test_interrupted_it_stops_without_a_word(tmp_path: Path) -> None:
    asked = subprocess.Popen(
        [sys.executable, str(SCRIPT)],
        cwd=tmp_path,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
        preexec_fn=partial(signal.signal, signal.SIGINT, signal.SIG_DFL),  # a shell lets what it starts by & ignore it
    )
    assert asked.stdout is not None
    assert "function" in asked.stdout.readline()  # its workers have started
    os.killpg(asked.pid, signal.SIGINT)
    out, err = asked.communicate(timeout=240)
    assert asked.returncode == 130
    assert err.strip() == "interrupted"
    assert "caught of" not in out  # the scoreboard, its last table
