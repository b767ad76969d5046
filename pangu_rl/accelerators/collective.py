"""Where processes meet, and a group of its own for weights: learner rank 0 sends, every rollout actor receives.

The group is built from a store at host:port and from the backend's class directly, so that it stands beside whatever
default group the process has (DeepSpeed's, vLLM's) and touches none of torch.distributed's global state.
"""

from __future__ import annotations

import contextlib
import os
import socket
from collections.abc import Iterator
from datetime import timedelta
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor

SENDER = 0
"""Rank of the learner in the group."""
JOIN_S = 60.0
"""Seconds in which all must have come to a group: they are called at the same time, and each was idle."""
TIMEOUT_S = 300.0
"""Longest that one collective may take. What is in it is a piece of a buffer, so more is no slowness: a rank hangs."""
BLOCKING_WAIT = ("TORCH_NCCL_BLOCKING_WAIT", "HCCL_BLOCKING_WAIT", "TORCH_HCCL_BLOCKING_WAIT")
"""Read where a group is made. Its `wait()` then raises what went wrong, the timeout with it; without, it only orders
streams, and torch's watchdog of the group takes the whole process down when a member is lost."""
PIECE_BYTES = 256 << 20
"""A buffer is sent in pieces of so many bytes: few enough calls, and bounded staging memory."""


def build_group(
    backend: str, host: str, port: int, rank: int, world_size: int, timeout_s: float = TIMEOUT_S, join_s: float = JOIN_S
) -> dist.ProcessGroup:
    """Join the group at `host:port`; returns when all `world_size` ranks have joined. Rank 0 serves the store.

    `backend` is the accelerator's `dist_backend`; `timeout_s` bounds each collective.

    Raises:
        TimeoutError: not all came within `join_s`; names the ranks that did not.
        torch.distributed.DistError: the store is not there, or a rank left at once.
    """
    timeout, join = timedelta(seconds=timeout_s), timedelta(seconds=join_s)
    if rank == SENDER:
        server = serve_store(host, port, join_s)
    else:
        server = dist.TCPStore(host, port, world_size, timeout=join, wait_for_workers=False)
    store = dist.PrefixStore("pangu_rl", server)
    _meet(store, rank, world_size, join_s)
    server.set_timeout(timeout)
    with _blocking_wait():
        return _create(backend, f"pangu_rl {port}", store, rank, world_size, timeout)


def serve_store(host: str, port: int = 0, timeout_s: float = TIMEOUT_S) -> dist.TCPStore:
    """A store at `host` and no other address, at a free port where none is named; it lives as long as it is held.

    Left to itself torch listens on every interface, and a store asks nobody who they are.
    """
    listener = socket.create_server((host, port), family=socket.AF_INET6 if ":" in host else socket.AF_INET)
    return dist.TCPStore(
        host,
        listener.getsockname()[1],
        is_master=True,
        timeout=timedelta(seconds=timeout_s),
        wait_for_workers=False,
        master_listen_fd=listener.detach(),
    )


def meeting_at(host: str, port: int) -> dict[str, str]:
    """The environment in which torch's `env://` joins the store that is served there, on rank 0 too."""
    return {"MASTER_ADDR": host, "MASTER_PORT": str(port), "TORCHELASTIC_USE_AGENT_STORE": "True"}


def broadcast_buffer(group: dist.ProcessGroup, buffer: Tensor) -> None:
    """Make the sender's uint8 `buffer` [bytes] everyone's, in place; collective and blocking.

    Raises:
        RuntimeError: a member was lost, or took longer than the group's timeout. The group cannot be used again.
    """
    for piece in buffer.split(PIECE_BYTES):
        options = dist.BroadcastOptions()
        options.rootRank, options.rootTensor = SENDER, 0
        group.broadcast([piece], options).wait()
    if buffer.device.type != "cpu":
        # wait() of a device's backend may leave the rest to its streams; the bytes are hashed next.
        torch.get_device_module(buffer.device.type).synchronize()


def free_port(host: str = "") -> int:
    """A TCP port of this node that was free just now."""
    with contextlib.closing(socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET)) as listener:
        listener.bind((host, 0))
        return listener.getsockname()[1]


def _meet(store: dist.Store, rank: int, world_size: int, join_s: float) -> None:
    """A barrier of its own: gloo would wait for `timeout_s`, nccl and hccl meet only at their first collective."""
    arrivals = [f"rank {index}" for index in range(world_size)]
    store.set(arrivals[rank], "here")
    try:
        store.wait(arrivals, timedelta(seconds=join_s))
    except dist.DistError as error:
        absent = [name for name in arrivals if not store.check([name])]
        raise TimeoutError(f"{', '.join(absent)} did not come to the group within {join_s:g} s") from error


@contextlib.contextmanager
def _blocking_wait() -> Iterator[None]:
    """For groups that are made meanwhile alone: those of DeepSpeed and of vLLM keep their watchdogs."""
    before = {name: os.environ.get(name) for name in BLOCKING_WAIT}
    os.environ.update(dict.fromkeys(BLOCKING_WAIT, "1"))
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value


def _create(backend: str, name: str, store: dist.Store, rank: int, world_size: int, timeout: timedelta) -> Any:
    if backend == "gloo":
        return dist.ProcessGroupGloo(store, rank, world_size, timeout)
    if backend == "nccl":
        options = dist.ProcessGroupNCCL.Options()
        options._timeout = timeout
        return dist.ProcessGroupNCCL(store, rank, world_size, options)
    # Backends of plugins, hccl among them, register a creator with torch.
    plugin = dist.Backend._plugins[backend.upper()]
    if not plugin.extended_api:
        return plugin.creator_fn(store, rank, world_size, timeout)
    options = dist.distributed_c10d._DistributedBackendOptions()
    options.store, options.group_rank, options.group_size, options.timeout = store, rank, world_size, timeout
    # HCCL names its communicator by it, and the one that a broken group leaves may still be there.
    options.group_id, options.global_ranks_in_group = name, list(range(world_size))
    return plugin.creator_fn(options, None)
