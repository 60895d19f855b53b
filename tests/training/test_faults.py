"""What goes wrong around training: each fault is really made, ends in one line, and loses nothing that was saved."""

import os
import re
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from mortal import Nursery
from tensorboard.backend.event_processing.plugin_event_accumulator import EventAccumulator

from bp_torch.dashboard import tags
from bp_torch.data import DataError, Dataset, Split
from bp_torch.training.config import TrainConfig
from bp_torch.training.folder import BEST, CHECKPOINT, CONFIG, PREVIOUS, SUMMARY, RunError, claim
from bp_torch.training.loop import Trainer

QUICK = ("--data", "digits", "--epochs", "2", "--frames", "0", "--compare-every", "0", "--checkpoint-seconds", "0")


@pytest.fixture(scope="module")
def final(small_digits: Dataset) -> dict[str, torch.Tensor]:
    """The parameters that an unbroken run ends with."""
    return trained(small_digits, epochs=2)


def trained(digits: Dataset, epochs: int) -> dict[str, torch.Tensor]:
    torch.set_num_threads(1)
    trainer = Trainer(TrainConfig(epochs=epochs, frames=0, compare_every=0), digits)
    trainer.run()
    return dict(trainer.learner.model.state_dict())


def ends_like(folder: Path, final: dict[str, torch.Tensor]) -> bool:
    kept = torch.load(folder / CHECKPOINT, weights_only=True)["parameters"]
    return (folder / SUMMARY).exists() and all(torch.equal(kept[name], final[name]) for name in final)


def errors(nursery: Nursery) -> list[str]:
    said = nursery.said()
    assert "Traceback" not in said, said
    return [line for line in said.splitlines() if line.startswith("error: ")]


def wait_for(path: Path) -> None:
    deadline = time.monotonic() + 60
    while not path.exists():
        assert time.monotonic() < deadline, f"there is no {path}"
        time.sleep(0.01)


@pytest.mark.parametrize(("number", "status"), [(signal.SIGTERM, 143), (signal.SIGINT, 130), (signal.SIGHUP, 129)])
def test_asked_to_stop_it_finishes_the_step_and_saves(
    nursery: Nursery, small_digits: Dataset, number: signal.Signals, status: int
) -> None:
    folder = nursery.folder / "runs" / number.name
    long_and_seldom = ("--epochs", "60", "--checkpoint-seconds", "1000")
    (pid,) = nursery.begin(*QUICK, *long_and_seldom, "--run-name", number.name)
    wait_for(folder / CONFIG)
    while len(nursery.costs()) < 7:
        time.sleep(0.001)
    os.kill(pid, number)
    assert nursery.end() == [status]
    done = torch.load(folder / CHECKPOINT, weights_only=True)
    steps = 10 * done["epoch"] + done["mini_batch"]
    assert steps == len(nursery.costs()) < 600
    last = nursery.said().splitlines()[-1]
    assert last == f"stopped by {number.name} after {steps} of 600 steps; go on with --resume {number.name}"
    assert nursery.train("--resume", number.name) == 0, nursery.said()
    assert ends_like(folder, trained(small_digits, epochs=60))


def test_a_second_ctrl_c_is_not_waited_for(nursery: Nursery) -> None:
    """Of a training that is stuck in an operation on a file."""
    folder = nursery.folder / "runs" / "impatient"
    (pid,) = nursery.begin(*QUICK, "--run-name", "impatient", stuck=40)
    wait_for(nursery.folder / "stuck")
    before = (folder / CHECKPOINT).read_bytes()
    os.kill(pid, signal.SIGINT)
    time.sleep(0.2)
    os.kill(pid, signal.SIGINT)
    assert nursery.end() == [130]
    assert nursery.said().splitlines()[-1] == "interrupted"
    assert (folder / CHECKPOINT).read_bytes() == before


@pytest.fixture
def small_disk(nursery: Nursery) -> Iterator[Path]:
    """A disk of one megabyte, where one may be made."""
    disk = nursery.folder / "disk"
    disk.mkdir()
    made = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(disk)], check=False, capture_output=True
    )
    if made.returncode:
        pytest.skip("no file system can be mounted here")
    yield disk
    subprocess.run(["umount", str(disk)], check=True)


