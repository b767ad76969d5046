"""A prepared folder takes the place of nothing that is the user's."""

from __future__ import annotations

from pathlib import Path

import pytest

from data_curation.sources.folders import whole_folder
from pangu_rl.errors import ConfigError


def fill(folder: Path) -> None:
    with whole_folder(folder) as partial:
        (partial / "new").write_text("")


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("PANGU_RL_CACHE", str(tmp_path / "cache"))
    monkeypatch.chdir(tmp_path)
    return tmp_path / "cache"


@pytest.mark.parametrize("name", [".", "mine", "mine/file"])
def test_what_the_user_has_there_is_left_alone(tmp_path: Path, name: str) -> None:
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "file").write_text("thesis")
    with pytest.raises(ConfigError, match="holds something already: name a new folder"):
        fill(Path(name))
    assert [path.name for path in tmp_path.rglob("*")] == ["mine", "file"]
    with pytest.raises(ConfigError, match="mine/file/x: Not a directory: name another folder"):
        fill(Path("mine/file/x"))


def test_an_empty_folder_a_new_one_and_one_of_the_cache_are_filled(tmp_path: Path, cache: Path) -> None:
    (tmp_path / "empty").mkdir()
    (cache / "old").mkdir(parents=True)
    (cache / "old" / "earlier").write_text("")
    for folder in (tmp_path / "empty", tmp_path / "new/one", cache / "old"):
        fill(folder)
        assert [path.name for path in folder.iterdir()] == ["new"]
