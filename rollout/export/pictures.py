"""The pictures of an export: each file once, under its content's hash, in `images/`. Store -> **copies, checked**."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pangu_rl.errors import DataError
from pretrain.processing.media_root import read_inside
from pretrain.processing.pictures import MAX_BYTES
from rollout.kept.pictures import FOLDER, SUFFIXES

_NAME = re.compile(rf"{FOLDER}/([0-9a-f]{{64}})({'|'.join(map(re.escape, sorted(set(SUFFIXES.values()))))})")


class ExportedPictures:
    """The folder `images` of one export. What is there already is on disk, not in memory."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.files = 0
        self.bytes = 0

    def add(self, image: Mapping[str, Any], rollouts: Path) -> str:
        """Path of the copy of a stored row's picture, relative to the export.

        Raises:
            DataError: the store kept no picture, or the file is gone or is not what its name says.
        """
        path = image["path"]
        if not (name := _NAME.fullmatch(path)):
            raise DataError(
                f"{rollouts}: a row names the picture {path[:100]!r}, which its run did not keep: "
                "leave such rows out, --where 'len(images) = 0'"
            )
        if not (self.folder / path).exists():
            try:
                content = read_inside(path, rollouts, MAX_BYTES)
            except DataError as error:
                raise DataError(f"{error} in {rollouts}: put it back, or leave its rows out") from None
            if hashlib.sha256(content).hexdigest() != name[1]:
                raise DataError(f"{rollouts / path}: is not the picture that its name says: put the right one back")
            (self.folder / FOLDER).mkdir(exist_ok=True)
            (self.folder / path).write_bytes(content)
            self.files += 1
            self.bytes += len(content)
        return path
