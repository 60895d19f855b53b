"""Checkpoints are read back, and damaged or malicious ones are refused."""

import json
import os
import pickle
import re
import struct
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from recording import modified
from safetensors import safe_open
from untrusted_files import with_digest, with_zero_digest

import bp_torch
from bp_torch.data import Dataset
from bp_torch.training.config import TrainConfig
from bp_torch.training.loop import Trainer
from bp_torch.training.state import run, run_dir
from bp_torch.training.state.run_dir import (
    BEST,
    CHECKPOINT,
    CONFIG,
    PREVIOUS,
    RunError,
    State,
    largest_checkpoint,
    load_checkpoint,
    load_config,
    pack,
    rename_damaged,
    save_checkpoint,
    unpack,
    write_json,
)

DEFAULTS = TrainConfig()
STATE = State({"step": 7, "config": DEFAULTS.as_dict()}, {"parameters.weight": torch.ones(2, 3)})


def packed(step: int) -> bytes:
    return pack(modified(STATE, step=step))


def test_a_checkpoint_is_read_back(tmp_path: Path) -> None:
    values = {"step": 2**60 + 1, "seconds": 0.1 + 0.2, "what": "σ\n", "config": DEFAULTS.as_dict(), "none": None}
    tensors = {
        "parameters.output.weight": torch.randn(3, 4).T,
        "parameters.bias": torch.tensor([float("nan"), float("-inf"), -0.0]),
        "random.cpu": torch.arange(9, dtype=torch.uint8),
        "examples": torch.tensor([2**40]),
        "scalar": torch.tensor(1 / 3, dtype=torch.float64),
    }
    save_checkpoint(tmp_path, pack(State(values, tensors)))
    state, damaged = load_checkpoint(tmp_path, DEFAULTS)
    assert state is not None
    assert state.values == json.loads(json.dumps(values))
    assert state.tensors.keys() == tensors.keys()
    for name, tensor in tensors.items():
        torch.testing.assert_close(state.tensors[name], tensor, rtol=0, atol=0, equal_nan=True)
    assert torch.equal(state.group("parameters")["output.weight"], tensors["parameters.output.weight"])
    assert not damaged
    assert sorted(path.name for path in tmp_path.iterdir()) == [CHECKPOINT]


def test_a_checkpoint_is_a_safetensors_file(tmp_path: Path) -> None:
    save_checkpoint(tmp_path, pack(STATE))
    with safe_open(tmp_path / CHECKPOINT, "pt") as file:
        assert json.loads(file.metadata()["state"])["step"] == 7
        assert torch.equal(file.get_tensor("parameters.weight"), torch.ones(2, 3))


def test_the_last_two_checkpoints_are_kept(tmp_path: Path) -> None:
    for step in range(3):
        save_checkpoint(tmp_path, packed(step))
    steps = {path.name: unpack(path.read_bytes()).values["step"] for path in tmp_path.iterdir()}
    assert steps == {CHECKPOINT: 2, PREVIOUS: 1}


