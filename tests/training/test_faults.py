"""Faults around training: each is caused for real, ends with one line, and loses nothing that was saved."""

import os
import re
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
import safetensors.torch
import torch
from killable import TrainingServer, wait_for
from recording import train
from tensorboard.backend.event_processing.plugin_event_accumulator import EventAccumulator

from bp_torch.dashboard import tags
from bp_torch.data import DataError, Dataset, Split
from bp_torch.training.state.run_dir import BEST, CHECKPOINT, PREVIOUS, SUMMARY, RunError, lock_run, unpack

QUICK = ("--data", "digits", "--epochs", "2", "--frames", "0", "--compare-every", "0", "--checkpoint-seconds", "0")
Parameters = dict[str, torch.Tensor]


@pytest.fixture(scope="module")
def final_parameters(small_digits: Dataset) -> Parameters:
    """The parameters at the end of an uninterrupted run."""
    trainer, _, _ = train(small_digits, epochs=2, compare_every=0)
    return dict(trainer.model.state_dict())


def ended_with(folder: Path, parameters: Parameters) -> bool:
    """Whether the run is complete and its last checkpoint has these parameters."""
    saved = safetensors.torch.load_file(folder / CHECKPOINT)
    return (folder / SUMMARY).exists() and all(torch.equal(saved[f"parameters.{k}"], v) for k, v in parameters.items())


@pytest.mark.parametrize(("number", "status"), [(signal.SIGTERM, 143), (signal.SIGINT, 130), (signal.SIGHUP, 129)])
def test_a_signal_to_stop_finishes_the_step_and_saves(
    server: TrainingServer, final_parameters: Parameters, number: signal.Signals, status: int
) -> None:
    folder = server.folder / "runs" / number.name
    (pid,) = server.start(*QUICK, "--checkpoint-seconds", "1000", "--run-name", number.name, pause_at=7)
    assert server.stop_at_pause(pid, number) == [status]
    assert unpack((folder / CHECKPOINT).read_bytes()).values["step"] == len(server.costs()) == 7
    *_, message = server.stderr().splitlines()
    assert (
        message == f"stopped by {number.name} after 7 of 20 steps; resume with: {server.program} --resume={number.name}"
    )
    assert server.train("--resume", number.name, "--quiet") == 0, server.stderr()
    assert server.stderr() == "data: a thousand digits\n"
    assert len(server.costs()) == 13
    assert ended_with(folder, final_parameters)


def test_a_second_ctrl_c_ends_the_process_immediately(server: TrainingServer) -> None:
    """Also during an operation on a file that does not return."""
    folder = server.folder / "runs" / "impatient"
    (pid,) = server.start(*QUICK, "--run-name", "impatient", block_at=40)
    wait_for(server.folder / "blocked")
    before = (folder / CHECKPOINT).read_bytes()
    os.kill(pid, signal.SIGINT)
    wait_for(server.folder / "signalled")
    os.kill(pid, signal.SIGINT)
    assert server.wait() == [130]
    assert server.stderr().splitlines()[-1] == "interrupted"
    assert (folder / CHECKPOINT).read_bytes() == before


@pytest.fixture
def small_disk(server: TrainingServer) -> Iterator[Path]:
    """A file system of one megabyte; the test is skipped without the right to mount one."""
    disk = server.folder / "disk"
    disk.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(disk)]
    if subprocess.run(mount, check=False, capture_output=True).returncode:
        pytest.skip("no file system can be mounted here")
    yield disk
    subprocess.run(["umount", str(disk)], check=True)


def test_a_full_disk(server: TrainingServer, small_disk: Path, final_parameters: Parameters) -> None:
    (small_disk / "other").write_bytes(bytes(900_000))
    flags = ("--runs-dir", "disk")
    assert server.train(*QUICK, *flags, "--run-name", "full") == 2
    (line,) = server.errors()
    assert "No space left on device; " in line
    assert line.endswith(f" steps are saved; resume with: {server.program} --resume=full --runs-dir=disk")
    assert not list((small_disk / "full").glob(".*.new")), "unfinished files are removed"
    (small_disk / "other").unlink()
    assert server.train(*flags, "--resume", "full") == 0, server.stderr()
    assert ended_with(small_disk / "full", final_parameters)


