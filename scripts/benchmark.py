"""Measure the project's figures side by side, in one process, interleaved; medians and ratios, never bare times.

Every peer does the same work on the same numbers, in turn, many rounds; a ratio is the median over rounds of one
peer's time by the other's in the same round, so that a noisy machine disturbs both alike.
"""

import json
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import torch
from torch import Tensor

from bp_torch import cli
from bp_torch.catalogue import CATALOGUE, Entry
from bp_torch.dashboard.writer import TensorBoardRecorder
from bp_torch.data import DataError, Dataset, load
from bp_torch.gradients import check_gradients
from bp_torch.gradients.call import Call, as_calls
from bp_torch.gradients.variants import resized
from bp_torch.training.config import TrainConfig
from bp_torch.training.learner import Learner
from bp_torch.training.loop import Trainer


@dataclass(frozen=True)
class BenchmarkConfig:
    """Measure speed, and with --accuracy what the documented commands reach (some minutes)."""

    accuracy: bool = False
    """Train with seeds 0, 1 and 2 as documented, and report the mean."""
    rounds: int = 200
    """Rounds of forward and backward."""
    data_root: Path = Path("data")
    """Where torchvision keeps MNIST."""

    def __post_init__(self) -> None:
        """Refuse what cannot be measured."""
        if self.rounds < 2:
            raise ValueError(f"--rounds must be at least 2, got {self.rounds}")


def main() -> int:
    """Print a line of JSON for each figure."""
    config = cli.parse(BenchmarkConfig, sys.argv[1:])
    torch.set_num_threads(1)
    report("machine", processor=_processor(), python=platform.python_version(), torch=torch.__version__, threads=1)
    report("import bp_torch", **import_bp_torch())
    report("forward + backward, functions / builtin", **forward_and_backward(config.rounds))
    for name, figures in each_function(config.rounds).items():
        report(f"{name}, forward + backward, hand-written / builtin", **figures)
    report("check_gradients, one sample of linear", **one_check())
    dataset = load("auto", config.data_root)
    if dataset.name == "mnist":
        report("one epoch of MNIST, DataLoader loop / ours", **one_epoch(dataset, config.data_root))
    if config.accuracy:
        measure_accuracies(dataset)
    return 0


def report(figure: str, **values: object) -> None:
    """One line of JSON."""
    print(json.dumps({"figure": figure, **values}), flush=True)


def seconds(work: Callable[[], object]) -> float:
    """How long it takes, once."""
    started = time.perf_counter()
    work()
    return time.perf_counter() - started


def ratio(numerator: Callable[[], object], denominator: Callable[[], object], rounds: int) -> dict[str, float]:
    """Median and quartiles of the ratio of two times, measured in turn."""
    ratios = [seconds(numerator) / seconds(denominator) for _ in range(rounds)]
    low, middle, high = statistics.quantiles(ratios, n=4)
    return {"ratio": round(middle, 3), "quartile_1": round(low, 3), "quartile_3": round(high, 3), "rounds": rounds}


def forward_and_backward(rounds: int) -> dict[str, float]:
    """The default network and mini-batch, 50 times a round, hand-written against PyTorch's own."""
    generator = torch.Generator().manual_seed(0)
    images = torch.rand(100, 784, generator=generator)
    labels = torch.randint(10, (100,), generator=generator)

    def repeated(learner: Learner) -> Callable[[], None]:
        targets = learner.targets(labels)

        def work() -> None:
            for _ in range(50):
                learner.model.zero_grad()
                learner.cost(learner.model(images), targets).backward()  # type: ignore[no-untyped-call]

        return work

    functions, builtin = (repeated(Learner(TrainConfig(backend=name))) for name in ("functions", "builtin"))
    functions(), builtin()
    return ratio(functions, builtin, rounds)


def each_function(rounds: int) -> dict[str, dict[str, float]]:
    """Every function of the catalogue on its first sample, each of its sizes made 100, against PyTorch's own."""
    figures = {}
    for entry in CATALOGUE.values():
        hand, builtin = (_differentiated(call) for call in _large_calls(entry))
        figures[entry.name] = ratio(hand, builtin, rounds)
    return figures


def _large_calls(entry: Entry) -> tuple[Call, Call]:
    first = next(sample for sample in entry.samples if isinstance(sample.args[0], Tensor) and sample.args[0].dim() == 2)
    (call,) = as_calls(entry.function, [first])
    sizes = {size: 100 for arg in call.args if isinstance(arg, Tensor) for size in arg.shape}
    large = resized(call.to(torch.float32), sizes, torch.Generator().manual_seed(0))
    assert large is not None
    return large, large.of(entry.reference)


