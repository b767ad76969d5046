"""A rank that has a run directory of its own is found before anything is trained."""

from __future__ import annotations

import socket
from dataclasses import replace
from pathlib import Path

import pytest

from pangu_rl.checkpoint.shared_folder import Answer, answer, require_shared
from pangu_rl.errors import ConfigError


def test_ranks_that_share_it_pass_and_nothing_stays(tmp_path: Path) -> None:
    asked = []

    def ask(folder: Path) -> list[Answer]:
        asked.append(folder)
        return [answer(folder, rank) for rank in range(3)]

    require_shared(tmp_path, ask)
    assert asked[0].parent == tmp_path and not list(tmp_path.iterdir())


@pytest.mark.parametrize("has_folder", [False, True])
def test_a_rank_with_a_folder_of_its_own_is_named(tmp_path: Path, has_folder: bool) -> None:
    """Ranks 0 and 1 see the driver's disk, rank 2 that of another node: without the folder, or with one alike."""
    ours, theirs = tmp_path / "ours", tmp_path / "theirs"
    ours.mkdir()
    theirs.mkdir()

    def ask(folder: Path) -> list[Answer]:
        other = theirs / folder.name
        if has_folder:
            other.mkdir()
        return [answer(folder, 0), answer(folder, 1), replace(answer(other, 2), node="node-7")]

    with pytest.raises(ConfigError) as caught:
        require_shared(ours, ask)
    assert str(caught.value) == (
        f"rank 2 on node-7 does not see {ours}, the run directory of the driver on {socket.gethostname()}: set "
        "trainer.run_dir to a folder that all nodes share"
    )
    assert not list(ours.iterdir())


def test_a_stale_copy_of_the_driver_s_file_is_not_enough(tmp_path: Path) -> None:
    """The rank reads the right token, but what it writes does not arrive."""
    ours, theirs = tmp_path / "ours", tmp_path / "theirs"
    ours.mkdir()
    theirs.mkdir()

    def ask(folder: Path) -> list[Answer]:
        (theirs / "driver").write_bytes((folder / "driver").read_bytes())
        return [answer(theirs, 0)]

    with pytest.raises(ConfigError, match=r"rank 0 on .* does not see"):
        require_shared(ours, ask)


def test_a_rank_that_may_only_read_is_told_apart(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"rank 0 on .* cannot write into"):
        require_shared(tmp_path, lambda folder: [replace(answer(folder, 0), wrote="")])
