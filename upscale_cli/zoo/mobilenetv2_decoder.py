"""MobileNetV2 decoder: what ImageNet's MobileNetV2 sees in the picture, drawn over half of it.

A frozen encoder (encoders/mobilenetv2.py; Sandler et al., arXiv:1801.04381) on a picture enlarged before; its last map,
1/32 the size, is enlarged bilinearly, and three convolutions, 1 x 1, 3 x 3 and 3 x 3 with ReLU between, go 1280 -> 128
-> 64 -> 3. To that 0.5 x the enlarged picture is added. 2,463,363 parameters, of which 239,491 learn.

Keys: encoder.* (timm's), decoder.{0,2,4}. A file says nothing of its scale: without a name it is taken for x2.
"""

from collections.abc import Callable, Sequence
from functools import partial

import torch.nn.functional as F
from torch import Tensor, nn

from upscale_cli.zoo.blocks import conv3x3, widened
from upscale_cli.zoo.encoders.mobilenetv2 import MobileNetV2, Stage
from upscale_cli.zoo.layout import fitting, width
from upscale_cli.zoo.preupsampled import Bicubic, padded
from upscale_cli.zoo.variant import Architecture, Shapes, Variant

SHARE = 0.5  # of the enlarged picture in the result


class MobileNetV2Decoder(nn.Module):
    """N x 3 x H x W -> N x 3 x sH x sW, [0, 1]. The encoder has no gradients, and its statistics stay."""

    def __init__(
        self, *, scale: int, channels: Sequence[int] = (128, 64), encoder: Callable[[], MobileNetV2] = MobileNetV2
    ) -> None:
        super().__init__()
        first, second = channels
        self.enlarge = Bicubic(scale=scale)
        self.encoder = encoder().requires_grad_(False).eval()
        self.decoder = nn.Sequential(
            nn.Conv2d(self.encoder.channels, first, 1),
            nn.ReLU(),
            conv3x3(first, second),
            nn.ReLU(),
            conv3x3(second, 3),
        )

    def train(self, mode: bool = True) -> "MobileNetV2Decoder":
        """All but the encoder, which looks at every picture as ImageNet taught it to."""
        super().train(mode)
        self.encoder.eval()
        return self

    def forward(self, lr: Tensor) -> Tensor:
        image = self.enlarge(lr)
        height, width = image.shape[-2:]
        # A 1 x 1 convolution and a bilinear enlargement give the same in either order: this one needs a tenth of the
        # memory. Padded, so that every feature lies over the pixels it was made from.
        features = self.decoder[0](self.encoder(padded(image, self.encoder.stride)))
        features = F.interpolate(features, scale_factor=self.encoder.stride, mode="bilinear")[..., :height, :width]
        detail = widened(self.decoder[4], self.decoder[1:4](features), lr.dtype)
        return SHARE * image + detail


def _variant(name: str, module: partial[MobileNetV2Decoder], parameters: int) -> Variant:
    scale = module.keywords["scale"]
    return Variant(
        name,
        "mobilenetv2",
        module,
        scale=scale,
        margin=128 // scale,  # estimated: half of what the encoder can see around it
        parameters=parameters,
        dtypes=("fp32", "fp16"),  # bf16 moved pixels by 13/255, measured untrained: half of each is drawn anew
    )


_SHALLOW = partial(MobileNetV2, stages=(Stage(1, 8, 1, 1), Stage(2, 8, 2, 1)), stem=8, channels=32, stem_stride=1)

VARIANTS = (
    _variant("mobilenetv2/x2", partial(MobileNetV2Decoder, scale=2), 2_463_363),
    _variant("mobilenetv2/x4", partial(MobileNetV2Decoder, scale=4), 2_463_363),
    Variant(
        "mobilenetv2/x2-tiny",
        "mobilenetv2",
        partial(MobileNetV2Decoder, scale=2, channels=(16, 16), encoder=_SHALLOW),
        scale=2,
        margin=5,
        exact=True,
        parameters=4_963,
    ),
)


def recognise(shapes: Shapes) -> Variant | None:
    """Any widths of the decoder over the published encoder, or the shallow one."""
    channels = (width(shapes, "decoder.0.weight"), width(shapes, "decoder.2.weight"))
    if not all(channels):
        return None
    encoder = MobileNetV2 if width(shapes, "encoder.conv_stem.weight") == 32 else _SHALLOW
    name = f"mobilenetv2/x2-{channels[0]}-{channels[1]}"
    module = partial(MobileNetV2Decoder, scale=2, channels=channels, encoder=encoder)
    return fitting(shapes, _variant(name, module, 0), VARIANTS)


ARCHITECTURE = Architecture("mobilenetv2", VARIANTS, recognise=recognise)
