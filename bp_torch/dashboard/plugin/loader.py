"""The plugin that TensorBoard loads: it serves the list of frames, their bytes, and the page of the tab.

The bytes are served unchanged; the page reads them, and reports what is wrong with them.
"""

import argparse
from functools import partial
from importlib.resources import files
from importlib.resources.abc import Traversable
from pathlib import PurePath
from typing import Any, Final

from tensorboard import errors, plugin_util
from tensorboard.backend import http_util
from tensorboard.data.provider import BlobSequenceDatum, DataProvider, RunTagFilter
from tensorboard.plugins.base_plugin import FrontendMetadata, TBContext, TBLoader, TBPlugin
from werkzeug import Request, Response

from bp_torch.dashboard.tags import BACKPROP, FRAME, FRAME_COST, NETWORK

_STATIC: Final = files("bp_torch.dashboard.plugin").joinpath("static")
_KINDS: Final = {".js": "text/javascript", ".css": "text/css"}
_ALL: Final = 2**31 - 1  # no limit; TensorBoard requires a number


class BackpropPlugin(TBPlugin):  # type: ignore[misc]
    """The Backprop tab."""

    plugin_name = BACKPROP

    def __init__(self, context: TBContext) -> None:
        """Store TensorBoard's data provider."""
        self._data: DataProvider = context.data_provider

    def is_active(self) -> bool:
        """Return False: TensorBoard finds out by itself whether there are data."""
        return False

    def frontend_metadata(self) -> FrontendMetadata:
        """The name of the tab and the entry point of its page."""
        return FrontendMetadata(es_module_path="/index.js", tab_name="Backprop")

    def get_plugin_apps(self) -> dict[str, Any]:
        """The handler of each address below data/plugin/backprop."""
        handlers = {"/runs": self._runs, "/network": self._network, "/frame": self._frame, "/costs": self._costs}
        return {**_pages(), **{name: Request.application(handler) for name, handler in handlers.items()}}

    def _runs(self, request: Request) -> Response:
        """The step and the time of each frame, by the run's name."""
        networks, frames = self._blobs(request, NETWORK), self._blobs(request, FRAME)
        runs = {run: [[datum.step, datum.wall_time] for datum in frames.get(run, ())] for run in sorted(networks)}
        return http_util.Respond(request, runs, "application/json")

    def _network(self, request: Request) -> Response:
        """The network of a run, `?run=`."""
        return self._bytes(request, self._blobs(request, NETWORK, _required_argument(request, "run")))

    def _frame(self, request: Request) -> Response:
        """One frame, `?run=…&step=…`."""
        run, step = _required_argument(request, "run"), _required_argument(request, "step")
        found = self._blobs(request, FRAME, run)
        chosen = {name: [datum for datum in data if str(datum.step) == step] for name, data in found.items()}
        return self._bytes(request, chosen)

    def _costs(self, request: Request) -> Response:
        """Pairs of step and mini-batch cost for the frames of a run, `?run=`."""
        run = _required_argument(request, "run")
        found = _read(self._data.read_scalars, request, FRAME_COST, [run])
        points = [[datum.step, datum.value] for datum in found.get(run, {}).get(FRAME_COST, ())]
        return http_util.Respond(request, points, "application/json")

    def _blobs(self, request: Request, tag: str, run: str | None = None) -> dict[str, list[BlobSequenceDatum]]:
        """The blobs of a tag, by run; of one run if it is given."""
        found = _read(self._data.read_blob_sequences, request, tag, None if run is None else [run])
        return {name: sequences[tag] for name, sequences in found.items() if sequences.get(tag)}

    def _bytes(self, request: Request, found: dict[str, list[BlobSequenceDatum]]) -> Response:
        """The bytes of the last blob."""
        references = [reference for data in found.values() for datum in data for reference in datum.values]
        if not references:
            raise errors.NotFoundError(f"there is no such {request.path.rpartition('/')[2]}")
        content = self._data.read_blob(plugin_util.context(request.environ), blob_key=references[-1].blob_key)
        return http_util.Respond(request, content, "application/octet-stream")


class BackpropLoader(TBLoader):  # type: ignore[misc]
    """Loads the plugin."""

    def fix_flags(self, flags: argparse.Namespace) -> None:
        """Keep all frames: by default TensorBoard drops random steps, even the first."""
        if flags.samples_per_plugin is not None:
            flags.samples_per_plugin.setdefault(BACKPROP, 0)

    def load(self, context: TBContext) -> BackpropPlugin:
        """The plugin."""
        return BackpropPlugin(context)


def _pages() -> dict[str, Any]:
    """The handlers of the page's files, by their addresses."""
    found = ((file, _KINDS.get(PurePath(file.name).suffix)) for file in _STATIC.iterdir())
    return {f"/{file.name}": Request.application(partial(_page, file, kind)) for file, kind in found if kind}


def _page(file: Traversable, kind: str, request: Request) -> Response:
    return http_util.Respond(request, file.read_bytes(), kind)


def _read(read: Any, request: Request, tag: str, runs: list[str] | None) -> Any:
    """Call a method of the data provider for a tag."""
    return read(
        plugin_util.context(request.environ),
        experiment_id=plugin_util.experiment_id(request.environ),
        plugin_name=BACKPROP,
        downsample=_ALL,
        run_tag_filter=RunTagFilter(runs, [tag]),
    )


def _required_argument(request: Request, name: str) -> str:
    value: str | None = request.args.get(name)
    if value is None:
        raise errors.InvalidArgumentError(f"{request.path}: ?{name}= is missing")
    return value