def test_a_limit_on_the_size_of_files(server: TrainingServer, final_parameters: Parameters) -> None:
    """The limit is reached within an event; the events before it stay valid."""
    assert server.train(*QUICK, "--frames", "5", "--run-name", "limited", file_size=300_000) == 2
    (line,) = server.errors()
    assert "File too large; " in line
    assert server.train("--resume", "limited") == 0
    assert "damaged" not in server.stderr()
    assert ended_with(server.folder / "runs" / "limited", final_parameters)


@pytest.fixture
def read_only() -> Iterator[list[Path]]:
    """Folders to make writable again after the test."""
    folders: list[Path] = []
    yield folders
    for folder in folders:
        make_writable(folder)


def make_read_only(folder: Path) -> None:
    """Remove the permission to write, or for root, who needs none, mount the folder read-only over itself."""
    if os.geteuid() != 0:
        folder.chmod(0o555)
        return
    bind = ["mount", "--bind", str(folder), str(folder)]
    if subprocess.run(bind, check=False, capture_output=True).returncode:
        pytest.skip("root can write anywhere, and no file system can be mounted here")
    subprocess.run(["mount", "-o", "remount,bind,ro", str(folder)], check=True)


def make_writable(folder: Path) -> None:
    if os.geteuid() != 0:
        folder.chmod(0o755)
    else:
        subprocess.run(["umount", str(folder)], check=False, capture_output=True)


def test_a_folder_that_becomes_read_only(
    server: TrainingServer, final_parameters: Parameters, read_only: list[Path]
) -> None:
    folder = server.folder / "runs" / "locked"
    server.start(*QUICK, "--run-name", "locked", pause_at=5)
    server.wait_for_pause()
    make_read_only(folder)
    server.unpause()
    read_only.append(folder)
    assert server.wait() == [2]
    (line,) = server.errors()
    assert line.startswith("error: cannot write runs/locked/")
    before = (folder / CHECKPOINT).read_bytes()
    assert server.train("--resume", "locked") == 2
    (line,) = server.errors()
    assert "cannot write runs/locked" in line
    make_writable(folder)
    assert (folder / CHECKPOINT).read_bytes() == before
    assert server.train("--resume", "locked") == 0, server.stderr()
    assert ended_with(folder, final_parameters)


def kill_in_step_14(server: TrainingServer, name: str) -> None:
    (pid,) = server.start(*QUICK, "--run-name", name, pause_at=14)
    assert server.stop_at_pause(pid, signal.SIGKILL) == [-signal.SIGKILL]


@pytest.fixture
def killed_run(server: TrainingServer, request: pytest.FixtureRequest) -> Path:
    """The folder of a run that was killed, with checkpoints of several steps."""
    name = request.node.name.replace("[", "_").replace("]", "").replace(" ", "_")
    kill_in_step_14(server, name)
    folder = server.folder / "runs" / name
    assert {CHECKPOINT, PREVIOUS, BEST} <= {path.name for path in folder.iterdir()}
    return folder


@pytest.mark.parametrize("damage", ["truncated", "a flipped bit", "empty", "missing"])
def test_a_damaged_checkpoint_is_replaced_by_the_one_before(
    server: TrainingServer, killed_run: Path, final_parameters: Parameters, damage: str
) -> None:
    content = (killed_run / CHECKPOINT).read_bytes()
    middle = len(content) // 2
    flipped = content[:middle] + bytes([content[middle] ^ 1]) + content[middle + 1 :]
    contents = {"truncated": content[:-1], "a flipped bit": flipped, "empty": b"", "missing": None}
    (killed_run / CHECKPOINT).unlink()  # it may be a hard link to the checkpoint before
    if (damaged := contents[damage]) is not None:
        (killed_run / CHECKPOINT).write_bytes(damaged)
    assert server.train("--resume", killed_run.name) == 0, server.stderr()
    reported = f"{CHECKPOINT} is damaged: resuming from {PREVIOUS}" in server.stderr()
    assert reported == (damaged is not None)
    assert ended_with(killed_run, final_parameters)
    if damaged is not None:
        assert (killed_run / f"{CHECKPOINT}.damaged").read_bytes() == damaged, "damaged files are kept"


