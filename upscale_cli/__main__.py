"""The process: `upscale`, and `python -m upscale_cli`, which is the same."""

import atexit
import gc
import os
import sys

# Little that is imported is ever garbage, and looking through it every 700 objects takes a tenth of the start.
gc.set_threshold(20_000)

from upscale_cli.cli.app import main  # noqa: E402


def program() -> None:
    """The console script: `main`, and an end at once.

    Taking apart, module by module, what goes with the process takes a tenth of a second. Whatever asked to be called at
    the end is called before, and threads have been waited for.
    """
    code = 1

    def end() -> None:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)

    atexit.register(end)  # the first to ask is the last to be called
    try:
        main()
    except SystemExit as asked:
        code = asked.code if isinstance(asked.code, int) else int(asked.code is not None)
        raise
    except KeyboardInterrupt:
        code = 130
        raise


if __name__ == "__main__":
    program()