def test_a_failed_write_keeps_the_previous_checkpoint(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    save_checkpoint(tmp_path, packed(7))
    content = (tmp_path / CHECKPOINT).read_bytes()

    def fail(_: int) -> None:
        raise OSError("disk full")

    monkeypatch.setattr("os.fsync", fail)
    with pytest.raises(OSError, match="disk full"):
        save_checkpoint(tmp_path, packed(8))
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == {CHECKPOINT: content}


def loaded_step(folder: Path) -> int:
    state, _ = load_checkpoint(folder, DEFAULTS)
    assert state is not None
    return int(state.values["step"])


def test_the_newest_valid_checkpoint_is_loaded(tmp_path: Path) -> None:
    for step, name in enumerate((BEST, PREVIOUS, CHECKPOINT)):
        (tmp_path / name).write_bytes(packed(step))
    assert loaded_step(tmp_path) == 2
    (tmp_path / CHECKPOINT).write_bytes(b"damaged")
    assert load_checkpoint(tmp_path, DEFAULTS)[1] == [CHECKPOINT]
    assert loaded_step(tmp_path) == 1
    rename_damaged(tmp_path, [CHECKPOINT])
    assert (tmp_path / f"{CHECKPOINT}.damaged").read_bytes() == b"damaged"
    (tmp_path / PREVIOUS).unlink()
    assert loaded_step(tmp_path) == 0
    (tmp_path / BEST).write_bytes(b"damaged")
    with pytest.raises(RunError, match=r"its best.safetensors is damaged"):
        load_checkpoint(tmp_path, DEFAULTS)


def test_a_missing_checkpoint_is_not_damaged(tmp_path: Path) -> None:
    assert load_checkpoint(tmp_path, DEFAULTS) == (None, [])


def test_every_flipped_bit_and_truncation_is_detected() -> None:
    content = pack(STATE)
    for i in range(len(content)):
        flipped = content[:i] + bytes([content[i] ^ 1 << i % 8]) + content[i + 1 :]
        for damaged in (flipped, content[:i], content + content[: i + 1]):
            with pytest.raises(Exception):  # noqa: B017, PT011 -- any kind of error
                unpack(damaged)


@pytest.mark.parametrize(
    "content", [b"", b"[1]", b"not JSON", b"null", b"[" * 10**5, b'{"seed": 1' + b"0" * 5000 + b"}"]
)
def test_a_damaged_configuration_is_refused_in_one_line(tmp_path: Path, content: bytes) -> None:
    (tmp_path / CONFIG).write_bytes(content)
    with pytest.raises(RunError, match=r"its config.json is damaged \(.+\)") as caught:
        load_config(tmp_path)
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 400


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"nesterov": True}, "'nesterov' is unknown"),
        ({"seed": "0"}, "--seed must be of type int"),
        ({"seed": None}, "--seed must be of type int"),
        ({"epochs": 1.5}, "--epochs must be of type int"),
        ({"hidden": 16}, "not iterable"),
        ({"hidden": [100_000] * 2}, "the maximum is 100,000,000"),
        ({"hidden": "16"}, "--hidden must be integers"),
        ({"data_root": 3}, "PathLike"),
        ({"runs_dir": ["runs"]}, "PathLike"),
        ({"device": "meta"}, "--device"),
        ({"quiet": 1}, "--quiet must be of type bool"),
        ({"learning_rate": float("nan")}, "--learning-rate"),
    ],
)
def test_a_configuration_with_wrong_types_or_unknown_keys_is_refused(
    tmp_path: Path, change: dict[str, Any], message: str
) -> None:
    (tmp_path / CONFIG).write_text(json.dumps({**DEFAULTS.as_dict(), **change}))
    with pytest.raises(RunError) as caught:
        load_config(tmp_path)
    assert message in str(caught.value)


def test_an_incomplete_configuration_is_refused(tmp_path: Path) -> None:
    values = DEFAULTS.as_dict()
    del values["seed"]
    write_json(tmp_path / CONFIG, values)
    with pytest.raises(RunError, match="'seed' is missing"):
        load_config(tmp_path)


class Malicious:
    """An object that runs code when it is unpickled."""

    def __reduce__(self) -> tuple[Callable[..., Any], tuple[Any, ...]]:
        return print, ("ran",)


def checkpoint(header: Any, data: bytes = bytes(24), **metadata: str) -> bytes:
    """A checkpoint with any header and a valid digest."""
    metadata = {"sha256": "0" * 64, "state": json.dumps({"config": DEFAULTS.as_dict()}), **metadata}
    if isinstance(header, dict):
        header = json.dumps({"__metadata__": metadata, **header}).encode()
    return with_digest(struct.pack("<Q", len(header)) + header + data)


def tensor(shape: list[Any], begin: int = 0, end: int = 24, dtype: str = "F32") -> dict[str, Any]:
    return {"dtype": dtype, "shape": shape, "data_offsets": [begin, end]}


