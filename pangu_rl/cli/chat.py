"""`pangu-rl chat`: talk with a model, from a terminal or by a pipe."""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from pangu_rl.cli.app import app
from pangu_rl.cli.program import LOOK
from pangu_rl.errors import DataError, UserError

if TYPE_CHECKING:
    from pangu_rl.loops.chat import Chat

HELP = "/picture FILE shows one with the next message, /clear begins anew, /quit or Ctrl-D ends"


@app.command(rich_help_panel=LOOK)
def chat(
    run: Annotated[str, typer.Argument(help="Run directory, checkpoint, model folder, or hub id.")],
    picture: Annotated[list[Path] | None, typer.Option(help="Show it with the first message; may be repeated.")] = None,
    system: Annotated[str | None, typer.Option(help="System message; by default the chat template's own.")] = None,
    temperature: Annotated[float, typer.Option(min=0.0, help="0 takes the likeliest token each time.")] = 0.0,
    max_new_tokens: Annotated[int, typer.Option(min=1, help="Length of an answer at most.")] = 512,
) -> None:
    """Talk with a model, also about pictures.

    On the engine that draws rollouts. What comes by a pipe is one message, and the answer alone goes to standard
    output: `echo 'What is 2 + 3?' | pangu-rl chat runs/grpo`.
    """
    from pangu_rl.checkpoint.model_folder import model_config
    from pangu_rl.checkpoint.run_model import named_model

    folder = named_model(run, "chat")
    model_config(folder, "chat")  # before the engine's seconds
    given = tuple(picture or ())
    if missing := [path for path in given if not path.is_file()]:
        raise DataError(f"{missing[0]}: no such picture")
    from pangu_rl.accelerators import get_accelerator
    from pangu_rl.loops.chat import open_chat
    from pangu_rl.records import SamplingParams

    sampling = SamplingParams(temperature=temperature, max_new_tokens=max_new_tokens)
    typer.echo(f"{folder}: starting the engine", err=True)
    talk = open_chat(folder, get_accelerator(), sampling, system=system)
    if not sys.stdin.isatty():
        typer.echo(printable(talk.ask(sys.stdin.read().strip(), given).text))
    else:
        typer.echo(HELP, err=True)
        for answer in answers(talk, _typed(), given):
            typer.echo(answer)
    sys.stdout.flush()
    os._exit(0)  # the engine's threads would keep the process for seconds


def _typed() -> Iterator[str]:
    """Lines of a person, with the keys of a shell's line, until Ctrl-D."""
    import readline  # noqa: F401  # gives `input` these keys

    while True:
        try:
            yield input("> ")
        except EOFError:
            return


def answers(talk: Chat, lines: Iterator[str], pictures: tuple[Path, ...] = ()) -> Iterator[str]:
    """What is said to each line; what is wrong with one is said, and the conversation goes on."""
    for line in lines:
        match line.strip().split(maxsplit=1) if line.startswith("/") else []:
            case ["/quit"]:
                return
            case ["/clear"]:
                talk.clear()
            case ["/picture", file]:
                pictures = (*pictures, _typed_file(file))
            case [command, *_]:
                yield f"{command} is no command: {HELP}"
            case _ if line.strip():
                try:
                    yield printable(talk.ask(line.strip(), pictures).text)
                except UserError as error:
                    yield f"error: {error}"
                pictures = ()


def _typed_file(text: str) -> Path:
    """The rest of a line as it is, or without quotes around it, or without the backslashes of a terminal into which a
    file is dropped: whichever is there."""
    unquoted = re.sub(r"""^(['"])(.*)\1$""", r"\2", text)
    names = (text, unquoted, re.sub(r"\\(.)", r"\1", text))
    return Path(next(filter(os.path.isfile, names), unquoted))


def printable(text: str) -> str:
    """Without control characters: a model that writes escape sequences must not steer the terminal."""
    return "".join(c if c.isprintable() or c in "\n\t" else "�" for c in text).strip()
