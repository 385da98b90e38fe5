"""A group of commands in which the name of one may be left out."""

from typing import Any

from typer.core import TyperGroup


class DefaultGroup(TyperGroup):
    """What is neither a command nor an option of the group itself goes to the command `run`."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        own = {option for param in self.params for option in (*param.opts, *param.secondary_opts)}
        if args and args[0] not in self.commands and args[0] not in own | set(ctx.help_option_names):
            args = ["run", *args]
        return super().parse_args(ctx, args)
