"""What is kept of a step whose numbers were not finite, and how it is looked at again."""

from dataclasses import replace
from pathlib import Path

import torch

from bp_torch.data import load
from bp_torch.files import replace_file
from bp_torch.training.checkpoint import load_checkpoint, load_config, packed, printable
from bp_torch.training.config import TrainConfig
from bp_torch.training.folder import FAILURE, RunError
from bp_torch.training.loop import Trainer, number
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
        trainer.load_state(state)
        examples, step, what = state["examples"], int(number(state["failed_step"], least=0)), state["what"]
        if type(what) is not str:
            raise TypeError(f"a {type(what).__name__} is no message")
        if not torch.equal(examples, trainer.batches.examples(*divmod(step, len(trainer.batches)))):
            raise ValueError("other examples")
    except (ArithmeticError, AttributeError, IndexError, KeyError, RuntimeError, TypeError, ValueError):
        raise RunError(f"cannot replay {folder.name!r}: its {FAILURE} is of other data or of another network") from None
    met = stages(trainer.learner, trainer.batches.inputs[examples], trainer.batches.targets[examples])
    some = " ".join(map(str, examples[:SHOWN].tolist()))
    more = f" and {len(examples) - SHOWN:,} more" if len(examples) > SHOWN else ""
    heading = f"at step {step}: {printable(what)}\nnow: {first_odd(met)}\nexamples {some}{more}"
    return f"{heading}\n\n{tell(met)}", any(stage.odd for stage in met)
