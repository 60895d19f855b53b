"""A training run: its folder, data, training and summary; resuming, loading and replaying it."""

import math
import platform
import shlex
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import fields, replace
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor

import bp_torch
from bp_torch.data import Dataset, Split, load
from bp_torch.training.backends import ProcessLost, init_processes
from bp_torch.training.config import MAX_NEURONS, TrainConfig, flag
from bp_torch.training.logging.events import Logger, RunFinished, RunStarted
from bp_torch.training.logging.traces import first_non_finite, table_of
from bp_torch.training.loop import NonFinite, Trainer, build_model, model_batch
from bp_torch.training.state import run_dir
from bp_torch.training.state.run_dir import RunError, State
from bp_torch.training.state.saver import CheckpointSaver, StopSignals

SHOWN = 20  # examples of a failed mini-batch that are listed

_LOCATIONS = ("runs_dir", "data_root", "mnist_source", "device")
_PER_SESSION = (*_LOCATIONS, "checkpoint_seconds", "quiet")
"""Settings that a resumed run takes from the command line, defaults included."""
_MAY_CHANGE = {"epochs", "threads", "frames", *_PER_SESSION}
_RUN_SELECTION = {"resume", "replay", "run_name", "overwrite"}


class RunSetup(NamedTuple):
    """What the first process prepares and sends to the others."""

    config: TrainConfig
    dataset: Dataset
    state: State | None = None  # the checkpoint of a resumed run
    remarks: tuple[str, ...] = ()


class TrainResult(NamedTuple):
    """The result of a run."""

    folder: Path
    summary: dict[str, Any]  # the content of summary.json; empty in all processes but the first
    seconds: float  # spent on training and logging since it was started or resumed
    saving_seconds: float  # of these, spent on checkpoints


def train(
    config: TrainConfig,
    attach: Callable[[Path, int], Sequence[Logger]],
    program: str = "bp-torch train",
    arguments: Sequence[str] = (),
) -> TrainResult:
    """Train as configured, in each process that torchrun started, or in this one.

    Args:
        config: every flag.
        attach: makes the loggers from the run's folder and the first step, in the first process; they are closed at
            the end.
        program: how to call it from the current folder, for messages that say how to resume.
        arguments: the command line, for the record; a flag in it counts as given even at its default.

    Raises:
        DataError, RunError: if the data cannot be loaded, or the folder cannot be used, before anything is written;
            RunError also if a later write fails.
        NonFinite: if a number is not finite; everything recorded and saved before stays.
        ProcessLost: if another process cannot be reached; the first process saves the run before.
        Interrupted: on Ctrl-C or SIGTERM, once the run is saved.
    """
    with ExitStack() as stack:
        group = stack.enter_context(init_processes())
        setup = group.broadcast_from_first(lambda: _set_up(config, arguments, stack))
        config = replace(setup.config, device=group.local_device(setup.config.device))
        torch.set_num_threads(config.threads)
        trainer = Trainer(config, setup.dataset, group=group)
        if setup.state:
            restore(trainer, setup.state)
        began = time.perf_counter()
        signals = stack.enter_context(StopSignals(ignore_repeated=group.size > 1).handle())
        saver = CheckpointSaver(trainer, config.folder, signals, command_for("--resume", program, setup.config))
        stack.callback(trainer.monitor.close)
        with _failures(trainer, saver, command_for("--replay", program, setup.config)):
            if group.first:
                run_dir.set_epochs(config.folder, config.epochs)
                trainer.monitor.loggers = attach(config.folder, trainer.step)
                trainer.monitor.record(_started(trainer, setup, f"{program} {shlex.join(arguments)}"))
            figures = trainer.run(saver.after_step)
            summary = _finish(trainer, saver, setup, figures) if group.first else {}
    return TrainResult(config.folder, summary, time.perf_counter() - began, saver.seconds)


def load_trained(run: Path) -> tuple[TrainConfig, torch.nn.Sequential]:
    """Load the configuration and the trained model of a run onto the CPU, from its folder or one of its checkpoints.

    Raises:
        RunError: if there is no such run, or its checkpoint does not fit its configuration.
    """
    folder = run_folder(run)
    name = run_dir.CHECKPOINT if run == folder else run.name
    config = run_dir.load_config(folder, device="cpu")
    state, _ = run_dir.load_checkpoint(folder, config, (name,))
    if state is None:
        raise RunError(f"cannot read run {folder.name!r}: there is no {folder / name}")
    with _refuse(f"cannot read run {folder.name!r}: its {name} does not fit its {run_dir.CONFIG}"):
        classes = int(run_dir.number(state.values["classes"], least=1))
        if classes > MAX_NEURONS:
            raise ValueError(f"{classes} classes")
        model = build_model(config, state.values["image_shape"], classes)
        model.load_state_dict(state.of_model("parameters", model))
    return config, model


def run_folder(run: Path) -> Path:
    """The run's folder, given it or one of its checkpoints."""
    return run.parent if run.name in run_dir.NEWEST_FIRST else run


