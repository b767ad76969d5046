"""A stage's command line -> **a job on a Ray cluster**, and the questions one asks about it afterwards."""

from __future__ import annotations

import asyncio
import glob
import shlex
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pangu_rl.accelerators.base import ENGINE, LEARNER
from pangu_rl.cluster import auth
from pangu_rl.cluster.import_order import hiding
from pangu_rl.cluster.left_behind import left_behind
from pangu_rl.cluster.stage_file import StageFile
from pangu_rl.config.cluster_profile import ClusterProfile
from pangu_rl.config.load import load_config
from pangu_rl.config.names.shipped import shipped, shipped_names
from pangu_rl.config.secrets import SECRETS
from pangu_rl.errors import ConfigError

if TYPE_CHECKING:
    from ray.job_submission import JobSubmissionClient

EXCLUDES = [".git", ".venv", "runs", "build", "*.egg-info", "__pycache__", ".pytest_cache", ".ruff_cache"]
"""What does not travel with the working directory."""

GRACE_S = ClusterProfile.model_fields["grace_s"].default
"""Seconds between `stop`'s SIGTERM and Ray's SIGKILL: time to finish a step and write its checkpoint. Ray's is 3."""

AGENT_TRIES = 6
DEFAULT_PYTHON = ClusterProfile.model_fields["python"].default

PROFILES = Path("configs/clusters")
"""Of the working directory, which travels with the job, or else of the shipped ones."""


def submit(
    stage: str,
    config: StageFile,
    *,
    address: str | None = None,
    working_dir: Path | None = None,
    profile: ClusterProfile | None = None,
    files: Sequence[str] = (),
) -> str:
    """Send `working_dir` (the current one by default) and run the stage there; returns the job's identifier. `files`
    are what the stage reads of it, beside its configuration.

    The job joins the cluster that runs it and keeps its run directory outside of the copied working directory, at the
    path it would have here. Keys of services come from the cluster's own environment: nothing of this one travels.

    Raises:
        ConfigError: the cluster is not there or refuses us, the configuration lies outside the working directory, or it
            or one of the files would not travel, or a file that does would hide a package of ours.
    """
    folder = (working_dir or Path.cwd()).resolve()
    file, run_dir = config.path.resolve(), _below(folder, config.run_dir)
    if not file.is_relative_to(folder):
        raise ConfigError(f"{config.path} lies outside the working directory {folder}, which is all that the job gets")
    patterns = [*EXCLUDES, *run_dir, *(profile.excludes if profile else ())]
    needed = [str(file.relative_to(folder)), *files]
    if stays := left_behind(folder, needed, patterns):
        raise ConfigError(
            f"{', '.join(stays)}: the job needs it and does not get it, since .gitignore or an exclude leaves it "
            "behind: move it, or give its path on the cluster"
        )
    if hidden := [name for name in hiding(folder) if not left_behind(folder, [name], patterns)]:
        raise ConfigError(
            f"{folder / hidden[0]}: in the job it would be imported in the place of our package of that name: rename "
            "it, or leave it behind by the profile's excludes"
        )
    address = address or (profile.address if profile else None)
    client = connect(address)
    local = sys.executable if auth.is_loopback(client.get_address()) else "python"
    python = profile.python if profile and profile.python != DEFAULT_PYTHON else local
    command = [python, "-m", "pangu_rl", stage, "--config", str(file.relative_to(folder))]
    with _explained(client.get_address()):
        return _sent(
            client,
            entrypoint=shlex.join([*command, *config.job_overrides(profile)]),
            runtime_env={"working_dir": str(folder), **runtime_env(profile, run_dir)},
        )


def _sent(client: JobSubmissionClient, **job: Any) -> str:
    """Right after `ray start` the dashboard answers before the agent that takes jobs does; it waits 10 s for one."""
    for _ in range(AGENT_TRIES - 1):
        try:
            return client.submit_job(**job)
        except RuntimeError as error:
            if "No available agent" not in str(error):
                raise
    return client.submit_job(**job)


def _below(folder: Path, run: Path | None) -> list[str]:
    """The run directory as a pattern of what stays here: a resumed run's checkpoints are more than Ray takes."""
    if run is None or folder not in run.parents:
        return []
    return [f"/{glob.escape(str(run.relative_to(folder)))}"]


