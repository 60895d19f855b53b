"""Entries of padding, sliding windows and resampling."""

from functools import partial

from bp_torch.catalogue.op_info import ErrorInput, RandomTensors, op_info
from bp_torch.sample import Sample

_draw = RandomTensors(21)
_op_info = partial(op_info, rejects_lists=True)

_LINE, _IMAGES, _VOLUMES = "batch channels length", "batch channels height width", "batch channels depth height width"
_image = _draw(1, 2, 4, 4)


def _sample(shape: tuple[int, ...], axes: str = _IMAGES, **options: object) -> Sample:
    return Sample((_draw(*shape),), options, axes)


OP_INFOS = (
    _op_info(
        "unfold",
        "∂C/∂x = g, folded: Σ over the windows that contain a pixel",
        (
            Sample((_draw(1, 2, 3, 4),), {"kernel_size": 2}, _IMAGES),
            Sample((_draw(1, 1, 5, 6),), {"kernel_size": (2, 3), "stride": (2, 1), "padding": (1, 0)}, _IMAGES),
            Sample(
                (_draw(1, 5, 5),), {"kernel_size": 2, "dilation": 2, "stride": 2, "padding": 1}, "channels height width"
            ),
            Sample((_draw(2, 1, 3, 3),), {"kernel_size": (1, 3)}, _IMAGES),
        ),
        ErrorInput((_draw(1, 1, 1, 3, 4), 2), RuntimeError, "3D or 4D"),
        ErrorInput((_image, 5), RuntimeError, "shape of the array"),
    ),
    _op_info(
        "fold",
        "∂C/∂x = g, unfolded",
        (
            Sample((_draw(1, 4, 6),), {"output_size": (3, 4), "kernel_size": 2}, "batch 4*channels 6"),
            Sample(
                (_draw(1, 6, 6),),
                {"output_size": (4, 4), "kernel_size": (2, 3), "stride": 2, "padding": 1},
                "batch 6*channels 6",
            ),
            Sample((_draw(4, 4),), {"output_size": 5, "kernel_size": 2, "dilation": 2, "stride": 2}, "4*channels 4"),
            Sample((_draw(2, 3, 3),), {"output_size": 3, "kernel_size": (1, 3)}, "batch 3*channels 3"),
        ),
        ErrorInput((_draw(1, 4, 5), (3, 4), 2), RuntimeError, "sliding blocks"),
        ErrorInput((_draw(1, 5, 6), (3, 4), 2), RuntimeError, "divisible"),
    ),
    _op_info(
        "pad",
        "∂C/∂x = g without the padding; Σ g over the copies of each value",
        (
            _sample((2, 3), axes="rows columns", pad=(1, 2), value=0.5),
            _sample((2, 4, 3), axes="batch rows columns", pad=(0, 1, -1, 2)),
            _sample((1, 2, 4), axes=_LINE, pad=(2, 1), mode="reflect"),
            _sample((1, 1, 3, 4), axes=_IMAGES, pad=(1, 2, 2, 1), mode="reflect"),
            _sample((2, 4), axes="channels length", pad=(3, -1), mode="replicate"),
            _sample((1, 1, 3, 2, 3), axes=_VOLUMES, pad=(1, 0, 2, 1, 0, 1), mode="replicate"),
            _sample((2, 3, 4), axes="channels height width", pad=(2, 1, 0, 3), mode="circular"),
        ),
        ErrorInput((_draw(1, 2, 3), (3, 0), "reflect"), RuntimeError, "less than|reflect"),
        ErrorInput((_draw(1, 2, 3), (1, 0), "symmetric"), NotImplementedError, "symmetric"),
        ErrorInput((_draw(1, 2, 3), (1,)), RuntimeError, "divisible by 2|even"),
        ErrorInput((_draw(1, 2, 3), (1, 1), "reflect", 2.0), RuntimeError, "value"),
    ),
    op_info(
        "interpolate",
        "∂C/∂xᵢ = Σₒ aₒᵢ gₒ with the weights a of y, along each axis",
        (
            _sample((2, 2, 4), axes=_LINE, size=7),
            _sample((1, 1, 3, 4), size=(5, 3), mode="nearest-exact"),
            _sample((1, 2, 4), axes="batch channels 4", scale_factor=1.7, mode="linear"),
            _sample(
                (1, 1, 3, 4),
                axes="batch channels height 4",
                scale_factor=(2.0, 1.3),
                mode="bilinear",
                align_corners=False,
            ),
            _sample((1, 1, 3, 4), axes="batch channels 3 width", size=5, mode="bilinear", align_corners=True),
            _sample(
                (1, 1, 4, 5),
                axes="batch channels 4 5",
                scale_factor=(1.7, 0.6),
                mode="bicubic",
                recompute_scale_factor=True,
            ),
            _sample((1, 1, 2, 3, 4), axes="batch channels 2 3 4", size=(3, 2, 5), mode="trilinear"),
            _sample((1, 1, 5, 4), size=(3, 2), mode="area"),
            _sample((1, 1, 5, 6), axes="batch channels 5 6", size=(3, 4), mode="bilinear", antialias=True),
            _sample((1, 1, 5, 6), axes="batch channels 5 6", size=(7, 3), mode="bicubic", antialias=True),
        ),
        ErrorInput((_image,), ValueError, "either size or scale_factor"),
        ErrorInput((_image, 3, 2.0), ValueError, "only one of size or scale_factor"),
        ErrorInput((_image, 3), ValueError, "align_corners", {"align_corners": True}),
        ErrorInput((_image, 3), NotImplementedError, "linear mode needs 3D input", {"mode": "linear"}),
        ErrorInput((_image, (3, 3, 3)), ValueError, "spatial dimensions"),
        ErrorInput((_draw(3, 4), 3), NotImplementedError, "Only 3D, 4D and 5D"),
    ),
    op_info(
        "upsample",
        "the equation of `interpolate`",
        (
            _sample((2, 2, 4), axes=_LINE, scale_factor=2),
            _sample((1, 1, 3, 4), size=5, mode="bilinear", align_corners=True),
            _sample((1, 1, 3, 4), scale_factor=2, mode="bicubic"),
        ),
    ),
    _op_info(
        "pixel_shuffle",
        "∂C/∂x = g, unshuffled",
        (
            Sample((_draw(1, 4, 2, 3),), {"upscale_factor": 2}, "batch 4*channels height width"),
            Sample((_draw(9, 1, 2),), {"upscale_factor": 3}, "9*channels height width"),
            Sample((_draw(2, 1, 4, 1, 2),), {"upscale_factor": 2}, "more batch 4*channels height width"),
        ),
        ErrorInput((_draw(1, 3, 2, 2), 2), RuntimeError, "divisible"),
    ),
    _op_info(
        "pixel_unshuffle",
        "∂C/∂x = g, shuffled",
        (
            Sample((_draw(1, 1, 4, 6),), {"downscale_factor": 2}, "batch channels 2*height 2*width"),
            Sample((_draw(2, 3, 3),), {"downscale_factor": 3}, "channels 3*height 3*width"),
            Sample((_draw(2, 1, 1, 2, 4),), {"downscale_factor": 2}, "more batch channels 2*height 2*width"),
        ),
        ErrorInput((_draw(1, 3, 3, 3), 2), RuntimeError, "divisible"),
    ),
)
