"""What TensorBoard finds when it starts."""

import argparse

from tensorboard.plugins.base_plugin import TBContext, TBLoader

from bp_torch.dashboard.plugin.routes import BackpropPlugin
from bp_torch.dashboard.tags import BACKPROP


class BackpropLoader(TBLoader):  # type: ignore[misc]
    """Makes the plugin."""

    def fix_flags(self, flags: argparse.Namespace) -> None:
        """Keep every frame: by default TensorBoard drops steps at random, the first among them."""
        if flags.samples_per_plugin is not None:
            flags.samples_per_plugin.setdefault(BACKPROP, 0)

    def load(self, context: TBContext) -> BackpropPlugin:
        """The plugin."""
        return BackpropPlugin(context)