def runtime_env(profile: ClusterProfile | None, excludes: Sequence[str] = ()) -> dict[str, Any]:
    """What travels with the working directory: what of it stays here, and the job's variables. No secret is in it."""
    if profile is None:
        return {"excludes": [*EXCLUDES, *excludes], "env_vars": {"RAY_JOB_STOP_WAIT_TIME_S": str(GRACE_S)}}
    variables = {**job_variables(profile), "RAY_JOB_STOP_WAIT_TIME_S": str(profile.grace_s)}
    if profile.secrets:
        variables[SECRETS] = ",".join(profile.secrets)
    return {"excludes": [*EXCLUDES, *excludes, *profile.excludes], "env_vars": variables}


def job_variables(profile: ClusterProfile) -> dict[str, str]:
    """The profile's variables as the job's driver has them."""
    roles = ((LEARNER, profile.learner_env), (ENGINE, profile.engine_env))
    return profile.env | {f"{role}{name}": value for role, own in roles for name, value in own.items()}


def load_profile(name: str) -> ClusterProfile:
    """A file, or the name of one in `configs/clusters/`.

    Raises:
        ConfigError: no such profile, or a bad one.
    """
    path = Path(name)
    if path.suffix != ".yaml":
        path = shipped(PROFILES / f"{name}.yaml")
        if not path.is_file():
            known = ", ".join(sorted({one.stem for one in PROFILES.glob("*.yaml")} | set(shipped_names("clusters"))))
            raise ConfigError(f"no cluster profile {name!r}: {PROFILES}/ has {known}; or name a .yaml file")
    return load_config(ClusterProfile, path)


def status(job: str, *, address: str | None = None) -> str:
    """PENDING, RUNNING, STOPPED, SUCCEEDED or FAILED."""
    client = connect(address)
    with _explained(client.get_address(), job):
        return client.get_job_status(job).value


def logs(job: str, *, address: str | None = None, follow: bool = False) -> Iterator[str]:
    """Output of the job, in pieces that end where a line does or where the output does; `follow` waits for more."""
    client = connect(address)
    with _explained(client.get_address(), job):
        if not follow:
            yield client.get_job_logs(job)
            return
        with asyncio.Runner() as runner:
            pieces = client.tail_job_logs(job)
            while (piece := runner.run(anext(pieces, None))) is not None:
                yield piece


def stop(job: str, *, address: str | None = None) -> str:
    """Send SIGTERM to the job, which checkpoints and leaves; returns a sentence for the terminal."""
    client = connect(address)
    with _explained(client.get_address(), job):
        before = client.get_job_status(job)
        if not client.stop_job(job):
            return f"{job} does not run: {client.get_job_status(job).value}"
    if before.value == "PENDING":
        return f"{job} was asked to stop before it had begun: this job writes no checkpoint"
    return f"{job} was asked to stop; it writes a checkpoint first"


def list_jobs(*, address: str | None = None) -> list[dict[str, Any]]:
    """`job`, `status`, `start_time` (milliseconds since 1970) and `entrypoint` of every submitted job, newest first."""
    client = connect(address)
    with _explained(client.get_address()):
        jobs = [job for job in client.list_jobs() if job.submission_id]
    rows = [
        {"job": j.submission_id, "status": j.status.value, "start_time": j.start_time, "entrypoint": j.entrypoint}
        for j in jobs
    ]
    return sorted(rows, key=lambda row: row["start_time"] or 0, reverse=True)


def connect(address: str | None) -> JobSubmissionClient:
    """A client of the cluster at `address` (its dashboard), by default of the one that runs on this machine.

    Raises:
        ConfigError: nothing answers there, it refuses the token, or it is open to everybody.
    """
    if address is None:
        auth.use_token_if_present()
    else:
        auth.require_token(address)
    from ray.job_submission import JobSubmissionClient

    with _explained(address or "this machine"):
        return JobSubmissionClient(address)


@contextmanager
def _explained(address: str, job: str | None = None) -> Iterator[None]:
    from ray.exceptions import AuthenticationError

    try:
        yield
    except AuthenticationError:
        raise ConfigError(
            f"Ray at {address} refused us: put its token into {auth.token_path()} and export RAY_AUTH_MODE=token"
        ) from None
    except (OSError, RuntimeError, ValueError) as error:
        text = " ".join(str(error).split()).rstrip(".")
        if job is not None and "404" in text:
            raise ConfigError(f"Ray at {address} knows no job {job}: `pangu-rl list` shows its jobs") from None
        if "status code 413" in text:
            raise ConfigError(
                f"Ray at {address} takes at most 100 MiB of working directory: put large files elsewhere, or name them "
                "under `excludes` of a cluster profile"
            ) from None
        raise ConfigError(f"Ray at {address}: {text[:300]}; is it up? (`ray start --head`, or --address)") from None
