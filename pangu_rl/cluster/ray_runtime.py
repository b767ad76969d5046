"""`cluster:` of the configuration -> **a Ray for actors**, and SIGTERM and Ctrl-C turned into a checkpoint."""

from __future__ import annotations

import logging
import os
import shutil
import signal
import socket
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType

from pangu_rl.cluster import auth
from pangu_rl.cluster.import_order import workers_config
from pangu_rl.config.sections.trainer import ClusterConfig
from pangu_rl.errors import ConfigError, Preempted, RunError, UserError
from pangu_rl.storage.space import BOUND

log = logging.getLogger(__name__)

NAMESPACE = "pangu_rl"
SIGNALS = (signal.SIGTERM, signal.SIGINT)
START_S, POLL_S = 180.0, 0.1
"""For a private Ray to come up, and between two looks at whether it has."""
_SOCKET_LIMIT = 107
_SOCKET_BELOW_ROOT = len("/ray-abcdefgh/r/session_2026-01-01_00-00-00_000000_0000000/sockets/plasma_store")


class Preemption:
    """SIGTERM or Ctrl-C asks for the end of the run: the loop leaves what it may leave, writes a checkpoint and ends.

    A second one ends the process at once.
    """

    def __init__(self) -> None:
        self.requested = False
        self.signal = signal.SIGTERM
        """The one that came."""
        self._leaves = False

    def request(self, signum: int, frame: FrameType | None) -> None:
        self.requested, self.signal = True, signal.Signals(signum)
        log.warning("%s: a checkpoint, then the end; a second one ends the run at once, without it", self.signal.name)
        for number in SIGNALS:
            signal.signal(number, signal.SIG_DFL)
        if self._leaves:
            raise KeyboardInterrupt  # the one exception that Ray lets through where it waits in C++

    def preempted(self, done: str) -> Preempted:
        """To be raised, with what is `done`."""
        return Preempted(f"{self.signal.name}: {done}")

    def raise_if_requested(self, done: str) -> None:
        """Raises `Preempted` with what is `done`."""
        if self.requested:
            raise self.preempted(f"{done}; the same command goes on from there")

    @contextmanager
    def leaving_at_once(self, done: str) -> Iterator[None]:
        """Within it the signal ends whatever the main thread waits for: for a wait inside of a library, which asks
        nobody whether to stop.

        Raises:
            Preempted: with what is `done`; also where the signal came before.
        """
        try:
            self._leaves = True
            if self.requested:
                raise KeyboardInterrupt
            yield
        except KeyboardInterrupt:
            if not self.requested:
                raise
            raise self.preempted(done) from None
        finally:
            self._leaves = False


@contextmanager
def session(cluster: ClusterConfig) -> Iterator[Preemption]:
    """Ray for the length of a run; a run inside another one's session shares its Ray.

    Raises:
        ConfigError: the cluster to join is not there, or is open to everybody (see `auth.require_token`).
        RunError: a private Ray did not start.
    """
    import ray

    before = {number: signal.getsignal(number) for number in SIGNALS}
    outermost = not ray.is_initialized()
    files = start(cluster) if outermost else None
    preemption = Preemption()
    # ray.init installs a handler that exits at once: ours has to come after it.
    for number in SIGNALS:
        signal.signal(number, preemption.request)
    failed = True
    try:
        yield preemption
        failed = False
    except (UserError, Preempted):
        failed = False
        raise
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
        around = before[preemption.signal]
        if outermost:
            stop()
            if files is not None and not failed:  # else its logs may say why
                shutil.rmtree(files, ignore_errors=True)
        elif preemption.requested and callable(around):
            around(preemption.signal, None)  # the session around this one has more to run and must hear of it


def start(cluster: ClusterConfig) -> Path | None:
    """Start a private Ray (`address: local`) or join a running one; the folder of a private one's files."""
    if cluster.address == "local":
        return _start_local(cluster)
    _join(cluster.address)
    return None


def stop() -> None:
    """Leave Ray; a private one ends with its actors."""
    import ray

    ray.shutdown()


