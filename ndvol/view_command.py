"""The command `ndvol view`."""

from __future__ import annotations

import json
import webbrowser
from pathlib import Path

import click

from ndvol.commands import bundle_argument


@click.command()
@bundle_argument
@click.option("--case", help="The case to show first.")
@click.option("--port", type=click.IntRange(0, 65535), default=0, help="Port to listen on; a free one by default.")
@click.option("--no-browser", is_flag=True, help="Only print the address of the page.")
@click.option("--json", "as_json", is_flag=True, help="Print the address as JSON.")
def view(bundle: Path, case: str | None, port: int, no_browser: bool, as_json: bool) -> None:
    """Show the cases of a BUNDLE in the browser: planes, labels, objects and drawn windows.

    The page is served to this machine alone, under an address that cannot be guessed, until Ctrl-C.
    """
    from ndvol.opening import open_catalog
    from ndvol.viewer import ViewServer

    with ViewServer(open_catalog(bundle), case, port) as server:
        click.echo(json.dumps({"url": server.url}) if as_json else server.url)
        if not as_json:
            click.echo("Ctrl-C ends the viewer", err=True)
        if not no_browser:
            webbrowser.open(server.url)
        server.serve_forever()
