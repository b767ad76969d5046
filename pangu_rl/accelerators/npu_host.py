"""Driver, CANN, HCCL, NPUs and variables of an Ascend machine, read without torch. Files and npu-smi -> **remarks**.

A machine that shows neither a device file of the driver nor CANN is no Ascend machine, and nothing is said of it.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import NamedTuple

from pangu_rl.accelerators.base import Remark
from pangu_rl.accelerators.npu_env import conflicts

DEV = Path("/dev")
ASCEND = Path("/usr/local/Ascend")
NEEDED_CANN = (8, 3)
"""Attention's `softmax_layout` came with 8.3.RC1."""
TRIED_CANN, TRIED_DRIVER = (9, 1), (26, 0)
"""What vllm-ascend 0.23 is delivered with."""
BUSY = 0.1
"""Share of an NPU's memory above which somebody else is on it; its own firmware takes a twentieth of 64 GiB."""
_INSTALL = "a container of docker/ascend.Dockerfile has CANN 9.1; else install that toolkit with its NNAL"
_HOLDER = re.compile(r"\|\s*(\d+)\s+\S+\s*\|\s*(\S+)\s*\|")
_CHIP = re.compile(r"\|\s*\d+(?:\s+\d+)?\s*\|\s*[0-9A-Fa-f]{4}:[0-9A-Fa-f:.]+\s*\|.*?(\d+)\s*/\s*(\d+)\s*\|\s*")


class Npu(NamedTuple):
    """A device as npu-smi lists it; a card of an A3 holds two."""

    card: int
    health: str
    used_mb: int
    total_mb: int


def examine(environ: Mapping[str, str] = os.environ) -> Iterator[Remark]:
    files, root = sorted(DEV.glob("davinci[0-9]*")), _cann_root(environ)
    if not files and root is None:
        return
    yield from _driver(files)
    yield from _cann(root, environ)
    yield from _devices(len(files), environ)
    for conflict in conflicts(environ):
        yield Remark("variables", "fail", conflict.what, conflict.mend)


def _driver(files: list[Path]) -> Iterator[Remark]:
    if not files:
        mend = "a container needs --device /dev/davinci0 (each), davinci_manager, devmm_svm and hisi_hdc"
        yield Remark("driver", "fail", f"CANN is here, and no {DEV}/davinci0", mend)
        return
    found = _fields(ASCEND / "driver" / "version.info")
    version = found.get("package_version") or found.get("version")
    if version is None:
        mend = f"in a container, mount {ASCEND}/driver/lib64 and {ASCEND}/driver/version.info of the host"
        yield Remark("driver", "fail", f"no version in {ASCEND}/driver/version.info", mend)
    elif _number(version) < TRIED_DRIVER:
        mend = "if CANN 9.1 does not start, install the HDK 26.0 of its release notes on the host"
        yield Remark("driver", "warn", f"{version}, older than the 26.0 that CANN 9.1 is delivered with", mend)
    else:
        yield Remark("driver", "ok", version)


def _cann(root: Path | None, environ: Mapping[str, str]) -> Iterator[Remark]:
    if root is None:
        yield Remark("cann", "fail", f"none in {ASCEND}, and ASCEND_HOME_PATH is not set", _INSTALL)
        return
    infos = sorted(root.glob("*-linux/ascend_toolkit_install.info"))
    version = _fields(infos[0]).get("version", "") if infos else ""
    if not version:
        yield Remark("cann", "fail", f"{root} has no *-linux/ascend_toolkit_install.info with a version", _INSTALL)
    elif _number(version) < NEEDED_CANN:
        detail = f"{version} in {root} is too old: attention's softmax_layout came with 8.3.RC1"
        yield Remark("cann", "fail", detail, _INSTALL)
    elif _number(version) < TRIED_CANN:
        yield Remark("cann", "warn", f"{version} in {root}, and vllm-ascend 0.23 is delivered with 9.1", _INSTALL)
    else:
        yield Remark("cann", "ok", f"{version} in {root}")
    if "ASCEND_HOME_PATH" not in environ:
        detail = "ASCEND_HOME_PATH is not set, so that torch-npu finds no library of CANN"
        yield Remark("cann", "fail", detail, f"source {root.parent}/set_env.sh, also before `ray start`")
    if not any((folder / "libhccl.so").exists() for folder in (root / "lib64", *root.glob("*-linux/lib64"))):
        yield Remark("hccl", "fail", f"no libhccl.so in {root}/lib64", _INSTALL)
    else:
        yield Remark("hccl", "ok", "libhccl.so is there")
    if "ATB_HOME_PATH" not in environ:
        mend = f"source {ASCEND}/nnal/atb/set_env.sh, also before `ray start`; engines need it, learners do not"
        yield Remark("nnal", "fail", "ATB_HOME_PATH is not set, so that vllm-ascend finds no libatb.so", mend)


