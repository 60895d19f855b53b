"""Embeddings as TensorBoard's own projector plugin serves them, and what is left of them on disk."""

import json
from collections.abc import Callable
from dataclasses import replace
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from tensorboard.backend.event_processing.data_provider import MultiplexerDataProvider
from tensorboard.backend.event_processing.plugin_event_multiplexer import EventMultiplexer
from tensorboard.plugins.base_plugin import TBContext
from tensorboard.plugins.projector.projector_plugin import ProjectorPlugin
from torch import Tensor
from werkzeug.test import Client

from bp_torch.dashboard.writer import TensorBoardRecorder
from bp_torch.training.folder import create_run
from bp_torch.training.records import EmbeddingRecord, StepRecord

NAME = "3.Sigmoid, step 00600"
LIST = "projector_config.pbtxt"


def record(folder: Path, *embeddings: EmbeddingRecord, purge_step: int | None = None) -> None:
    """Records them after a step, without which TensorBoard would see no run."""
    with TensorBoardRecorder(folder, purge_step=purge_step) as recorder:
        recorder.record(StepRecord(0, 0, 0.75, 0.5, 0.25, 2000.0))
        for embedding in embeddings:
            recorder.record(embedding)


class Served:
    """What a TensorBoard that is started now answers of the run named run."""

    def __init__(self, logdir: Path) -> None:
        multiplexer = EventMultiplexer().AddRunsFromDirectory(str(logdir))
        multiplexer.Reload()
        provider = MultiplexerDataProvider(multiplexer, str(logdir))
        self._apps = ProjectorPlugin(TBContext(data_provider=provider, logdir=str(logdir))).get_plugin_apps()

    def ask(self, route: str, **query: str) -> bytes:
        answer = Client(self._apps[f"/{route}"]).get("/", query_string={"run": "run", **query})
        assert answer.status_code == 200, answer.text
        return answer.data

    def embeddings(self) -> list[Any]:
        return json.loads(self.ask("info"))["embeddings"] if json.loads(self.ask("runs")) else []

    def names(self) -> list[str]:
        return [embedding["tensorName"] for embedding in self.embeddings()]

    def tensor(self, name: str, columns: int) -> Tensor:
        return torch.frombuffer(bytearray(self.ask("tensor", name=name)), dtype=torch.float32).view(-1, columns)


@pytest.fixture
def served(tmp_path: Path) -> Callable[[], Served]:
    return lambda: Served(tmp_path)


def files(folder: Path) -> set[str]:
    return {path.name for path in (folder / "projector").glob("*")}


def test_the_activations_come_back(tmp_path: Path, served: Callable[[], Served], embedding: EmbeddingRecord) -> None:
    record(tmp_path / "run", embedding)
    (info,) = served().embeddings()
    assert (info["tensorName"], info["tensorShape"]) == (NAME, [7, 4])
    torch.testing.assert_close(served().tensor(NAME, 4), embedding.activations, rtol=1e-5, atol=0)


@pytest.mark.parametrize(
    "activations",
    [torch.zeros(7, 4), torch.full((7, 1), 1e-30), torch.tensor([[1e30, -0.5]] * 7, requires_grad=True)],
    ids=["dead", "one tiny neuron", "large"],
)
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16])
def test_activations_of_every_kind_come_back(
    tmp_path: Path,
    served: Callable[[], Served],
    embedding: EmbeddingRecord,
    activations: Tensor,
    dtype: torch.dtype,
) -> None:
    record(tmp_path / "run", replace(embedding, activations=activations.to(dtype)))
    found = served().tensor(NAME, activations.shape[1])
    torch.testing.assert_close(found, activations.detach().to(dtype).float(), rtol=1e-5, atol=0)


def test_each_digit_has_its_label_and_how_it_is_read(
    tmp_path: Path, served: Callable[[], Served], embedding: EmbeddingRecord
) -> None:
    record(tmp_path / "run", embedding)
    header, *lines = served().ask("metadata", name=NAME).decode().splitlines()
    assert header == "label\tread as\tright"
    assert lines == ["0\t0\t1", "1\t1\t1", "2\t2\t1", "3\t3\t1", "4\t4\t1", "5\t5\t1", "6\t5\t0"]


