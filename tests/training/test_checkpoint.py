"""Checkpoints that come back, and those that are refused: damaged, or written by somebody who means harm."""

import io
import json
import os
import pickle
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from bp_torch.training import checkpoint, run
from bp_torch.training.checkpoint import load_checkpoint, load_config, packed, save_checkpoint, set_aside, unpacked
from bp_torch.training.config import TrainConfig
from bp_torch.training.folder import BEST, CHECKPOINT, CONFIG, PREVIOUS, RunError, write_json

CONFIGURED = TrainConfig()
STATE = {"parameters": {"weight": torch.ones(2, 3)}, "epoch": 7, "config": CONFIGURED.as_dict()}


def test_a_checkpoint_comes_back(tmp_path: Path) -> None:
    save_checkpoint(tmp_path, packed(STATE))
    state, damaged = load_checkpoint(tmp_path, CONFIGURED)
    assert state["epoch"] == 7
    assert torch.equal(state["parameters"]["weight"], torch.ones(2, 3))
    assert state["config"] == CONFIGURED.as_dict()
    assert not damaged
    assert sorted(path.name for path in tmp_path.iterdir()) == [CHECKPOINT]


def test_torch_reads_it_without_us(tmp_path: Path) -> None:
    save_checkpoint(tmp_path, packed(STATE))
    assert torch.load(tmp_path / CHECKPOINT, weights_only=True)["epoch"] == 7


def test_the_last_two_are_kept(tmp_path: Path) -> None:
    for epoch in range(3):
        save_checkpoint(tmp_path, packed({**STATE, "epoch": epoch}))
    kept = {path.name: unpacked(path.read_bytes())["epoch"] for path in tmp_path.iterdir()}
    assert kept == {CHECKPOINT: 2, PREVIOUS: 1}


def test_a_failed_write_keeps_the_checkpoint_before(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    save_checkpoint(tmp_path, packed(STATE))
    kept = (tmp_path / CHECKPOINT).read_bytes()

    def fail(_: int) -> None:
        raise OSError("disk full")

    monkeypatch.setattr("os.fsync", fail)
    with pytest.raises(OSError, match="disk full"):
        save_checkpoint(tmp_path, packed({**STATE, "epoch": 8}))
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == {CHECKPOINT: kept}


def test_the_newest_that_is_whole_is_taken(tmp_path: Path) -> None:
    for epoch, name in enumerate((BEST, PREVIOUS, CHECKPOINT)):
        (tmp_path / name).write_bytes(packed({**STATE, "epoch": epoch}))
    assert load_checkpoint(tmp_path, CONFIGURED)[0]["epoch"] == 2
    (tmp_path / CHECKPOINT).write_bytes(b"damaged")
    state, damaged = load_checkpoint(tmp_path, CONFIGURED)
    assert (state["epoch"], damaged) == (1, [CHECKPOINT])
    set_aside(tmp_path, damaged)
    assert (tmp_path / f"{CHECKPOINT}.damaged").read_bytes() == b"damaged"
    (tmp_path / PREVIOUS).unlink()
    assert load_checkpoint(tmp_path, CONFIGURED)[0]["epoch"] == 0
    (tmp_path / BEST).write_bytes(b"damaged")
    with pytest.raises(RunError, match=r"its best.pt is damaged"):
        load_checkpoint(tmp_path, CONFIGURED)


def test_no_checkpoint_is_no_damage(tmp_path: Path) -> None:
    assert load_checkpoint(tmp_path, CONFIGURED) == ({}, [])


def test_every_flipped_bit_and_every_end_is_noticed() -> None:
    content = packed(STATE)
    for place in range(0, len(content), 7):
        flipped = content[:place] + bytes([content[place] ^ 4]) + content[place + 1 :]
        for damaged in (flipped, content[:place]):
            with pytest.raises(Exception):  # noqa: B017, PT011 -- whatever the reader meets
                unpacked(damaged)


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
        ({"momentum": 0.9}, "'momentum' is no setting"),
        ({"seed": "0"}, "--seed must be of type int"),
        ({"seed": None}, "--seed must be of type int"),
        ({"epochs": 1.5}, "--epochs must be of type int"),
        ({"hidden": 16}, "not iterable"),
        ({"hidden": [100_000] * 2}, "100,000,000 are the most"),
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

    def __init__(self, function: Callable[..., Any], *arguments: Any) -> None:
        self.done = function, arguments

    def __reduce__(self) -> tuple[Callable[..., Any], tuple[Any, ...]]:
        return self.done


def saved(state: object) -> bytes:
    buffer = io.BytesIO()
    torch.save(state, buffer)
    return buffer.getvalue()


def archive(change: Callable[[str, bytes], bytes], *more: tuple[str, bytes], compression: int = 0) -> bytes:
    """A checkpoint whose archive is made anew."""
    anew = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(saved(STATE))) as old, zipfile.ZipFile(anew, "w", compression) as new:
        for name in old.namelist():
            new.writestr(name, change(name, old.read(name)))
        for name, content in more:
            new.writestr(name, content)
    return anew.getvalue()


def same(_: str, content: bytes) -> bytes:
    return content