def _start_local(cluster: ClusterConfig) -> Path:
    # Ray turns token authentication on for a cluster of its own, and makes a token where there is none.
    import ray

    _keep_gloo_inside()
    # Ray opens its own folder to everybody; nobody else gets into this one.
    files = Path(tempfile.mkdtemp(prefix="ray-", dir=socket_root()))
    # Ray's workers are at 15 otherwise: whatever else runs on the machine would starve the training itself.
    os.environ.setdefault("RAY_worker_niceness", "0")
    try:
        with _node_on_loopback(), _time_to_start():
            ray.init(
                address="local",
                namespace=NAMESPACE,
                include_dashboard=False,
                log_to_driver=False,
                logging_level=logging.WARNING,
                object_store_memory=int(cluster.object_store_gib * 2**30),
                _temp_dir=str(files / "r"),
                job_config=workers_config(),
            )
    except Exception as error:  # Ray raises that very class for a node that takes too long
        raise RunError(f"a local Ray did not start: {_one_line(error)}; its logs lie in {files}") from error
    finally:
        auth.tighten_token()
    return files


@contextmanager
def _node_on_loopback() -> Iterator[None]:
    """Within it a node that Ray starts has the address 127.0.0.1, and all its services listen there alone.

    `ray.init` would put the machine's own address in the place of one that is named. The switch is what keeps Ray on
    loopback by default on other systems; its variable is read when Ray is imported, which has happened.
    """
    from ray._private import ray_constants

    before, ray_constants.ENABLE_RAY_CLUSTER = ray_constants.ENABLE_RAY_CLUSTER, False
    try:
        yield
    finally:
        ray_constants.ENABLE_RAY_CLUSTER = before


@contextmanager
def _time_to_start(seconds: float = START_S) -> Iterator[None]:
    """Within it a node that Ray starts has so long to come up.

    Ray's own 30 s are a constant, and too few on a machine whose cores have other work.
    """
    from ray._private import services

    get_node = services.get_node

    def get_node_in_time(*address: str) -> dict:
        deadline = time.monotonic() + seconds
        while True:
            try:
                return get_node(*address)
            except RuntimeError:  # it has not registered yet
                if time.monotonic() >= deadline:
                    raise
                time.sleep(POLL_S)

    services.get_node = get_node_in_time
    try:
        yield
    finally:
        services.get_node = get_node


def _keep_gloo_inside() -> None:
    """Gloo listens where the machine's name leads to, and asks nobody who they are."""
    loopback = next((name for _, name in socket.if_nameindex() if name in ("lo", "lo0")), None)
    if loopback is not None:
        os.environ.setdefault("GLOO_SOCKET_IFNAME", loopback)


def _join(address: str) -> None:
    auth.require_token(os.environ.get("RAY_ADDRESS", address) if address == "auto" else address)
    import ray
    from ray.exceptions import AuthenticationError

    try:
        if address != "auto":
            # Ray itself goes on trying for minutes.
            host, _, port = address.rpartition(":")
            socket.create_connection((host, int(port)), timeout=10).close()
        ray.init(
            address=address,
            namespace=NAMESPACE,
            log_to_driver=False,
            logging_level=logging.WARNING,
            job_config=workers_config(),
            runtime_env=_environment(),
        )
    except AuthenticationError as error:
        raise ConfigError(
            f"Ray cluster {address} refused the token of {auth.token_path()}: {_one_line(error)}"
        ) from None
    except (OSError, RuntimeError, ValueError) as error:
        raise ConfigError(
            f"no Ray cluster at cluster.address {address}: {_one_line(error)}; start one with `ray start --head`, or "
            "set cluster.address to local"
        ) from None


def _environment() -> dict[str, dict[str, str]] | None:
    """What workers on other nodes cannot inherit."""
    return {"env_vars": {BOUND: os.environ[BOUND]}} if BOUND in os.environ else None


def socket_root() -> Path:
    """Where each private Ray gets a folder, short enough for the 107 bytes that a socket's path may have."""
    root = Path(os.environ.get("RAY_TMPDIR") or tempfile.gettempdir())
    if len(os.fsencode(root)) + _SOCKET_BELOW_ROOT > _SOCKET_LIMIT:
        log.info("%s is too long for Ray's sockets; using /tmp", root)
        root = Path("/tmp")
    root.mkdir(parents=True, exist_ok=True)
    return root


def _one_line(error: BaseException) -> str:
    text = " ".join(str(error).split())
    return text if len(text) <= 300 else text[:300] + " ..."
