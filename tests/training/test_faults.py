"""What goes wrong around training: each fault is really made, ends in one line, and loses nothing that was saved."""

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
from bp_torch.training.state.run_dir import BEST, CHECKPOINT, PREVIOUS, SUMMARY, RunError, claim, unpack

QUICK = ("--data", "digits", "--epochs", "2", "--frames", "0", "--compare-every", "0", "--checkpoint-seconds", "0")


@pytest.fixture(scope="module")
def final(small_digits: Dataset) -> dict[str, torch.Tensor]:
    """The parameters that an unbroken run ends with."""
    return parameters_of(small_digits, epochs=2)


def parameters_of(digits: Dataset, epochs: int) -> dict[str, torch.Tensor]:
    torch.set_num_threads(1)
    trainer, _, _ = train(digits, epochs=epochs, compare_every=0)
    return dict(trainer.model.state_dict())


def ends_like(folder: Path, final: dict[str, torch.Tensor]) -> bool:
    kept = safetensors.torch.load_file(folder / CHECKPOINT)
    return (folder / SUMMARY).exists() and all(torch.equal(kept[f"parameters.{name}"], final[name]) for name in final)


@pytest.mark.parametrize(("number", "status"), [(signal.SIGTERM, 143), (signal.SIGINT, 130), (signal.SIGHUP, 129)])
def test_asked_to_stop_it_finishes_the_step_and_saves(
    server: TrainingServer, final: dict[str, torch.Tensor], number: signal.Signals, status: int
) -> None:
    folder = server.folder / "runs" / number.name
    (pid,) = server.begin(*QUICK, "--checkpoint-seconds", "1000", "--run-name", number.name, hold=7)
    server.wait_for_hold()
    os.kill(pid, number)
    wait_for(server.folder / "received")
    server.proceed()
    assert server.end() == [status]
    assert unpack((folder / CHECKPOINT).read_bytes()).values["step"] == len(server.costs()) == 7
    last = server.printed().splitlines()[-1]
    assert last == f"stopped by {number.name} after 7 of 20 steps; resume with: {server.program} --resume {number.name}"
    assert server.train("--resume", number.name) == 0, server.printed()
    assert len(server.costs()) == 13
    assert ends_like(folder, final)


def test_a_second_ctrl_c_is_not_waited_for(server: TrainingServer) -> None:
    """Of a training that is stuck in an operation on a file."""
    folder = server.folder / "runs" / "impatient"
    (pid,) = server.begin(*QUICK, "--run-name", "impatient", stuck=40)
    wait_for(server.folder / "stuck")
    before = (folder / CHECKPOINT).read_bytes()
    os.kill(pid, signal.SIGINT)
    wait_for(server.folder / "received")
    os.kill(pid, signal.SIGINT)
    assert server.end() == [130]
    assert server.printed().splitlines()[-1] == "interrupted"
    assert (folder / CHECKPOINT).read_bytes() == before


@pytest.fixture
def small_disk(server: TrainingServer) -> Iterator[Path]:
    """A disk of one megabyte, where one may be made."""
    disk = server.folder / "disk"
    disk.mkdir()
    made = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(disk)], check=False, capture_output=True
    )
    if made.returncode:
        pytest.skip("no file system can be mounted here")
    yield disk
    subprocess.run(["umount", str(disk)], check=True)


def test_a_full_disk(server: TrainingServer, small_disk: Path, final: dict[str, torch.Tensor]) -> None:
    (small_disk / "other").write_bytes(bytes(900_000))
    flags = ("--runs-dir", "disk")
    assert server.train(*QUICK, *flags, "--run-name", "full") == 2
    (line,) = server.errors()
    assert "No space left on device; " in line
    assert line.endswith(f" steps are saved; resume with: {server.program} --resume full --runs-dir disk")
    assert not list((small_disk / "full").glob(".*.new")), "what could not be finished takes no room"
    (small_disk / "other").unlink()
    assert server.train(*flags, "--resume", "full") == 0, server.printed()
    assert ends_like(small_disk / "full", final)


def test_a_limit_to_the_size_of_files(server: TrainingServer, final: dict[str, torch.Tensor]) -> None:
    """In the middle of an event: what is before it stays whole."""
    assert server.train(*QUICK, "--frames", "5", "--run-name", "limited", limit=300_000) == 2
    (line,) = server.errors()
    assert "File too large; " in line
    assert server.train("--resume", "limited") == 0
    assert "damaged" not in server.printed()
    assert ends_like(server.folder / "runs" / "limited", final)


@pytest.fixture
def writable_again() -> Iterator[list[Path]]:
    made: list[Path] = []
    yield made
    for folder in made:
        make_writable(folder)


def make_read_only(folder: Path) -> None:
    """For who is not root by permission, and else by laying the folder over itself as one that cannot be written."""
    if os.geteuid() != 0:
        folder.chmod(0o555)
        return
    bind = ["mount", "--bind", str(folder), str(folder)]
    if subprocess.run(bind, check=False, capture_output=True).returncode:
        pytest.skip("root may write anywhere, and nothing can be mounted here")
    subprocess.run(["mount", "-o", "remount,bind,ro", str(folder)], check=True)


def make_writable(folder: Path) -> None:
    if os.geteuid() != 0:
        folder.chmod(0o755)
    else:
        subprocess.run(["umount", str(folder)], check=False, capture_output=True)


