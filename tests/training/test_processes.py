"""Several processes come to what one comes to, and none is waited for in vain."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from mortal import SCRIPT, Nursery, free_port

from bp_torch.training.folder import CHECKPOINT, SUMMARY
from bp_torch.training.processes import Processes

FEW_LOOKS = ("--data", "digits", "--frames", "0", "--compare-every", "50")
TORCHRUN = (sys.executable, "-m", "torch.distributed.run")


def errors(nursery: Nursery, rank: int) -> list[str]:
    said = nursery.said(rank)
    assert "Traceback" not in said, said
    return [line for line in said.splitlines() if line.startswith("error: ")]


@pytest.mark.parametrize(("backend", "counts"), [("functions", (2, 4)), ("engine", (2, 4)), ("builtin", (2,))])
def test_the_first_two_hundred_costs_are_those_of_one_process(
    nursery: Nursery, backend: str, counts: tuple[int, ...]
) -> None:
    costs = costs_of(nursery, 20, 4, backend, counts=counts)
    assert len(costs) == 200
    assert costs[-1] < 0.9 * costs[0], "it learns"


@pytest.mark.parametrize(("backend", "batch_size"), [("functions", 333), ("engine", 30), ("engine", 333)])
def test_uneven_parts_are_weighted_right(nursery: Nursery, backend: str, batch_size: int) -> None:
    """Of 30 examples 8, 8, 7 and 7; of the last mini-batch of a thousand cut by 333, only one is left for four."""
    costs_of(nursery, batch_size, 2, backend, counts=(4,))


def costs_of(nursery: Nursery, batch_size: int, epochs: int, backend: str, *, counts: tuple[int, ...]) -> list[float]:
    """Of each step in one process, which those in several are like."""
    flags = (*FEW_LOOKS, "--batch-size", str(batch_size), "--epochs", str(epochs), "--backend", backend)
    name = f"{backend}_{batch_size}"
    assert nursery.train(*flags, "--run-name", f"{name}_alone") == 0, nursery.said()
    alone = nursery.costs()
    for count in counts:
        nursery.begin(*flags, "--run-name", f"{name}_{count}", processes=count)
        assert nursery.end() == [0] * count, nursery.said()
        for rank in range(count):
            assert nursery.costs(rank) == pytest.approx(alone, rel=0, abs=1e-5)
        assert (nursery.folder / "runs" / f"{name}_{count}" / SUMMARY).exists()
    return alone


def test_parts_are_weighted_by_their_examples() -> None:
    inputs, targets = torch.arange(10.0).unsqueeze(1), torch.arange(10)
    parts = [Processes(rank, 4).part(inputs, targets) for rank in range(4)]
    assert [len(part) for part, _, _ in parts] == [3, 3, 2, 2]
    assert sum(weight for _, _, weight in parts) == 1
    assert sum(weight * part.mean() for part, _, weight in parts) == inputs.mean()
    assert all(torch.equal(part.squeeze(1), wanted.float()) for part, wanted, _ in parts)
    lonely = [Processes(rank, 4).part(inputs[:2], targets[:2]) for rank in range(4)]
    assert [weight for _, _, weight in lonely] == [0.5, 0.5, 0, 0]
    assert [len(part) for part, _, _ in lonely] == [1, 1, 1, 1]


@pytest.fixture
def going(nursery: Nursery, request: pytest.FixtureRequest) -> tuple[list[int], Path]:
    """Three processes in the middle of a long run."""
    name = request.node.name.replace("[", "_").replace("]", "")
    flags = (*FEW_LOOKS, "--compare-every", "1", "--epochs", "200", "--checkpoint-seconds", "0.1", "--run-name", name)
    pids = nursery.begin(*flags, processes=3)
    folder, deadline = nursery.folder / "runs" / name, time.monotonic() + 60
    while not (folder / CHECKPOINT).exists():
        assert time.monotonic() < deadline, nursery.said()
        time.sleep(0.02)
    return pids, folder


def step_of(folder: Path) -> int:
    kept = torch.load(folder / CHECKPOINT, weights_only=True)
    return int(10 * kept["epoch"] + kept["mini_batch"])


@pytest.mark.parametrize("dying", [0, 1, 2])
def test_a_process_that_dies_ends_the_job_which_goes_on_with_other_ones(
    nursery: Nursery, going: tuple[list[int], Path], dying: int
) -> None:
    pids, folder = going
    os.kill(pids[dying], signal.SIGKILL)
    statuses = nursery.end()
    assert statuses[dying] == -signal.SIGKILL
    for rank in {0, 1, 2} - {dying}:
        assert statuses[rank] == 1
        (line,) = errors(nursery, rank)
        assert line.startswith(f"error: process {rank} of 3 cannot hear another one (")
        assert line.endswith(f"; go on with --resume {folder.name}")
    reached = step_of(folder)
    assert 0 < reached < 2000
    assert reached == len(nursery.costs()) or dying == 0, "the first saves all that was done"
    assert torch.load(folder / CHECKPOINT, weights_only=True)["comparisons"] == 6 * reached, "and counts no look twice"
    for count in (1, 2):
        pids = nursery.begin("--resume", folder.name, processes=count)
        while len(nursery.costs()) < 5:
            time.sleep(0.01)
        os.kill(pids[0], signal.SIGTERM)
        assert nursery.end() == [143] * count, nursery.said()
        assert step_of(folder) == reached + len(nursery.costs()) > reached
        reached = step_of(folder)


@pytest.mark.parametrize("asked", [0, 2])
def test_all_stop_at_the_same_step_if_one_is_asked_to(
    nursery: Nursery, going: tuple[list[int], Path], asked: int
) -> None:
    pids, folder = going
    os.kill(pids[asked], signal.SIGTERM)
    assert nursery.end() == [143] * 3
    taken = [len(nursery.costs(rank)) for rank in range(3)]
    assert taken == [step_of(folder)] * 3
    by = "by SIGTERM" if asked == 0 else "as another process was asked to"
    assert nursery.said().splitlines()[-1].startswith(f"stopped {by} after {taken[0]} of 2,000 steps; go on with")


def test_what_the_first_cannot_do_is_said_once(nursery: Nursery) -> None:
    nursery.begin("--resume", "nothing", processes=2)
    assert nursery.end() == [2, 2]
    assert [len(errors(nursery, rank)) for rank in range(2)] == [1, 0]


def test_a_number_that_is_not_finite_stops_them_all(nursery: Nursery) -> None:
    wild = ("--activation", "relu", "--cost", "cross_entropy", "--learning-rate", "1e30", "--run-name", "wild")
    nursery.begin(*FEW_LOOKS, "--epochs", "2", *wild, processes=2)
    assert nursery.end() == [1, 1]
    for rank in range(2):
        (line,) = errors(nursery, rank)
        assert "is not finite: nan, first in the output of layer 2 (Linear), at step 1 (epoch 1)" in line
    nursery.begin(*FEW_LOOKS, "--epochs", "1", "--batch-size", "1000", *wild[:-1], "wild at the end", processes=2)
    assert nursery.end() == [1, 1]
    for rank in range(2):
        (line,) = errors(nursery, rank)
        assert "the cost over a whole set is not finite, first in the " in line


def test_torchrun_on_each_of_two_machines(tmp_path: Path) -> None:
    """Which are this one, twice."""
    meet = ["--nnodes=2", "--nproc-per-node=1", "--rdzv-backend=c10d", "--rdzv-id=two", "--local-addr=127.0.0.1"]
    flags = ("--data", "digits", "--epochs", "1", "--frames", "0", "--batch-size", "500", "--backend", "engine")
    command = [*TORCHRUN, *meet, f"--rdzv-endpoint=127.0.0.1:{free_port()}", str(SCRIPT), *flags, "--run-name", "two"]
    agents = [
        subprocess.Popen(command, cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        for _ in range(2)
    ]
    told = [agent.communicate(timeout=240) for agent in agents]
    assert [agent.returncode for agent in agents] == [0, 0], told
    assert sum(out.count("test digits") for out, _ in told) == 1, "the first process speaks for both"
    assert (tmp_path / "runs" / "two" / SUMMARY).exists()
