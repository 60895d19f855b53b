"""The explanation of a test digit, asked for as a user does; in this process where that shows as much."""

import functools
import json
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from decimal import Decimal
from itertools import takewhile
from pathlib import Path
from typing import Any

import pytest
import safetensors.torch
import torch
from matplotlib.figure import Figure
from PIL import Image
from torch import Tensor

from bp_torch.commands import explain as command
from bp_torch.data import Dataset, Split
from bp_torch.data.digits import draw
from bp_torch.functional import squared_error
from bp_torch.inspection import explain
from bp_torch.inspection.drawing import draw_explanation
from bp_torch.inspection.experiments import Setup, setup
from bp_torch.training.backends import COSTS
from bp_torch.training.config import TrainConfig
from bp_torch.training.state import run as training
from bp_torch.training.state.run_dir import CHECKPOINT, State, pack

SCRIPT = Path(__file__).parents[2] / "scripts" / "explain.py"
RUNS: dict[str, dict[str, Any]] = {
    "lecture": {},
    "wide": {"hidden": (64,), "activation": "relu", "cost": "cross_entropy", "learning_rate": 0.1},
    "bare": {"hidden": ()},
    "deep": {"hidden": (8, 30, 8), "activation": "tanh"},
}
TORCH = {"sigmoid": torch.sigmoid, "tanh": torch.tanh, "relu": torch.relu}

Asked = Callable[..., tuple[int, str, str]]


@functools.cache
def digits() -> Dataset:
    """Few of them."""
    train, test = torch.arange(400) % 10, torch.arange(100) % 10
    origin = "Digits drawn by bp_torch in the manner of MNIST"
    return Dataset("digits", Split(draw(train, seed=1), train), Split(draw(test, seed=2), test), origin)


