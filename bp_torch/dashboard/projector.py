"""The Projector tab: the test digits as points, each where a layer's activations for it put it."""

from hashlib import sha256
from io import BytesIO
from math import ceil
from pathlib import Path
from typing import Final

import numpy as np
from google.protobuf import text_format
from PIL import Image
from tensorboard.plugins.projector.metadata import PROJECTOR_FILENAME
from tensorboard.plugins.projector.projector_config_pb2 import EmbeddingInfo, ProjectorConfig, SpriteMetadata
from torch import Tensor

from bp_torch.files import beginning, replace_file
from bp_torch.training.records import EmbeddingRecord

_FOLDER: Final = "projector"
_LARGEST_LIST: Final = 2**24
_FILES: Final = ("step_*.tsv", "digits_*.png")


class Projector:
    """Keeps a list of embeddings, one for each layer and step recorded, and the files that it names.

    If a file is missing that a run lists, TensorBoard shows no run's embeddings. So files are written before they are
    listed, and removed after. TensorBoard reads the list when it first sees the run: to show later ones, restart it.
    """

    def __init__(self, folder: Path, *, first_step: int = 0) -> None:
        """Takes up the list of an earlier session, if there is one.

        Args:
            folder: the run's. Nothing is written there before the first embedding.
            first_step: embeddings of this step and later ones are forgotten, and their files removed. So is everything
                if the list is damaged.
        """
        self._folder = folder
        self._list = folder / PROJECTOR_FILENAME
        self._embeddings: dict[str, EmbeddingInfo] = {}
        if self._list.is_file():
            self._embeddings = _listed(self._list, first_step)
            self._write_list()
            self._remove_unlisted()

    def add(self, record: EmbeddingRecord) -> None:
        """Writes one embedding and lists it, in place of an earlier one of this layer and step."""
        step = f"{record.step:05}"  # the projector sorts by name
        name, stem = f"{record.layer}, step {step}", f"step_{step}_{record.layer}"
        self._embeddings[name] = EmbeddingInfo(
            tensor_name=name,
            tensor_shape=record.activations.shape,
            tensor_path=self._keep(f"{stem}_activations.tsv", _table_of_activations(record.activations)),
            metadata_path=self._keep(f"{stem}_digits.tsv", _table_of_digits(record.labels, record.answers)),
            sprite=self._sprite(record.images),
        )
        self._write_list()

    def _sprite(self, images: Tensor) -> SpriteMetadata:
        """One picture of all digits; it is named by what it shows, and drawn once."""
        name = f"digits_{sha256(images.cpu().numpy().tobytes()).hexdigest()[:16]}.png"
        path = f"{_FOLDER}/{name}"
        if not (self._folder / path).exists():
            self._keep(name, _sheet(images))
        return SpriteMetadata(image_path=path, single_image_dim=(images.shape[2], images.shape[1]))

    def _keep(self, name: str, content: bytes) -> str:
        """Writes a file; returns its path as the list names it."""
        path = f"{_FOLDER}/{name}"
        (self._folder / _FOLDER).mkdir(parents=True, exist_ok=True)
        replace_file(self._folder / path, content)
        return path

    def _write_list(self) -> None:
        config = ProjectorConfig(embeddings=self._embeddings.values())
        replace_file(self._list, text_format.MessageToString(config).encode())

    def _remove_unlisted(self) -> None:
        """Removes what this class wrote and no embedding names any more."""
        embeddings = self._embeddings.values()
        listed = {path for e in embeddings for path in (e.tensor_path, e.metadata_path, e.sprite.image_path)}
        for pattern in _FILES:
            for file in (self._folder / _FOLDER).glob(pattern):
                if f"{_FOLDER}/{file.name}" not in listed:
                    file.unlink()


def _listed(path: Path, first_step: int) -> dict[str, EmbeddingInfo]:
    """The embeddings of steps before this one, by name; none if they cannot be read."""
    try:
        config = text_format.Parse(beginning(path, _LARGEST_LIST).decode(), ProjectorConfig())
        names = [(embedding.tensor_name, embedding) for embedding in config.embeddings]
        return {name: embedding for name, embedding in names if int(name.rpartition(" ")[2]) < first_step}
    except (text_format.ParseError, ValueError):
        return {}


def _table_of_activations(activations: Tensor) -> bytes:
    """A line for each digit: text, because TensorBoard takes bytes for text if they can be decoded, as zeros can."""
    rows = activations.cpu().double().tolist()
    line = "\t".join(["%.6g"] * activations.shape[1]) + "\n"
    return "".join(line % tuple(row) for row in rows).encode()


def _table_of_digits(labels: Tensor, answers: Tensor) -> bytes:
    """Nothing but numbers: a column of words would be the first that the projector shows, in place of the label."""
    rows = zip(labels.tolist(), answers.tolist(), strict=True)
    lines = (f"{label}\t{answer}\t{int(answer == label)}\n" for label, answer in rows)
    return "".join(["label\tread as\tright\n", *lines]).encode()


def _sheet(images: Tensor) -> bytes:
    """The digits row by row in a square, white on black, as a PNG."""
    count, height, width = images.shape
    side = ceil(count**0.5)
    tiles = np.zeros((side * side, height, width), dtype=np.uint8)
    tiles[:count] = images.cpu().numpy()
    square = tiles.reshape(side, side, height, width).swapaxes(1, 2).reshape(side * height, side * width)
    png = BytesIO()
    Image.fromarray(square).save(png, format="png")
    return png.getvalue()
