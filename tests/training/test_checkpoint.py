"""Checkpoints that come back, and those that are refused: damaged, or written by somebody who means harm."""

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
from recording import changed
from safetensors import safe_open
from untrusted_files import sealed, unsealed

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
    save_checkpoint,
    set_aside,
    unpack,
    write_json,
)

CONFIGURED = TrainConfig()
STATE = State({"step": 7, "config": CONFIGURED.as_dict()}, {"parameters.weight": torch.ones(2, 3)})


def of_step(step: int) -> bytes:
    return pack(changed(STATE, step=step))


def test_a_checkpoint_comes_back(tmp_path: Path) -> None:
    values = {"step": 2**60 + 1, "seconds": 0.1 + 0.2, "what": "σ\n", "config": CONFIGURED.as_dict(), "none": None}
    tensors = {
        "parameters.output.weight": torch.randn(3, 4).T,
        "parameters.bias": torch.tensor([float("nan"), float("-inf"), -0.0]),
        "random.cpu": torch.arange(9, dtype=torch.uint8),
        "examples": torch.tensor([2**40]),
        "scalar": torch.tensor(1 / 3, dtype=torch.float64),
    }
    save_checkpoint(tmp_path, pack(State(values, tensors)))
    state, damaged = load_checkpoint(tmp_path, CONFIGURED)
    assert state is not None
    assert state.values == json.loads(json.dumps(values))
    assert state.tensors.keys() == tensors.keys()
    for name, tensor in tensors.items():
        torch.testing.assert_close(state.tensors[name], tensor, rtol=0, atol=0, equal_nan=True)
    assert torch.equal(state.group("parameters")["output.weight"], tensors["parameters.output.weight"])
    assert not damaged
    assert sorted(path.name for path in tmp_path.iterdir()) == [CHECKPOINT]


def test_safetensors_reads_it_without_us(tmp_path: Path) -> None:
    save_checkpoint(tmp_path, pack(STATE))
    with safe_open(tmp_path / CHECKPOINT, "pt") as file:
        assert json.loads(file.metadata()["state"])["step"] == 7
        assert torch.equal(file.get_tensor("parameters.weight"), torch.ones(2, 3))


def test_the_last_two_are_kept(tmp_path: Path) -> None:
    for step in range(3):
        save_checkpoint(tmp_path, of_step(step))
    kept = {path.name: unpack(path.read_bytes()).values["step"] for path in tmp_path.iterdir()}
    assert kept == {CHECKPOINT: 2, PREVIOUS: 1}


def test_a_failed_write_keeps_the_checkpoint_before(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    save_checkpoint(tmp_path, of_step(7))
    kept = (tmp_path / CHECKPOINT).read_bytes()

    def fail(_: int) -> None:
        raise OSError("disk full")

    monkeypatch.setattr("os.fsync", fail)
    with pytest.raises(OSError, match="disk full"):
        save_checkpoint(tmp_path, of_step(8))
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == {CHECKPOINT: kept}


def step_of(folder: Path) -> int:
    state, _ = load_checkpoint(folder, CONFIGURED)
    assert state is not None
    return int(state.values["step"])


def test_the_newest_that_is_whole_is_taken(tmp_path: Path) -> None:
    for step, name in enumerate((BEST, PREVIOUS, CHECKPOINT)):
        (tmp_path / name).write_bytes(of_step(step))
    assert step_of(tmp_path) == 2
    (tmp_path / CHECKPOINT).write_bytes(b"damaged")
    assert load_checkpoint(tmp_path, CONFIGURED)[1] == [CHECKPOINT]
    assert step_of(tmp_path) == 1
    set_aside(tmp_path, [CHECKPOINT])
    assert (tmp_path / f"{CHECKPOINT}.damaged").read_bytes() == b"damaged"
    (tmp_path / PREVIOUS).unlink()
    assert step_of(tmp_path) == 0
    (tmp_path / BEST).write_bytes(b"damaged")
    with pytest.raises(RunError, match=r"its best.safetensors is damaged"):
        load_checkpoint(tmp_path, CONFIGURED)


def test_no_checkpoint_is_no_damage(tmp_path: Path) -> None:
    assert load_checkpoint(tmp_path, CONFIGURED) == (None, [])


def test_every_flipped_bit_and_every_end_is_noticed() -> None:
    content = pack(STATE)
    for place in range(len(content)):
        flipped = content[:place] + bytes([content[place] ^ 1 << place % 8]) + content[place + 1 :]
        for damaged in (flipped, content[:place], content + content[: place + 1]):
            with pytest.raises(Exception):  # noqa: B017, PT011 -- of any kind that the reader meets
                unpack(damaged)


@pytest.mark.parametrize(
    "content", [b"", b"[1]", b"not it at all", b"null", b"[" * 10**5, b'{"seed": 1' + b"0" * 5000 + b"}"]
)
def test_a_damaged_configuration_is_refused_in_one_line(tmp_path: Path, content: bytes) -> None:
    (tmp_path / CONFIG).write_bytes(content)
    with pytest.raises(RunError, match=r"its config.json is damaged \(.+\)") as caught:
        load_config(tmp_path)
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 400


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"momentum": 0.9}, "'momentum' is unknown"),
        ({"seed": "0"}, "--seed must be of type int"),
        ({"seed": None}, "--seed must be of type int"),
        ({"epochs": 1.5}, "--epochs must be of type int"),
        ({"hidden": 16}, "not iterable"),
        ({"hidden": [100_000] * 2}, "the maximum is 100,000,000"),
        ({"hidden": "16"}, "--hidden must be whole numbers"),
        ({"data_root": 3}, "PathLike"),
        ({"runs_dir": ["runs"]}, "PathLike"),
        ({"device": "meta"}, "--device"),
        ({"quiet": 1}, "--quiet must be of type bool"),
        ({"learning_rate": float("nan")}, "--learning-rate"),
    ],
)
def test_a_configuration_of_other_types_or_with_unknown_keys_is_refused(
    tmp_path: Path, change: dict[str, Any], says: str
) -> None:
    (tmp_path / CONFIG).write_text(json.dumps({**CONFIGURED.as_dict(), **change}))
    with pytest.raises(RunError) as caught:
        load_config(tmp_path)
    assert says in str(caught.value)


