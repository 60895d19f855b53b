"""A run from its first file to its last: the folder, the data, the training, the summary."""

import platform
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import fields, replace
from pathlib import Path
from typing import Any, NamedTuple

import torch

import bp_torch
from bp_torch.data import Dataset, load
from bp_torch.training.checkpoint import NEWEST_FIRST, State, load_checkpoint, load_config, set_aside
from bp_torch.training.config import TrainConfig, flag
from bp_torch.training.failure import keep_failure
from bp_torch.training.folder import (
    CHECKPOINT,
    CONFIG,
    SUMMARY,
    RunError,
    claim,
    create_run,
    remove_run,
    require_free,
    require_nothing_to_lose,
    write_json,
)
from bp_torch.training.interruption import Interruption
from bp_torch.training.keeper import Keeper, how_to_resume
from bp_torch.training.learner import Learner
from bp_torch.training.loop import NonFinite, Trainer
from bp_torch.training.processes import ProcessLost, joined, local_device
from bp_torch.training.records import Recorder, RunFinished, RunStarted

Attach = Callable[[Path, int], Sequence[Recorder]]
"""Makes the recorders of a run from its folder and its first step."""

_HERE = {"runs_dir", "data_root", "mnist_source", "device", "checkpoint_seconds", "quiet"}
"""What is as the command line says it now, although a run was begun otherwise."""
_MAY_CHANGE = {"threads", "frames", *_HERE}
_WHICH_RUN = {"resume", "replay", "run_name", "overwrite"}


class Task(NamedTuple):
    """What the first process finds, and all train by."""

    config: TrainConfig
    dataset: Dataset
    state: State
    """Where to go on from; empty at the beginning."""
    remarks: tuple[str, ...] = ()


class Trained(NamedTuple):
    """What became of a run."""

    folder: Path
    summary: dict[str, Any]
    """The figures of summary.json; none in a process that is not the first."""
    seconds: float
    """Spent on training and looking since it began, or was gone on with."""
    saving_seconds: float
    """Of them, on checkpoints."""


def train(config: TrainConfig, attach: Attach, command: str) -> Trained:
    """Train as configured, in a folder of its own; in each of the processes that torchrun started, if it did.

    Args:
        config: every flag.
        attach: makes the recorders, once there is a folder; each is closed at the end. The first process calls it.
        command: what was typed, for the record.

    Raises:
        DataError, RunError: before anything is written, if the data or the folder cannot be had; or later, if nothing
            can be written any more.
        NonFinite: if training breaks down; what was recorded and saved stays.
        ProcessLost: if another process cannot be heard; the first has saved the run by then.
        Stopped: on Ctrl-C or SIGTERM, once the run is saved.
    """
    with ExitStack() as stack:
        processes = stack.enter_context(joined())
        task = processes.from_first(lambda: _task(config, stack))
        config = replace(task.config, device=local_device(task.config.device, processes))
        torch.set_num_threads(config.threads)
        trainer = Trainer(config, task.dataset, processes=processes)
        if task.state:
            _go_on(trainer, task.state)
        began = time.perf_counter()
        interruption = stack.enter_context(Interruption(patient=processes.count > 1))
        keeper = Keeper(trainer, config.folder, interruption)
        stack.callback(_close, trainer)
        with _failures(trainer, keeper):
            if processes.first:
                trainer.observer.recorders = attach(config.folder, trainer.step)
                trainer.observer.record(_started(trainer, task, command))
            figures = trainer.run(keeper.after_step)
            summary = _finish(trainer, keeper, task, figures) if processes.first else {}
    return Trained(config.folder, summary, time.perf_counter() - began, keeper.seconds)


def trained(run: Path) -> tuple[TrainConfig, Learner]:
    """What a run was told, and the network that it has trained, on the CPU.

    Args:
        run: its folder, of which the last checkpoint is taken, or any of the checkpoints in it.

    Raises:
        RunError: if there is no such run, or its checkpoint is of another network than its configuration says.
    """
    folder = run_folder(run)
    name = CHECKPOINT if run == folder else run.name
    config = load_config(folder, device="cpu")
    state, _ = load_checkpoint(folder, config, (name,))
    if not state:
        raise RunError(f"cannot read run {folder.name!r}: there is no {folder / name}")
    try:
        learner = Learner(config)
        learner.hand.load_state_dict(state["parameters"])
    except (AttributeError, KeyError, RuntimeError, TypeError):
        raise RunError(f"cannot read run {folder.name!r}: its {name} does not fit its {CONFIG}") from None
    return config, learner


def run_folder(run: Path) -> Path:
    """A run's folder, from itself or from a checkpoint in it."""
    return run.parent if run.name in NEWEST_FIRST else run


def _task(config: TrainConfig, stack: ExitStack) -> Task:
    """Open the run's folder and load the data; the folder stays claimed until the stack is closed."""
    if config.resume is not None:
        return _task_to_go_on(config, config.runs_dir / config.resume, stack)
    config = replace(config, run_name=config.run_name or _unused_name(config.runs_dir))
    if not config.overwrite:
        require_free(config.folder)
    dataset = load(config.data, config.data_root, source=config.mnist_source)
    stack.callback(create_run(config.folder, overwrite=config.overwrite).release)
    return _begun(config, dataset)