MALICIOUS = {
    "a pickle": pickle.dumps(Malicious()),
    "a pickle in place of the header": struct.pack("<Q", 100) + pickle.dumps(Malicious()).ljust(100),
    "a header of 2⁶³ bytes": struct.pack("<Q", 2**63) + bytes(100),
    "a header longer than the file": struct.pack("<Q", 10**6) + b"{}",
    "a header longer than the limit": checkpoint({"x": tensor([6])}, more="x" * 2**20),
    "a header that is a list": checkpoint(b"[1]"),
    "a deeply nested header": checkpoint(b"[" * 10**5),
    "a header that is not text": checkpoint(b"\xff\xfe"),
    "no metadata": checkpoint(b'{"x":{"dtype":"F32","shape":[6],"data_offsets":[0,24]}}'),
    "metadata that is a number": checkpoint(b'{"__metadata__":3}'),
    "no state": checkpoint(b'{"__metadata__":{"sha256":"' + b"0" * 64 + b'"}}', b""),
    "a digest that is a number": checkpoint(b'{"__metadata__":{"sha256":3,"state":"{}"}}', b""),
    "a digest of another file": checkpoint({"x": tensor([6])})[:-1] + b"1",
    "a state that is a list": checkpoint({"x": tensor([6])}, state="[1]"),
    "a state that is not JSON": checkpoint({"x": tensor([6])}, state="import os"),
    "a deeply nested state": checkpoint({"x": tensor([6])}, state="[" * 10**5),
    "a number of many digits": checkpoint({"x": tensor([6])}, state='{"step": 1' + "0" * 5000 + "}"),
    "a huge shape with few values": checkpoint({"x": tensor([10**9, 10**9])}),
    "a shape whose size overflows": checkpoint({"x": tensor([2**62, 4, 6])}),
    "a negative shape": checkpoint({"x": tensor([-6])}),
    "tensors that overlap": checkpoint({"x": tensor([6]), "y": tensor([6])}),
    "data of no tensor": checkpoint({"x": tensor([5], 0, 20)}),
    "data beyond the end": checkpoint({"x": tensor([10**6], 0, 4 * 10**6)}),
    "an unknown dtype": checkpoint({"x": tensor([6], dtype="F3")}),
    "a tensor that is a number": checkpoint({"x": 3}),
}


@pytest.mark.parametrize("name", MALICIOUS)
def test_a_malicious_checkpoint_is_refused_in_one_line(
    tmp_path: Path, name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / CHECKPOINT).write_bytes(MALICIOUS[name])
    with pytest.raises(RunError, match=r"its checkpoint\.safetensors is damaged") as caught:
        load_checkpoint(tmp_path, DEFAULTS)
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 400
    assert not capsys.readouterr().out


def test_checkpoints_made_like_the_malicious_ones_are_read() -> None:
    """So each malicious checkpoint is refused for its own defect."""
    assert torch.equal(unpack(checkpoint({"x": tensor([2, 3])})).tensors["x"], torch.zeros(2, 3))
    assert unpack(with_digest(with_zero_digest(pack(STATE)))).values["step"] == 7


def test_no_source_file_uses_functions_that_could_run_code() -> None:
    """Such as torch.load and pickle."""
    package = Path(bp_torch.__file__).parent
    for file in package.rglob("*.py"):
        assert not re.search(
            r"(?<!safetensors\.)torch\.load\b|\bpickle|\bmarshal|(?<!\.)\b(eval|exec)\(", file.read_text()
        ), file


