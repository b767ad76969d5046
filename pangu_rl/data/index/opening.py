"""Sources of rows -> **their index, made when it is missing or another**, and said."""

from __future__ import annotations

import hashlib
import json
import os
import time
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console

from pangu_rl.config.paths import cache_root
from pangu_rl.data.index.build import build_index
from pangu_rl.data.index.files import row_files
from pangu_rl.data.index.manifest import MANIFEST, Manifest, compared, read_manifest
from pangu_rl.data.index.row_index import RowIndex
from pangu_rl.errors import DataError
from pangu_rl.storage.copies import is_remote
from pangu_rl.storage.file_lock import held


def open_index(sources: Sequence[Path], media_root: Path | None = None) -> RowIndex:
    """The index of `sources`: files, folders of files, or the folder of one index that `pangu-rl index` made.

    One that is made by itself lies beside the rows, where these cannot be written in the cache, and follows them when
    they change; one that was named is refused then.

    Raises:
        DataError: no such file, files that cannot be indexed, a named index whose files have changed.
        ConfigError: the place of the index cannot be locked.
        RunError: a process that indexes died.
    """
    if len(sources) == 1 and (sources[0] / MANIFEST).is_file():
        return _named(sources[0])
    paths = row_files(sources)
    folder = automatic_folder(sources, media_root)
    with held(folder.with_name(f"{folder.name}.lock"), _say):
        problem = ""
        if (folder / MANIFEST).is_file():
            manifest, problem = _sound(folder, paths)
            if manifest:
                return RowIndex(folder, manifest)
        return _made(paths, folder, media_root, problem)


def automatic_folder(sources: Sequence[Path], media_root: Path | None) -> Path:
    """Of the index that is made by itself: beside the rows, so that all who reach these reach it; of copies of remote
    ones, which come and go, in the cache."""
    names = json.dumps([str(path.resolve()) for path in (*sources, *([media_root] if media_root else []))])
    name = f".rows-{hashlib.sha256(f'{len(sources)} {names}'.encode()).hexdigest()[:16]}"
    beside = sources[0].resolve().parent
    is_lasting = os.access(beside, os.W_OK) and not is_remote(sources[0])
    return (beside if is_lasting else cache_root() / "row_indexes") / name


def _named(folder: Path) -> RowIndex:
    manifest, changed = compared(folder, read_manifest(folder))
    if changed:
        raise DataError(f"{_first(changed)}: put it back, or make the index {folder} anew by `pangu-rl index`")
    return RowIndex(folder, manifest)


def _sound(folder: Path, paths: Sequence[Path]) -> tuple[Manifest | None, str]:
    """The manifest, or None and why the index cannot be used."""
    try:
        manifest = read_manifest(folder)
    except DataError as error:
        return None, str(error)
    were = [(folder / file.path).resolve() for file in manifest.files]
    if were != [path.resolve() for path in paths]:
        return None, f"{len(were)} files were indexed, there are {len(paths)} now or others"
    manifest, changed = compared(folder, manifest)
    return (None, _first(changed)) if changed else (manifest, "")


def _first(changed: Sequence[str]) -> str:
    return changed[0] + (f" (and {len(changed) - 1} more files)" if len(changed) > 1 else "")


def _made(paths: Sequence[Path], folder: Path, media_root: Path | None, problem: str) -> RowIndex:
    if problem:
        _say(f"{problem}: the index is made anew")
    name = f"{paths[0]}" + (f" and {len(paths) - 1} more files" if len(paths) > 1 else "")
    started = time.perf_counter()
    with Console(stderr=True).status("") as status:
        status.update(f"indexing the rows of {name}, once")
        index = build_index(paths, folder, media_root)
    seconds = time.perf_counter() - started
    _say(f"indexed the {len(index)} rows of {name} in {seconds:.1f} s: {folder}")
    return index


def _say(line: str) -> None:
    Console(stderr=True, highlight=False, soft_wrap=True).print(line, markup=False)
