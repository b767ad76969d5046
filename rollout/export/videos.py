"""The videos of an export: each once, under its content's hash, in `videos/`. Store -> **copies, checked**."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pangu_rl.errors import DataError
from rollout.export.catalogue import Catalogue
from rollout.export.stream import in_order
from rollout.kept.videos import VIDEO_FOLDER, copy_video


class ExportedVideos:
    """The folder `videos` of one export."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def add(self, video: Mapping[str, Any], rollouts: Path) -> str:
        """Path of the copy of a stored row's video, relative to the export.

        Raises:
            DataError: it is gone, or is not what the row says.
        """
        path = video["path"]
        target = self.folder / path
        if not target.exists():
            (self.folder / VIDEO_FOLDER).mkdir(exist_ok=True)
            found = copy_video(path, rollouts, target)
            if found != video["sha256"]:
                raise DataError(f"{rollouts / path}: is not the video that its row names: put the right one back")
        return path


def shows_videos(catalogue: Catalogue) -> bool:
    """Whether a row of the table `selected` has any."""
    query = "SELECT position FROM selected ORDER BY position"
    return any(videos for _, _, rows in in_order(catalogue, query, ["videos"]) for videos in rows["videos"].to_pylist())
