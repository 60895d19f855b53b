"""How a number, a text, a tensor or a picture becomes a value that TensorBoard shows under a tag."""

from tensorboard.compat.proto.summary_pb2 import DATA_CLASS_BLOB_SEQUENCE, DATA_CLASS_SCALAR, Summary, SummaryMetadata
from tensorboard.compat.proto.tensor_pb2 import TensorProto
from tensorboard.compat.proto.tensor_shape_pb2 import TensorShapeProto
from tensorboard.compat.proto.types_pb2 import DT_FLOAT, DT_STRING
from tensorboard.plugins.histogram.summary_v2 import histogram_pb
from tensorboard.plugins.text.summary_v2 import text_pb
from torch import Tensor

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


def plugin_blob(tag: str, content: bytes, plugin: str) -> Summary.Value:
    """Bytes that one plugin reads, and no other."""
    shape = TensorShapeProto(dim=[TensorShapeProto.Dim(size=1)])
    tensor = TensorProto(dtype=DT_STRING, tensor_shape=shape, string_val=[content])
    return Summary.Value(tag=tag, tensor=tensor, metadata=_owned(plugin, DATA_CLASS_BLOB_SEQUENCE))


def plugin_scalar(tag: str, number: float, plugin: str) -> Summary.Value:
    """A point of a curve that one plugin reads, and no other."""
    tensor = TensorProto(dtype=DT_FLOAT, tensor_shape=TensorShapeProto(), float_val=[number])
    return Summary.Value(tag=tag, tensor=tensor, metadata=_owned(plugin, DATA_CLASS_SCALAR))


def _owned(plugin: str, data_class: int) -> SummaryMetadata:
    return SummaryMetadata(plugin_data=SummaryMetadata.PluginData(plugin_name=plugin), data_class=data_class)
