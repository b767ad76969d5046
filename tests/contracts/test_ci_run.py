"""What continuous integration says of a run that failed: the words of Ray's logs that are of this run, no other's."""

from __future__ import annotations

import os
import subprocess
import tempfile
from pathlib import Path

from tests.contracts.source_tree import ROOT


def test_a_failure_shows_what_ray_wrote_since_the_start_and_nothing_older():
    lines = (ROOT / ".ci/run").read_text(encoding="utf-8").splitlines()
    watched = next(number for number, line in enumerate(lines) if line.startswith("trap "))
    with tempfile.TemporaryDirectory(prefix="ray", dir="/tmp") as folder:
        logs = Path(folder, "session_1", "logs")
        logs.mkdir(parents=True)
        for name in ("old", "new"):
            (logs / f"python-core-driver-{name}.log").write_text(f"Quick exit of the {name} {folder}\n")
        os.utime(logs / "python-core-driver-old.log", (0, 0))
        script = "\n".join([*lines[: watched + 1], "exit 7"])
        # The script goes to the folder above its own.
        done = subprocess.run(["bash", "-c", script, str(ROOT / ".ci/run")], capture_output=True, text=True)
    assert done.returncode == 7
    assert [line for line in done.stdout.splitlines() if folder in line] == [f"Quick exit of the new {folder}"]
