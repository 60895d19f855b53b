"""The command that explains a test digit."""

import functools
import json
import re
import shutil
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

Run = Callable[..., tuple[int, str, str]]


@functools.cache
def digits() -> Dataset:
    """A few synthetic digits."""
    train, test = torch.arange(400) % 10, torch.arange(100) % 10
    origin = "Synthetic digits in the style of MNIST"
    return Dataset("digits", Split(draw(train, seed=1), train), Split(draw(test, seed=2), test), origin)


@pytest.fixture(autouse=True, scope="module")
def _few_digits() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        for module in (training, command):
            patch.setattr(module, "load", functools.partial(_load, module.load))
        yield


def _load(load: Callable[..., Any], name: str, *arguments: Any, **options: Any) -> Any:
    return digits() if name == "digits" else load(name, *arguments, **options)


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a run of each kind, and with damaged runs."""
    folder = tmp_path_factory.mktemp("runs")
    for name, options in RUNS.items():
        config = TrainConfig(data="digits", epochs=1, batch_size=100, compare_every=0, runs_dir=folder, run_name=name)
        training.train(replace(config, **options), lambda *_: [])
    content, settings = (folder / "lecture" / CHECKPOINT).read_bytes(), folder / "lecture" / "config.json"
    for name in ("half", "emptied", "listed", "other", "headless", "silent", "garbled", "elsewhere"):
        shutil.copytree(folder / "lecture", folder / name)
    (folder / "half" / CHECKPOINT).write_bytes(content[: len(content) // 2])
    (folder / "emptied" / CHECKPOINT).write_bytes(b"")
    (folder / "listed" / CHECKPOINT).write_bytes(b"[1, 2]")
    shutil.copy(folder / "deep" / CHECKPOINT, folder / "other" / CHECKPOINT)
    (folder / "headless" / "config.json").unlink()
    (folder / "silent" / CHECKPOINT).write_bytes(pack(State({"epoch": 1}, {})))
    (folder / "garbled" / "config.json").write_text("{")
    (folder / "elsewhere" / "config.json").write_text(settings.read_text().replace('"cpu"', '"cuda"'))
    training.train(
        TrainConfig(data="digits", model="lenet", epochs=1, frames=0, runs_dir=folder, run_name="lenet"), lambda *_: []
    )
    (folder / "occupied").write_text("a file, not a folder")
    return folder


@pytest.fixture
def run(runs: Path, monkeypatch: pytest.MonkeyPatch, run_script: Run) -> Run:
    """Run the script in the folder of the runs, with an empty figure; returns exit status, stdout and stderr."""
    monkeypatch.chdir(runs)
    monkeypatch.setenv("COLUMNS", "120")
    monkeypatch.setattr(command, "draw_explanation", lambda *_, **__: Figure(figsize=(2, 1)))
    return functools.partial(run_script, SCRIPT)


def rows(text: str, title: str) -> list[list[str]]:
    """The cells of the table with this title."""
    _, below = re.split(r"─ *\n", text.partition(title)[2], maxsplit=1)
    return [line.split() for line in takewhile(str.strip, below.splitlines())]


def agree(cells: list[str], numbers: list[float]) -> bool:
    """Whether each cell is its number, rounded to the digits shown."""
    pairs = [(Decimal(cell), number) for cell, number in zip(cells, numbers, strict=True)]
    return all(abs(float(d) - number) <= 0.51 * 10.0 ** int(d.as_tuple().exponent) for d, number in pairs)


def test_by_default_a_network_is_trained_and_explained(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With fewer steps, and with the real figure."""
    monkeypatch.setattr(command, "draw_explanation", draw_explanation)
    monkeypatch.setattr(setup, "STEPS", 600)
    monkeypatch.chdir(tmp_path)
    status, out, err = run("--data", "digits", "--example", "7")
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
    """The saved weights and biases of a run, layer by layer."""
    tensors = safetensors.torch.load_file(folder / CHECKPOINT)
    hidden = len([name for name in tensors if name.startswith("parameters.hidden")]) // 2
    layers = [*(f"hidden{number}" for number in range(1, hidden + 1)), "output"]
    return [tensors[f"parameters.{layer}.{kind}"] for layer in layers for kind in ("weight", "bias")]


def by_pytorch(folder: Path, example: int) -> tuple[float, Tensor, Tensor]:
    """Cost, outputs and minus the gradients of the outputs of a run's network for a test digit, by torch.nn."""
    config = json.loads((folder / "config.json").read_text())
    *hidden, last = saved(folder)
    signal, label = digits().test.images[example].flatten() / 255, digits().test.labels[example]
    for weight, bias in zip([*hidden, last][::2], [*hidden, last][1::2], strict=True):
        signal = weight @ signal + bias
        signal = TORCH[config["activation"]](signal) if bias is not last else signal
    squared = config["cost"] == "squared_error"
    outputs = (signal.sigmoid() if squared else signal).detach().requires_grad_()
    cost = (
        (outputs - torch.eye(10)[label]).square().sum()
        if squared
        else torch.nn.functional.cross_entropy(outputs[None], label[None])
    )
    return cost.item(), outputs.detach(), -torch.autograd.grad(cost, outputs)[0]


