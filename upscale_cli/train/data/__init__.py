"""What a training learns from: where the pictures are, what is made of them, and the patches of every step."""

from upscale_cli.train.data.patches import Batch, PatchSampler, Sampler
from upscale_cli.train.data.sources import HELD_BACK, TrainingData, load_data

__all__ = ["HELD_BACK", "Batch", "PatchSampler", "Sampler", "TrainingData", "load_data"]
