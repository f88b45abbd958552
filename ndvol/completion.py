"""The command `ndvol completion`."""

from __future__ import annotations

import click
from click.shell_completion import get_completion_class

_INSTALL = {
    "bash": 'add to ~/.bashrc: eval "$(ndvol completion bash)"',
    "zsh": 'add to ~/.zshrc, after compinit: eval "$(ndvol completion zsh)"',
    "fish": "ndvol completion fish > ~/.config/fish/completions/ndvol.fish",
}


@click.command()
@click.argument("shell", type=click.Choice(list(_INSTALL)))
@click.pass_context
def completion(ctx: click.Context, shell: str) -> None:
    """Print the script by which SHELL completes commands, options and their values on TAB."""
    kind = get_completion_class(shell)
    assert kind is not None  # click knows the three
    script = kind(ctx.find_root().command, {}, "ndvol", "_NDVOL_COMPLETE").source()
    click.echo(f"# To install: {_INSTALL[shell]}\n{script}")
