"""Files of any content: refused in one line, or read."""

import importlib.util
import json
import math
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import hostile
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from bp_torch.dashboard.event_file import EventFile, event_files
from bp_torch.dashboard.values import scalar
from bp_torch.data import Dataset
from bp_torch.training.checkpoint import load_checkpoint, packed
from bp_torch.training.config import TrainConfig
from bp_torch.training.folder import CHECKPOINT, RunError
from bp_torch.training.loop import Trainer
from bp_torch.training.run import _go_on


def some_events() -> bytes:
    with tempfile.TemporaryDirectory() as folder:
        file = EventFile(Path(folder))
        for step in range(4):
            file.write([scalar("a/b", step / 2)], step)
        file.close()
        return event_files(Path(folder))[0].read_bytes()


RIGHT = {
    "checkpoint": packed(hostile.STATE),
    "pickle": hostile.pickled(),
    "config": json.dumps(hostile.CONFIGURED.as_dict()).encode(),
    "unpacked": bytes([0, 0, 8, 3, 255, 255, 255, 255]) + bytes(40),
    "packed": bytes([31, 139, 8, 0]) + bytes(40),
    "events": some_events(),
}
ANY_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=9), inner, max_size=3),
    max_leaves=5,
)
OFTEN = settings(max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture])


@st.composite
def altered(draw: st.DrawFn, right: bytes) -> bytes:
    """A right file with some bytes changed, cut out or put in."""
    content = bytearray(right)
    for _ in range(draw(st.integers(1, 4))):
        begin = draw(st.integers(0, len(content)))
        end = min(len(content), begin + draw(st.integers(0, 8)))
        content[begin:end] = draw(st.binary(max_size=8))
    return bytes(content)


@pytest.mark.parametrize("reader", hostile.READERS)
@given(data=st.data())
@OFTEN
def test_any_bytes_are_read_or_refused(tmp_path: Path, reader: str, data: st.DataObject) -> None:
    hostile.read(reader, tmp_path, data.draw(st.binary(max_size=200) | altered(RIGHT[reader])))


@given(key=st.sampled_from(sorted(hostile.CONFIGURED.as_dict())) | st.text(max_size=9), value=ANY_JSON)
@OFTEN
def test_a_configuration_of_any_values_is_read_or_refused(tmp_path: Path, key: str, value: Any) -> None:
    content = json.dumps({**hostile.CONFIGURED.as_dict(), key: value}).encode()
    hostile.read("config", tmp_path, content)


KEPT = (
    "parameters",
    "optimizer",
    "random",
    "epoch",
    "mini_batch",
    "seconds",
    "evaluated",
    "best",
    "config",
    "comparisons",
)
ANY_TENSOR = st.sampled_from(
    [torch.ones(1).expand(10**10), torch.ones(()), torch.ones(3), torch.full((16, 784), math.nan)]
)


@given(key=st.sampled_from(KEPT), value=ANY_JSON | ANY_TENSOR | st.dictionaries(st.sampled_from(KEPT), ANY_TENSOR))
@OFTEN
def test_a_sealed_checkpoint_of_any_values_is_gone_on_with_or_refused(
    tmp_path: Path, small_digits: Dataset, key: str, value: Any
) -> None:
    """The seal is right, and what is in it is not; Tensors of ten thousand million numbers are views of one."""
    trainer = Trainer(TrainConfig(hidden=(), epochs=1, frames=0), small_digits)
    (tmp_path / CHECKPOINT).write_bytes(packed({**trainer.state(), key: value}))
    said = ""
    try:
        state, _ = load_checkpoint(tmp_path, trainer.config)
        _go_on(trainer, state)
    except RunError as refused:
        said = str(refused)
    assert "\n" not in said


@pytest.mark.skipif(importlib.util.find_spec("atheris") is None, reason="atheris is not installed")
def test_bytes_that_lead_somewhere_new_are_read_or_refused(tmp_path: Path) -> None:
    script = Path(hostile.__file__)
    done = subprocess.run(
        [sys.executable, str(script), "3000"], cwd=tmp_path, capture_output=True, text=True, check=False, timeout=300
    )
    assert done.returncode == 0, done.stderr[-2000:]
    assert "Done 3000" in done.stderr