def _differentiated(call: Call) -> Callable[[], None]:
    leaves = [x.requires_grad_() for x in call.inputs]
    upstream = torch.ones_like(call.output())

    def work() -> None:
        for _ in range(20):
            torch.autograd.grad(call.output(), leaves, upstream)

    work()
    return work


def one_check(rounds: int = 20) -> dict[str, float]:
    """Seconds that a passing check of one linear sample takes, by a reference and by finite differences."""
    sample = CATALOGUE["linear"].samples[:1]
    entry = CATALOGUE["linear"]

    def median(reference: Callable[..., Tensor] | None) -> float:
        work = partial(check_gradients, entry.function, sample, reference=reference)
        work()
        return round(statistics.median(seconds(work) for _ in range(rounds)), 3)

    return {"by_reference": median(entry.reference), "by_differences": median(None), "rounds": rounds}


def one_epoch(dataset: Dataset, root: Path, rounds: int = 5) -> dict[str, float]:
    """A whole default run, with comparing, evaluating and logging, against epochs of the loop most tutorials show.

    The run is cut into equal parts, each beside one epoch of the tutorial's, since it does not log alike all along.
    """
    tutorial_epoch = _tutorial_epoch(root)
    with tempfile.TemporaryDirectory() as folder, TensorBoardRecorder(Path(folder)) as board:
        trainer = Trainer(TrainConfig(), dataset, [board])
        part = trainer.config.epochs // rounds
        theirs, ours = [], []
        for _ in range(rounds):
            theirs.append(seconds(tutorial_epoch))
            ours.append(seconds(lambda: [trainer.run_epoch() for _ in range(part)]) / part)
        run = part * sum(ours)
        return {
            "ratio": round(sum(theirs) / sum(ours), 2),
            "lowest": round(min(t / o for t, o in zip(theirs, ours, strict=True)), 2),
            "logging_share": round(board.seconds / run, 3),
            "comparing_share": round(trainer.comparing_seconds / run, 3),
            "failed_comparisons": trainer.comparisons - trainer.comparisons_passed,
        }


def _tutorial_epoch(root: Path) -> Callable[[], None]:
    """An epoch of torchvision's MNIST, ToTensor, DataLoader, torch.nn and optim.SGD."""
    from torchvision import datasets, transforms  # after load(), which cures its import where that is needed

    layers = ((torch.nn.Linear(i, o), torch.nn.Sigmoid()) for i, o in ((784, 16), (16, 16), (16, 10)))
    model = torch.nn.Sequential(*(module for pair in layers for module in pair))
    optimizer = torch.optim.SGD(model.parameters(), lr=3.0)
    examples = datasets.MNIST(root, transform=transforms.ToTensor())
    loader = torch.utils.data.DataLoader(examples, batch_size=100, shuffle=True)

    def work() -> None:
        for images, labels in loader:
            targets = torch.nn.functional.one_hot(labels, 10).float()
            cost = ((model(images.flatten(1)) - targets) ** 2).sum(1).mean()
            optimizer.zero_grad()
            cost.backward()
            optimizer.step()

    return work


def import_bp_torch(rounds: int = 10) -> dict[str, object]:
    """Seconds of `import bp_torch` in a fresh interpreter, and whether it brought torch along."""
    code = (
        "import sys, time; began = time.perf_counter(); import bp_torch; "
        "print(time.perf_counter() - began, 'torch' in sys.modules)"
    )
    said = [subprocess.check_output([sys.executable, "-c", code], text=True).split() for _ in range(rounds)]
    return {"seconds": statistics.median(float(taken) for taken, _ in said), "torch": said[0][1] == "True"}


def measure_accuracies(dataset: Dataset) -> None:
    """Mean accuracy over seeds 0, 1 and 2 of the documented commands, and what drawn digits teach about MNIST."""
    report("default network", **_accuracies(TrainConfig(compare_every=1000), dataset))
    report("ReLU and cross-entropy", **_accuracies(RELU, dataset))
    digits = load("digits", Path("data"))
    report("digits on digits", **_accuracies(TrainConfig(compare_every=1000), digits))
    crossed = replace(digits, test=dataset.test)
    report(f"digits on {dataset.name}", **_accuracies(TrainConfig(compare_every=1000), crossed))


RELU = TrainConfig(activation="relu", cost="cross_entropy", learning_rate=0.2, epochs=30, compare_every=1000)
"""The README's command for a network of rectifiers."""


def _accuracies(config: TrainConfig, dataset: Dataset) -> dict[str, object]:
    reached = [Trainer(replace(config, seed=seed), dataset).run()["test_accuracy"] for seed in range(3)]
    return {"mean": round(statistics.mean(reached), 4), "seeds": [round(accuracy, 4) for accuracy in reached]}


def _processor() -> str:
    """The processor's name, where the system tells."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
        return next(line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        return platform.processor() or platform.machine()


if __name__ == "__main__":
    cli.run(main, DataError)
