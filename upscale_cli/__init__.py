"""`upscale`: make photographs larger, and better, in batches."""

__version__ = "0.1.0"
