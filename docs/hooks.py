"""What the pages do not hold themselves: shared files of ``docs/``, and the commands as click knows them."""

from collections.abc import Iterator
from pathlib import Path

import click
from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

from ndvol.cli import main

SHARED = ("sheet.png", "examples/lightning_datamodule.py")
"""Files that pages show or link to, and the README too."""
PLACE = "<!-- commands -->"
_HERE = Path(__file__).parent


def on_files(files: Files, config: MkDocsConfig) -> Files:
    for name in SHARED:
        files.append(File.generated(config, name, abs_src_path=str(_HERE / name)))
    return files


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    return markdown.replace(PLACE, commands_markdown()) if PLACE in markdown else markdown


def commands_markdown() -> str:
    """A section for each command: usage, what it does, arguments and options."""
    context = click.Context(main, info_name="ndvol")
    names = main.list_commands(context)
    return "\n\n".join(part for name in names for part in _section(main.get_command(context, name), context, name))


def _section(command: click.Command, parent: click.Context, name: str) -> Iterator[str]:
    context = click.Context(command, info_name=name, parent=parent)
    yield f"## ndvol {name} {{#{name}}}"
    yield command.help or ""
    yield f"```text\n{' '.join([context.command_path, *command.collect_usage_pieces(context)])}\n```"
    options = [p for p in command.get_params(context) if isinstance(p, click.Option) and "--help" not in p.opts]
    yield "| option | meaning |\n|---|---|\n" + "\n".join(_row(option, context) for option in options)


def _row(option: click.Option, context: click.Context) -> str:
    names = ", ".join(f"`{name}`" for name in option.opts)
    # Choices come as [a|b]; a row of a table breaks at blanks.
    value = "" if option.is_flag else f" `{option.make_metavar(context).strip('[]').replace('|', ' | ')}`"
    default = option.get_default(context)
    # The number of cores differs from machine to machine.
    stated = "the number of cores" if option.name == "jobs" else f"`{default}`"
    said = option.help or ""
    if option.show_default or option.name == "jobs":
        said += f" Default: {stated}."
    return f"| {names}{value} | {said.strip()} |"