def _task_to_go_on(config: TrainConfig, folder: Path, stack: ExitStack) -> Task:
    """Go on from the newest checkpoint that is whole, or where there is none yet, begin once more.

    Raises:
        RunError: if the run cannot be read, is finished, or is being trained.
    """
    config = _as_it_was(config, load_config(folder, device=config.device))
    stack.callback(claim(folder).release)
    if (folder / SUMMARY).exists():
        raise RunError(f"cannot resume {folder.name!r}: all of its {config.epochs} epochs are done")
    state, damaged = load_checkpoint(folder, config)
    dataset = load(config.data, config.data_root, source=config.mnist_source)
    if not state:
        require_nothing_to_lose(folder)
        remove_run(folder)
        return _begun(config, dataset, "there is no checkpoint yet: beginning once more")
    taken = next(name for name in NEWEST_FIRST if name not in damaged and (folder / name).exists())
    set_aside(folder, damaged)
    return Task(config, dataset, state, tuple(f"{name} is damaged: going on from {taken}" for name in damaged))


def _begun(config: TrainConfig, dataset: Dataset, *remarks: str) -> Task:
    config = TrainConfig.from_dict({**config.as_dict(), "data": dataset.name, "overwrite": False})
    write_json(config.folder / CONFIG, {**config.as_dict(), "data_origin": dataset.origin})
    return Task(config, dataset, {}, remarks)


def _as_it_was(config: TrainConfig, stored: TrainConfig) -> TrainConfig:
    """The stored configuration, but where it runs now, and what it shows.

    Raises:
        RunError: if a flag asks for another value than the run has.
    """
    for field in fields(config):
        given, kept = getattr(config, field.name), getattr(stored, field.name)
        if field.name not in _MAY_CHANGE | _WHICH_RUN and given not in (field.default, kept):
            raise RunError(f"{flag(field.name)} {given} does not fit the run to resume, which has {kept}: leave it out")
    asked = {f.name: getattr(config, f.name) for f in fields(config) if getattr(config, f.name) != f.default}
    free = {name: value for name, value in asked.items() if name in _MAY_CHANGE}
    here = {name: getattr(config, name) for name in _HERE}
    return replace(stored, **{**free, **here}, run_name=config.resume, resume=None, overwrite=False)


def _go_on(trainer: Trainer, state: State) -> None:
    """Take up a checkpoint.

    Raises:
        RunError: if it is of another network.
    """
    try:
        trainer.load_state(state)
        trainer.require_finite()
        if trainer.step == trainer.steps and trainer.evaluated is None:
            raise ValueError("a run that is at its end was evaluated")
    except (ArithmeticError, AttributeError, KeyError, RuntimeError, TypeError, ValueError):
        name = trainer.config.run_name
        raise RunError(f"cannot resume {name!r}: its {CHECKPOINT} does not fit its {CONFIG}") from None


def _unused_name(runs_dir: Path) -> str:
    now = time.strftime("%Y-%m-%d_%H-%M-%S")
    names = (now if count == 1 else f"{now}_{count}" for count in range(1, 1000))
    return next(name for name in names if not (runs_dir / name).exists())


@contextmanager
def _failures(trainer: Trainer, keeper: Keeper) -> Iterator[None]:
    """Keep what can be kept when training fails, and say how to go on."""
    config, first = trainer.config, trainer.processes.first
    try:
        yield
    except NonFinite as error:
        if first:
            with suppress(OSError):
                keeper.save_best()
                keep_failure(config.folder, trainer, error.record)
        raise NonFinite(f"{error}; look at it by --replay {config.run_name}", error.record) from None
    except ProcessLost as error:
        if first:
            with suppress(OSError, NonFinite):
                keeper.save()
        raise ProcessLost(f"{error}; go on with {how_to_resume(config)}") from None
    except OSError as error:
        what = f"cannot write {error.filename or config.folder}: {error.strerror}"
        kept = f"{keeper.kept:,} steps are saved: mend that, and go on with {how_to_resume(config)}"
        raise RunError(f"{what}; {kept}") from None


def _close(trainer: Trainer) -> None:
    for recorder in trainer.observer.recorders:
        recorder.close()


def _finish(trainer: Trainer, keeper: Keeper, task: Task, figures: dict[str, Any]) -> dict[str, Any]:
    """Save the end; the summary is last, so that a run which has one lacks nothing."""
    keeper.finish()
    summary = {"data": task.dataset.name, **figures, "data_origin": task.dataset.origin, "torch": torch.__version__}
    trainer.observer.record(RunFinished(trainer.step, summary))
    write_json(task.config.folder / SUMMARY, summary)
    return summary


def _started(trainer: Trainer, task: Task, command: str) -> RunStarted:
    return RunStarted(
        config=trainer.config.as_dict(),
        data=task.dataset.name,
        data_origin=task.dataset.origin,
        versions={
            "bp_torch": bp_torch.__version__,
            "torch": torch.__version__,
            "python": platform.python_version(),
        },
        command=command,
        model=str(trainer.learner.model),
        parameters=trainer.config.parameters,
        first_step=trainer.step,
        steps=trainer.steps,
        compared=trainer.observer.counts.comparisons,
        agreed=trainer.observer.counts.comparisons_passed,
        processes=trainer.processes.count,
        remarks=task.remarks,
    )
