"""What is kept of a step whose numbers were not finite, and how it is looked at again."""

from dataclasses import replace
from pathlib import Path

import torch

from bp_torch.data import load
from bp_torch.files import replace_file
from bp_torch.training.checkpoint import State, load_checkpoint, load_config, number, packed, printable
from bp_torch.training.config import TrainConfig
from bp_torch.training.folder import FAILURE, RunError
from bp_torch.training.loop import Trainer
from bp_torch.training.records import FailureRecord
from bp_torch.training.stages import first_odd, stages, tell

SHOWN = 20
"""How many of the mini-batch's examples are named."""


def keep_failure(folder: Path, trainer: Trainer, record: FailureRecord) -> None:
    """Keep the network that broke down, and its mini-batch's places in the training set; the checkpoints stay."""
    kept = {"failed_step": record.step, "what": record.what, "examples": record.examples}
    replace_file(folder / FAILURE, packed({**trainer.state(), **kept}))
    trainer.observer.record(record)


def replay(config: TrainConfig) -> tuple[str, bool]:
    """Look again at the step that ended a run.

    Args:
        config: `replay` names the run, `runs_dir` says where it is.

    Returns:
        What happened, as a table of every number's size on its way forward and back; and whether it happened again.

    Raises:
        RunError: if the run did not end so, or cannot be read.
        DataError: if its data cannot be had.
    """
    folder = config.runs_dir / str(config.replay)
    stored = load_config(folder, device=config.device)
    state, _ = load_checkpoint(folder, stored, (FAILURE,))
    if not state:
        raise RunError(f"cannot replay {folder.name!r}: it did not end by a number that is not finite")
    stored = replace(stored, data_root=config.data_root, mnist_source=config.mnist_source)
    trainer = Trainer(stored, load(stored.data, stored.data_root, source=stored.mnist_source))
    try:
        record = _failed(trainer, state)
    except (ArithmeticError, AttributeError, IndexError, KeyError, RuntimeError, TypeError, ValueError):
        raise RunError(f"cannot replay {folder.name!r}: its {FAILURE} is of other data or of another network") from None
    batch = trainer.batches.inputs[record.examples], trainer.batches.targets[record.examples]
    met = stages(trainer.learner, *batch)
    return f"{_heading(record)}\nnow: {first_odd(met)}\n\n{tell(met)}", any(stage.odd for stage in met)


def _failed(trainer: Trainer, state: State) -> FailureRecord:
    """Bring a trainer to where numbers stopped being finite, and say where that was.

    Raises:
        ArithmeticError, AttributeError, IndexError, KeyError, RuntimeError, TypeError, ValueError: if the state does
            not say, or is of another network or other data.
    """
    trainer.load_state(state)
    step, what = int(number(state["failed_step"], least=0)), state["what"]
    examples = trainer.batches.examples(*divmod(step, len(trainer.batches))).cpu()
    if type(what) is not str or not torch.equal(examples, state["examples"]):
        raise ValueError("this is no message, or these are other examples")
    return FailureRecord(step, printable(what), examples)


def _heading(record: FailureRecord) -> str:
    some = " ".join(map(str, record.examples[:SHOWN].tolist()))
    more = f" and {len(record.examples) - SHOWN:,} more" if len(record.examples) > SHOWN else ""
    return f"at step {record.step}: {record.what}\nexamples {some}{more}"
