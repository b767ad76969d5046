"""The machine itself: devices, cores, memory, shared memory, leftovers of builds, names and ports."""

from __future__ import annotations

import os
import shutil
import socket
from collections.abc import Iterator
from pathlib import Path

from pangu_rl.accelerators import ACCELERATORS, get_accelerator
from pangu_rl.monitoring.findings import Finding

GIB = 2**30
SHM = Path("/dev/shm")
DEV = Path("/dev")
RAY_PORTS = {6379: "ray start --head --port", 8265: "ray start --head --dashboard-port"}
"""Port that a cluster on this machine takes -> the option that names another."""
MIN_MEMORY_GIB = 8


def check_devices() -> Iterator[Finding]:
    """The device that `auto` takes, and devices that the driver shows but torch does not."""
    accelerator = get_accelerator()
    yield Finding(check="devices", status="ok", detail=_described(accelerator.name))
    for other in ACCELERATORS.values():
        files = sorted(DEV.glob(other.device_files)) if other.device_files else []
        if files and other.name != accelerator.name and not other.detect():
            yield Finding(
                check="devices",
                status="fail",
                detail=f"{len(files)} x {DEV / other.device_files} are there, but torch sees none of them",
                mend=f"install the stack of such a machine: pip install 'pangu-rl[{other.extra}]', and its driver",
            )
    memory = get_accelerator("cpu").memory_stats()
    cores = len(os.sched_getaffinity(0))
    text = f"{cores} cores, {memory['free'] / GIB:.1f} of {memory['total'] / GIB:.1f} GiB memory free"
    if memory["free"] < MIN_MEMORY_GIB * GIB:
        mend = f"an engine and a learner of a small model take about {MIN_MEMORY_GIB} GiB: end other processes"
        yield Finding(check="memory", status="warn", detail=text, mend=mend)
    else:
        yield Finding(check="memory", status="ok", detail=text)


def check_drivers() -> Iterator[Finding]:
    """What lies below torch, of every kind of device that this machine shows."""
    for accelerator in ACCELERATORS.values():
        yield from (Finding(**remark._asdict()) for remark in accelerator.examine())


def _described(name: str) -> str:
    import torch

    if ACCELERATORS[name].ray_resource is None:
        return f"{name}, torch {torch.__version__}"
    module = torch.get_device_module(name)
    free = ACCELERATORS[name].memory_stats()
    size = f"{free['free'] / GIB:.0f} of {free['total'] / GIB:.0f} GiB free on the first"
    return f"{module.device_count()} x {module.get_device_name(0)}, {size}, torch {torch.__version__}"


def check_builds() -> Iterator[Finding]:
    """torch builds extensions under a lock file, and waits for ever for one that a killed build left."""
    root = Path(os.environ.get("TORCH_EXTENSIONS_DIR") or Path.home() / ".cache" / "torch_extensions")
    locks = sorted(root.glob("**/lock")) if root.is_dir() else []
    if locks:
        yield Finding(
            check="builds",
            status="fail",
            detail=f"lock of a build: {locks[0]}; every process that needs that extension waits for it",
            mend=f"if no build is going on: rm {locks[0]}",
        )
        return
    tools = [name for name in ("g++", "ninja") if shutil.which(name)]
    detail = f"none under way or left over; tools: {', '.join(tools) or 'no compiler'}"
    yield Finding(check="builds", status="ok", detail=detail)


def check_shared_memory(needed: int) -> Iterator[Finding]:
    """`needed` bytes for Ray's objects and the weights that learner and engines hand over."""
    usage = shutil.disk_usage(SHM)
    text = f"{SHM} has {usage.free / GIB:.1f} of {usage.total / GIB:.1f} GiB free, {needed / GIB:.1f} are needed"
    if usage.free < needed:
        size = f"{needed * 2 // GIB + 1}g"
        mend = f"mount -o remount,size={size} {SHM}; in a container, --shm-size={size}"
        yield Finding(check="shared memory", status="fail", detail=text, mend=mend)
    else:
        yield Finding(check="shared memory", status="ok", detail=text)


def check_network() -> Iterator[Finding]:
    """Ranks meet under the host's name on free ports; a cluster's own ports may be somebody's already."""
    name = socket.gethostname()
    try:
        address = socket.gethostbyname(name)
    except OSError as error:
        mend = f"add a line with its address and {name} to /etc/hosts"
        yield Finding(check="network", status="fail", detail=f"the host's name {name}: {error.strerror}", mend=mend)
    else:
        yield Finding(check="network", status="ok", detail=f"{name} is {address}")
    taken = [port for port in RAY_PORTS if _answers(port)]
    for port in taken:
        yield Finding(
            check="ports",
            status="warn",
            detail=f"{port} on 127.0.0.1 is taken",
            mend=f"fine if that is your cluster; for another one, {RAY_PORTS[port]}=PORT",
        )
    if not taken:
        yield Finding(check="ports", status="ok", detail=f"{', '.join(map(str, RAY_PORTS))} are free for a cluster")


def _answers(port: int) -> bool:
    with socket.socket() as probe:
        probe.settimeout(2.0)
        return probe.connect_ex(("127.0.0.1", port)) == 0
