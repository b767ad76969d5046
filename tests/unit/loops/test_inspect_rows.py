"""What `pangu-rl inspect` shows is what the stages would train on."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from pangu_rl.config.sections.rows import RowsConfig
from pangu_rl.data.encoding import Encoder
from pangu_rl.data.pictures import PictureFolder
from pangu_rl.loops.inspect_rows import PICTURE, REJECTED, TRAINED, Inspection, inspect_rows
from tests.unit.data.vl_folder import build_vl_folder, draw
from tests.unit.pretrain.processing.drawn_videos import draw_video


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build_vl_folder(tmp_path_factory.mktemp("vl"))


@pytest.fixture(scope="module")
def encoder(model: Path) -> Encoder:
    return Encoder(model)


def inspected(folder: Path, model: Path, encoder: Encoder, stage: str, *rows: dict) -> Inspection:
    draw(folder / "a.png", 56, 56, seed=1)
    path = folder / "rows.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    pictures = PictureFolder(str(folder), model, encoder.family)
    return inspect_rows(path, stage, encoder, pictures, data=RowsConfig(), rows=1)


def of_style(found: Inspection, style: str) -> str:
    text = found.shown[0][1]
    return "".join(text.plain[span.start : span.end] for span in text.spans if span.style == style)


def test_trained_tokens_and_pictures_stand_out(tmp_path: Path, model: Path, encoder: Encoder) -> None:
    row = {"prompt": "See <image>?", "response": "A square.", "images": ["a.png"]}
    found = inspected(tmp_path, model, encoder, "sft", row, {**row, "response": " "}, {**row, "response": ""})
    assert of_style(found, TRAINED) == "A square.<|im_end|>"
    assert of_style(found, PICTURE) == "[a.png: 4 tokens]"
    [(count, first)] = found.refused.values()
    assert count == 2
    assert "row 2: the last assistant turn is empty" in first
    assert found.as_dict()["rows"] == 1
    assert found.as_dict()["trained_tokens"] == len(
        encoder.template.encode_response([{"role": "user", "content": "?"}], "A square.")
    )


def test_a_video_stands_at_its_first_frame(tmp_path: Path, model: Path, encoder: Encoder) -> None:
    """Six frames of 4 tokens, then a picture of 4."""
    draw_video(tmp_path / "v.mp4", range(0, 240, 4))
    row = {
        "prompt": "<video><image>?",
        "response": "A.",
        "videos": ["v.mp4"],
        "images": ["a.png"],
        "time_precise": True,
    }
    found = inspected(tmp_path, model, encoder, "sft", row)
    assert of_style(found, PICTURE) == "[v.mp4: 24 tokens][a.png: 4 tokens]"


def test_pairs_show_both_answers_and_prompts_their_gold(tmp_path: Path, model: Path, encoder: Encoder) -> None:
    pair = {"prompt": "?", "chosen": "yes", "rejected": "no"}
    found = inspected(tmp_path, model, encoder, "dpo", pair)
    assert (of_style(found, TRAINED), of_style(found, REJECTED)) == ("yes<|im_end|>", "no<|im_end|>")
    found = inspected(tmp_path, model, encoder, "grpo", {"problem": "1 + 1?", "answer": 2})
    assert found.shown[0][1].plain.endswith("answer (auto): 2")
    assert found.notes == ["rows.jsonl: its rows are read as easyr1"]
