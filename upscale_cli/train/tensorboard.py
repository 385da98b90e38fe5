"""The rows of a training's history as TensorBoard reads them, with the extra `tensorboard`."""

from collections.abc import Callable
from pathlib import Path

from upscale_cli.errors import UsageError
from upscale_cli.train.history import Progress


def open_board(folder: Path, step: int) -> Callable[[Progress], None]:
    """What writes rows into `folder`, replacing those after `step`. UsageError where the extra is not installed."""
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError as error:
        raise UsageError(f'--tensorboard needs an extra: pip install "upscale-cli[tensorboard]" ({error}).') from error
    board = SummaryWriter(str(folder), purge_step=step + 1)

    def write(progress: Progress) -> None:
        values = progress.row(()) | dict(progress.scores or {})
        for name, value in values.items():
            if name != "step":
                board.add_scalar(name, float(value), progress.step)
        board.flush()

    return write