def restore(trainer: Trainer, state: State) -> None:
    """Load a checkpoint into a trainer; RunError if it does not fit."""
    misfit = f"its {run_dir.CHECKPOINT} does not fit its {run_dir.CONFIG}"
    with _refuse(f"cannot resume {trainer.config.run_name!r}: {misfit}"):
        trainer.load_state(state)
        trainer.require_finite()
        if trainer.step == trainer.steps and trainer.evaluated is None:
            raise ValueError("a finished run must have been evaluated")


def replay(config: TrainConfig) -> tuple[str, bool]:
    """Compute the step that ended the run `config.replay` again.

    Returns:
        A table of the largest magnitude in every tensor, forward and backward; and whether the step failed again.

    Raises:
        RunError: if the run did not end with a number that is not finite, or cannot be read.
        DataError: if its data cannot be loaded.
    """
    folder = config.runs_dir / str(config.replay)
    stored = run_dir.load_config(folder, device=config.device)
    state, _ = run_dir.load_checkpoint(folder, stored, (run_dir.FAILURE,))
    if state is None:
        raise RunError(f"cannot replay {folder.name!r}: it was not ended by NaN or infinity")
    dataset = load(stored.data, config.data_root, source=config.mnist_source)
    with _refuse(f"cannot replay {folder.name!r}: its {run_dir.FAILURE} does not fit its data or network"):
        then = replace(stored, epochs=state.values["config"]["epochs"])  # --epochs may have changed since
        trainer = Trainer(then, dataset)
        step, what, examples = _restore_failure(trainer, state)
    stats = trainer.stats((trainer.batches.inputs[examples], trainer.batches.targets[examples]))
    more = f" and {len(examples) - SHOWN:,} more" if len(examples) > SHOWN else ""
    heading = f"at step {step}: {what}\nexamples {' '.join(map(str, examples[:SHOWN].tolist()))}{more}"
    text = f"{heading}\nrecomputed: {first_non_finite(stats)}\n\n{table_of(stats)}"
    return text, any(tensor.non_finite for tensor in stats)


def _restore_failure(trainer: Trainer, state: State) -> tuple[int, str, Tensor]:
    """Load the step that failed into a trainer; return its number, the failure, and its examples."""
    kept = state.tensors.pop("examples")
    trainer.load_state(state)
    step, what = int(run_dir.number(state.values["failed_step"], least=0)), state.values["what"]
    examples = trainer.batches.examples(*divmod(step, len(trainer.batches))).cpu()
    if type(what) is not str or not torch.equal(examples, kept):
        raise ValueError("an invalid message, or other examples")
    return step, run_dir.printable(what), examples


@contextmanager
def _refuse(message: str) -> Iterator[None]:
    """Turn any exception, such as an untrusted state may raise, into a RunError."""
    try:
        yield
    except Exception:
        raise RunError(message) from None


def _set_up(config: TrainConfig, arguments: Sequence[str], stack: ExitStack) -> RunSetup:
    """Open the run's folder and load the data; the folder stays locked until the stack is closed."""
    if config.resume is not None:
        return _set_up_resumed(config, arguments, config.runs_dir / config.resume, stack)
    if config.run_name is None:
        now = time.strftime("%Y-%m-%d_%H-%M-%S")
        names = (now, *(f"{now}_{count}" for count in range(2, 1000)))
        config = replace(config, run_name=next(name for name in names if not (config.runs_dir / name).exists()))
    if not config.overwrite:
        run_dir.require_free(config.folder)
    dataset = _load_data(config)
    stack.callback(run_dir.create_run(config.folder, overwrite=config.overwrite).release)
    return _new_run(config, dataset)


def _set_up_resumed(config: TrainConfig, arguments: Sequence[str], folder: Path, stack: ExitStack) -> RunSetup:
    """Resume from the newest valid checkpoint; if there is none yet, begin again."""
    run_dir.load_config(folder, device=config.device)  # which must exist before its folder is locked
    stack.callback(run_dir.lock_run(folder).release)
    config = _merge_config(config, run_dir.load_config(folder, device=config.device), arguments)
    if run_dir.epochs_done(folder) == config.epochs:
        done = f"all of its {config.epochs} epochs are done"
        raise RunError(f"cannot resume {folder.name!r}: {done}; continue with --epochs {2 * config.epochs}")
    state, damaged = run_dir.load_checkpoint(folder, config)
    if state is None:
        run_dir.require_restartable(folder)
    dataset = _load_data(config)  # before anything is removed
    if state is None:
        run_dir.remove_run(folder)
        return _new_run(config, dataset, "there is no checkpoint yet: starting again")
    _require_epochs_left(config, dataset, state)
    valid = next(name for name in run_dir.NEWEST_FIRST if name not in damaged and (folder / name).exists())
    run_dir.rename_damaged(folder, damaged)
    return RunSetup(config, dataset, state, tuple(f"{name} is damaged: resuming from {valid}" for name in damaged))


