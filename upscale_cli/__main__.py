"""`python -m upscale_cli` is `upscale`."""

from upscale_cli.cli.app import main

main()
