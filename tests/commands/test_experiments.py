"""The command that measures the lecture's claims: its output, files and events."""

import json
import os
import re
import sys
from collections.abc import Callable
from contextlib import redirect_stderr, redirect_stdout
from functools import partial
from io import StringIO
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import torch
from matplotlib.figure import Figure
from PIL import Image
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from bp_torch.commands import experiments as command
from bp_torch.dashboard import tags
from bp_torch.data import Dataset, Split, load
from bp_torch.data.digits import draw
from bp_torch.inspection.experiments import EXPERIMENTS, Claim, ExperimentResult, setup

SCRIPT = Path(__file__).parents[2] / "scripts" / "experiments.py"
SIZES = [100, 1000, 4000]
TIMED = ("the gradient of 100 examples is a large speedup", "mini-batches are the far quicker way to the same cost")
"""Claims about speed; tests/inspection/test_experiments.py checks them with fixed times."""

Run = Callable[..., tuple[int, str, str]]


class Finished(NamedTuple):
    """The folder of a finished run of the script, and its output."""

    folder: Path
    stdout: str
    stderr: str


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Finished:
    """All experiments, as by `make experiments ARGS="--quick --data digits"`, with fewer digits and steps."""
    folder, out, err = tmp_path_factory.mktemp("finished"), StringIO(), StringIO()
    with pytest.MonkeyPatch.context() as patch, redirect_stdout(out), redirect_stderr(err):
        patch.setenv("COLUMNS", "200")
        patch.setattr(setup, "STEPS", 1000)
        patch.setattr(sys, "argv", [str(SCRIPT), "--quick", "--data", "digits"])
        patch_command(patch, folder, digits(4000, 1000))
        with pytest.raises(SystemExit) as stopped:
            command.main()
    assert stopped.value.code == 0, err.getvalue()
    return Finished(folder, out.getvalue(), err.getvalue())


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, run_script: Run) -> Run:
    """Run the script in an empty folder; returns exit status, stdout and stderr."""
    patch_command(monkeypatch, tmp_path, digits(10, 10))
    return partial(run_script, SCRIPT)


def patch_command(patch: pytest.MonkeyPatch, folder: Path, dataset: Dataset) -> None:
    """Run the command in a folder, with a data set instead of the digits that it would draw."""
    patch.setattr(command, "load", lambda name, *at, **by: dataset if name == "digits" else load(name, *at, **by))
    patch.chdir(folder)


def digits(train: int, test: int) -> Dataset:
    labels, test_labels = torch.arange(train) % 10, torch.arange(test) % 10
    origin = "Synthetic digits in the style of MNIST"
    return Dataset("digits", Split(draw(labels, seed=1), labels), Split(draw(test_labels, seed=2), test_labels), origin)


def events(folder: Path) -> EventAccumulator:
    board = EventAccumulator(str(folder), size_guidance={"scalars": 0})
    board.Reload()
    return board


def claims(folder: Path) -> list[dict[str, Any]]:
    stored = json.loads((folder / "claims.json").read_text(encoding="utf-8"))
    return [claim for experiment in stored.values() for claim in experiment["claims"]]


def test_every_statement_from_4_to_15_is_measured(finished: Finished) -> None:
    """Three claims do not hold."""
    stored = claims(finished.folder / "runs" / "experiments")
    assert {claim["statement"] for claim in stored} == set(range(4, 16))
    assert [claim["claim"] for claim in stored if not claim["holds"] and claim["claim"] not in TIMED] == [
        "while it learns, the gradient of 100 examples approximates that of all 4,000 well, within 45°",
        "after learning, the gradient of 100 examples approximates that of all 4,000 well, within 45°",
        "where they end is a local minimum: no direction curves downwards",
    ]
    assert set(TIMED) <= {claim["claim"] for claim in stored}
    assert {claim["statement"] for claim in stored if claim["scope"] == "every network"} == {4, 5, 6, 7, 9, 10}


def test_the_claims_are_printed_and_stored(finished: Finished) -> None:
    stored = claims(finished.folder / "runs" / "experiments")
    assert "of 2 seeds" in stored[-1]["measured"], "three without --quick"
    assert all(set(claim) == {"statement", "claim", "measured", "holds", "scope"} for claim in stored)
    assert "The lecture's claims, measured on digits" in finished.stdout
    _, *blocks, _ = re.split(r"\n *\n", finished.stdout)
    assert [" ".join(block.split()) for block in blocks] == [
        f"{c['statement']} {c['claim']} measured: {c['measured']} holds: {'yes' if c['holds'] else 'no'} ({c['scope']})"
        for c in stored
    ]
    assert finished.stdout.splitlines()[-2] == "figures     runs/experiments"
    assert re.sub(r"[\d.]+ s", "", finished.stderr).splitlines() == [
        "data: Synthetic digits in the style of MNIST", *(f"{name}: " for name in EXPERIMENTS)
    ]  # fmt: skip


def test_the_claims_file_names_data_and_seed(finished: Finished) -> None:
    record = json.loads((finished.folder / "runs" / "experiments" / "claims.json").read_text(encoding="utf-8"))
    assert list(record) == list(EXPERIMENTS)
    for experiment in record.values():
        assert experiment.pop("claims")
        assert experiment == {"data": "digits", "quick": True, "seed": 0}