def test_a_full_disk(nursery: Nursery, small_disk: Path, final: dict[str, torch.Tensor]) -> None:
    (small_disk / "other").write_bytes(bytes(750_000))
    flags = ("--runs-dir", "disk")
    assert nursery.train(*QUICK, *flags, "--run-name", "full") == 2
    (line,) = errors(nursery)
    assert "No space left on device; " in line
    assert line.endswith(" steps are saved: mend that, and go on with --runs-dir disk --resume full")
    assert not list((small_disk / "full").glob(".*.new")), "what could not be finished takes no room"
    (small_disk / "other").unlink()
    assert nursery.train(*flags, "--resume", "full") == 0, nursery.said()
    assert ends_like(small_disk / "full", final)


def test_a_limit_to_the_size_of_files(nursery: Nursery, final: dict[str, torch.Tensor]) -> None:
    """In the middle of an event: what is before it stays whole."""
    assert nursery.train(*QUICK, "--frames", "5", "--run-name", "limited", limit=300_000) == 2
    (line,) = errors(nursery)
    assert "File too large; " in line
    assert nursery.train("--resume", "limited") == 0
    assert "damaged" not in nursery.said()
    assert ends_like(nursery.folder / "runs" / "limited", final)


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
    nursery: Nursery, final: dict[str, torch.Tensor], writable_again: list[Path]
) -> None:
    folder = nursery.folder / "runs" / "locked"
    (pid,) = nursery.begin(*QUICK, "--run-name", "locked")
    wait_for(folder / CHECKPOINT)
    os.kill(pid, signal.SIGSTOP)
    make_read_only(folder)
    os.kill(pid, signal.SIGCONT)
    writable_again.append(folder)
    assert nursery.end() == [2]
    (line,) = errors(nursery)
    assert line.startswith("error: cannot write runs/locked/")
    before = (folder / CHECKPOINT).read_bytes()
    assert nursery.train("--resume", "locked") == 2
    (line,) = errors(nursery)
    assert "cannot write runs/locked" in line
    make_writable(folder)
    assert (folder / CHECKPOINT).read_bytes() == before
    assert nursery.train("--resume", "locked") == 0, nursery.said()
    assert ends_like(folder, final)


@pytest.fixture
def half_done(nursery: Nursery, request: pytest.FixtureRequest) -> Path:
    """A run that was killed, with checkpoints of several steps."""
    name = request.node.name.replace("[", "_").replace("]", "").replace(" ", "_")
    assert nursery.train(*QUICK, "--run-name", name, before=140) == -signal.SIGKILL
    folder = nursery.folder / "runs" / name
    assert {CHECKPOINT, PREVIOUS, BEST} <= {path.name for path in folder.iterdir()}
    return folder


@pytest.mark.parametrize("damage", ["cut short", "a bit flipped", "emptied", "not there"])
def test_a_damaged_checkpoint_gives_way_to_the_one_before(
    nursery: Nursery, half_done: Path, final: dict[str, torch.Tensor], damage: str
) -> None:
    content = (half_done / CHECKPOINT).read_bytes()
    middle = len(content) // 2
    flipped = content[:middle] + bytes([content[middle] ^ 1]) + content[middle + 1 :]
    contents = {"cut short": content[:-1], "a bit flipped": flipped, "emptied": b"", "not there": None}
    (half_done / CHECKPOINT).unlink()  # which may be the one before by another name, if it was killed just then
    if (damaged := contents[damage]) is not None:
        (half_done / CHECKPOINT).write_bytes(damaged)
    assert nursery.train("--resume", half_done.name) == 0, nursery.said()
    said = f"{CHECKPOINT} is damaged: going on from {PREVIOUS}" in nursery.said()
    assert said == (damaged is not None)
    assert ends_like(half_done, final)
    if damaged is not None:
        assert (half_done / f"{CHECKPOINT}.damaged").read_bytes() == damaged, "nothing is thrown away"


def test_the_best_is_the_last_resort(nursery: Nursery, half_done: Path, final: dict[str, torch.Tensor]) -> None:
    for name in (CHECKPOINT, PREVIOUS):
        (half_done / name).write_bytes(b"damaged")
    assert nursery.train("--resume", half_done.name) == 0, nursery.said()
    assert ends_like(half_done, final)