def test_the_best_checkpoint_is_used_last(
    server: TrainingServer, killed_run: Path, final_parameters: Parameters
) -> None:
    for name in (CHECKPOINT, PREVIOUS):
        (killed_run / name).write_bytes(b"damaged")
    assert server.train("--resume", killed_run.name) == 0, server.stderr()
    assert ended_with(killed_run, final_parameters)


def test_without_a_valid_checkpoint_nothing_is_changed(server: TrainingServer, killed_run: Path) -> None:
    for name in (CHECKPOINT, PREVIOUS, BEST):
        (killed_run / name).write_bytes(b"damaged")
    before = {path.name: path.read_bytes() for path in killed_run.iterdir() if path.is_file()}
    assert server.train("--resume", killed_run.name) == 2
    (line,) = server.errors()
    assert "checkpoint.safetensors is damaged" in line
    assert before == {path.name: path.read_bytes() for path in killed_run.iterdir() if path.is_file()}


def logged_steps(folder: Path) -> list[int]:
    """The steps of the test cost that TensorBoard reads."""
    board = EventAccumulator(str(folder), size_guidance={"tensors": 0})
    board.Reload()
    return [event.step for event in board.Tensors(tags.TEST_COST)] if tags.TEST_COST in board.Tags()["tensors"] else []


def test_a_damaged_event_file(server: TrainingServer, killed_run: Path, final_parameters: Parameters) -> None:
    """TensorBoard does not read the events after a damaged byte until the run is resumed."""
    (path,) = killed_run.glob("events.out.tfevents.*")
    content = bytearray(path.read_bytes())
    content[200] ^= 1
    path.write_bytes(content + b"torn")
    assert logged_steps(killed_run) == []
    assert server.train("--resume", killed_run.name) == 0, server.stderr()
    assert f"{path.name} was damaged: " in server.stderr()
    assert logged_steps(killed_run) == [9, 19]
    assert ended_with(killed_run, final_parameters)
    assert path.with_name(path.name.replace("tfevents", "damaged")).read_bytes() == content + b"torn"


def test_a_run_is_trained_by_only_one_process(server: TrainingServer) -> None:
    folder = server.folder / "runs" / "twice"
    message = "run 'twice' in .*runs is being trained by another process"
    kill_in_step_14(server, "twice")
    lock = lock_run(folder)  # the killed process has released it
    before = {path.name: path.read_bytes() for path in folder.iterdir() if path.is_file()}
    for flags in (("--resume", "twice"), (*QUICK, "--run-name", "twice", "--overwrite")):
        assert server.train(*flags) == 2
        assert re.fullmatch(f"error: {message}", server.errors()[0])
    assert before == {path.name: path.read_bytes() for path in folder.iterdir() if path.is_file()}
    lock.release()
    (pid,) = server.start("--resume", "twice", pause_at=1)
    server.wait_for_pause()
    with pytest.raises(RunError, match=message):
        lock_run(folder)
    os.kill(pid, signal.SIGKILL)
    assert server.wait() == [-signal.SIGKILL]


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda s: s._replace(labels=s.labels.clone().index_fill_(0, torch.tensor([3]), 10)), "label 3 must be from 0"),
        (lambda s: s._replace(labels=s.labels.clone().index_fill_(0, torch.tensor([3]), -1)), "got -1"),
        (lambda s: s._replace(labels=s.labels[:-1]), "one for each of 1000 images"),
        (lambda s: s._replace(labels=s.labels.float()), "labels must be int64"),
        (lambda s: s._replace(images=s.images.float()), "images must be uint8"),
        (
            lambda s: s._replace(images=s.images.flatten(1)),
            "must be uint8 (N, H, W), got torch.uint8 (1000, 784)",
        ),
        (
            lambda s: s._replace(images=s.images[:, :14]),
            "test split: images must be uint8 (N, 14, 28), got torch.uint8",
        ),
        (lambda s: Split(s.images[:0], s.labels[:0]), "one for each of 0 images"),
    ],
)
def test_invalid_images_and_labels_are_refused(small_digits: Dataset, damage: object, message: str) -> None:
    with pytest.raises(DataError) as error:
        Dataset("digits", damage(small_digits.train), small_digits.test, "damaged")  # type: ignore[operator]
    assert message in str(error.value)
    assert "\n" not in str(error.value)