@pytest.fixture(autouse=True, scope="module")
def _remembered() -> Iterator[None]:
    """The data are drawn once, and each process computes with one thread, as the script's own does."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    with pytest.MonkeyPatch.context() as patch:
        for module in (training, command):
            patch.setattr(module, "load", functools.partial(_loaded, module.load))
        yield
    torch.set_num_threads(threads)


def _loaded(really: Callable[..., Any], name: str, *arguments: Any, **more: Any) -> Any:
    return digits() if name == "digits" else really(name, *arguments, **more)


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of each kind, and what may have become of one."""
    folder = tmp_path_factory.mktemp("runs")
    for name, told in RUNS.items():
        few = TrainConfig(data="digits", epochs=1, batch_size=100, compare_every=0, runs_dir=folder, run_name=name)
        training.train(replace(few, **told), lambda *_: [])
    whole, config = (folder / "lecture" / CHECKPOINT).read_bytes(), folder / "lecture" / "config.json"
    for name in ("half", "emptied", "listed", "other", "headless", "silent", "garbled", "elsewhere"):
        shutil.copytree(folder / "lecture", folder / name)
    (folder / "half" / CHECKPOINT).write_bytes(whole[: len(whole) // 2])
    (folder / "emptied" / CHECKPOINT).write_bytes(b"")
    (folder / "listed" / CHECKPOINT).write_bytes(b"[1, 2]")
    shutil.copy(folder / "deep" / CHECKPOINT, folder / "other" / CHECKPOINT)
    (folder / "headless" / "config.json").unlink()
    (folder / "silent" / CHECKPOINT).write_bytes(pack(State({"epoch": 1}, {})))
    (folder / "garbled" / "config.json").write_text("{")
    (folder / "elsewhere" / "config.json").write_text(config.read_text().replace('"cpu"', '"cuda"'))
    (folder / "occupied").write_text("a file, not a folder")
    return folder


@pytest.fixture
def ask(runs: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Asked:
    """Ask in this process, beside the runs: exit status, stdout, stderr; the figure is a small empty one."""
    monkeypatch.chdir(runs)
    monkeypatch.setenv("COLUMNS", "120")
    monkeypatch.setattr(command, "draw_explanation", lambda *_, **__: Figure(figsize=(2, 1)))

    def asked(*arguments: str) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", [str(SCRIPT), *arguments])
        with pytest.raises(SystemExit) as stopped:
            command.main()
        said = capsys.readouterr()
        return int(stopped.value.code or 0), said.out, said.err

    return asked


@pytest.fixture
def _drawn(ask: Asked, monkeypatch: pytest.MonkeyPatch) -> None:
    """The figure is the script's own."""
    monkeypatch.setattr(command, "draw_explanation", draw_explanation)


def run(*arguments: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, str(SCRIPT), *arguments]
    return subprocess.run(command, cwd=cwd, capture_output=True, text=True, check=False, timeout=120)


def rows(said: str, title: str) -> list[list[str]]:
    """The cells of the table that bears this title."""
    _, below = re.split(r"─ *\n", said.partition(title)[2], maxsplit=1)
    return [line.split() for line in takewhile(str.strip, below.splitlines())]


def agree(cells: list[str], numbers: list[float]) -> bool:
    """Whether each cell shows its number, to its last letter."""
    shown = [(Decimal(cell), number) for cell, number in zip(cells, numbers, strict=True)]
    return all(abs(float(d) - number) <= 0.51 * 10.0 ** int(d.as_tuple().exponent) for d, number in shown)


@pytest.mark.usefixtures("_drawn")
def test_a_digit_is_explained_to_a_network_taught_on_the_spot(
    ask: Asked, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By six hundred steps, for the sake of this test."""
    monkeypatch.setattr(setup, "STEPS", 600)
    monkeypatch.chdir(tmp_path)
    status, out, err = ask("--data", "digits", "--example", "7")
    assert (status, err) == (0, "")
    image, label = digits().test.images[7], int(digits().test.labels[7])
    expected = explain(Setup(digits()).trained, squared_error, image, label)
    assert (
        f"Test example 7, labelled {label}, read as {int(expected.outputs.argmax())}: cost {expected.cost:.4f}" in out
    )
    outputs = rows(out, "nudges of the outputs")
    columns = (expected.outputs, expected.target, expected.output_nudges, expected.layers[-1].weighted_input_nudges)
    assert [row[0] for row in outputs] == [str(n) for n in range(10)]
    for row, numbers in zip(outputs, torch.stack(columns, 1).tolist(), strict=True):
        assert agree(row[1:], numbers)
    assert out.splitlines()[-1] == "figure: runs/explain/trained/digits_7.png"
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == [tmp_path / "runs/explain/trained/digits_7.png"]
    with Image.open(tmp_path / "runs/explain/trained/digits_7.png") as figure:
        assert (figure.format, figure.size) == ("PNG", (1400, 900))


def saved(folder: Path) -> list[Tensor]:
    """A run's weights and biases, layer by layer."""
    tensors = safetensors.torch.load_file(folder / CHECKPOINT)
    hidden = len([name for name in tensors if name.startswith("parameters.hidden")]) // 2
    layers = [*(f"hidden{number}" for number in range(1, hidden + 1)), "output"]
    return [tensors[f"parameters.{layer}.{kind}"] for layer in layers for kind in ("weight", "bias")]


def by_pytorch(folder: Path, example: int) -> tuple[float, Tensor, Tensor]:
    """The cost of a run's network on a test digit, its outputs, and minus the gradient of each."""
    config = json.loads((folder / "config.json").read_text())
    *hidden, last = saved(folder)
    signal, wanted = digits().test.images[example].flatten() / 255, digits().test.labels[example]
    for weight, bias in zip([*hidden, last][::2], [*hidden, last][1::2], strict=True):
        signal = weight @ signal + bias
        signal = TORCH[config["activation"]](signal) if bias is not last else signal
    squared = config["cost"] == "squared_error"
    outputs = (signal.sigmoid() if squared else signal).detach().requires_grad_()
    cost = (
        (outputs - torch.eye(10)[wanted]).square().sum()
        if squared
        else torch.nn.functional.cross_entropy(outputs[None], wanted[None])
    )
    return cost.item(), outputs.detach(), -torch.autograd.grad(cost, outputs)[0]


@pytest.mark.parametrize(
    ("name", "place"),
    [("lecture", ""), ("wide", CHECKPOINT), ("bare", CHECKPOINT), ("deep", "")],
)
def test_a_runs_network_is_explained_on_the_data_that_taught_it(
    ask: Asked, runs: Path, name: str, place: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("BP_TORCH_MNIST_SOURCE", "nowhere")  # where 'auto' would look, of itself
    status, out, err = ask("--checkpoint", str(Path(name, place)), "--example", "3", "--runs-dir", f"figures of {name}")
    assert (status, err) == (0, "")
    cost, outputs, nudges = by_pytorch(runs / name, 3)
    assert out.startswith(f"data: {digits().origin}\n")
    assert re.findall(r"read as (\d): cost ([\d.]+)\n", out) == [(str(int(outputs.argmax())), f"{cost:.4f}")]
    for row, output, nudge in zip(rows(out, "nudges of the outputs"), outputs.tolist(), nudges.tolist(), strict=True):
        assert float(row[1]) == pytest.approx(output, abs=5.1e-4)
        assert float(row[3]) == pytest.approx(nudge, rel=5.1e-3, abs=5.1e-5)
    hidden = len(json.loads((runs / name / "config.json").read_text())["hidden"])
    assert re.findall(r"^hidden(\d):", out, re.M) == [str(number) for number in range(hidden, 0, -1)]
    assert (runs / f"figures of {name}" / "explain" / name / "digits_3.png").is_file()


def test_another_output_is_shown_and_drawn(ask: Asked, runs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked_for: list[Any] = []
    monkeypatch.setattr(
        command, "draw_explanation", lambda *given, title: asked_for.append((*given, title)) or Figure()
    )
    status, out, _ = ask("--checkpoint", "wide", "--example", "5", "--output", "2", "--runs-dir", "another")
    assert status == 0
    assert "output 2's three avenues" in out
    config, network = training.load_trained(runs / "wide")
    assert config.hidden == (64,)
    label = int(digits().test.labels[5])
    expected = explain(network, COSTS[config.cost].function, digits().test.images[5], label)
    ((drawn, output, title),) = asked_for
    assert torch.equal(drawn.pixel_nudges, expected.pixel_nudges)
    assert (output, title) == (2, out.splitlines()[1])
    assert (runs / "another/explain/wide/digits_5_output_2.png").is_file()


BAD: dict[str, tuple[tuple[str, ...], str]] = {
    "a digit too far": (("--checkpoint", "lecture", "--example", "100"), "must be from 0 to 99, got 100"),
    "a digit before": (("--checkpoint", "lecture", "--example", "-1"), "--example must be from 0 to 99, got -1"),
    "no number": (("--example", "seven"), "--example"),
    "no output": (("--output", "10"), "--output must be from 0 to 9, got 10"),
    "an output before": (("--output", "-1"), "--output must be from 0 to 9, got -1"),
    "no run": (("--checkpoint", "nothing"), "there is no nothing/config.json"),
    "no file": (("--checkpoint", f"nothing/{CHECKPOINT}"), "there is no nothing/config.json"),
    "half a checkpoint": (("--checkpoint", "half"), f"run 'half': its {CHECKPOINT} is damaged ("),
    "an empty one": (("--checkpoint", f"emptied/{CHECKPOINT}"), f"run 'emptied': its {CHECKPOINT} is damaged ("),
    "a list": (("--checkpoint", "listed"), f"run 'listed': its {CHECKPOINT} is damaged (no checkpoint header"),
    "another network": (("--checkpoint", "other"), f"run 'other': its {CHECKPOINT} does not fit its config.json"),
    "no parameters": (("--checkpoint", "silent"), f"run 'silent': its {CHECKPOINT} does not fit its config.json"),
    "no configuration": (("--checkpoint", "headless"), "there is no headless/config.json"),
    "a garbled one": (("--checkpoint", "garbled"), "run 'garbled': its config.json is damaged (Expecting"),
    "no data": (("--checkpoint", "lecture", "--data", "mnist", "--mnist-source", "nowhere"), "nowhere/train-images"),
    "other data": (("--data", "cifar"), "--data"),
    "an unknown flag": (("--bogus",), "--bogus"),
}  # fmt: skip


@pytest.mark.parametrize("bad", BAD)
def test_bad_input_gets_one_line_and_writes_nothing(ask: Asked, runs: Path, tmp_path: Path, bad: str) -> None:
    arguments, says = BAD[bad]
    before = sorted(runs.rglob("*"))
    status, out, err = ask(*arguments, "--data-root", str(tmp_path / "data"))
    assert (status, out) == (2, "")
    assert err.startswith("error: ")
    assert len(err.splitlines()) == 1, err
    assert says in err
    assert sorted(runs.rglob("*")) == before


def test_a_folder_that_cannot_be_written(ask: Asked, runs: Path) -> None:
    before = sorted(runs.rglob("*"))
    status, _, err = ask("--checkpoint", "lecture", "--runs-dir", "occupied")
    assert status == 2
    assert re.fullmatch(r"error: .*'occupied/explain'\n", err)
    assert sorted(runs.rglob("*")) == before


def test_in_a_process_of_its_own_a_mistake_has_status_2(tmp_path: Path) -> None:
    done = run("--output", "10", cwd=tmp_path)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == "error: --output must be from 0 to 9, got 10\n"
    assert not list(tmp_path.iterdir())


def test_a_run_trained_on_a_gpu_is_explained_without_one(ask: Asked, runs: Path) -> None:
    assert '"device": "cuda"' in (runs / "elsewhere" / "config.json").read_text()
    status, _, err = ask("--checkpoint", "elsewhere", "--runs-dir", "of a gpu")
    assert (status, err) == (0, "")


def test_a_folder_with_brackets_is_named_as_it_is(ask: Asked, monkeypatch: pytest.MonkeyPatch) -> None:
    origin = "MNIST, read by torchvision from data[old]/[/mnt]/raw"
    monkeypatch.setattr(command, "load", lambda *_, **__: replace(digits(), origin=origin))
    status, out, _ = ask("--checkpoint", "lecture", "--runs-dir", "bracketed")
    assert status == 0
    assert out.startswith(f"data: {origin}\n")


def test_a_folder_that_cannot_be_written_is_noticed_first(ask: Asked) -> None:
    assert ask("--checkpoint", "lecture", "--runs-dir", "occupied")[1] == ""
