"""The command line: `pangu-rl STAGE --config FILE key=value ...` and the commands around a run.

Exit codes: 0 done, 1 the run failed, 2 something the user can mend, 143 preempted after a checkpoint (resume goes on).
Each module here registers its commands with `app`, and imports what they need when they run, so that `--help` is quick.
"""

from __future__ import annotations

import os
import sys
import traceback
from typing import Annotated

import typer

# In the order in which `--help` shows their commands.
# isort: off
from pangu_rl.cli import init, configs, doctor, stages, chat, recipe, export, report, view, precision  # noqa: F401
from pangu_rl.cli import data, curation, inspect, plugins, plan, jobs  # noqa: F401

# isort: on
from pangu_rl.cli.app import app
from pangu_rl.cli.program import DEBUG, UsageError, complain, debugging, program_version
from pangu_rl.cluster import auth
from pangu_rl.config.secrets import require_secrets
from pangu_rl.errors import Preempted, RunError, UserError


def _tell_version(asked: bool) -> None:
    if asked:
        typer.echo(program_version())
        raise typer.Exit


@app.callback()
def program(
    version: Annotated[bool, typer.Option("--version", callback=_tell_version, is_eager=True, help="Tell it.")] = False,
    debug: Annotated[
        bool, typer.Option(DEBUG, help="Show the whole traceback of an error; also behind a command.")
    ] = False,
) -> None:
    """Post-training of multimodal language models: SFT, DPO, GRPO and the recipe around them, on CPU, GPU and NPU.

    First: `pangu-rl init grpo`, then `pangu-rl grpo --config grpo.yaml`. `pangu-rl COMMAND --help` says more of each.
    """


def main() -> None:
    """Run the program; every expected failure is one line on stderr and an exit code, with `--debug` a traceback."""
    # Ray reads its authentication mode when it is imported, which every stage does before it knows its cluster.
    auth.use_token_if_present()
    try:
        require_secrets(os.environ)
        sys.exit(app(prog_name="pangu-rl", standalone_mode=False))
    except UsageError as error:
        complain(error)
        sys.exit(error.exit_code)
    except typer.Abort:
        typer.echo("aborted", err=True)
        sys.exit(1)
    except (UserError, RunError) as error:
        if debugging():
            traceback.print_exc()
        typer.echo(f"error: {error}", err=True)
        sys.exit(error.exit_code)
    except Preempted as preemption:
        typer.echo(f"preempted: {preemption}", err=True)
        sys.exit(preemption.exit_code)


os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
