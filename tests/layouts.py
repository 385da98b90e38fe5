"""Our state dicts under the keys of others: what the tests of reading and of importing weights share."""

import re
from collections.abc import Mapping

from torch import Tensor


def first_esrgan_layout(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """That of RRDBNet x4 as the first ESRGAN named its layers, by numbers."""
    blocks = len({key.split(".")[1] for key in state if key.startswith("body.")})
    layers = {
        "conv_first": "model.0",
        "conv_body": f"model.1.sub.{blocks}",
        "conv_up1": "model.3",
        "conv_up2": "model.6",
        "conv_hr": "model.8",
        "conv_last": "model.10",
    }
    renamed = {}
    for key, value in state.items():
        layer, _, kind = key.rpartition(".")
        body = re.sub(r"^body\.(\d+)\.rdb(\d)\.conv(\d)$", r"model.1.sub.\1.RDB\2.conv\3.0", layer)
        renamed[f"{layers.get(layer, body)}.{kind}"] = value
    return renamed