def pickled_instead(pickled: bytes) -> bytes:
    return archive(lambda name, content: pickled if name.endswith("data.pkl") else content)


def twice(content: bytes) -> bytes:
    """The archive's directory calls two members alike."""
    return content.replace(b"archive/.format_version", b"archive/byteorder\x00\x00\x00\x00\x00\x00")


def said_larger(content: bytes) -> bytes:
    """The archive's directory says of its first member that it has 4 GB."""
    place = content.index(b"PK\x01\x02")
    return content[: place + 20] + b"\xf0\xff\xff\xff" * 2 + content[place + 28 :]


HOSTILE = {
    "code": (saved({"parameters": Evil(print, "ran"), "epoch": 1}), "'__builtin__ print'"),
    "8 GB out of 1,300 bytes": (saved({"parameters": Evil(bytearray, 2**33)}), "'__builtin__ bytearray'"),
    "a function of torch": (saved({"x": Evil(torch._utils._rebuild_sparse_tensor, 1)}), "_rebuild_sparse_tensor"),
    "a name from the stack": (pickled_instead(pickle.dumps(Evil(print, "ran"), protocol=4)), "None"),
    "another member": (archive(same, ("archive/code/run.py", b"print()")), "'archive/code/run.py'"),
    "a member outside": (archive(same, ("../../escaped", b"")), "'../../escaped'"),
    "compressed": (archive(same, compression=zipfile.ZIP_DEFLATED), "not of a checkpoint"),
    "a member twice": (twice(saved(STATE)), "twice"),
    "said to be larger": (said_larger(saved(STATE)), "larger than it is"),
    "a tensor of no pickle": (pickled_instead(b"\x80\x02."), ""),
    "no dictionary": (saved([1, 2, 3]), ""),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_a_hostile_checkpoint_is_refused_before_torch_reads_it(
    tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    content, says = HOSTILE[name]
    if says:
        monkeypatch.setattr(torch, "load", lambda *_, **__: pytest.fail("torch must not read it"))
    (tmp_path / CHECKPOINT).write_bytes(content)
    with pytest.raises(RunError, match=r"its checkpoint\.pt is damaged") as caught:
        load_checkpoint(tmp_path, CONFIGURED)
    assert says in str(caught.value)
    assert "\n" not in str(caught.value)
    assert not capsys.readouterr().out


def test_a_tensor_of_gigantic_shape_over_few_numbers_takes_no_memory(tmp_path: Path) -> None:
    """It is a view of one number, which nobody copies before its shape is compared."""
    huge = {"parameters": {"weight": torch.ones(1).expand(10**9, 10**9)}, "config": CONFIGURED.as_dict()}
    save_checkpoint(tmp_path, packed(huge))
    state, _ = load_checkpoint(tmp_path, CONFIGURED)
    model = torch.nn.Linear(3, 2, bias=False)
    with pytest.raises(RuntimeError, match="size mismatch"):
        model.load_state_dict(state["parameters"])


def test_a_file_longer_than_any_checkpoint_is_not_read(tmp_path: Path) -> None:
    with (tmp_path / CHECKPOINT).open("wb") as file:
        file.truncate(2**40)  # of holes
    with pytest.raises(RunError, match="longer than 1,256,608 bytes"):
        load_checkpoint(tmp_path, CONFIGURED)
    with (tmp_path / CONFIG).open("wb") as file:
        file.truncate(2**40)
    with pytest.raises(RunError, match="longer than 1,048,576 bytes"):
        load_config(tmp_path)


@pytest.mark.skipif(sys.platform == "win32", reason="there are no pipes with names")
def test_a_pipe_is_not_waited_for(tmp_path: Path) -> None:
    for name in (CHECKPOINT, CONFIG):
        os.mkfifo(tmp_path / name)
    with pytest.raises(RunError, match="it is no file"):
        load_checkpoint(tmp_path, CONFIGURED)
    with pytest.raises(RunError, match="it is no file"):
        load_config(tmp_path)


@pytest.mark.parametrize("config", [TrainConfig(hidden=(8,)), TrainConfig(seed=1), TrainConfig(cost="cross_entropy")])
def test_a_checkpoint_of_another_run_is_refused(tmp_path: Path, config: TrainConfig) -> None:
    save_checkpoint(tmp_path, packed(STATE))
    with pytest.raises(RunError, match=r"its checkpoint\.pt does not fit its config\.json"):
        load_checkpoint(tmp_path, config)


@pytest.mark.parametrize("kept", [None, 3, [], {}, "config"])
def test_a_checkpoint_of_no_configuration_is_refused(tmp_path: Path, kept: object) -> None:
    save_checkpoint(tmp_path, packed({**STATE, "config": kept}))
    with pytest.raises(RunError, match="does not fit"):
        load_checkpoint(tmp_path, CONFIGURED)


def test_every_setting_either_decides_the_numbers_or_may_change() -> None:
    """So that a flag added later is thought of."""
    settings = set(CONFIGURED.as_dict())
    looks = {"compare_every"}
    assert settings == {*checkpoint._LEARNED} | run._MAY_CHANGE | run._WHICH_RUN | looks
