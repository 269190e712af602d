"""What belongs to the shell: completion and version."""

from __future__ import annotations

import click
import msgspec
from click.shell_completion import get_completion_class

from app import __version__
from app.cli import tradectl

SHELLS = {
    "bash": "tradectl completion bash > ~/.local/share/bash-completion/completions/tradectl",
    "zsh": "tradectl completion zsh > ~/.zfunc/_tradectl",
    "fish": "tradectl completion fish > ~/.config/fish/completions/tradectl.fish",
}
VARIABLE = "_TRADECTL_COMPLETE"  # the name that click looks for


@click.command(epilog="\b\n" + "\n".join(SHELLS.values()))
@click.argument("shell", type=click.Choice(list(SHELLS)))
def completion(shell: str) -> None:
    """Print the completion script of SHELL."""
    writer = get_completion_class(shell)
    if writer is None:
        raise click.UsageError(f"there is no completion for {shell}")
    click.echo(writer(tradectl, {}, "tradectl", VARIABLE).source())


@click.command()
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def version(as_json: bool) -> None:
    """Print the version of this release."""
    click.echo(msgspec.json.encode({"version": __version__}).decode() if as_json else f"tradectl {__version__}")
