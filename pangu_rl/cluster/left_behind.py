"""Files that a job needs -> **those that would not travel**: ignored by git's rules, as Ray reads them, or excluded."""

from __future__ import annotations

import subprocess
import tempfile
from collections.abc import Sequence
from pathlib import Path


def left_behind(folder: Path, paths: Sequence[str], excludes: Sequence[str]) -> list[str]:
    """Which of `paths`, relative to `folder`, its `.gitignore` files or `excludes` (of the same syntax) leave out.

    Git itself judges, in a repository of a moment: Ray follows the rules of ignored files without a repository too.
    Without git none is known.
    """
    inside = [path for path in paths if (folder / path).resolve().is_relative_to(folder) and (folder / path).exists()]
    if not inside:
        return []
    with tempfile.TemporaryDirectory() as place:
        git = ["git", f"--git-dir={place}/git", f"--work-tree={folder}", "-c", f"core.excludesFile={place}/excludes"]
        Path(place, "excludes").write_text("".join(f"{pattern}\n" for pattern in excludes), encoding="utf-8")
        try:
            subprocess.run(["git", "init", "--bare", "--quiet", f"{place}/git"], check=True, capture_output=True)
            done = subprocess.run(
                [*git, "check-ignore", "--stdin", "-z"],
                input="\0".join(inside).encode(),
                capture_output=True,
                check=False,
                cwd=folder,
            )
        except (OSError, subprocess.CalledProcessError):
            return []
    return [path for path in done.stdout.decode().split("\0") if path]
