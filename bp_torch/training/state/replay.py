"""The step whose numbers ended a run: what is kept of it, and how it is computed again."""

from dataclasses import replace
from pathlib import Path

import torch

from bp_torch.data import load
from bp_torch.files import atomic_write
from bp_torch.training.config import TrainConfig
from bp_torch.training.logging.events import FailureEvent
from bp_torch.training.logging.traces import first_non_finite, table_of
from bp_torch.training.loop import Trainer
from bp_torch.training.state.checkpoint import State, load_checkpoint, load_config, number, pack, printable
from bp_torch.training.state.run_dir import FAILURE, RunError

SHOWN = 20
"""Examples of the mini-batch that are named."""


def keep_failure(folder: Path, trainer: Trainer, event: FailureEvent) -> None:
    """Write the network that failed and its mini-batch's indices in the training set; the checkpoints stay."""
    values, tensors = trainer.state()
    failure = {**values, "failed_step": event.step, "what": event.what}
    atomic_write(folder / FAILURE, pack(State(failure, {**tensors, "examples": event.examples})))
    trainer.monitor.record(event)


def replay(config: TrainConfig) -> tuple[str, bool]:
    """Compute the step that ended a run again.

    Args:
        config: `replay` names the run, `runs_dir` says where it is.

    Returns:
        A table of every tensor's size, forward and backward; and whether it failed again.

    Raises:
        RunError: if the run did not end so, or cannot be read.
        DataError: if its data cannot be had.
    """
    folder = config.runs_dir / str(config.replay)
    stored = load_config(folder, device=config.device)
    state, _ = load_checkpoint(folder, stored, (FAILURE,))
    if state is None:
        raise RunError(f"cannot replay {folder.name!r}: it did not end by a number that is not finite")
    stored = replace(stored, data_root=config.data_root, mnist_source=config.mnist_source)
    trainer = Trainer(stored, load(stored.data, stored.data_root, source=stored.mnist_source))
    try:
        event = _restore_failure(trainer, state)
    except Exception:  # of the many kinds that an untrusted state may raise
        raise RunError(f"cannot replay {folder.name!r}: its {FAILURE} is of other data or of another network") from None
    stats = trainer.stats((trainer.batches.inputs[event.examples], trainer.batches.targets[event.examples]))
    text = f"{_heading(event)}\nnow: {first_non_finite(stats)}\n\n{table_of(stats)}"
    return text, any(tensor.non_finite for tensor in stats)


def _restore_failure(trainer: Trainer, state: State) -> FailureEvent:
    """Bring a trainer to the step that failed; an exception of any kind if the state is of another network or data."""
    kept = state.tensors.pop("examples")
    trainer.load_state(state)
    step, what = int(number(state.values["failed_step"], least=0)), state.values["what"]
    examples = trainer.batches.examples(*divmod(step, len(trainer.batches))).cpu()
    if type(what) is not str or not torch.equal(examples, kept):
        raise ValueError("this is no message, or these are other examples")
    return FailureEvent(step, printable(what), examples)


def _heading(event: FailureEvent) -> str:
    some = " ".join(map(str, event.examples[:SHOWN].tolist()))
    more = f" and {len(event.examples) - SHOWN:,} more" if len(event.examples) > SHOWN else ""
    return f"at step {event.step}: {event.what}\nexamples {some}{more}"
