"""Several processes compute what one computes, and none is waited for in vain."""

import os
import signal
from pathlib import Path

import pytest
import torch
import torch.distributed as dist
from killable import SCRIPT, TrainingServer, free_port, wait_for
from torch.nn.parallel import DistributedDataParallel

import bp_torch.functional as F
from bp_torch import nn
from bp_torch.training.backends import ProcessGroup
from bp_torch.training.state.run_dir import CHECKPOINT, SUMMARY, State, unpack

FEW_LOOKS = ("--data", "digits", "--frames", "0", "--compare-every", "50")


@pytest.mark.parametrize(
    ("backend", "batch_size", "epochs", "counts"),
    [("functions", 20, 4, (2,)), ("engine", 20, 1, (4,)), ("builtin", 20, 1, (2,)), ("engine", 333, 1, (4,))],
)
def test_the_costs_are_those_of_one_process(
    server: TrainingServer, backend: str, batch_size: int, epochs: int, counts: tuple[int, ...]
) -> None:
    """Of the first two hundred steps; of the last mini-batch of a thousand cut by 333, only one is left for four."""
    flags = (*FEW_LOOKS, "--batch-size", str(batch_size), "--epochs", str(epochs), "--backend", backend)
    name = f"{backend}_{batch_size}"
    assert server.train(*flags, "--run-name", f"{name}_alone") == 0, server.printed()
    alone = server.costs()
    assert len(alone) == epochs * -(-1000 // batch_size)
    for count in counts:
        server.begin(*flags, "--run-name", f"{name}_{count}", processes=count)
        assert server.end() == [0] * count, server.printed()
        for rank in range(count):
            assert server.costs(rank) == pytest.approx(alone, rel=0, abs=1e-5)
        assert (server.folder / "runs" / f"{name}_{count}" / SUMMARY).exists()
    assert epochs == 1 or alone[-1] < 0.9 * alone[0], "it learns"


def test_ddp_drives_the_hand_written_functions(tmp_path: Path) -> None:
    """PyTorch's own way to train in several processes, which a user of the functions may take; here in one."""
    torch.manual_seed(0)
    model, inputs, targets = nn.mlp((5, 4, 3)), torch.rand(8, 5), torch.rand(8, 3)
    expected = torch.autograd.grad(((nn.as_builtin(model)(inputs) - targets) ** 2).sum(1).mean(), [*model.parameters()])
    store = dist.FileStore(str(tmp_path / "store"), 1)
    dist.init_process_group("gloo", store=store, rank=0, world_size=1)
    try:
        F.squared_error(DistributedDataParallel(model)(inputs), targets).backward()
    finally:
        dist.destroy_process_group()
    torch.testing.assert_close([p.grad for p in model.parameters()], [*expected])


def test_shards_are_weighted_by_their_examples() -> None:
    inputs, targets = torch.arange(10.0).unsqueeze(1), torch.arange(10)
    parts = [ProcessGroup(rank, 4).shard(inputs, targets) for rank in range(4)]
    assert [len(part) for part, _, _ in parts] == [3, 3, 2, 2]
    assert sum(weight for _, _, weight in parts) == 1
    assert sum(weight * part.mean() for part, _, weight in parts) == inputs.mean()
    assert all(torch.equal(part.squeeze(1), wanted.float()) for part, wanted, _ in parts)
    lonely = [ProcessGroup(rank, 4).shard(inputs[:2], targets[:2]) for rank in range(4)]
    assert [weight for _, _, weight in lonely] == [0.5, 0.5, 0, 0]
    assert [len(part) for part, _, _ in lonely] == [1, 1, 1, 1]


HELD = 12


@pytest.fixture
def held(server: TrainingServer, request: pytest.FixtureRequest) -> tuple[list[int], Path]:
    """Three processes on hold in a step in the middle of a run, every step of which is compared and saved."""
    name = request.node.name.replace("[", "_").replace("]", "")
    flags = (*FEW_LOOKS, "--compare-every", "1", "--epochs", "3", "--checkpoint-seconds", "0", "--run-name", name)
    pids = server.begin(*flags, processes=3, hold=HELD)
    server.wait_for_hold(processes=3)
    return pids, server.folder / "runs" / name


def state_of(folder: Path) -> State:
    return unpack((folder / CHECKPOINT).read_bytes())


@pytest.mark.parametrize("dying", [0, 2])
def test_a_process_that_dies_ends_the_job_which_goes_on_with_others(
    server: TrainingServer, held: tuple[list[int], Path], dying: int
) -> None:
    pids, folder = held
    os.kill(pids[dying], signal.SIGKILL)
    server.proceed()
    statuses = server.end()
    assert statuses[dying] == -signal.SIGKILL
    for rank in {0, 1, 2} - {dying}:
        assert statuses[rank] == 1
        (line,) = server.errors(rank)
        assert line.startswith(f"error: process {rank} of 3 cannot reach another process (")
        assert line.endswith(f"; resume with: {server.program} --resume {folder.name}")
    state = state_of(folder)
    reached = HELD - 1
    assert state.values["step"] == reached, "the first saves all that was done"
    assert state.values["gradient_checks"] == 6 * reached, "and counts no comparison twice"
    for count in (1, 2):
        pids = server.begin("--resume", folder.name, processes=count, hold=3)
        server.wait_for_hold(processes=count)
        os.kill(pids[0], signal.SIGTERM)
        wait_for(server.folder / "received")
        server.proceed()
        assert server.end() == [143] * count, server.printed()
        reached += 3
        assert state_of(folder).values["step"] == reached


@pytest.mark.parametrize("asked", [0, 2])
def test_all_stop_at_the_same_step_if_one_is_asked_to(
    server: TrainingServer, held: tuple[list[int], Path], asked: int
) -> None:
    pids, folder = held
    os.kill(pids[asked], signal.SIGTERM)
    wait_for(server.folder / "received")
    server.proceed()
    assert server.end() == [143] * 3
    assert [len(server.costs(rank)) for rank in range(3)] == [HELD] * 3
    assert state_of(folder).values["step"] == HELD
    by = "by SIGTERM" if asked == 0 else "with another process"
    assert server.printed().splitlines()[-1].startswith(f"stopped {by} after {HELD} of 30 steps; resume with: ")


def test_what_the_first_cannot_do_is_said_once(server: TrainingServer) -> None:
    server.begin("--resume", "nothing", processes=2)
    assert server.end() == [2, 2]
    assert [len(server.errors(rank)) for rank in range(2)] == [1, 0]


def test_a_number_that_is_not_finite_stops_them_all(server: TrainingServer) -> None:
    wild = ("--activation", "relu", "--cost", "cross_entropy", "--learning-rate", "1e30", "--run-name", "wild")
    server.begin(*FEW_LOOKS, "--epochs", "2", *wild, processes=2)
    assert server.end() == [1, 1]
    for rank in range(2):
        (line,) = server.errors(rank)
        assert "is not finite: nan, first in the output of module hidden2 (Linear), at step 1 (epoch 1)" in line
    server.begin(*FEW_LOOKS, "--epochs", "1", "--batch-size", "1000", *wild[:-1], "wild at the end", processes=2)
    assert server.end() == [1, 1]
    for rank in range(2):
        (line,) = server.errors(rank)
        assert "the cost over a whole set is not finite, first in the " in line


def test_torchrun_on_each_of_two_machines(server: TrainingServer) -> None:
    """Which are this one, twice."""
    meet = ["--nnodes=2", "--nproc-per-node=1", "--rdzv-backend=c10d", "--rdzv-id=two", "--local-addr=127.0.0.1"]
    flags = ["--data", "digits", "--epochs", "1", "--frames", "0", "--batch-size", "500", "--backend", "engine"]
    command = [*meet, f"--rdzv-endpoint=127.0.0.1:{free_port()}", str(SCRIPT), *flags, "--run-name", "two"]
    assert server.torchrun(command, command) == [0, 0], server.printed()
    printed = [(server.folder / f"stdout{rank}").read_text() for rank in range(2)]
    assert sum(text.count("test digits") for text in printed) == 1, "the first process speaks for both"
    assert (server.folder / "runs" / "two" / SUMMARY).exists()
