"""Hub ids: from a hub cache that is made up here, never over a network."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import huggingface_hub
import pytest
from huggingface_hub import constants

from pangu_rl.accelerators import get_accelerator
from pangu_rl.checkpoint.run_model import with_start
from pangu_rl.config.assemble import AssembleConfig
from pangu_rl.config.names.hub import cached, fetched, is_hub_id
from pangu_rl.config.names.named_files import missing_files, travelling
from pangu_rl.config.sections.scorers import ScorerConfig, ScorerEngineConfig
from pangu_rl.config.stages import SftConfig
from pangu_rl.errors import ConfigError
from pangu_rl.loops.actors import scorer_engine
from pretrain.train.run_assemble import run_assemble

NAME, REVISION = "Acme/Tiny-1B", "a" * 40


@pytest.fixture(autouse=True)
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty hub cache, and nobody to ask."""
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.chdir(tmp_path)
    return tmp_path / "hub"


def lay(hub: Path, *, shards: int = 2, present: int = 2) -> Path:
    """The cache as `hf download Acme/Tiny-1B` leaves it: blobs, a snapshot of links to them, and `main`."""
    home = hub / "models--Acme--Tiny-1B"
    snapshot = home / "snapshots" / REVISION
    snapshot.mkdir(parents=True)
    (home / "blobs").mkdir()
    (home / "refs").mkdir()
    (home / "refs" / "main").write_text(REVISION)
    names = [f"model-{index}.safetensors" for index in range(shards)]
    files = {"config.json": "{}", "model.safetensors.index.json": json.dumps({"weight_map": dict(enumerate(names))})}
    for name, text in {**files, **dict.fromkeys(names[:present], "x")}.items():
        (home / "blobs" / name).write_text(text)
        (snapshot / name).symlink_to(Path("../../blobs") / name)
    return snapshot


def config(path: str = NAME) -> SftConfig:
    return SftConfig.model_validate(
        {"model": {"path": path}, "data": {"train": "t"}, "trainer": {"run_dir": "r", "steps": 1}}
    )


@pytest.mark.parametrize(
    ("path", "is_one"),
    [
        (NAME, True),
        ("Qwen/Qwen2.5-0.5B-Instruct@v1.0", True),
        ("cache://models/m", False),
        ("s3://bucket/m", False),
        ("/models/m", False),
        ("./models/m", False),
        ("../m", False),
        ("runs/a/b", False),
        ("model", False),
    ],
)
def test_what_looks_like_a_name_on_the_hub(path: str, is_one: bool) -> None:
    assert is_hub_id(path) is is_one


def test_a_folder_of_that_name_goes_before(tmp_path: Path) -> None:
    (tmp_path / NAME).mkdir(parents=True)
    assert not is_hub_id(NAME)


def test_a_stage_starts_from_the_cache(hub: Path) -> None:
    snapshot = lay(hub)
    assert cached(NAME) == cached(f"{NAME}@main") == snapshot
    assert with_start(config()).model.path == str(snapshot)
    assert not [line for line in missing_files(config()) if line.startswith("model")]
    assert NAME not in travelling(config())


def test_half_a_download_is_none(hub: Path) -> None:
    lay(hub, present=1)
    assert cached(NAME) is None


def test_offline_it_is_one_line_with_the_command(hub: Path) -> None:
    with pytest.raises(ConfigError) as caught:
        with_start(config(f"{NAME}@v2"))
    said = str(caught.value)
    assert said.startswith(f"model.path {NAME}@v2: no such folder, and no such model in the hub cache {hub}")
    assert f"HF_HUB_OFFLINE forbids to fetch it: run `hf download {NAME} --revision v2`" in said
    assert f"model.path {NAME}" in missing_files(config())[0]


def test_what_the_network_allows_is_fetched_once(hub: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """`snapshot_download` is asked first of the cache alone, then of the hub without folders and other formats."""
    calls = []

    def download(name: str, **how) -> str:
        calls.append(how)
        if how.get("local_files_only"):
            raise huggingface_hub.errors.LocalEntryNotFoundError("not here")
        return str(lay(hub))

    monkeypatch.setenv("HF_HUB_OFFLINE", "0")
    monkeypatch.setattr(huggingface_hub, "snapshot_download", download)
    assert fetched(NAME).name == REVISION
    assert "*.safetensors" in calls[1]["allow_patterns"]
    assert calls[1]["ignore_patterns"] == ["*/*"]


def test_a_failed_download_says_what_was_said(monkeypatch: pytest.MonkeyPatch) -> None:
    def download(name: str, **how) -> str:
        if how.get("local_files_only"):
            raise huggingface_hub.errors.LocalEntryNotFoundError("not here")
        raise OSError("Name or service not known\nmore")

    monkeypatch.setenv("HF_HUB_OFFLINE", "")
    monkeypatch.setattr(huggingface_hub, "snapshot_download", download)
    with pytest.raises(
        ConfigError, match=rf"fetching it failed \(Name or service not known\): try `hf download {NAME}`"
    ):
        fetched(NAME)


PARTS = ("shape", "encoder", "connector", "language", "tokenizer", "processor")


def assembly(run_dir: Path, **others: str) -> AssembleConfig:
    return AssembleConfig.model_validate(dict.fromkeys(PARTS, NAME) | others | {"trainer": {"run_dir": str(run_dir)}})


def test_parts_of_a_model_are_of_the_cache_too(hub: Path, tmp_path: Path, tiny_vl_model: Path) -> None:
    snapshot = lay(hub, shards=0)
    shutil.rmtree(snapshot)
    shutil.copytree(tiny_vl_model, snapshot)
    assert not missing_files(assembly(tmp_path / "run"))
    assert not travelling(assembly(tmp_path / "run"))
    assert run_assemble(assembly(tmp_path / "run"))["random"] == []


@pytest.mark.parametrize("part", PARTS)
def test_a_part_that_is_nowhere_is_named_with_the_command(
    hub: Path, tmp_path: Path, tiny_vl_model: Path, part: str
) -> None:
    others = dict.fromkeys(set(PARTS) - {part}, str(tiny_vl_model))
    with pytest.raises(ConfigError, match=f"^{part} {NAME}: no such folder.* run `hf download {NAME}`"):
        run_assemble(assembly(tmp_path / "run", **others))
    assert missing_files(assembly(tmp_path / "run", **others)) == [f"{part} {NAME}"]


def test_a_scorer_of_ours_is_of_the_cache_too(hub: Path) -> None:
    scorer = ScorerConfig(name="judge", model=NAME, engine=ScorerEngineConfig())
    with pytest.raises(ConfigError, match=f"^scorer judge: model {NAME}: no such folder.* run `hf download {NAME}`"):
        scorer_engine._spec(scorer, get_accelerator("cpu"))
    snapshot = lay(hub)
    assert scorer_engine._spec(scorer, get_accelerator("cpu")).model_path == snapshot
