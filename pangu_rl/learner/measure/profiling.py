"""An update under torch's profiler: `trainer.profile_steps` -> **trace, table and picture** -> the run directory."""

from __future__ import annotations

import gzip
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from pangu_rl.accelerators import Accelerator
from pangu_rl.monitoring.operations import plot_operations, profile_of, read_trace, write_operations

TRACE = "trace.json.gz"


@contextmanager
def profiled(folder: Path, accelerator: Accelerator) -> Iterator[None]:
    """What runs within, on host and device -> `trace.json.gz` (for chrome://tracing or Perfetto), `operations.csv` and
    `operations.png` in `folder`, which is made."""
    with accelerator.profiler() as profiler:
        yield
        accelerator.synchronize()
    folder.mkdir(parents=True, exist_ok=True)
    plain = folder / "trace.json"
    profiler.export_chrome_trace(str(plain))
    # Not every device's profiler compresses.
    with plain.open("rb") as source, gzip.open(folder / TRACE, "wb") as packed:
        shutil.copyfileobj(source, packed)
    plain.unlink()
    profile = profile_of(read_trace(folder / TRACE))
    write_operations(profile, folder / "operations.csv")
    plot_operations(profile, folder / "operations.png", f"{folder.name} of {folder.parents[1].name}")
