"""The lecture's claims, measured as a user has it done, and read back from all that is left behind."""

import json
import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from bp_torch import cli
from bp_torch.dashboard import tags

SCRIPT = Path(__file__).parents[2] / "scripts" / "experiments.py"
ASKED = ("averaging", "labelled_data")
SIZES = [100, 1000, 20_000]

Done = subprocess.CompletedProcess[str]
Asked = Callable[..., tuple[int, str, str]]


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Done]:
    """Two experiments of nine, done by a process of their own."""
    folder = tmp_path_factory.mktemp("finished")
    command = [sys.executable, str(SCRIPT), *ASKED, "--quick", "--data", "digits"]
    environment = {**os.environ, "COLUMNS": "200"}
    done = subprocess.run(
        command, cwd=folder, env=environment, capture_output=True, text=True, check=False, timeout=120
    )
    assert done.returncode == 0, done.stderr
    return folder, done


@pytest.fixture
def ask(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Asked:
    """Ask in this process, in an empty folder: exit status, stdout, stderr."""
    monkeypatch.setattr(sys, "path", [str(SCRIPT.parent), *sys.path])
    import experiments

    monkeypatch.setattr(torch, "set_num_threads", lambda _: None)  # which would outlast the test
    monkeypatch.chdir(tmp_path)

    def asked(*arguments: str) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", [str(SCRIPT), *arguments])
        with pytest.raises(SystemExit) as stopped:
            cli.run(experiments.main, experiments.DataError, experiments.RunError)
        said = capsys.readouterr()
        return int(stopped.value.code or 0), said.out, said.err

    return asked


def events(folder: Path) -> EventAccumulator:
    board = EventAccumulator(str(folder), size_guidance={"scalars": 0})
    board.Reload()
    return board


def claims(folder: Path) -> list[dict[str, Any]]:
    kept = json.loads((folder / "claims.json").read_text(encoding="utf-8"))
    return [claim for experiment in kept.values() for claim in experiment["claims"]]


def test_the_claims_are_told_and_kept(finished: tuple[Path, Done]) -> None:
    folder, done = finished
    kept = claims(folder / "runs" / "experiments")
    assert [(claim["statement"], claim["holds"]) for claim in kept] == [(10, True), (15, True)]
    assert "of 2 seeds" in kept[1]["measured"], "--quick: of three otherwise"
    assert all(set(claim) == {"statement", "claim", "measured", "holds", "of"} for claim in kept)
    assert "The lecture's claims, measured on digits" in done.stdout
    told = re.findall(
        r"^│ +(\d+) │ (.*?) +│ (.*?) +│ (\w+) +│ \w+ +│\n(?:│ +│ (.*?) +│ (.*?) +│ +│ +│\n)?", done.stdout, re.M
    )
    for (number, claim, measured, holds, *more), one in zip(told, kept, strict=True):
        assert (int(number), holds) == (one["statement"], "yes")
        assert " ".join((claim, more[0])).strip() == one["claim"]
        assert " ".join((measured, more[1])).strip() == one["measured"]
    assert done.stdout.splitlines()[-2] == "figures    runs/experiments"
    assert re.sub(r"[\d.]+ s", "", done.stderr).splitlines() == [
        "data: Digits drawn by bp_torch in the manner of MNIST", *(f"{name}: " for name in ASKED)
    ]  # fmt: skip


def test_the_record_says_of_what(finished: tuple[Path, Done]) -> None:
    record = json.loads((finished[0] / "runs" / "experiments" / "claims.json").read_text(encoding="utf-8"))
    assert list(record) == list(ASKED)
    for kept in record.values():
        assert kept.pop("claims")
        assert kept == {"data": "digits", "quick": True, "seed": 0}


def test_each_experiment_leaves_its_figure_and_nothing_else(finished: tuple[Path, Done]) -> None:
    folder = finished[0] / "runs" / "experiments"
    names = {path.name for path in folder.iterdir() if not path.name.startswith("events.out.tfevents.")}
    assert names == {"claims.json", *(f"{name}.png" for name in ASKED)}
    assert len(list(finished[0].rglob("*"))) == len(names) + 3  # the event file, and the two folders
    for name in ASKED:
        with Image.open(folder / f"{name}.png") as figure:
            assert figure.format == "PNG"
            assert len(figure.convert("L").getcolors() or ()) > 10, "it is not empty"


def test_tensorboard_shows_what_was_measured(finished: tuple[Path, Done]) -> None:
    folder = finished[0] / "runs" / "experiments"
    board, (averaging, labelled_data) = events(folder), claims(folder)
    assert set(board.Tags()["images"]) == {tags.experiment_picture(name) for name in ASKED}
    for name in ASKED:
        (picture,) = board.Images(tags.experiment_picture(name))
        with Image.open(folder / f"{name}.png") as figure:
            assert (picture.width, picture.height) == figure.size
    differences = [
        board.Scalars(tags.experiment("averaging", f"largest_difference_from_{what}")) for what in ("gradient", "step")
    ]
    assert [f"{one.value:.1e}" for (one,) in differences] == re.findall(r"\d\.\de-\d+", averaging["measured"])
    curve = board.Scalars(tags.experiment_curve("labelled_data", "test_accuracy"))
    assert [point.step for point in curve] == SIZES
    told = re.findall(r"([\d.]+)% ± [\d.]+ from (\d+(?:,\d+)?)", labelled_data["measured"])
    reached = {f"{point.step:,}": point.value for point in curve}
    assert [reached[size] for _, size in told] == pytest.approx([float(share) / 100 for share, _ in told], abs=6e-4)
    assert len(told) == 3
    (accuracy,) = board.Scalars(tags.experiment("labelled_data", "accuracy_from_all"))
    assert (accuracy.step, accuracy.value) == (0, curve[-1].value)
    page = board.Tensors(tags.CLAIMS)[0].tensor_proto.string_val[0].decode()
    for claim in (averaging, labelled_data):
        assert (
            f"| {claim['statement']} | {claim['claim']} | {claim['measured']} | yes | {claim['of']} |"
            in page.replace("\\", "")
        )


def test_a_second_time_takes_the_first_ones_place(finished: tuple[Path, Done], ask: Asked) -> None:
    folder = finished[0] / "runs" / "experiments"
    before = {path: path.read_bytes() for path in folder.glob("*.png")}
    status, out, err = ask("one_class", "--quick", "--data", "digits", "--seed", "1", "--runs-dir", str(folder.parent))
    assert status == 0, err
    assert "taught 2s alone" in out
    assert [claim["statement"] for claim in claims(folder)] == [10, 15, 11], "those from before are kept"
    board = events(folder)
    assert board.Scalars(tags.experiment("one_class", "answers_2_if_taught_2"))[0].value == 1
    assert len(board.Images(tags.experiment_picture("one_class"))) == 1
    assert tags.experiment_curve("labelled_data", "test_accuracy") not in board.Tags()["scalars"]
    assert tags.experiment_picture("averaging") not in board.Tags()["images"]
    page = board.Tensors(tags.CLAIMS)[-1].tensor_proto.string_val[0].decode()
    assert "taught 2s alone" in page
    assert "labelled data" not in page
    assert before == {path: path.read_bytes() for path in before}


@pytest.mark.parametrize(
    ("arguments", "says"),
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
def test_bad_input_gets_one_line_and_changes_nothing(ask: Asked, arguments: tuple[str, ...], says: str) -> None:
    Path("occupied").write_text("a file, not a folder")
    status, out, err = ask(*arguments)
    assert (status, out) == (2, "")
    assert err.startswith("error: ")
    assert len(err.splitlines()) == 1, err
    assert says in err
    assert os.listdir() == ["occupied"]


def test_a_training_run_of_that_name_is_left_alone(ask: Asked) -> None:
    run = Path("runs", "experiments")
    run.mkdir(parents=True)
    (run / "config.json").write_text("{}")
    status, out, err = ask("averaging", "--quick", "--data", "digits")
    assert (status, out) == (2, "")
    assert err == f"error: {run} holds a training run of that name: choose another --runs-dir\n"
    assert [(path.name, path.read_text()) for path in run.iterdir()] == [("config.json", "{}")]


def test_data_that_cannot_be_had_leave_nothing(ask: Asked) -> None:
    status, _, err = ask("averaging", "--data", "mnist", "--mnist-source", "nowhere", "--data-root", "data")
    assert status == 2
    assert "nowhere/train-images" in err
    assert not Path("runs").exists()
