"""A run from its first file to its last: the folder, the data, the training, the summary."""

import platform
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import torch

import bp_torch
from bp_torch.data import Dataset, load
from bp_torch.training.checkpoint import (
    CHECKPOINT,
    CONFIG,
    SUMMARY,
    RunError,
    create_run,
    load_run,
    require_free,
    save_checkpoint,
    write_json,
)
from bp_torch.training.config import TrainConfig, flag
from bp_torch.training.learner import Learner
from bp_torch.training.loop import Trainer
from bp_torch.training.records import Recorder, RunFinished, RunStarted

Attach = Callable[[Path, int], Sequence[Recorder]]
"""Makes the recorders of a run from its folder and its first step."""

_MAY_CHANGE = {"runs_dir", "data_root", "mnist_source", "device", "threads", "frames"}


def train(config: TrainConfig, attach: Attach, command: str) -> tuple[Path, dict[str, Any]]:
    """Train as configured, in a folder of its own.

    Args:
        config: every flag.
        attach: makes the recorders, once there is a folder; each is closed at the end.
        command: what was typed, for the record.

    Returns:
        The run's folder and the figures of its summary.json.

    Raises:
        DataError, RunError: before anything is written, if the data or the folder cannot be had.
        NonFiniteCost: if training breaks down; what was recorded stays.
    """
    config, checkpoint = _requested(config)
    torch.set_num_threads(config.threads)
    dataset = load(config.data, config.data_root, source=config.mnist_source)
    trainer = Trainer(config, dataset)
    if checkpoint is not None:
        _go_on(trainer, checkpoint)
    folder = _opened(config, dataset, anew=checkpoint is None)
    with ExitStack() as stack:
        trainer.recorders = attach(folder, trainer.step)
        for recorder in trainer.recorders:
            stack.callback(recorder.close)
        trainer.record(_started(trainer, dataset, command))
        figures = trainer.run(after_epoch=lambda: save_checkpoint(folder, trainer.state()))
        summary = {"data": dataset.name, **figures, "data_origin": dataset.origin, "torch": torch.__version__}
        write_json(folder / SUMMARY, summary)
        trainer.record(RunFinished(trainer.step - 1, summary))
    return folder, summary


def run_folder(run: Path) -> Path:
    """A run's folder, from itself or from the checkpoint in it."""
    return run.parent if run.name == CHECKPOINT else run


def trained(run: Path) -> tuple[TrainConfig, Learner]:
    """What a run was told, and the network that it has trained, on the CPU.

    Args:
        run: its folder, or the checkpoint in it.

    Raises:
        RunError: if there is no such run, or its checkpoint is of another network than its configuration says.
    """
    folder = run_folder(run)
    config, checkpoint = load_run(folder, device="cpu")
    try:
        learner = Learner(config)
        learner.hand.load_state_dict(checkpoint["parameters"])
    except (AttributeError, KeyError, RuntimeError, TypeError):
        raise RunError(f"cannot read run {folder.name!r}: its {CHECKPOINT} does not fit its {CONFIG}") from None
    return config, learner


def _requested(config: TrainConfig) -> tuple[TrainConfig, dict[str, Any] | None]:
    """The configuration under the run's name, and the checkpoint to go on from, if that was asked."""
    if config.resume is not None:
        stored, checkpoint = load_run(config.runs_dir / config.resume)
        return _as_it_was(config, stored), checkpoint
    config = replace(config, run_name=config.run_name or _unused_name(config.runs_dir))
    if not config.overwrite:
        require_free(config.folder)
    return config, None


def _as_it_was(config: TrainConfig, stored: TrainConfig) -> TrainConfig:
    """The stored configuration, but for what does not change the numbers.

    Raises:
        RunError: if a flag asks for another value than the run has.
    """
    for field in fields(config):
        given, kept = getattr(config, field.name), getattr(stored, field.name)
        if field.name not in {*_MAY_CHANGE, "resume", "run_name", "overwrite"} and given not in (field.default, kept):
            raise RunError(f"{flag(field.name)} {given} does not fit the run to resume, which has {kept}: leave it out")
    asked = {f.name: getattr(config, f.name) for f in fields(config) if getattr(config, f.name) != f.default}
    free = {name: value for name, value in asked.items() if name in _MAY_CHANGE}
    return replace(
        stored, **{**free, "runs_dir": config.runs_dir}, run_name=config.resume, resume=None, overwrite=False
    )


def _go_on(trainer: Trainer, checkpoint: dict[str, Any]) -> None:
    """Take up a checkpoint.

    Raises:
        RunError: if the run is finished, or the checkpoint is of another network.
    """
    name, epochs = trainer.config.run_name, trainer.config.epochs
    try:
        trainer.load_state(checkpoint)
    except (ArithmeticError, KeyError, RuntimeError, TypeError, ValueError):
        raise RunError(f"cannot resume {name!r}: its checkpoint does not fit its {CONFIG}") from None
    if trainer.epoch >= epochs:
        raise RunError(f"cannot resume {name!r}: all of its {epochs} epochs are done")


def _unused_name(runs_dir: Path) -> str:
    now = time.strftime("%Y-%m-%d_%H-%M-%S")
    names = (now if count == 1 else f"{now}_{count}" for count in range(1, 1000))
    return next(name for name in names if not (runs_dir / name).exists())


def _opened(config: TrainConfig, dataset: Dataset, *, anew: bool) -> Path:
    """The run's folder, holding its configuration with the data that were found."""
    if anew:
        create_run(config.folder, overwrite=config.overwrite)
        kept = {**config.as_dict(), "data": dataset.name, "data_origin": dataset.origin, "overwrite": False}
        write_json(config.folder / CONFIG, kept)
    return config.folder


def _started(trainer: Trainer, dataset: Dataset, command: str) -> RunStarted:
    model = trainer.learner.model
    return RunStarted(
        config=trainer.config.as_dict(),
        data=dataset.name,
        data_origin=dataset.origin,
        versions={
            "bp_torch": bp_torch.__version__,
            "torch": torch.__version__,
            "python": platform.python_version(),
        },
        command=command,
        model=str(model),
        parameters=sum(parameter.numel() for parameter in model.parameters()),
        first_step=trainer.step,
        steps=trainer.steps,
        compared=trainer.comparisons,
        agreed=trainer.comparisons_passed,
    )