@pytest.mark.parametrize(
    ("name", "file"),
    [("lecture", ""), ("wide", CHECKPOINT), ("bare", CHECKPOINT), ("deep", "")],
)
def test_a_trained_network_is_explained_on_the_data_of_its_run(
    run: Run, runs: Path, name: str, file: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("BP_TORCH_MNIST_SOURCE", "nowhere")  # would be used by --data auto for another run
    status, out, err = run("--checkpoint", str(Path(name, file)), "--example", "3", "--runs-dir", f"figures of {name}")
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


def test_another_output_is_printed_and_drawn(run: Run, runs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[Any] = []
    monkeypatch.setattr(
        command, "draw_explanation", lambda *arguments, title: calls.append((*arguments, title)) or Figure()
    )
    status, out, _ = run("--checkpoint", "wide", "--example", "5", "--output", "2", "--runs-dir", "another")
    assert status == 0
    assert "output 2's three avenues" in out
    config, network = training.load_trained(runs / "wide")
    assert config.hidden == (64,)
    label = int(digits().test.labels[5])
    expected = explain(network, COSTS[config.cost].function, digits().test.images[5], label)
    ((drawn, output, title),) = calls
    assert torch.equal(drawn.pixel_nudges, expected.pixel_nudges)
    assert (output, title) == (2, out.splitlines()[2])
    assert (runs / "another/explain/wide/digits_5_output_2.png").is_file()


BAD: dict[str, tuple[tuple[str, ...], str]] = {
    "an index too large": (("--checkpoint", "lecture", "--example", "100"), "must be from 0 to 99, got 100"),
    "a negative index": (("--checkpoint", "lecture", "--example", "-1"), "--example must be from 0 to 99, got -1"),
    "not a number": (("--example", "seven"), "--example"),
    "an output too large": (("--output", "10"), "--output must be from 0 to 9, got 10"),
    "a negative output": (("--output", "-1"), "--output must be from 0 to 9, got -1"),
    "no run": (("--checkpoint", "nothing"), "there is no nothing/config.json"),
    "no file": (("--checkpoint", f"nothing/{CHECKPOINT}"), "there is no nothing/config.json"),
    "half a checkpoint": (("--checkpoint", "half"), f"run 'half': its {CHECKPOINT} is damaged ("),
    "an empty one": (("--checkpoint", f"emptied/{CHECKPOINT}"), f"run 'emptied': its {CHECKPOINT} is damaged ("),
    "a list": (("--checkpoint", "listed"), f"run 'listed': its {CHECKPOINT} is damaged (no checkpoint header"),
    "another network": (("--checkpoint", "other"), f"run 'other': its {CHECKPOINT} does not fit its config.json"),
    "no parameters": (("--checkpoint", "silent"), f"run 'silent': its {CHECKPOINT} does not fit its config.json"),
    "no configuration": (("--checkpoint", "headless"), "there is no headless/config.json"),
    "a garbled one": (("--checkpoint", "garbled"), "run 'garbled': its config.json is damaged (Expecting"),
    "convolutions": (("--checkpoint", "lenet"), "--checkpoint lenet is a lenet; only a network of mlp is explained"),
    "no data": (("--checkpoint", "lecture", "--data", "mnist", "--mnist-source", "nowhere"), "nowhere/train-images"),
    "other data": (("--data", "cifar"), "--data"),
    "an unknown flag": (("--bogus",), "--bogus"),
}  # fmt: skip


@pytest.mark.parametrize("bad", BAD)
def test_bad_usage_prints_one_line_and_writes_nothing(run: Run, runs: Path, tmp_path: Path, bad: str) -> None:
    arguments, message = BAD[bad]
    before = sorted(runs.rglob("*"))
    status, out, err = run(*arguments, "--data-root", str(tmp_path / "data"))
    assert (status, out) == (2, "")
    assert err.startswith("error: ")
    assert len(err.splitlines()) == 1, err
    assert message in err
    assert sorted(runs.rglob("*")) == before


def test_a_folder_that_cannot_be_written(run: Run, runs: Path) -> None:
    before = sorted(runs.rglob("*"))
    status, out, err = run("--checkpoint", "lecture", "--runs-dir", "occupied")
    assert (status, out) == (2, "")
    assert re.fullmatch(r"error: .*'occupied/explain'\n", err)
    assert sorted(runs.rglob("*")) == before


def test_a_run_trained_on_a_gpu_is_explained_without_one(run: Run, runs: Path) -> None:
    assert '"device": "cuda"' in (runs / "elsewhere" / "config.json").read_text()
    status, _, err = run("--checkpoint", "elsewhere", "--runs-dir", "of a gpu")
    assert (status, err) == (0, "")


def test_brackets_in_the_name_of_a_folder_are_printed(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    origin = "MNIST, read by torchvision from data[old]/[/mnt]/raw"
    monkeypatch.setattr(command, "load", lambda *_, **__: replace(digits(), origin=origin))
    status, out, _ = run("--checkpoint", "lecture", "--runs-dir", "bracketed")
    assert status == 0
    assert out.startswith(f"data: {origin}\n")