def test_the_sprite_shows_each_digit_in_its_place(
    tmp_path: Path, served: Callable[[], Served], embedding: EmbeddingRecord
) -> None:
    record(tmp_path / "run", embedding)
    (info,) = served().embeddings()
    assert info["sprite"]["singleImageDim"] == [28, 28]
    with Image.open(BytesIO(served().ask("sprite_image", name=NAME))) as png:
        assert png.format == "PNG"
        pixels = np.array(png)
    assert pixels.shape == (3 * 28, 3 * 28)
    for place in range(9):
        tile = pixels[place // 3 * 28 :, place % 3 * 28 :][:28, :28]
        shown = embedding.images[place].numpy() if place < 7 else 0
        assert (tile == shown).all(), place


def test_the_same_digits_are_drawn_once(
    tmp_path: Path, served: Callable[[], Served], embedding: EmbeddingRecord
) -> None:
    record(tmp_path / "run", embedding)
    (drawn,) = (tmp_path / "run" / "projector").glob("*.png")
    before = drawn.stat().st_mtime_ns
    record(tmp_path / "run", replace(embedding, step=700), purge_step=700)
    assert drawn.stat().st_mtime_ns == before
    record(tmp_path / "run", replace(embedding, step=800, images=255 - embedding.images), purge_step=800)
    sprites = [info["sprite"]["imagePath"] for info in served().embeddings()]
    assert sprites[0] == sprites[1] == f"projector/{drawn.name}" != sprites[2]


def test_every_layer_and_step_has_its_own_embedding(
    tmp_path: Path, served: Callable[[], Served], embedding: EmbeddingRecord
) -> None:
    recorded = {
        f"{layer}, step {step}": replace(embedding, layer=layer, step=int(step), activations=torch.rand(7, 4))
        for layer in ("1.ReLU", "3.Sigmoid")
        for step in ("00000", "00600", "35999")
    }
    record(tmp_path / "run", *recorded.values())
    names = served().names()
    assert names == sorted(recorded), "the order that the projector shows them in"
    for name in names:
        torch.testing.assert_close(served().tensor(name, 4), recorded[name].activations, rtol=1e-5, atol=0)


def test_a_second_record_of_a_layer_and_step_replaces_the_first(
    tmp_path: Path, served: Callable[[], Served], embedding: EmbeddingRecord
) -> None:
    record(tmp_path / "run", embedding, replace(embedding, activations=embedding.activations + 1))
    assert served().names() == [NAME]
    torch.testing.assert_close(served().tensor(NAME, 4), embedding.activations + 1, rtol=1e-5, atol=0)


@pytest.mark.parametrize(("purge_step", "kept"), [(1200, ["00599"]), (600, ["00599"]), (599, []), (None, [])])
def test_a_resumed_run_forgets_embeddings_from_its_first_step_on(
    tmp_path: Path, served: Callable[[], Served], embedding: EmbeddingRecord, purge_step: int | None, kept: list[str]
) -> None:
    later = replace(embedding, step=1200, images=255 - embedding.images)
    record(tmp_path / "run", replace(embedding, step=599), later)
    (tmp_path / "run" / "projector" / "mine.tsv").write_text("mine")
    record(tmp_path / "run", purge_step=purge_step)
    assert served().names() == [f"3.Sigmoid, step {step}" for step in kept]
    assert len(files(tmp_path / "run")) == 1 + 3 * len(kept)
    record(tmp_path / "run", replace(embedding, step=1800), purge_step=purge_step)
    assert served().names() == [f"3.Sigmoid, step {step}" for step in [*kept, "01800"]]
    for name in served().names():
        torch.testing.assert_close(served().tensor(name, 4), embedding.activations, rtol=1e-5, atol=0)
        assert served().ask("sprite_image", name=name)
    assert (tmp_path / "run" / "projector" / "mine.tsv").read_text() == "mine"


@pytest.mark.parametrize("damaged", [b"", b"embeddings {", b"\xff", b'embeddings { tensor_name: "mine" }'])
def test_a_damaged_list_is_begun_anew(
    tmp_path: Path, served: Callable[[], Served], embedding: EmbeddingRecord, damaged: bytes
) -> None:
    record(tmp_path / "run", embedding)
    (tmp_path / "run" / LIST).write_bytes(damaged)
    record(tmp_path / "run", replace(embedding, step=900), purge_step=700)
    assert served().names() == ["3.Sigmoid, step 00900"]
    assert len(files(tmp_path / "run")) == 3


@pytest.mark.parametrize("lost", [LIST, "activations", "digits"])
def test_a_write_that_fails_leaves_what_was_there(
    tmp_path: Path, served: Callable[[], Served], embedding: EmbeddingRecord, monkeypatch: pytest.MonkeyPatch, lost: str
) -> None:
    def fail(temporary: Path, path: Path) -> None:
        if lost in path.name:
            raise OSError("disk full")
        temporary.rename(path)

    record(tmp_path / "run", embedding)
    monkeypatch.setattr(Path, "replace", fail)
    with pytest.raises(OSError, match="disk full"):
        record(tmp_path / "run", replace(embedding, step=700), purge_step=700)
    assert served().names() == [NAME]
    torch.testing.assert_close(served().tensor(NAME, 4), embedding.activations, rtol=1e-5, atol=0)


def test_a_run_without_embeddings_has_no_list(tmp_path: Path, served: Callable[[], Served]) -> None:
    record(tmp_path / "run")
    assert len(list((tmp_path / "run").iterdir())) == 1
    assert served().names() == []


def test_overwriting_a_run_leaves_nothing_of_its_embeddings(tmp_path: Path, embedding: EmbeddingRecord) -> None:
    record(tmp_path / "run", embedding, replace(embedding, layer="1.ReLU", images=255 - embedding.images))
    create_run(tmp_path / "run", overwrite=True).release()
    assert [path for path in (tmp_path / "run").iterdir() if path.name != ".lock"] == []