def test_each_experiment_writes_only_its_figure(finished: Finished) -> None:
    folder = finished.folder / "runs" / "experiments"
    names = {path.name for path in folder.iterdir() if not path.name.startswith("events.out.tfevents.")}
    assert names == {"claims.json", *(f"{name}.png" for name in EXPERIMENTS)}
    assert len(list(finished.folder.rglob("*"))) == len(names) + 3  # the event file, and the two folders
    for name in EXPERIMENTS:
        with Image.open(folder / f"{name}.png") as figure:
            assert figure.format == "PNG"
            assert len(figure.convert("L").getcolors() or ()) > 10, "not empty"


def test_tensorboard_shows_the_measurements(finished: Finished) -> None:
    folder = finished.folder / "runs" / "experiments"
    board, by_statement = events(folder), {claim["statement"]: claim for claim in claims(folder)}
    averaging, labelled_data = by_statement[10], by_statement[15]
    assert set(board.Tags()["images"]) == {tags.experiment_picture(name) for name in EXPERIMENTS}
    for name in EXPERIMENTS:
        (picture,) = board.Images(tags.experiment_picture(name))
        with Image.open(folder / f"{name}.png") as figure:
            assert (picture.width, picture.height) == figure.size
    differences = [
        board.Scalars(tags.experiment("averaging", f"largest_difference_from_{what}")) for what in ("gradient", "step")
    ]
    assert [f"{one.value:.1e}" for (one,) in differences] == re.findall(r"\d\.\de-\d+", averaging["measured"])
    curve = board.Scalars(tags.experiment_curve("labelled_data", "test_accuracy"))
    assert [point.step for point in curve] == SIZES
    printed = re.findall(r"([\d.]+)% ± [\d.]+ from (\d+(?:,\d+)?)", labelled_data["measured"])
    accuracies = {f"{point.step:,}": point.value for point in curve}
    assert [accuracies[size] for _, size in printed] == pytest.approx(
        [float(share) / 100 for share, _ in printed], abs=6e-4
    )
    assert len(printed) == 3
    (accuracy,) = board.Scalars(tags.experiment("labelled_data", "accuracy_from_all"))
    assert (accuracy.step, accuracy.value) == (0, curve[-1].value)
    page = board.Tensors(tags.CLAIMS)[0].tensor_proto.string_val[0].decode()
    for claim in by_statement.values():
        holds = "yes" if claim["holds"] else "no"
        row = f"| {claim['statement']} | {claim['claim']} | {claim['measured']} | {holds} | {claim['scope']} |"
        assert row in page.replace("\\", "")


def test_a_second_run_replaces_the_results_of_the_first(
    finished: Finished, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = finished.folder / "runs" / "experiments"
    before = {path: path.read_bytes() for path in folder.glob("*.png") if path.name != "one_class.png"}
    result = ExperimentResult((Claim(11, "again", "so", True, "this network"),), {"again": 1.0}, Figure(figsize=(2, 1)))
    seeds: list[int] = []
    monkeypatch.setitem(EXPERIMENTS, "one_class", lambda setup: seeds.append(setup.seed) or result)
    status, out, err = run("one_class", "--quick", "--data", "digits", "--seed", "1", "--runs-dir", str(folder.parent))
    assert (status, seeds) == (0, [1]), err
    assert "again" in out
    record = json.loads((folder / "claims.json").read_text(encoding="utf-8"))
    assert list(record) == list(EXPERIMENTS), "the other claims are kept"
    assert (record["one_class"]["seed"], len(record["one_class"]["claims"])) == (1, 1)
    board = events(folder)
    assert board.Scalars(tags.experiment("one_class", "again"))[0].value == 1
    assert len(board.Images(tags.experiment_picture("one_class"))) == 1
    assert tags.experiment_curve("labelled_data", "test_accuracy") not in board.Tags()["scalars"]
    assert tags.experiment_picture("averaging") not in board.Tags()["images"]
    page = board.Tensors(tags.CLAIMS)[-1].tensor_proto.string_val[0].decode()
    assert "again" in page
    assert "labelled data" not in page
    assert before == {path: path.read_bytes() for path in before}


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("bogus",), "unknown experiment 'bogus'; expected one of direction, wiggles, one_example"),
        (("averaging", "bogus"), "unknown experiment 'bogus'"),
        (("--seed", "-1"), "--seed must be from 0 to"),
        (("--seed", str(2**32)), "--seed must be from 0 to"),
        (("--data", "cifar"), "--data"),
        (("--bogus",), "--bogus"),
        (("averaging", "--data", "digits", "--runs-dir", "occupied"), "'occupied/experiments'"),
    ],
)
def test_bad_usage_prints_one_line_and_changes_nothing(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, arguments: tuple[str, ...], message: str
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("occupied").write_text("a file, not a folder")
    status, out, err = run(*arguments)
    assert (status, out) == (2, "")
    assert err.startswith("error: ")
    assert len(err.splitlines()) == 1, err
    assert message in err
    assert os.listdir() == ["occupied"]


def test_a_training_run_in_the_folder_is_not_changed(run: Run, tmp_path: Path) -> None:
    folder = tmp_path / "runs" / "experiments"
    folder.mkdir(parents=True)
    (folder / "config.json").write_text("{}")
    status, out, err = run("averaging", "--quick", "--data", "digits")
    assert (status, out) == (2, "")
    assert err == f"error: {folder.relative_to(tmp_path)} holds a training run: choose another --runs-dir\n"
    assert [(path.name, path.read_text()) for path in folder.iterdir()] == [("config.json", "{}")]


def test_missing_data_leave_no_files(run: Run) -> None:
    status, _, err = run("averaging", "--data", "mnist", "--mnist-source", "nowhere", "--data-root", "data")
    assert status == 2
    assert "nowhere/train-images" in err
    assert not Path("runs").exists()
