"""A plan that is being made: **what is whole of it outlives a kill**, and is kept by the run that goes on.

    .NAME.unfinished/made_from.json     of what it is made: another one is begun anew
    .NAME.unfinished/plan/              files of the plan; becomes the folder NAME when all are there
    .NAME.unfinished/*.seal             what was made, and the digest of each of its files; written last

A worker that is killed leaves no file half under its name, and no seal.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from hashlib import sha256
from pathlib import Path
from typing import Any

import xxhash

from pangu_rl.config.sections.packing import PackingConfig
from pangu_rl.errors import DataError, UserError
from pangu_rl.storage.file_lock import lock
from pangu_rl.whole_file import whole_file

PLAN, MADE_FROM, LOCK = "plan", "made_from.json", "lock"
Tell = Callable[[str], None]


def origin(metadata: str, config: PackingConfig, pieces: int) -> dict[str, Any]:
    """All that decides the bytes of a plan; `metadata` is the hash of its file."""
    code = sha256(b"".join(path.read_bytes() for path in sorted(Path(__file__).parent.glob("*.py"))))
    return {"metadata": metadata, "code": code.hexdigest(), "pieces": pieces, **config.model_dump(mode="json")}


@contextmanager
def unfinished(directory: Path, made_from: Mapping[str, Any], tell: Tell) -> Iterator[Path]:
    """The folder in which the plan `directory` is made, by one run at a time; its `plan/` is there.

    It goes when the block is through, or when the data or settings are at fault; else it stays for the next run.

    Raises:
        DataError: another run holds it, or it cannot be written.
    """
    folder = directory.absolute().with_name(f".{directory.absolute().name}.unfinished")
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with _alone(folder, directory):
            try:
                _keep_what_holds(folder, made_from, tell)
                yield folder
            except UserError:
                shutil.rmtree(folder)
                raise
            shutil.rmtree(folder)
    except OSError as error:
        raise DataError(f"{directory}: {error.strerror or error}; --output is a folder to write") from None


def seal(path: Path, files: Sequence[Path], said: Mapping[str, Any]) -> None:
    """Vouch for `files`, which are whole, and for what is `said` of them."""
    digests = {os.path.relpath(file, path.parent): _digest(file) for file in files}
    with whole_file(path) as partial:
        partial.write_text(json.dumps({"files": digests, "said": said}), encoding="utf-8")


def sealed(path: Path) -> dict[str, Any] | None:
    """What was said under the seal `path`; None where there is none, or a file is not what it vouches for."""
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
        whole = all(_digest(path.parent / name) == digest for name, digest in found["files"].items())
    # A file that a lost machine left half: ValueError.
    except (FileNotFoundError, ValueError):
        return None
    return found["said"] if whole else None


def _keep_what_holds(folder: Path, made_from: Mapping[str, Any], tell: Tell) -> None:
    try:
        before = json.loads((folder / MADE_FROM).read_text(encoding="utf-8"))
    except (FileNotFoundError, ValueError):
        before = None
    if before is not None and before != made_from:
        key = next(key for key in {**made_from, **before} if before.get(key) != made_from.get(key))
        tell(f"begun anew, not gone on with: {_change(key, before.get(key), made_from.get(key))}")
    if before != made_from:
        for left in folder.iterdir():
            if left.name != LOCK:
                shutil.rmtree(left) if left.is_dir() else left.unlink()
        with whole_file(folder / MADE_FROM) as partial:
            partial.write_text(json.dumps(made_from), encoding="utf-8")
    (folder / PLAN).mkdir(exist_ok=True)
    for partial in folder.rglob("*.partial"):
        partial.unlink()


def _change(key: str, before: Any, now: Any) -> str:
    if key == "code":
        return "the code that plans was changed"
    if key == "metadata":
        return f"the metadata had sha256 {before[:12]} and has {now[:12]}"
    return f"{key} was {before!r} and is {now!r}"


@contextmanager
def _alone(folder: Path, directory: Path) -> Iterator[None]:
    with (folder / LOCK).open("w") as file:
        if not lock(file, folder / LOCK):
            raise DataError(f"{directory}: another run plans it: wait for it, or name another --output")
        yield


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, xxhash.xxh3_128).hexdigest()
