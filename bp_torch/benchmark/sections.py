"""Everything that is measured, a table after the other."""

from collections.abc import Iterator, Sequence
from pathlib import Path

import torch

from bp_torch.benchmark import functions, per_example, runs, steps
from bp_torch.benchmark.page import Section
from bp_torch.data import load


def sections(rounds: int, threads: Sequence[int], data_root: Path, *, accuracy: bool) -> Iterator[Section]:
    """Measure, and yield each table as soon as it is known."""
    for count in threads:
        torch.set_num_threads(count)
        yield from _of_steps(count, rounds)
    torch.set_num_threads(1)
    memory = [{"network": _name(sizes), **row} for sizes in steps.NETWORKS for row in steps.step_memory(sizes, 100)]
    yield Section("Peak memory of a step", _MEMORY, memory)
    yield Section("Each function, forward and backward", _FUNCTIONS, functions.function_times(rounds))
    few = max(3, rounds // 10)
    yield Section("Norms of 60,000 per-example gradients", _NORMS, per_example.norm_times(60_000, few))
    dataset = load("auto", data_root)
    if dataset.name == "mnist":
        yield Section("One epoch of MNIST", _EPOCH, runs.epoch_times(dataset, data_root, few))
    yield Section("A whole default run", _RUN, runs.run_shares(dataset))
    if accuracy:
        yield Section("What the documented commands reach", _ACCURACY, runs.accuracies(dataset))


def _of_steps(threads: int, rounds: int) -> Iterator[Section]:
    for sizes in steps.NETWORKS:
        for examples in steps.BATCHES:
            title = f"One step, {_name(sizes)}, mini-batch of {examples}, {threads} thread{'s' * (threads > 1)}"
            yield Section(title, _STEP, steps.step_times(sizes, examples, rounds))


def _name(sizes: tuple[int, ...]) -> str:
    return "-".join(map(str, sizes))


_STEP = "`/ eager`: time in units of PyTorch's own layers with autograd and `optim.SGD`; `/ products`: of the floor."
_MEMORY = "Of PyTorch's CPU allocator, beyond parameters and data, mini-batch of 100."
_FUNCTIONS = "Every size 100; the upstream gradient is given. In units of PyTorch's own."
_NORMS = "784-16-16-10. The gradient is the engine's, of all of them at once; `vmap` takes them by the thousand."
_EPOCH = "Shuffle, gather, step, 600 times a mini-batch of 100; the first is the loop that most tutorials show."
_RUN = "60 epochs at the defaults, as `make train` runs them."
_ACCURACY = "Test accuracy, mean of seeds 0, 1 and 2."
