"""torchvision beside a torch built for the processor alone: its compiled operators do not load, and no network here
needs them. That two of them are declared is enough for the packages that import it. Refuses to do more.
"""

import torch


def declared() -> torch.library.Library | None:
    """Declares them where torchvision cannot be imported; lasts as long as what it returns."""
    try:
        import torchvision  # noqa: F401  # pyright: ignore[reportMissingImports]
    except RuntimeError:
        library = torch.library.Library("torchvision", "DEF")
        for operator in ("nms", "qnms"):
            library.define(f"{operator}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
        return library
    return None
