"""Rows with pictures for the loops: decoded once, put once, the same as at the audit."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import ray

from pangu_rl.data.conversations import Conversation
from pangu_rl.data.encoding import Encoder
from pangu_rl.data.pictures import PictureFolder
from pangu_rl.data.prompts import parse_prompt, readable
from pangu_rl.errors import DataError
from pangu_rl.loops.online.weight_sync import Probe
from pangu_rl.loops.pictures import RowLoader
from pangu_rl.records import Prompt
from tests.unit.data.vl_folder import PAD, VIDEO, build_vl_folder, draw
from tests.unit.pretrain.processing.drawn_videos import draw_video

QUESTION = ({"role": "user", "content": "Which colour?"},)


@pytest.fixture(scope="module")
def encoder(tmp_path_factory: pytest.TempPathFactory) -> Encoder:
    return Encoder(build_vl_folder(tmp_path_factory.mktemp("vl")))


@pytest.fixture
def media(tmp_path: Path) -> Path:
    draw(tmp_path / "a.png", 56, 84, seed=1)
    draw(tmp_path / "b.png", 112, 56, seed=2)
    (tmp_path / "twin.png").write_bytes((tmp_path / "a.png").read_bytes())
    return tmp_path


class Shelf:
    """In place of Ray's object store: remembers what was put."""

    def __init__(self) -> None:
        self.put_arrays: list[np.ndarray] = []

    def put(self, array: np.ndarray) -> str:
        self.put_arrays.append(array)
        return f"handle {len(self.put_arrays)}"


def loader(encoder: Encoder, media: Path, put: Any) -> RowLoader:
    folder = PictureFolder(str(media), encoder.template.model_path, encoder.family)
    return RowLoader(encoder, folder, folder.audit([prompt("all", "a.png", "b.png", "twin.png")]).digests, put)


def prompt(uid: str, *images: str) -> Prompt:
    return Prompt(uid=uid, messages=QUESTION, answer="red", images=images)


