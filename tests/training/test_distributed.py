"""Training in several processes gives the costs of one process, and ends if one of them ends."""

import signal
from pathlib import Path

import pytest
import torch
import torch.distributed as dist
from killable import SCRIPT, TrainingServer, free_port
from torch.nn.parallel import DistributedDataParallel

import bp_torch.functional as F
from bp_torch import nn
from bp_torch.training.backends import ProcessGroup
from bp_torch.training.state.run_dir import CHECKPOINT, SUMMARY, State, unpack

FLAGS = ("--data", "digits", "--frames", "0", "--compare-every", "50")


@pytest.mark.parametrize(
    ("backend", "batch_size", "epochs", "counts"),
    [("functions", 20, 4, (2,)), ("engine", 20, 1, (4,)), ("builtin", 20, 1, (2,)), ("engine", 333, 1, (4,))],
)
def test_the_costs_are_those_of_one_process(
    server: TrainingServer, backend: str, batch_size: int, epochs: int, counts: tuple[int, ...]
) -> None:
    """Compare up to 200 steps; with mini-batches of 333, the last has one example for four processes."""
    flags = (*FLAGS, "--batch-size", str(batch_size), "--epochs", str(epochs), "--backend", backend)
    name = f"{backend}_{batch_size}"
    assert server.train(*flags, "--run-name", f"{name}_1") == 0, server.stderr()
    expected = server.costs()
    assert len(expected) == epochs * -(-1000 // batch_size)
    for count in counts:
        server.start(*flags, "--run-name", f"{name}_{count}", processes=count)
        assert server.wait() == [0] * count, server.stderr()
        for rank in range(count):
            assert server.costs(rank) == pytest.approx(expected, rel=0, abs=1e-5)
        assert (server.folder / "runs" / f"{name}_{count}" / SUMMARY).exists()
    assert epochs == 1 or expected[-1] < 0.9 * expected[0], "the cost decreases"


def test_distributed_data_parallel_works_with_the_hand_written_functions(tmp_path: Path) -> None:
    """In one process."""
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
    assert all(torch.equal(part.squeeze(1), shard_targets.float()) for part, shard_targets, _ in parts)
    few = [ProcessGroup(rank, 4).shard(inputs[:2], targets[:2]) for rank in range(4)]
    assert [weight for _, _, weight in few] == [0.5, 0.5, 0, 0]
    assert [len(part) for part, _, _ in few] == [1, 1, 1, 1]


PAUSED = 12


@pytest.fixture
def paused(server: TrainingServer, request: pytest.FixtureRequest) -> tuple[list[int], Path]:
    """Three processes paused in the middle of a run that compares and saves every step, and its folder."""
    name = request.node.name.replace("[", "_").replace("]", "")
    flags = (*FLAGS, "--compare-every", "1", "--epochs", "3", "--checkpoint-seconds", "0", "--run-name", name)
    pids = server.start(*flags, processes=3, pause_at=PAUSED)
    server.wait_for_pause(processes=3)
    return pids, server.folder / "runs" / name


def state_of(folder: Path) -> State:
    return unpack((folder / CHECKPOINT).read_bytes())


@pytest.mark.parametrize("dying", [0, 2])
def test_if_a_process_dies_all_end_and_the_run_can_be_resumed(
    server: TrainingServer, paused: tuple[list[int], Path], dying: int
) -> None:
    pids, folder = paused
    statuses = server.stop_at_pause(pids[dying], signal.SIGKILL, processes=3)
    assert statuses[dying] == -signal.SIGKILL
    for rank in {0, 1, 2} - {dying}:
        assert statuses[rank] == 1
        (line,) = server.errors(rank)
        assert line.startswith(f"error: process {rank} of 3 cannot reach another process (")
        assert line.endswith(f"; resume with: {server.program} --resume={folder.name}")
    state = state_of(folder)
    reached = PAUSED - 1
    assert state.values["step"] == reached, "the first process saves all completed steps"
    assert state.values["gradient_checks"] == 6 * reached, "no comparison is counted twice"
    for count in (1, 2):
        pids = server.start("--resume", folder.name, processes=count, pause_at=3)
        assert server.stop_at_pause(pids[0], signal.SIGTERM, count) == [143] * count, server.stderr()
        reached += 3
        assert state_of(folder).values["step"] == reached


@pytest.mark.parametrize("signalled", [0, 2])
def test_a_signal_to_one_process_stops_all_at_the_same_step(
    server: TrainingServer, paused: tuple[list[int], Path], signalled: int
) -> None:
    pids, folder = paused
    assert server.stop_at_pause(pids[signalled], signal.SIGTERM, processes=3) == [143] * 3
    assert [len(server.costs(rank)) for rank in range(3)] == [PAUSED] * 3
    assert state_of(folder).values["step"] == PAUSED
    by = "by SIGTERM" if signalled == 0 else "because another process was"
    assert server.stderr().splitlines()[-1].startswith(f"stopped {by} after {PAUSED} of 30 steps; resume with: ")


def test_an_error_of_the_first_process_is_printed_once(server: TrainingServer) -> None:
    server.start("--resume", "nothing", processes=2)
    assert server.wait() == [2, 2]
    assert [len(server.errors(rank)) for rank in range(2)] == [1, 0]


def test_a_number_that_is_not_finite_stops_all_processes(server: TrainingServer) -> None:
    wild = ("--activation", "relu", "--cost", "cross_entropy", "--learning-rate", "1e30", "--run-name", "wild")
    server.start(*FLAGS, "--epochs", "2", *wild, processes=2)
    assert server.wait() == [1, 1]
    for rank in range(2):
        (line,) = server.errors(rank)
        assert "is not finite: nan, first in the output of module hidden2 (Linear), at step 1 (epoch 1)" in line
    server.start(*FLAGS, "--epochs", "1", "--batch-size", "1000", *wild[:-1], "wild at the end", processes=2)
    assert server.wait() == [1, 1]
    for rank in range(2):
        (line,) = server.errors(rank)
        assert "the training or test cost is not finite, first in the " in line


def test_two_torchruns_form_one_job(server: TrainingServer) -> None:
    """As on two machines."""
    meet = ["--nnodes=2", "--nproc-per-node=1", "--rdzv-backend=c10d", "--rdzv-id=two", "--local-addr=127.0.0.1"]
    flags = ["--data", "digits", "--epochs", "1", "--frames", "0", "--batch-size", "500", "--backend", "engine"]
    command = [*meet, f"--rdzv-endpoint=127.0.0.1:{free_port()}", str(SCRIPT), *flags, "--run-name", "two"]
    assert server.torchrun(command, command) == [0, 0], server.stderr()
    printed = [(server.folder / f"stdout{rank}").read_text() for rank in range(2)]
    assert sum(text.count("test digits") for text in printed) == 1, "only the first process prints"
    assert (server.folder / "runs" / "two" / SUMMARY).exists()
