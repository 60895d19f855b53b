"""Files with random content are read, or refused in one line."""

import importlib.util
import json
import math
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import pytest
import torch
import untrusted_files
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from bp_torch.dashboard.event_file import EventFile, event_files, scalar
from bp_torch.data import Dataset
from bp_torch.training.config import TrainConfig
from bp_torch.training.loop import Trainer
from bp_torch.training.state.run import restore
from bp_torch.training.state.run_dir import CHECKPOINT, RunError, State, load_checkpoint, pack


def event_file() -> bytes:
    with tempfile.TemporaryDirectory() as folder:
        file = EventFile(Path(folder))
        for step in range(4):
            file.write([scalar("a/b", step / 2)], step)
        file.close()
        return event_files(Path(folder))[0].read_bytes()


VALID = {
    "checkpoint": pack(untrusted_files.STATE),
    "valid digest": untrusted_files.with_zero_digest(pack(untrusted_files.STATE)),
    "config": json.dumps(untrusted_files.TRAIN_CONFIG.as_dict()).encode(),
    "idx": bytes([0, 0, 8, 3, 255, 255, 255, 255]) + bytes(40),
    "gzip": bytes([31, 139, 8, 0]) + bytes(40),
    "events": event_file(),
}
ANY_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=9), inner, max_size=3),
    max_leaves=5,
)
HUNDRED_EXAMPLES = settings(max_examples=100, suppress_health_check=[HealthCheck.function_scoped_fixture])


@st.composite
def altered(draw: st.DrawFn, valid: bytes) -> bytes:
    """A valid file with some bytes changed, removed or inserted."""
    content = bytearray(valid)
    for _ in range(draw(st.integers(1, 4))):
        begin = draw(st.integers(0, len(content)))
        end = min(len(content), begin + draw(st.integers(0, 8)))
        content[begin:end] = draw(st.binary(max_size=8))
    return bytes(content)


@pytest.mark.parametrize("reader", untrusted_files.READERS)
@given(data=st.data())
@HUNDRED_EXAMPLES
def test_random_bytes_are_read_or_refused(tmp_path: Path, reader: str, data: st.DataObject) -> None:
    untrusted_files.read(reader, tmp_path, data.draw(st.binary(max_size=200) | altered(VALID[reader])))


@given(key=st.sampled_from(sorted(untrusted_files.TRAIN_CONFIG.as_dict())) | st.text(max_size=9), value=ANY_JSON)
@HUNDRED_EXAMPLES
def test_a_configuration_with_random_values_is_read_or_refused(tmp_path: Path, key: str, value: Any) -> None:
    content = json.dumps({**untrusted_files.TRAIN_CONFIG.as_dict(), key: value}).encode()
    untrusted_files.read("config", tmp_path, content)


@pytest.fixture(scope="module")
def trainer(small_digits: Dataset) -> Trainer:
    return Trainer(TrainConfig(hidden=(), epochs=1, frames=0), small_digits)


VALUES = (
    "config", "image_shape", "classes", "step", "seconds", "evaluated", "best", "gradient_checks",
    "worst_gradient_ratio",
)  # fmt: skip
TENSORS = "parameters.output.weight", "parameters.0.bias", "parameters.x", "optimizer.output.weight", "random.cpu", "x"
ANY_TENSOR = st.sampled_from(
    [torch.ones(()), torch.ones(3), torch.full((10, 784), math.nan), torch.ones(0, 2**40), torch.ones(10, 784).double()]
)


@given(
    values=st.dictionaries(st.sampled_from(VALUES), ANY_JSON, max_size=1),
    tensors=st.dictionaries(st.sampled_from(TENSORS), ANY_TENSOR, max_size=1),
)
@HUNDRED_EXAMPLES
def test_a_checkpoint_with_random_values_is_loaded_or_refused(
    tmp_path: Path, trainer: Trainer, values: dict[str, Any], tensors: dict[str, torch.Tensor]
) -> None:
    """Its digest is valid."""
    valid = trainer.state()
    content = pack(State({**valid.values, **values}, {**valid.tensors, **tensors}))
    (tmp_path / CHECKPOINT).write_bytes(content)
    message = ""
    try:
        state, _ = load_checkpoint(tmp_path, trainer.config)
        assert state is not None
        restore(trainer, state)
    except RunError as error:
        message = str(error)
    assert "\n" not in message


@pytest.mark.skipif(importlib.util.find_spec("atheris") is None, reason="atheris is not installed")
def test_bytes_chosen_for_coverage_are_read_or_refused(tmp_path: Path) -> None:
    script = Path(untrusted_files.__file__)
    done = subprocess.run(
        [sys.executable, str(script), "3000"], cwd=tmp_path, capture_output=True, text=True, check=False, timeout=300
    )
    assert done.returncode == 0, done.stderr[-2000:]
    assert "Done 3000" in done.stderr
