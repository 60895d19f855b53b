"""Everything that is measured, a table after the other."""

import statistics
import subprocess
import sys
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path

import torch

from bp_torch.benchmark import layers, per_example, runs, steps
from bp_torch.benchmark.measuring import Row, seconds
from bp_torch.benchmark.page import Section
from bp_torch.catalogue import CATALOGUE
from bp_torch.data import load
from bp_torch.gradients import check_gradients


def sections(rounds: int, threads: Sequence[int], data_root: Path, *, accuracy: bool) -> Iterator[Section]:
    """Measure, and yield each table as soon as it is known."""
    for count in threads:
        torch.set_num_threads(count)
        yield from _of_steps(count, rounds)
    torch.set_num_threads(1)
    yield Section("Peak memory of a step", _MEMORY, [row for sizes in steps.NETWORKS for row in _memory(sizes)])
    yield Section("Forward and backward under autograd", _LAYERS, layers.network_times(rounds))
    yield Section("Each function, forward and backward", _FUNCTIONS, layers.function_times(rounds))
    yield Section("Norms of 60,000 per-example gradients", _NORMS, per_example.norm_times(60_000, max(3, rounds // 10)))
    yield Section("Odds and ends", "Seconds, medians.", [_import(), *_checks()])
    dataset = load("auto", data_root)
    if dataset.name == "mnist":
        yield Section("One epoch of MNIST", _EPOCH, runs.epoch_times(dataset, data_root, max(3, rounds // 10)))
    yield Section("A whole default run", _RUN, runs.run_shares(dataset))
    if accuracy:
        yield Section("What the documented commands reach", _ACCURACY, runs.accuracies(dataset))


def _of_steps(threads: int, rounds: int) -> Iterator[Section]:
    for sizes in steps.NETWORKS:
        for examples in steps.BATCHES:
            title = f"One step, {_name(sizes)}, mini-batch of {examples}, {threads} thread{'s' * (threads > 1)}"
            yield Section(title, _STEP, steps.step_times(sizes, examples, rounds))


def _memory(sizes: tuple[int, ...]) -> list[Row]:
    return [{"network": _name(sizes), **row} for row in steps.step_memory(sizes, 100)]


def _name(sizes: tuple[int, ...]) -> str:
    return "-".join(map(str, sizes))


def _import() -> Row:
    """Of `import bp_torch` in a fresh interpreter, and whether it brought torch along."""
    code = (
        "import sys, time; began = time.perf_counter(); import bp_torch; "
        "print(time.perf_counter() - began, 'torch' in sys.modules)"
    )
    said = [subprocess.check_output([sys.executable, "-c", code], text=True).split() for _ in range(10)]
    taken = statistics.median(float(seconds) for seconds, _ in said)
    return {
        "what": f"import bp_torch, which imports {'' if said[0][1] == 'True' else 'no '}torch",
        "s": round(taken, 4),
    }


def _checks() -> Iterator[Row]:
    """Of a passing check of one sample, by a reference and by finite differences."""
    entry = CATALOGUE["linear"]
    for name, reference in {"by reference": entry.reference, "by differences": None}.items():
        work = partial(check_gradients, entry.function, entry.samples[:1], reference=reference)
        work()
        taken = statistics.median(seconds(work) for _ in range(20))
        yield {"what": f"check_gradients of one sample of linear, {name}", "s": round(taken, 3)}


_STEP = "`/ eager`: time in units of PyTorch's own layers with autograd and `optim.SGD`; `/ products`: of the floor."
_MEMORY = "Of PyTorch's CPU allocator, beyond parameters and data, mini-batch of 100."
_LAYERS = "784-16-16-10, sigmoid, squared error, mini-batch of 100, without the update."
_FUNCTIONS = "Every size 100; the upstream gradient is given. In units of PyTorch's own."
_NORMS = "784-16-16-10. The gradient is the engine's, of all of them at once; `vmap` takes them by the thousand."
_EPOCH = "Shuffle, gather, step, 600 times a mini-batch of 100; the first is the loop that most tutorials show."
_RUN = "60 epochs at the defaults, as `make train` runs them."
_ACCURACY = "Test accuracy, mean of seeds 0, 1 and 2."