def test_each_picture_is_decoded_and_put_once_per_call(
    encoder: Encoder, media: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Three rows name a.png, one its twin of the same bytes: two objects, one of them shared by both names."""
    shelf = Shelf()
    rows = loader(encoder, media, shelf.put)
    loads: list[str] = []
    original = rows.folder.load
    monkeypatch.setattr(rows.folder, "load", lambda path: loads.append(path) or original(path))
    first, second, third, none = rows.prompts(
        [prompt("1", "a.png"), prompt("2", "b.png", "a.png"), prompt("3", "twin.png", "a.png"), prompt("4")]
    )
    assert sorted(loads) == ["a.png", "b.png", "twin.png"]
    assert [array.shape for array in shelf.put_arrays] == [(24, 588), (32, 588)]
    assert [picture.patches for picture in second.pictures] == ["handle 2", "handle 1"]
    assert [picture.patches for picture in third.pictures] == ["handle 1", "handle 1"]
    assert first.pictures[0] is second.pictures[1]
    assert [row.token_ids.count(PAD) for row in (first, second, third, none)] == [6, 14, 12, 0]
    assert none.pictures == ()


def test_a_video_is_decoded_once_for_each_way_of_seeing_it(encoder: Encoder, media: Path) -> None:
    """Two times share their six frames; another row sees the file at a rate of its own."""
    draw_video(media / "v.mp4", range(0, 240, 4))
    shelf = Shelf()
    row = {"prompt": "when?", "answer": "1", "videos": ["v.mp4"]}
    shown = [parse_prompt(row | {"time_precise": True}, uid) for uid in ("1", "2")] + [parse_prompt(row, "3")]
    folder = PictureFolder(str(media), encoder.template.model_path, encoder.family)
    rows = RowLoader(encoder, folder, folder.audit(shown).digests, shelf.put)
    first, second, third = rows.prompts(shown)
    assert first.pictures[0] is second.pictures[0] and first.pictures[0].grid == (6, 4, 4)
    assert third.pictures[0].sha256 != first.pictures[0].sha256 and len(shelf.put_arrays) == 2
    assert first.token_ids.count(VIDEO) == 24
    draw_video(media / "v.mp4", range(0, 240, 5))
    with pytest.raises(DataError, match=r"video 'v\.mp4' in .* has changed since the run began: sha256"):
        RowLoader(
            encoder, PictureFolder(str(media), encoder.template.model_path, encoder.family), rows.digests
        ).prompts(shown)


def test_conversations_carry_theirs(encoder: Encoder, media: Path) -> None:
    turns = (*QUESTION, {"role": "assistant", "content": "Red."})
    [row] = loader(encoder, media, Shelf().put).conversations(
        [Conversation(uid="c", messages=turns, images=("a.png",))]
    )
    assert [picture.path for picture in row.pictures] == ["a.png"]
    assert any(row.trained) and row.positions.shape == (3, len(row.token_ids))


@pytest.mark.parametrize(
    ("spoil", "reason"),
    [
        (lambda path: path.unlink(), r"picture 'a\.png': No such file.* sound when the run began: put it back"),
        (lambda path: path.write_bytes(b"\x89PNG"), r"picture 'a\.png': .* sound when the run began: put it back"),
        (lambda path: draw(path, 56, 84, seed=9), r"picture 'a\.png' in .* has changed since the run began: sha256"),
    ],
    ids=["gone", "cut", "another"],
)
def test_a_picture_that_is_not_the_audited_one_ends_in_one_line(
    encoder: Encoder, media: Path, spoil: Any, reason: str
) -> None:
    rows = loader(encoder, media, Shelf().put)
    spoil(media / "a.png")
    with pytest.raises(DataError, match=reason) as caught:
        rows.prompts([prompt("1", "b.png"), prompt("2", "a.png")])
    assert "\n" not in str(caught.value)


def test_the_probe_shows_a_picture_when_the_set_has_one(encoder: Encoder, media: Path) -> None:
    rows = loader(encoder, media, Shelf().put)
    prompts = [prompt("1"), prompt("2"), prompt("3"), prompt("4", "a.png")]
    probe = Probe.of(prompts, rows, 0.1)
    assert [[picture.path for picture in shown.pictures] for shown in probe.sequences] == [["a.png"], []]
    shown, plain = (sequence.token_ids for sequence in probe.sequences)
    assert probe.pack.token_ids.tolist() == [*shown, *plain]
    assert probe.pack.sequence_ids.tolist() == [0] * (len(shown) - 1) + [1] * (len(plain) - 1)
    assert len(probe.pack.picture_tokens) == 6 and probe.pack.picture_tokens.max() < len(shown)
    assert probe.pack.position_ids.shape[0] == 3
    assert [len(Probe.of(prompts[:n], rows, 0.1).sequences) for n in (1, 2, 3)] == [1, 2, 2]


def test_a_sample_names_its_pictures() -> None:
    assert readable(prompt("1", "a/b.png")) == "[picture a/b.png]\nWhich colour?"
    parts = ({"role": "user", "content": [{"type": "text", "text": "Is"}, {"type": "image"}]},)
    assert readable(Prompt(uid="1", messages=parts, answer="x", images=("c.png",))) == "[picture c.png]\nIs"


@pytest.fixture
def runtime() -> Iterator[None]:
    ray.init(address="local", num_cpus=1, include_dashboard=False, object_store_memory=100 << 20)
    yield
    ray.shutdown()


def test_pixels_travel_by_reference_and_go_with_their_last_record(runtime: None, encoder: Encoder, media: Path) -> None:
    rows = loader(encoder, media, ray.put)
    drawn = rows.prompts([prompt("1", "a.png"), prompt("2", "a.png")])
    handle = drawn[0].pictures[0].patches
    assert drawn[1].pictures[0].patches is handle
    assert np.array_equal(ray.get(handle), rows.folder.load("a.png").patches)
    from ray._private.internal_api import memory_summary

    name, cluster = handle.hex(), ray.get_runtime_context().gcs_address
    assert name in memory_summary(cluster, stats_only=False)
    del drawn, handle
    assert name not in memory_summary(cluster, stats_only=False)
