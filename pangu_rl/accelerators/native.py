"""C++ sources of this package -> **one library of operators for this processor** -> `torch.ops.pangu_rl`.

`make setup` compiles it once (`python -m pangu_rl.accelerators.native`), into the cache, under a name that says what it
was made of: sources, torch, flags and the processor's features. So no process compiles at its start, nodes of another
kind have a library of their own, and a half-written file is never loaded. Without a compiler, or without that step,
everything that has a compiled kernel runs its reference in torch.
"""

from __future__ import annotations

import hashlib
import logging
import os
import platform
import subprocess
import sys
from functools import lru_cache
from pathlib import Path

from pangu_rl.config.paths import resolve_path
from pangu_rl.errors import RunError, first_line
from pangu_rl.whole_file import whole_file

log = logging.getLogger(__name__)

# No flag changes the order in which sums are taken: results are the same bits for every number of threads.
FLAGS = ("-O3", "-march=native", "-std=c++20", "-fopenmp", "-fno-math-errno", "-fno-trapping-math", "-shared", "-fPIC")
if platform.machine() == "x86_64":
    FLAGS += ("-mprefer-vector-width=512",)  # compilers stop at half of it; exponentials take a third less time so
BUILD = "python -m pangu_rl.accelerators.native"


@lru_cache(maxsize=1)
def load_native() -> bool:
    """Make the compiled operators known to torch; False, said once, where they were not compiled."""
    import torch

    library = library_path()
    if not library.exists():
        log.warning("compiled kernels are missing, so slower ones in torch stand in for them: run `%s`", BUILD)
        return False
    try:
        torch.ops.load_library(str(library))
    except OSError as error:  # a cache that was copied from another system
        log.warning("compiled kernels do not load (%s): remove %s and run `%s`", first_line(error), library, BUILD)
        return False
    return True


def library_path() -> Path:
    """Where the library for these sources, this torch and this processor lies, or would lie."""
    return resolve_path(f"cache://native/{_identity()}/libpangu_rl.so")


def build() -> Path:
    """Compile the library unless it is there.

    Raises:
        RunError: there is no compiler, or it failed.
    """
    import torch
    from torch.utils.cpp_extension import include_paths, library_paths

    library = library_path()
    if library.exists():
        return library
    library.parent.mkdir(parents=True, exist_ok=True)
    command = [
        *(os.environ.get("CXX", "c++"), *FLAGS, f"-D_GLIBCXX_USE_CXX11_ABI={int(torch._C._GLIBCXX_USE_CXX11_ABI)}"),
        *(f"-I{folder}" for folder in include_paths()),
        *map(str, _sources()),
        *(f"-L{folder}" for folder in library_paths()),
        *("-ltorch", "-ltorch_cpu", "-lc10"),
    ]
    # Who looks meanwhile finds no library, and whoever was killed leaves no lock.
    with whole_file(library) as unfinished:
        try:
            done = subprocess.run([*command, "-o", str(unfinished)], capture_output=True, text=True)
        except OSError as error:
            raise RunError(f"{command[0]}: no C++ compiler ({error.strerror}): install one, or set CXX") from None
        if done.returncode:
            raise RunError(f"{command[0]} could not compile {library.name}: {done.stderr.strip()[-2000:]}")
    return library


def _sources() -> list[Path]:
    return sorted(Path(__file__).parent.rglob("*.cpp"))


def _headers() -> list[Path]:
    return sorted(Path(__file__).parent.rglob("*.h"))


def _identity() -> str:
    import torch

    texts = (path.read_text("utf-8") for path in (*_sources(), *_headers()))
    parts = [torch.__version__, *FLAGS, platform.machine(), _features(), *texts]
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()[:16]


def _features() -> str:
    """What the processor can do, as Linux lists it; empty elsewhere."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return ""
    return next((line for line in lines if line.startswith(("flags", "Features"))), "")


if __name__ == "__main__":
    try:
        print(build())
    except RunError as error:
        # A machine without a compiler works all the same.
        print(f"no compiled kernels: {error}", file=sys.stderr)
