"""How a number, a text, a tensor or a picture becomes a value that TensorBoard shows under a tag."""

from tensorboard.compat.proto.summary_pb2 import DATA_CLASS_BLOB_SEQUENCE, DATA_CLASS_SCALAR, Summary, SummaryMetadata
from tensorboard.plugins.histogram.summary_v2 import histogram_pb
from tensorboard.plugins.text.summary_v2 import text_pb
from tensorboard.util.tensor_util import make_tensor_proto
from torch import Tensor

from bp_torch.dashboard import tags
from bp_torch.dashboard.pictures import Picture


def scalar(tag: str, number: float) -> Summary.Value:
    """A point of a curve; NaN and infinity are points too."""
    return Summary.Value(tag=tag, simple_value=number)


def text(tag: str, markdown: str) -> Summary.Value:
    """A page of Markdown."""
    return text_pb(tag, markdown).value[0]


def histogram(tag: str, tensor: Tensor) -> Summary.Value | None:
    """The distribution of a tensor's finite components, in 30 buckets; None if there are none."""
    components = tensor.detach().cpu().double()
    finite = components[components.isfinite()]
    return histogram_pb(tag, finite.numpy()).value[0] if len(finite) else None


def image(tag: str, picture: Picture) -> Summary.Value:
    """A picture, drawn already."""
    encoded = Summary.Image(width=picture.width, height=picture.height, colorspace=4, encoded_image_string=picture.png)
    return Summary.Value(tag=tag, image=encoded)


def of_tab(tag: str, content: bytes | float) -> Summary.Value:
    """Bytes, or a point of a curve, that the Backprop tab reads, and no other."""
    blob = isinstance(content, bytes)
    plugin = SummaryMetadata.PluginData(plugin_name=tags.BACKPROP)
    owned = SummaryMetadata(plugin_data=plugin, data_class=DATA_CLASS_BLOB_SEQUENCE if blob else DATA_CLASS_SCALAR)
    return Summary.Value(tag=tag, tensor=make_tensor_proto([content] if blob else content), metadata=owned)
