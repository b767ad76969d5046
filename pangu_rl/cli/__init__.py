"""The command line: `pangu-rl STAGE --config FILE key=value ...` and the commands around a run.

Exit codes: 0 done, 1 the run failed, 2 something the user can mend, 143 preempted after a checkpoint (resume goes on).
Each module here registers its commands with `app`.
"""

from __future__ import annotations

import os
import sys

import typer

# In the order in which `--help` shows their commands.
# isort: off
from pangu_rl.cli import stages, recipe, curation, data, inspect, jobs, plan, precision, export, report  # noqa: F401
from pangu_rl.cli import view, plugins, doctor, configs  # noqa: F401

# isort: on
from pangu_rl.cli.app import app
from pangu_rl.cluster import auth
from pangu_rl.cluster import jobs as jobs_on_cluster
from pangu_rl.errors import Preempted, RunError, UserError


def main() -> None:
    """Run the program; every expected failure is one line on stderr and an exit code, never a traceback."""
    # Ray reads its authentication mode when it is imported, which every stage does before it knows its cluster.
    auth.use_token_if_present()
    try:
        jobs_on_cluster.require_secrets(os.environ)
        app()
    except (UserError, RunError) as error:
        typer.echo(f"error: {error}", err=True)
        sys.exit(error.exit_code)
    except Preempted as preemption:
        typer.echo(f"preempted: {preemption}", err=True)
        sys.exit(preemption.exit_code)


os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
