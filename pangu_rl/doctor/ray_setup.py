"""Ray: installed, its token a secret, its cluster there and not open to everybody."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator
from importlib import metadata

from pydantic import BaseModel

from pangu_rl.cluster import auth
from pangu_rl.cluster.ray_runtime import socket_root
from pangu_rl.errors import ConfigError
from pangu_rl.monitoring.findings import Finding


def check_ray(config: BaseModel | None) -> Iterator[Finding]:
    try:
        version = metadata.version("ray")
    except metadata.PackageNotFoundError:
        yield Finding(check="ray", status="fail", detail="not installed", mend="make setup")
        return
    yield Finding(
        check="ray", status="ok", detail=f"{version}; a private one keeps its files in a folder of {socket_root()}"
    )
    yield from _token()
    cluster = getattr(config, "cluster", None)
    address = cluster.address if cluster is not None else "local"
    if address == "auto":
        address = os.environ.get("RAY_ADDRESS", "auto")
    if address not in ("local", "auto"):
        yield from _cluster(address)


def _token() -> Iterator[Finding]:
    path = auth.token_path()
    mode = os.environ.get("RAY_AUTH_MODE", "")
    if os.environ.get("RAY_AUTH_TOKEN"):
        mend = f"put it into {path} with mode 0600: the environment of a process is easier to read than a file"
        yield Finding(check="ray token", status="warn", detail="in the environment (RAY_AUTH_TOKEN)", mend=mend)
    elif not path.is_file():
        detail = f"none in {path}: a private Ray makes one, a cluster needs one"
        mend = "ray get-auth-token --generate on the head, and the same file here"
        yield Finding(check="ray token", status="ok" if not mode else "warn", detail=detail, mend=mend if mode else "")
    elif path.stat().st_mode & 0o077:
        detail = f"{path} has mode {path.stat().st_mode & 0o777:04o}: others on this machine can read it"
        yield Finding(check="ray token", status="fail", detail=detail, mend=f"chmod 600 {path}")
    else:
        yield Finding(check="ray token", status="ok", detail=f"{path}, mode 0600")
    if mode.lower() == "disabled":
        mend = "unset RAY_AUTH_MODE where others can reach this machine"
        detail = "RAY_AUTH_MODE=disabled: whoever reaches a cluster of yours runs code on it"
        yield Finding(check="ray token", status="warn", detail=detail, mend=mend)


def _cluster(address: str) -> Iterator[Finding]:
    host, _, port = address.rpartition(":")
    try:
        auth.require_token(address)
        socket.create_connection((host, int(port)), timeout=5).close()
    except ConfigError as error:
        problem, _, mend = str(error).partition("; ")
        yield Finding(check="cluster", status="fail", detail=problem, mend=mend)
    except (OSError, ValueError) as error:
        mend = "start it with `ray start --head`, or set cluster.address to local"
        yield Finding(check="cluster", status="fail", detail=f"{address} does not answer: {error}", mend=mend)
    else:
        yield Finding(check="cluster", status="ok", detail=f"{address} answers")