def test_without_any_whole_checkpoint_nothing_is_changed(nursery: Nursery, half_done: Path) -> None:
    for name in (CHECKPOINT, PREVIOUS, BEST):
        (half_done / name).write_bytes(b"damaged")
    before = {path.name: path.read_bytes() for path in half_done.iterdir() if path.is_file()}
    assert nursery.train("--resume", half_done.name) == 2
    (line,) = errors(nursery)
    assert "checkpoint.pt is damaged" in line
    assert before == {path.name: path.read_bytes() for path in half_done.iterdir() if path.is_file()}


def costs(folder: Path) -> list[int]:
    board = EventAccumulator(str(folder), size_guidance={"tensors": 0})
    board.Reload()
    return [event.step for event in board.Tensors(tags.TEST_COST)]


def test_a_damaged_event_file(nursery: Nursery, half_done: Path, final: dict[str, torch.Tensor]) -> None:
    """One byte in the middle hides from TensorBoard what is after it, until the run is gone on with."""
    (path,) = half_done.glob("events.out.tfevents.*")
    content = bytearray(path.read_bytes())
    content[200] ^= 1
    path.write_bytes(content + b"torn")
    assert costs_hidden(half_done)
    assert nursery.train("--resume", half_done.name) == 0, nursery.said()
    assert f"{path.name} was damaged: " in nursery.said()
    assert costs(half_done) == [9, 19]
    assert ends_like(half_done, final)
    assert path.with_name(path.name.replace("tfevents", "damaged")).read_bytes() == content + b"torn"


def costs_hidden(folder: Path) -> bool:
    try:
        return costs(folder) == []
    except KeyError:
        return True


def test_a_run_is_trained_by_one_process_at_a_time(nursery: Nursery) -> None:
    folder = nursery.folder / "runs" / "twice"
    refused = "run 'twice' in .*runs is being trained by another process"
    assert nursery.train(*QUICK, "--epochs", "60", "--run-name", "twice", before=140) == -signal.SIGKILL
    lock = claim(folder)  # which the one that was killed has not kept
    before = {path.name: path.read_bytes() for path in folder.iterdir() if path.is_file()}
    for flags in (("--resume", "twice"), (*QUICK, "--run-name", "twice", "--overwrite")):
        assert nursery.train(*flags) == 2
        assert re.fullmatch(f"error: {refused}", errors(nursery)[0])
    assert before == {path.name: path.read_bytes() for path in folder.iterdir() if path.is_file()}
    lock.release()
    (pid,) = nursery.begin("--resume", "twice")
    while not nursery.costs():
        time.sleep(0.001)
    os.kill(pid, signal.SIGSTOP)
    with pytest.raises(RunError, match=refused):
        claim(folder)
    os.kill(pid, signal.SIGKILL)
    assert nursery.end() == [-signal.SIGKILL]


@pytest.mark.parametrize(
    ("part", "says"),
    [
        (lambda s: s._replace(labels=s.labels.clone().index_fill_(0, torch.tensor([3]), 10)), "label 3 must be from 0"),
        (lambda s: s._replace(labels=s.labels.clone().index_fill_(0, torch.tensor([3]), -1)), "got -1"),
        (lambda s: s._replace(labels=s.labels[:-1]), "one for each of 1000 images"),
        (lambda s: s._replace(labels=s.labels.float()), "labels must be int64"),
        (lambda s: s._replace(images=s.images.float()), "images must be uint8"),
        (lambda s: s._replace(images=s.images[:, :14]), "got torch.uint8 (1000, 14, 28)"),
        (lambda s: Split(s.images[:0], s.labels[:0]), "one for each of 0 images"),
    ],
)
def test_what_is_no_set_of_labelled_digits_is_refused(small_digits: Dataset, part: object, says: str) -> None:
    with pytest.raises(DataError) as refused:
        Dataset("digits", part(small_digits.train), small_digits.test, "damaged")  # type: ignore[operator]
    assert says in str(refused.value)
    assert "\n" not in str(refused.value)