def test_a_folder_made_read_only_half_way(
    server: TrainingServer, final: dict[str, torch.Tensor], writable_again: list[Path]
) -> None:
    folder = server.folder / "runs" / "locked"
    server.begin(*QUICK, "--run-name", "locked", hold=5)
    server.wait_for_hold()
    make_read_only(folder)
    server.proceed()
    writable_again.append(folder)
    assert server.end() == [2]
    (line,) = server.errors()
    assert line.startswith("error: cannot write runs/locked/")
    before = (folder / CHECKPOINT).read_bytes()
    assert server.train("--resume", "locked") == 2
    (line,) = server.errors()
    assert "cannot write runs/locked" in line
    make_writable(folder)
    assert (folder / CHECKPOINT).read_bytes() == before
    assert server.train("--resume", "locked") == 0, server.printed()
    assert ends_like(folder, final)


def kill_half_way(server: TrainingServer, name: str) -> None:
    (pid,) = server.begin(*QUICK, "--run-name", name, hold=14)
    server.wait_for_hold()
    os.kill(pid, signal.SIGKILL)
    assert server.end() == [-signal.SIGKILL]


@pytest.fixture
def half_done(server: TrainingServer, request: pytest.FixtureRequest) -> Path:
    """A run that was killed, with checkpoints of several steps."""
    name = request.node.name.replace("[", "_").replace("]", "").replace(" ", "_")
    kill_half_way(server, name)
    folder = server.folder / "runs" / name
    assert {CHECKPOINT, PREVIOUS, BEST} <= {path.name for path in folder.iterdir()}
    return folder


@pytest.mark.parametrize("damage", ["cut short", "a bit flipped", "emptied", "not there"])
def test_a_damaged_checkpoint_gives_way_to_the_one_before(
    server: TrainingServer, half_done: Path, final: dict[str, torch.Tensor], damage: str
) -> None:
    content = (half_done / CHECKPOINT).read_bytes()
    middle = len(content) // 2
    flipped = content[:middle] + bytes([content[middle] ^ 1]) + content[middle + 1 :]
    contents = {"cut short": content[:-1], "a bit flipped": flipped, "emptied": b"", "not there": None}
    (half_done / CHECKPOINT).unlink()  # which may be the one before by another name, if it was killed just then
    if (damaged := contents[damage]) is not None:
        (half_done / CHECKPOINT).write_bytes(damaged)
    assert server.train("--resume", half_done.name) == 0, server.printed()
    said = f"{CHECKPOINT} is damaged: resuming from {PREVIOUS}" in server.printed()
    assert said == (damaged is not None)
    assert ends_like(half_done, final)
    if damaged is not None:
        assert (half_done / f"{CHECKPOINT}.damaged").read_bytes() == damaged, "nothing is thrown away"


def test_the_best_is_the_last_resort(server: TrainingServer, half_done: Path, final: dict[str, torch.Tensor]) -> None:
    for name in (CHECKPOINT, PREVIOUS):
        (half_done / name).write_bytes(b"damaged")
    assert server.train("--resume", half_done.name) == 0, server.printed()
    assert ends_like(half_done, final)


def test_without_any_whole_checkpoint_nothing_is_changed(server: TrainingServer, half_done: Path) -> None:
    for name in (CHECKPOINT, PREVIOUS, BEST):
        (half_done / name).write_bytes(b"damaged")
    before = {path.name: path.read_bytes() for path in half_done.iterdir() if path.is_file()}
    assert server.train("--resume", half_done.name) == 2
    (line,) = server.errors()
    assert "checkpoint.safetensors is damaged" in line
    assert before == {path.name: path.read_bytes() for path in half_done.iterdir() if path.is_file()}


def costs(folder: Path) -> list[int]:
    board = EventAccumulator(str(folder), size_guidance={"tensors": 0})
    board.Reload()
    return [event.step for event in board.Tensors(tags.TEST_COST)]


def test_a_damaged_event_file(server: TrainingServer, half_done: Path, final: dict[str, torch.Tensor]) -> None:
    """One byte in the middle hides from TensorBoard what is after it, until the run is gone on with."""
    (path,) = half_done.glob("events.out.tfevents.*")
    content = bytearray(path.read_bytes())
    content[200] ^= 1
    path.write_bytes(content + b"torn")
    assert costs_hidden(half_done)
    assert server.train("--resume", half_done.name) == 0, server.printed()
    assert f"{path.name} was damaged: " in server.printed()
    assert costs(half_done) == [9, 19]
    assert ends_like(half_done, final)
    assert path.with_name(path.name.replace("tfevents", "damaged")).read_bytes() == content + b"torn"


def costs_hidden(folder: Path) -> bool:
    try:
        return costs(folder) == []
    except KeyError:
        return True


def test_a_run_is_trained_by_one_process_at_a_time(server: TrainingServer) -> None:
    folder = server.folder / "runs" / "twice"
    refused = "run 'twice' in .*runs is being trained by another process"
    kill_half_way(server, "twice")
    lock = claim(folder)  # which the one that was killed has not kept
    before = {path.name: path.read_bytes() for path in folder.iterdir() if path.is_file()}
    for flags in (("--resume", "twice"), (*QUICK, "--run-name", "twice", "--overwrite")):
        assert server.train(*flags) == 2
        assert re.fullmatch(f"error: {refused}", server.errors()[0])
    assert before == {path.name: path.read_bytes() for path in folder.iterdir() if path.is_file()}
    lock.release()
    (pid,) = server.begin("--resume", "twice", hold=1)
    server.wait_for_hold()
    with pytest.raises(RunError, match=refused):
        claim(folder)
    os.kill(pid, signal.SIGKILL)
    assert server.end() == [-signal.SIGKILL]


@pytest.mark.parametrize(
    ("part", "says"),
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
def test_what_is_no_set_of_labelled_images_is_refused(small_digits: Dataset, part: object, says: str) -> None:
    with pytest.raises(DataError) as refused:
        Dataset("digits", part(small_digits.train), small_digits.test, "damaged")  # type: ignore[operator]
    assert says in str(refused.value)
    assert "\n" not in str(refused.value)