def test_a_configuration_that_lacks_something_is_refused(tmp_path: Path) -> None:
    values = CONFIGURED.as_dict()
    del values["seed"]
    write_json(tmp_path / CONFIG, values)
    with pytest.raises(RunError, match="'seed' is missing"):
        load_config(tmp_path)


class Evil:
    """What unpickling it would do."""

    def __reduce__(self) -> tuple[Callable[..., Any], tuple[Any, ...]]:
        return print, ("ran",)


def written(header: Any, data: bytes = bytes(24), **metadata: str) -> bytes:
    """A checkpoint with any header and a right digest."""
    told = {"sha256": "0" * 64, "state": json.dumps({"config": CONFIGURED.as_dict()}), **metadata}
    if isinstance(header, dict):
        header = json.dumps({"__metadata__": told, **header}).encode()
    return sealed(struct.pack("<Q", len(header)) + header + data)


def tensor(shape: list[Any], begin: int = 0, end: int = 24, dtype: str = "F32") -> dict[str, Any]:
    return {"dtype": dtype, "shape": shape, "data_offsets": [begin, end]}


HOSTILE = {
    "a pickle": pickle.dumps(Evil()),
    "a pickle in place of the header": struct.pack("<Q", 100) + pickle.dumps(Evil()).ljust(100),
    "a header of 2⁶³ bytes": struct.pack("<Q", 2**63) + bytes(100),
    "a header longer than the file": struct.pack("<Q", 10**6) + b"{}",
    "a header that is longer than ours ever are": written({"x": tensor([6])}, more="x" * 2**20),
    "a header that is a list": written(b"[1]"),
    "a header that nests deep": written(b"[" * 10**5),
    "a header that is no text": written(b"\xff\xfe"),
    "no metadata": written(b'{"x":{"dtype":"F32","shape":[6],"data_offsets":[0,24]}}'),
    "metadata that is a number": written(b'{"__metadata__":3}'),
    "no state": written(b'{"__metadata__":{"sha256":"' + b"0" * 64 + b'"}}', b""),
    "a digest that is a number": written(b'{"__metadata__":{"sha256":3,"state":"{}"}}', b""),
    "a digest of another file": written({"x": tensor([6])})[:-1] + b"1",
    "a state that is a list": written({"x": tensor([6])}, state="[1]"),
    "a state that is no JSON": written({"x": tensor([6])}, state="import os"),
    "a state that nests deep": written({"x": tensor([6])}, state="[" * 10**5),
    "a number of many digits": written({"x": tensor([6])}, state='{"step": 1' + "0" * 5000 + "}"),
    "a gigantic shape over few numbers": written({"x": tensor([10**9, 10**9])}),
    "a shape whose size overflows": written({"x": tensor([2**62, 4, 6])}),
    "a negative shape": written({"x": tensor([-6])}),
    "tensors that overlap": written({"x": tensor([6]), "y": tensor([6])}),
    "data that no tensor has": written({"x": tensor([5], 0, 20)}),
    "data beyond the end": written({"x": tensor([10**6], 0, 4 * 10**6)}),
    "an unknown dtype": written({"x": tensor([6], dtype="F3")}),
    "a tensor that is a number": written({"x": 3}),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_a_hostile_checkpoint_is_refused_in_one_line(
    tmp_path: Path, name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / CHECKPOINT).write_bytes(HOSTILE[name])
    with pytest.raises(RunError, match=r"its checkpoint\.safetensors is damaged") as caught:
        load_checkpoint(tmp_path, CONFIGURED)
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 400
    assert not capsys.readouterr().out


def test_what_the_hostile_ones_are_made_of_is_read() -> None:
    """So that each of them is refused for what is wrong with it."""
    assert torch.equal(unpack(written({"x": tensor([2, 3])})).tensors["x"], torch.zeros(2, 3))
    assert unpack(sealed(unsealed(pack(STATE)))).values["step"] == 7


def test_nothing_that_could_run_code_is_used() -> None:
    """Neither torch.load nor pickle, however it is called."""
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
        run.restore(trainer, unpack(pack(changed(trainer.state(), **change))))


def test_a_file_longer_than_any_checkpoint_is_not_read(tmp_path: Path) -> None:
    with (tmp_path / CHECKPOINT).open("wb") as file:
        file.truncate(2**40)  # of holes
    with pytest.raises(RunError, match=f"longer than {largest_checkpoint(CONFIGURED):,} bytes"):
        load_checkpoint(tmp_path, CONFIGURED)
    assert largest_checkpoint(CONFIGURED) < 10**8
    with (tmp_path / CONFIG).open("wb") as file:
        file.truncate(2**40)
    with pytest.raises(RunError, match="longer than 1,048,576 bytes"):
        load_config(tmp_path)


@pytest.mark.skipif(sys.platform == "win32", reason="there are no pipes with names")
def test_a_pipe_is_not_waited_for(tmp_path: Path) -> None:
    for name in (CHECKPOINT, CONFIG):
        os.mkfifo(tmp_path / name)
    with pytest.raises(RunError, match="not a regular file"):
        load_checkpoint(tmp_path, CONFIGURED)
    with pytest.raises(RunError, match="not a regular file"):
        load_config(tmp_path)


@pytest.mark.parametrize("config", [TrainConfig(hidden=(8,)), TrainConfig(seed=1), TrainConfig(cost="cross_entropy")])
def test_a_checkpoint_of_another_run_is_refused(tmp_path: Path, config: TrainConfig) -> None:
    save_checkpoint(tmp_path, pack(STATE))
    with pytest.raises(RunError, match=r"its checkpoint\.safetensors does not fit its config\.json"):
        load_checkpoint(tmp_path, config)


@pytest.mark.parametrize("kept", [None, 3, [], {}, "config"])
def test_a_checkpoint_of_no_configuration_is_refused(tmp_path: Path, kept: object) -> None:
    save_checkpoint(tmp_path, pack(State({**STATE.values, "config": kept}, STATE.tensors)))
    with pytest.raises(RunError, match="does not fit"):
        load_checkpoint(tmp_path, CONFIGURED)


@pytest.mark.parametrize("name", ["checkpoint.pt", "best.pt", "failure.pt"])
def test_a_run_of_an_earlier_version_is_refused_and_left_alone(tmp_path: Path, name: str) -> None:
    (tmp_path / "old").mkdir()
    write_json(tmp_path / "old" / CONFIG, {**CONFIGURED.as_dict(), "data": "digits"})
    (tmp_path / "old" / name).write_bytes(pickle.dumps(Evil()))
    config = TrainConfig(data="digits", runs_dir=tmp_path, resume="old")
    with pytest.raises(RunError, match=f"cannot resume 'old': no readable checkpoint, but {name}"):
        run.train(config, lambda *_: [])
    with pytest.raises(RunError, match=r"cannot read run 'old': there is no .*checkpoint\.safetensors"):
        run.load_trained(tmp_path / "old")
    assert (tmp_path / "old" / name).exists()


def test_every_setting_either_decides_the_numbers_or_may_change() -> None:
    """So that a flag added later is thought of."""
    settings = set(CONFIGURED.as_dict())
    logs = {"compare_every"}
    assert settings == {*run_dir._FIXED} | run._MAY_CHANGE | run._WHICH_RUN | logs
