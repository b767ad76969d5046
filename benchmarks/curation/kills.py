"""SIGKILL at size: the command is ended in each of its three parts and run to its end -> **the bytes of a whole run**.

`python -m benchmarks.curation kills --rows 100000 --workers 2`, of the rows and operators of `speed`.
"""

from __future__ import annotations

import hashlib
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory

import yaml

from benchmarks.curation.speed import made, pipeline
from pangu_rl.config.curate import CurateConfig

MOST_S = 3600
"""Of one start of the command."""


def kills(kind: str, size: int, workers: int, keep: Path | None) -> None:
    with TemporaryDirectory() as scratch:
        source = made(kind, size, (keep or Path(scratch)) / f"{kind}_{size}")
        whole, killed = (pipeline(kind, source, Path(scratch) / name, workers) for name in ("whole", "killed"))
        print(f"{size} rows, undisturbed: {_ended(whole)[1]:.1f} s", flush=True)
        blocks = len(list(Path(whole.output, "rows").iterdir()))
        stages = Path(killed.output, "stages")
        for name, reached in (
            ("half of the blocks are read", lambda: _count(stages / "00/done") >= blocks / 2),
            ("the set operator decides", lambda: any((stages / "00").glob(".scratch*/*"))),
            ("half of the shards are written", lambda: _count(stages / "01/done") >= blocks / 2),
        ):
            code, seconds = _ended(killed, reached)
            if code == 0:
                sys.exit(f"it ended by itself before {name}: more rows give it time")
            print(f"killed when {name}: {code} after {seconds:.1f} s", flush=True)
        print(f"run to its end: {_ended(killed)[1]:.1f} s")
        one, other = (_digests(Path(config.output)) for config in (whole, killed))
        print(f"{len(one)} files, {sum(one[name] == other.get(name) for name in one)} of them equal to the byte")
        if one != other:
            sys.exit("the run that was killed ended with other files")


def _ended(config: CurateConfig, reached: Callable[[], bool] = lambda: False) -> tuple[int, float]:
    """Exit code and seconds of the command, which is killed once something is `reached`.

    Raises:
        CalledProcessError: it ended by itself, and not well.
    """
    file = Path(config.output).with_suffix(".yaml")
    file.write_text(yaml.safe_dump(config.model_dump(mode="json")), encoding="utf-8")
    started = time.perf_counter()
    command = [sys.executable, "-m", "pangu_rl", "curate", "--config", str(file)]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
        while process.poll() is None:
            if reached():
                process.kill()
            elif time.perf_counter() - started > MOST_S:
                process.kill()
                sys.exit(f"curate --config {file} has not ended after {MOST_S} s")
            time.sleep(0.01)
    if process.returncode > 0:
        raise subprocess.CalledProcessError(process.returncode, command)
    return process.returncode, time.perf_counter() - started


def _count(folder: Path) -> int:
    return len(list(folder.glob("*.json")))


def _digests(output: Path) -> dict[str, str]:
    """What equal runs have equal: rows, side files, manifest."""
    files = [*output.glob("rows/*"), *output.glob("dropped/*"), output / "curation.json"]
    return {str(file.relative_to(output)): hashlib.sha256(file.read_bytes()).hexdigest() for file in files}