@pytest.mark.parametrize(
    "change",
    [
        {"parameters.hidden1.weight": torch.zeros(16, 783)},
        {"parameters.hidden1.weight": torch.zeros(784, 16)},
        {"parameters.hidden1.weight": torch.zeros(16, 784, dtype=torch.float64)},
        {"parameters.hidden1.weight": torch.zeros(16, 784, dtype=torch.int32)},
        {"parameters.hidden1.weight": torch.zeros(0, 2**62)},
        {"parameters.hidden1.weight": None},
        {"parameters.hidden3.weight": torch.zeros(3)},
        {"optimizer.hidden1.weight": torch.zeros(3)},
        {"optimizer.nothing": torch.zeros(16, 784)},
        {"random.cpu": None},
        {"random.cpu": torch.zeros(3, dtype=torch.uint8)},
        {"random.cpu": torch.zeros(5056)},
        {"elsewhere": torch.zeros(3)},
    ],
    ids=str,
)
def test_unexpected_tensors_are_refused(small_digits: Dataset, change: dict[str, Any]) -> None:
    trainer = Trainer(TrainConfig(epochs=1, run_name="a"), small_digits)
    with pytest.raises(RunError, match=r"cannot resume 'a': its checkpoint\.safetensors does not fit its config\.json"):
        run.restore(trainer, unpack(pack(modified(trainer.state(), **change))))


def test_a_file_longer_than_any_checkpoint_is_refused(tmp_path: Path) -> None:
    with (tmp_path / CHECKPOINT).open("wb") as file:
        file.truncate(2**40)  # sparse
    with pytest.raises(RunError, match=f"longer than {largest_checkpoint(DEFAULTS):,} bytes"):
        load_checkpoint(tmp_path, DEFAULTS)
    assert largest_checkpoint(DEFAULTS) < 10**8
    with (tmp_path / CONFIG).open("wb") as file:
        file.truncate(2**40)
    with pytest.raises(RunError, match="longer than 1,048,576 bytes"):
        load_config(tmp_path)


@pytest.mark.skipif(sys.platform == "win32", reason="no named pipes")
def test_a_pipe_is_refused(tmp_path: Path) -> None:
    for name in (CHECKPOINT, CONFIG):
        os.mkfifo(tmp_path / name)
    with pytest.raises(RunError, match="not a regular file"):
        load_checkpoint(tmp_path, DEFAULTS)
    with pytest.raises(RunError, match="not a regular file"):
        load_config(tmp_path)


@pytest.mark.parametrize("config", [TrainConfig(hidden=(8,)), TrainConfig(seed=1), TrainConfig(cost="cross_entropy")])
def test_a_checkpoint_of_another_run_is_refused(tmp_path: Path, config: TrainConfig) -> None:
    save_checkpoint(tmp_path, pack(STATE))
    with pytest.raises(RunError, match=r"its checkpoint\.safetensors does not fit its config\.json"):
        load_checkpoint(tmp_path, config)


@pytest.mark.parametrize("config", [None, 3, [], {}, "config"])
def test_a_checkpoint_with_an_invalid_configuration_is_refused(tmp_path: Path, config: object) -> None:
    save_checkpoint(tmp_path, pack(State({**STATE.values, "config": config}, STATE.tensors)))
    with pytest.raises(RunError, match="does not fit"):
        load_checkpoint(tmp_path, DEFAULTS)


@pytest.mark.parametrize("name", ["checkpoint.pt", "best.pt", "failure.pt"])
def test_a_run_of_an_earlier_version_is_refused_and_left_alone(tmp_path: Path, name: str) -> None:
    (tmp_path / "old").mkdir()
    write_json(tmp_path / "old" / CONFIG, {**DEFAULTS.as_dict(), "data": "digits"})
    (tmp_path / "old" / name).write_bytes(pickle.dumps(Malicious()))
    config = TrainConfig(data="digits", runs_dir=tmp_path, resume="old")
    with pytest.raises(RunError, match=f"cannot resume 'old': no checkpoint, only {name}"):
        run.train(config, lambda *_: [])
    with pytest.raises(RunError, match=r"cannot read run 'old': there is no .*checkpoint\.safetensors"):
        run.load_trained(tmp_path / "old")
    assert (tmp_path / "old" / name).exists()


def test_every_setting_either_determines_the_results_or_may_change() -> None:
    """A new flag must be added to one of these sets."""
    settings = set(DEFAULTS.as_dict())
    logging = {"compare_every"}
    assert settings == {*run_dir._FIXED_SETTINGS} | run._MAY_CHANGE | run._RUN_SELECTION | logging