def _devices(files: int, environ: Mapping[str, str]) -> Iterator[Remark]:
    visible = environ.get("ASCEND_RT_VISIBLE_DEVICES")
    if visible is not None and (wrong := _wrong_ids(visible, files)):
        mend = "unset it before `ray start`: Ray shows each actor its own"
        yield Remark("visible devices", "fail", f"ASCEND_RT_VISIBLE_DEVICES is {visible!r}: {wrong}", mend)
    listed = _npu_smi()
    if isinstance(listed, str):
        mend = "in a container, mount /usr/local/bin/npu-smi and /usr/local/dcmi; on the host, look at the driver"
        yield Remark("npu-smi", "warn", listed, mend)
        return
    for npu in listed:
        if npu.health != "OK":
            mend = f"npu-smi info -t health -i {npu.card}; leave it out until it is mended"
            yield Remark("health", "fail", f"NPU {npu.card}: {npu.health}", mend)
    busy = [npu for npu in listed if npu.used_mb > BUSY * npu.total_mb]
    for npu in busy:
        detail = f"NPU {npu.card}: {npu.used_mb / 1024:.1f} of {npu.total_mb / 1024:.0f} GiB are taken"
        yield Remark("memory", "warn", detail, "npu-smi info lists the processes: end those that are not yours to keep")
    if not busy:
        sizes = ", ".join(f"{size / 1024:.0f} GiB" for size in sorted({npu.total_mb for npu in listed}))
        yield Remark("memory", "ok", f"{len(listed)} NPUs of {sizes}, free; {files} of them in {DEV}")


def _wrong_ids(visible: str, count: int) -> str:
    """What is wrong with a list of devices; nothing with a good one."""
    ids = [entry.strip() for entry in visible.split(",")]
    if not all(entry.isdecimal() for entry in ids):
        return "no list of numbers such as 0,1"
    if len(set(ids)) < len(ids):
        return "a number comes twice"
    beyond = [entry for entry in ids if int(entry) >= count]
    return f"{count} devices are here, and {beyond[0]} is none of 0 to {count - 1}" if beyond else ""


def _npu_smi() -> list[Npu] | str:
    """The devices, or why there is no list."""
    program = shutil.which("npu-smi")
    if program is None:
        return "npu-smi is not on the PATH: health and memory are not known"
    try:
        done = subprocess.run([program, "info"], capture_output=True, text=True, timeout=60, check=False)
    except (OSError, subprocess.TimeoutExpired) as error:
        return f"npu-smi info: {error}"
    listed = listed_npus(done.stdout)
    return listed or f"npu-smi info lists no NPU: {' '.join((done.stderr or done.stdout).split())[:160]}"


def listed_npus(text: str) -> list[Npu]:
    """Of the output of `npu-smi info`: two lines a device, above the table of processes."""
    found, holder = [], ("", "")
    for line in text.splitlines():
        if "Process id" in line:
            break
        if chip := _CHIP.fullmatch(line.strip()):
            found.append(Npu(int(holder[0]), holder[1], int(chip[1]), int(chip[2])))
        elif match := _HOLDER.match(line.strip()):
            holder = match[1], match[2]
    return found


def _cann_root(environ: Mapping[str, str]) -> Path | None:
    named = environ.get("ASCEND_HOME_PATH") or environ.get("ASCEND_TOOLKIT_HOME")
    roots = [Path(named)] if named else [ASCEND / "ascend-toolkit" / "latest", ASCEND / "cann"]
    return next((root for root in roots if named or root.is_dir()), None)


def _fields(path: Path) -> dict[str, str]:
    """`Name=value` lines by name in lower case; none of a file that is not there."""
    if not path.is_file():
        return {}
    lines = path.read_text(encoding="utf-8", errors="replace").splitlines()
    return {key.strip().lower(): value.strip() for key, _, value in (line.partition("=") for line in lines)}


def _number(version: str) -> tuple[int, ...]:
    """(8, 3) of 8.3.RC1: what comes behind does not count."""
    return tuple(int(part) for part in re.findall(r"\d+", version)[:2])