def _require_epochs_left(config: TrainConfig, dataset: Dataset, state: State) -> None:
    """Raise RunError if a checkpoint is past the last epoch."""
    per_epoch = math.ceil(len(dataset.train.labels) / config.batch_size)
    step = state.values.get("step")
    if type(step) is int and step > config.epochs * per_epoch:
        done = f"{step / per_epoch:.4g} epochs are done"
        raise RunError(f"cannot resume {config.run_name!r} with --epochs {config.epochs}: {done}")


def _load_data(config: TrainConfig) -> Dataset:
    dataset = load(config.data, config.data_root, source=config.mnist_source)
    try:
        model = build_model(config, dataset.image_shape, dataset.classes)
        few = Split(dataset.train.images[:2], dataset.train.labels[:2])
        model(model_batch(config, few, dataset.classes)[0])
    except ValueError as error:
        raise RunError(str(error)) from None
    except RuntimeError as error:
        size = " × ".join(map(str, dataset.image_shape))
        raise RunError(f"--model {config.model} does not take images of {size} pixels: {error}") from None
    return dataset


def _new_run(config: TrainConfig, dataset: Dataset, *remarks: str) -> RunSetup:
    config = TrainConfig.from_dict({**config.as_dict(), "data": dataset.name, "overwrite": False})
    run_dir.write_json(config.folder / run_dir.CONFIG, {**config.as_dict(), "data_origin": dataset.origin})
    return RunSetup(config, dataset, remarks=remarks)


def _merge_config(config: TrainConfig, stored: TrainConfig, arguments: Sequence[str]) -> TrainConfig:
    """The stored configuration, with this session's settings; RunError if a flag cannot change when resuming."""
    defaults = TrainConfig.defaults(config.model)
    flags = {argument.partition("=")[0].replace("_", "-") for argument in arguments}
    given = {
        f.name: getattr(config, f.name)
        for f in fields(config)
        if flag(f.name) in flags or getattr(config, f.name) != getattr(defaults, f.name)
    }
    if config.data == "auto":
        given.pop("data", None)
    for name, value in given.items():
        before = getattr(stored, name)
        if name not in _MAY_CHANGE | _RUN_SELECTION and value != before:
            raise RunError(
                f"{flag(name)} {value} cannot change when a run is resumed, which has {before}: leave it out"
            )
    changes = {name: getattr(config, name) for name in {*_PER_SESSION, *(_MAY_CHANGE & given.keys())}}
    return replace(stored, **changes, run_name=config.resume, resume=None, overwrite=False)


def command_for(action: str, program: str, config: TrainConfig) -> str:
    """The command that resumes or replays a run with the folders and the device of this session."""
    defaults = TrainConfig()
    moved = [name for name in _LOCATIONS if getattr(config, name) != getattr(defaults, name)]
    places = (f"{flag(name)}={getattr(config, name)}" for name in moved)
    return f"{program} {shlex.join([f'{action}={config.run_name}', *places])}"


@contextmanager
def _failures(trainer: Trainer, saver: CheckpointSaver, replay_command: str) -> Iterator[None]:
    """If training fails, save the state, and say how to resume or replay."""
    config, first = trainer.config, trainer.group.first
    try:
        yield
    except NonFinite as error:
        if first:
            with suppress(OSError):
                saver.save_failure(error.event)
        raise NonFinite(f"{error}; show it with: {replay_command}", error.event) from None
    except ProcessLost as error:
        if first:
            with suppress(OSError, NonFinite):
                saver.save()
        raise ProcessLost(f"{error}; resume with: {saver.resume}") from None
    except OSError as error:
        what = f"cannot write {error.filename or config.folder}: {error.strerror}"
        saved = f"{saver.saved_step:,} steps are saved; resume with: {saver.resume}"
        raise RunError(f"{what}; {saved}") from None


def _finish(trainer: Trainer, saver: CheckpointSaver, setup: RunSetup, figures: dict[str, Any]) -> dict[str, Any]:
    """Save the final state, then the summary: a run that has a summary is complete."""
    if saver.saved_step < trainer.step:
        saver.save()
    summary = {"data": setup.dataset.name, **figures, "data_origin": setup.dataset.origin, "torch": torch.__version__}
    trainer.monitor.record(RunFinished(trainer.step, summary))
    run_dir.write_json(setup.config.folder / run_dir.SUMMARY, summary)
    return summary


def _unsupported(trainer: Trainer) -> list[str]:
    reason = trainer.monitor.noise_unsupported
    return [f"the noise of the gradients is not measured: {reason}"] if reason else []


def _started(trainer: Trainer, setup: RunSetup, command: str) -> RunStarted:
    return RunStarted(
        config=trainer.config.as_dict(),
        data=setup.dataset.name,
        data_origin=setup.dataset.origin,
        versions={"bp_torch": bp_torch.__version__, "torch": torch.__version__, "python": platform.python_version()},
        command=command,
        model=str(trainer.backend.model),
        parameters=sum(parameter.numel() for parameter in trainer.model.parameters()),
        step=trainer.step,
        steps=trainer.steps,
        processes=trainer.group.size,
        remarks=(*setup.remarks, *_unsupported(trainer)),
    )
