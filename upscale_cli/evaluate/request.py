"""What to score on what: the settings of one evaluation. Opens nothing."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from upscale_cli.errors import UsageError
from upscale_cli.evaluate.retouch import retouch_protocol
from upscale_cli.networks import Combination


@dataclass(frozen=True, slots=True, kw_only=True)
class EvalRequest:
    """UsageError for what cannot mean anything together."""

    models: tuple[str | Path | Combination, ...] = ()
    made: tuple[Path, ...] = ()
    """Films that were made already, of those in `lr`, or folders of such: a row each, behind those of the models."""
    data: Path | None = None
    """Folder of HR images or films, or one of them; None for films without an original."""
    scale: int | None = None
    """Native scale; without it, that of the first model that can be opened, or of the films made."""
    lr: Path | None = None
    """Folder of LR images or films, paired with HR by name, or one; without it they are made by imresize."""
    protocol: str = ""
    """One of `retouch.PROTOCOLS`, for photographs before and after retouching; empty for all else."""
    expert: str = "C"
    """Whose retouch, where pairs are told by their names."""
    metrics: tuple[str, ...] = ()
    """Without any, those usual for what is scored; see `catalog.usual`."""
    crop_border: int | None = None
    """Pixels; the scale unless given."""
    device: str = "auto"
    precision: str = "fp32"
    """fp32 by default: a score must not depend on the machine it was taken on."""
    backend: str = "torch"
    """What runs the network; see `open_engine`."""
    tile_px: int = 0
    offline: bool = False
    encoders: Mapping[str, Path] = field(default_factory=dict)
    """Weights of metrics; see `Needs`."""

    def __post_init__(self) -> None:
        if self.protocol:
            retouch_protocol(self.protocol)
            if self.data is None or self.made or not self.models:
                raise UsageError("A --protocol of retouching scores models on the pairs that --data names.")
        if self.data is None and self.lr is None:
            raise UsageError("Give --data what to score on: originals; or --lr films without an original.")
        if self.made and self.lr is None:
            raise UsageError(f"Say what {self.made[0].name} was made of: --lr FILM.")
        if not self.models and not self.made:
            raise UsageError("Nothing is to be scored. Name a model or a film.")
