"""What can go wrong, as a person reads it. Every error names the thing, the reason and the way out."""


class UpscaleError(Exception):
    """A failure with one message for the user; the command line prints it without a traceback."""

    exit_code = 1


class UsageError(UpscaleError):
    """The command or a setting cannot mean anything: nothing was started (exit code 2)."""

    exit_code = 2


class InputError(UpscaleError):
    """One input cannot be read: the batch reports it and goes on."""


class OutputError(UpscaleError):
    """One output cannot be written: nothing is left under its final name."""


class WeightsError(UpscaleError):
    """Weights are missing, corrupt, or do not fit the network they were named for."""


class UnknownNetworkError(WeightsError):
    """Sound weights of a network that is not in the zoo; another library may know it."""


class InferenceError(UpscaleError):
    """A network ran and gave no usable picture (NaN, a black tile, no memory even for the smallest tile)."""


class OutOfMemoryError(InferenceError):
    """The device has no memory for tiles of this size; smaller ones may do."""


class TrainingError(UpscaleError):
    """A training cannot go on; what it saved before is whole."""


class DeviceLostError(InferenceError):
    """The device takes no more work from this process: every other picture would fail there too."""


class NonFiniteOutputError(InferenceError):
    """The network gave NaN or infinity; a wider number format may not."""
