"""The working directory out of the way of imports -> **no file of a user's hides a package of ours**.

`python -m` and Ray's workers look there first: a user's own `rewards.py` beside the configuration would be our
`rewards`. Files that a configuration names are found by their path.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pangu_rl

if TYPE_CHECKING:
    from ray.job_config import JobConfig

ROOT = Path(pangu_rl.__file__).resolve().parents[1]
"""The folder that our packages lie in."""
PACKAGES = ("pangu_rl", "rollout", "rewards", "pretrain", "data_curation")
JOB = "RAY_JOB_CONFIG_JSON_ENV_VAR"
"""In the environment of a process that is a job: Ray has its configuration already."""


def reorder_imports() -> None:
    """The working directory last in this process; in a checkout, which it is itself, nothing has to be moved."""
    here = os.getcwd()
    if Path(here).resolve() != ROOT:
        sys.path[:] = [*(path for path in sys.path if path not in ("", here)), here]


def workers_config() -> JobConfig | None:
    """What `ray.init` is told so that workers look for modules where they are installed.

    Ray leaves the working directory out for clients alone, and this is all that it does otherwise for one.
    """
    from ray.job_config import JobConfig

    return None if JOB in os.environ or Path.cwd().resolve() == ROOT else JobConfig(_client_job=True)


def hiding(folder: Path) -> list[str]:
    """Files and folders of `folder` that would be imported in the place of our packages; none in a checkout."""
    if folder.resolve() == ROOT or (folder / "pangu_rl").is_dir():
        return []
    names = (candidate for package in PACKAGES for candidate in (f"{package}.py", f"{package}/__init__.py"))
    return [name for name in names if (folder / name).exists()]
