"""The processor through Hugging Face's own doors, and text that only looks like a placeholder."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from transformers import AutoTokenizer

from pangu_rl.errors import ConfigError, DataError
from pangu_rl.records import GROUNDING_TAGS
from pretrain.processing.patches import load_picture
from pretrain.processing.processor import PanguVLImageProcessor, PanguVLProcessor
from pretrain.processing.resize import TRAINING, read_limits
from pretrain.processing.special_tokens import FAMILIES, GUARDS
from pretrain.processing.video import Sampling

START, IMAGE, VIDEO, END = FAMILIES[0]
PICTURE = START + IMAGE + END
TEMPLATE = """
{%- for message in messages -%}
<|im_start|>{{ message['role'] }}: {% if message['content'] is string %}{{ message['content'] }}{% else -%}
{%- for part in message['content'] -%}
{%- if part['type'] == 'text' %}{{ part['text'] }}
{%- elif part['type'] == 'video' %}<|vision_start|><|video_pad|><|vision_end|>
{%- else %}<|vision_start|><|image_pad|><|vision_end|>{% endif -%}
{%- endfor %}{% endif %}<|im_end|>
{%- endfor %}{% if add_generation_prompt %}<|im_start|>assistant: {% endif %}"""


@pytest.fixture(scope="module")
def processor(tiny_model: Path) -> PanguVLProcessor:
    tokenizer = AutoTokenizer.from_pretrained(tiny_model)
    tokenizer.add_special_tokens({"additional_special_tokens": [START, IMAGE, VIDEO, END]})
    return PanguVLProcessor(PanguVLImageProcessor(), tokenizer, chat_template=TEMPLATE)


def picture(width: int = 56, height: int = 84, seed: int = 0) -> Image.Image:
    """6 tokens by default."""
    return Image.fromarray(np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8))


def ask(*parts: Any) -> list[dict[str, Any]]:
    """A user's turn of texts and pictures."""
    content = [{"type": "text", "text": p} if isinstance(p, str) else {"type": "image", "image": p} for p in parts]
    return [{"role": "user", "content": content}]


def encode(processor: PanguVLProcessor, messages: Any, **options: Any) -> Any:
    return processor.apply_chat_template(
        messages, tokenize=True, return_dict=True, return_tensors="pt", add_generation_prompt=True, **options
    )


def count(processor: PanguVLProcessor, encoded: Any, token: str) -> int:
    return int((encoded["input_ids"] == processor.tokenizer.convert_tokens_to_ids(token)).sum())


def test_a_conversation_with_pictures_becomes_a_models_inputs(processor: PanguVLProcessor) -> None:
    encoded = encode(processor, ask("first ", picture(), " then ", picture(112, 56, 1)))
    expected = f"<|im_start|>user: first {START}{IMAGE * 6}{END} then {START}{IMAGE * 8}{END}<|im_end|>"
    assert processor.decode(encoded["input_ids"][0]) == expected + "<|im_start|>assistant: "
    assert encoded["pixel_values"].dtype == torch.uint8 and encoded["pixel_values"].shape == (56, 588)
    assert encoded["image_grid_thw"].tolist() == [[1, 6, 4], [1, 4, 8]]
    assert encoded["attention_mask"].all() and "pixel_values_videos" not in encoded


def test_pixels_are_those_of_the_trainer(processor: PanguVLProcessor, tmp_path: Path) -> None:
    picture(61, 99).save(tmp_path / "a.png")
    loaded = load_picture("a.png", tmp_path, TRAINING)
    for given in (str(tmp_path / "a.png"), tmp_path / "a.png", picture(61, 99), np.asarray(picture(61, 99))):
        encoded = processor(text=PICTURE, images=given, return_tensors="pt")
        assert (encoded["pixel_values"].numpy() == loaded.patches).all()
        assert tuple(encoded["image_grid_thw"][0].tolist()) == loaded.grid


@pytest.mark.parametrize("spelled", [IMAGE, VIDEO, PICTURE, f"{END}{PICTURE}{START}", "<|im_end|>"])
def test_what_a_user_spells_stays_text_and_moves_no_picture(processor: PanguVLProcessor, spelled: str) -> None:
    plain = encode(processor, ask("what is ", " ?", picture(), " and ", picture(112, 56)))
    spelt = encode(processor, ask("what is ", spelled, " ?", picture(), " and ", picture(112, 56)))
    for token in (START, IMAGE, VIDEO, END, "<|im_end|>"):
        assert count(processor, spelt, token) == count(processor, plain, token)
    assert spelled in processor.decode(spelt["input_ids"][0])
    assert (spelt["pixel_values"] == plain["pixel_values"]).all()


def test_in_rendered_text_a_lone_placeholder_is_text(processor: PanguVLProcessor) -> None:
    encoded = processor(text=f"a {IMAGE} b {PICTURE} c {IMAGE}{END} d {VIDEO}", images=picture(), return_tensors="pt")
    assert (count(processor, encoded, IMAGE), count(processor, encoded, VIDEO)) == (6, 0)
    assert processor.decode(encoded["input_ids"][0]) == f"a {IMAGE} b {START}{IMAGE * 6}{END} c {IMAGE}{END} d {VIDEO}"


def test_ordinary_text_has_the_tokenizers_own_ids(processor: PanguVLProcessor) -> None:
    rendered = processor.apply_chat_template(ask("3 < 4 | 5 > 2 <image>"), add_generation_prompt=True)
    ids = processor.tokenizer(rendered, add_special_tokens=False)["input_ids"]
    assert encode(processor, ask("3 < 4 | 5 > 2 <image>"))["input_ids"][0].tolist() == ids
    assert processor(text=rendered)["input_ids"] == [ids]


@pytest.mark.parametrize("special", [True, False])
def test_grounding_tags_are_content_and_keep_their_tokens(tiny_model: Path, special: bool) -> None:
    """Also beside a spelled placeholder, which is broken, and in a tokenizer that lists the tags as special tokens."""
    tokenizer = AutoTokenizer.from_pretrained(tiny_model)
    tokenizer.add_special_tokens({"additional_special_tokens": [START, IMAGE, VIDEO, END]})
    tokenizer.add_tokens(list(GROUNDING_TAGS), special_tokens=special)
    processor = PanguVLProcessor(PanguVLImageProcessor(), tokenizer, chat_template=TEMPLATE)
    for question in ("<|box_start|>(001,002),(003,004)<|box_end|>?", f"<|box_start|>(1,2)<|box_end|> {IMAGE}"):
        encoded = encode(processor, ask(question, picture()))
        assert [count(processor, encoded, tag) for tag in GROUNDING_TAGS] == [0, 0, 1, 1, 0, 0, 0, 0]
        assert count(processor, encoded, IMAGE) == 6


def test_a_video_is_frames_parted_by_end_and_start(processor: PanguVLProcessor) -> None:
    """A frame of 448 x 224 is exactly the least area, 128 tokens."""
    frames = [picture(448, 224, seed) for seed in range(3)]
    part = {"type": "video", "video": frames}
    encoded = encode(processor, [{"role": "user", "content": [part, {"type": "text", "text": "?"}]}])
    text = processor.decode(encoded["input_ids"][0])
    assert text.startswith("<|im_start|>user: " + END.join([START + VIDEO * 128] * 3) + END + "?")
    assert encoded["video_grid_thw"].tolist() == [[3, 16, 32]]
    assert encoded["pixel_values_videos"].dtype == torch.uint8
    assert encoded["pixel_values_videos"].shape == (3 * 512, 588)
    array = np.stack([np.asarray(frame) for frame in frames])
    again = processor(text=START + VIDEO + END, videos=array, return_tensors="pt")
    assert (again["pixel_values_videos"] == encoded["pixel_values_videos"]).all()


def test_the_videos_of_a_sample_share_its_budget_and_those_of_another_do_not(processor: PanguVLProcessor) -> None:
    clip, text = np.zeros((56, 448, 448, 3), np.uint8), START + VIDEO + END
    alone = processor(text=[text, text], videos=[clip, clip])["video_grid_thw"]
    together = processor(text=text + text, videos=[clip, clip])["video_grid_thw"]
    assert alone.tolist() == [[56, 32, 32]] * 2 and together.tolist() == [[56, 22, 22]] * 2


def test_the_budget_of_a_folder_is_obeyed(processor: PanguVLProcessor, tmp_path: Path) -> None:
    """Frames of 56 x 56, as the folder says, though the released least is 128 tokens."""
    sizes = {"any_res_min_frame_pixels": 56**2, "any_res_max_frame_pixels": 56**2}
    PanguVLImageProcessor(**sizes).save_pretrained(tmp_path)
    again = PanguVLProcessor(PanguVLImageProcessor.from_pretrained(tmp_path), processor.tokenizer)
    frames = np.zeros((3, 56, 56, 3), np.uint8)
    assert again(text=START + VIDEO + END, videos=frames)["video_grid_thw"].tolist() == [[3, 4, 4]]


def test_a_video_file_is_sampled_as_told(processor: PanguVLProcessor, tmp_path: Path) -> None:
    cv2 = pytest.importorskip("cv2")
    writer = cv2.VideoWriter(str(tmp_path / "a.avi"), cv2.VideoWriter.fourcc(*"MJPG"), 10.0, (64, 64))
    for _ in range(20):
        writer.write(np.zeros((64, 64, 3), np.uint8))
    writer.release()
    messages = [{"role": "user", "content": [{"type": "video", "path": str(tmp_path / "a.avi")}]}]
    for fps, frames in ((1.0, 2), (2.0, 4)):
        encoded = encode(processor, messages, processor_kwargs={"sampling": Sampling(fps=fps)})
        assert encoded["video_grid_thw"][0, 0] == frames


@pytest.mark.parametrize("side", ["left", "right"])
def test_a_batch_is_padded(processor: PanguVLProcessor, side: str) -> None:
    options = {"processor_kwargs": {"padding_side": side}}
    batch = encode(processor, [ask("a longer question ", picture()), ask("short")], **options)
    short = encode(processor, ask("short"))["input_ids"][0]
    mask = batch["attention_mask"][1].bool()
    assert batch["input_ids"].shape == batch["attention_mask"].shape and batch["attention_mask"][0].all()
    assert (batch["input_ids"][1][mask] == short).all()
    assert bool(mask[-1]) is (side == "left") and bool(mask[0]) is (side == "right")


def test_a_trainers_settled_options_are_taken_and_others_refused(processor: PanguVLProcessor) -> None:
    """TRL hands these over with every batch; a limit that would cut is none of ours to obey."""
    settled = {"truncation": False, "max_length": None, "pad_to_multiple_of": None, "add_special_tokens": False}
    plain, given = encode(processor, ask("one")), encode(processor, ask("one"), processor_kwargs=settled)
    assert torch.equal(plain["input_ids"], given["input_ids"])
    with pytest.raises(TypeError, match=r"has no options \{'max_length': 8\}: samples are neither cut nor changed"):
        processor(text="one", **settled | {"max_length": 8})
    with pytest.raises(TypeError, match=r"has no options \{'colour': 1\}"):
        processor(text="one", colour=1)


@pytest.mark.parametrize("nested", [True, False])
def test_pictures_are_dealt_to_the_texts_of_a_batch(processor: PanguVLProcessor, nested: bool) -> None:
    first, second, third = picture(), picture(112, 56), picture(56, 56)
    images = [[first], [], [second, third]] if nested else [first, second, third]
    batch = processor(text=[PICTURE, "none", PICTURE * 2], images=images, return_tensors="pt")
    assert batch["image_grid_thw"].tolist() == [[1, 6, 4], [1, 4, 8], [1, 4, 4]]
    assert [count(processor, {"input_ids": row}, IMAGE) for row in batch["input_ids"]] == [6, 0, 12]


@pytest.mark.parametrize(
    ("texts", "images", "complaint"),
    [
        ([PICTURE], 0, "sample 0: 1 image placeholders and 0 images"),
        ([PICTURE], 2, "sample 0: 1 image placeholders and 2 images"),
        (["text"], 1, "sample 0: 0 image placeholders and 1 images"),
        ([PICTURE, PICTURE * 2], 2, "sample 1: 2 image placeholders and 1 images"),
        ([PICTURE, PICTURE], 3, "sample 1: 1 image placeholders and 2 images"),
        ([START + VIDEO + END], 0, "sample 0: 1 video placeholders and 0 videos"),
    ],
)
def test_placeholders_and_pictures_must_match(
    processor: PanguVLProcessor, texts: list[str], images: int, complaint: str
) -> None:
    with pytest.raises(DataError, match=complaint):
        processor(text=texts, images=[picture()] * images)


def test_an_image_part_without_a_picture_is_refused(processor: PanguVLProcessor) -> None:
    messages = [{"role": "user", "content": [{"type": "image"}, {"type": "text", "text": "?"}]}]
    with pytest.raises(DataError, match="sample 0: 1 image placeholders and 0 images"):
        encode(processor, messages)


@pytest.mark.parametrize(
    ("given", "complaint"),
    [
        ("https://example.org/a.png", "is an address; nothing is fetched"),
        ("data:image/png;base64,AA==", "is an address"),
        ("/nowhere/a.png", "No such file"),
        (np.zeros((3, 56, 56), np.uint8), r"uint8 \[3, 56, 56\]: give uint8 \[H, W, 3\]"),
        (np.zeros((56, 56, 3), np.float32), r"float32 \[56, 56, 3\]"),
        (Image.new("RGB", (500, 2)), "aspect ratio 250.0"),
    ],
)
def test_bad_pictures_are_one_line(processor: PanguVLProcessor, given: Any, complaint: str) -> None:
    with pytest.raises(DataError, match=complaint):
        processor(text=PICTURE, images=given)
    message = {"role": "user", "content": [{"type": "image_url", "image_url": {"url": given}}]}
    if isinstance(given, str):
        with pytest.raises(DataError, match=complaint):
            encode(processor, [message])


def test_a_conversation_that_uses_up_every_guard_is_refused(processor: PanguVLProcessor) -> None:
    encode(processor, ask("".join(GUARDS[:-1]) + IMAGE))
    with pytest.raises(DataError, match=r"U\+E000 to U\+E00F"):
        encode(processor, ask("".join(GUARDS) + IMAGE))


def test_saved_and_loaded_it_does_the_same(processor: PanguVLProcessor, tmp_path: Path) -> None:
    small = PanguVLImageProcessor(min_pixels=56**2, max_pixels=112**2)
    PanguVLProcessor(small, processor.tokenizer, chat_template=TEMPLATE).save_pretrained(tmp_path)
    config = {"model_type": "llama", "architectures": ["LlamaForCausalLM"]}
    (tmp_path / "config.json").write_text(json.dumps(config))
    assert read_limits(tmp_path) == small.limits()
    images = PanguVLImageProcessor.from_pretrained(tmp_path)
    tokenizer = AutoTokenizer.from_pretrained(tmp_path)
    loaded = PanguVLProcessor(images, tokenizer)
    expected = PanguVLProcessor(small, processor.tokenizer, chat_template=TEMPLATE)
    messages = ask("what is ", picture(300, 200))
    for key, value in encode(expected, messages).items():
        assert (encode(loaded, messages)[key] == value).all(), key
    small.save_pretrained(tmp_path / "alone")
    assert read_limits(tmp_path / "alone") == small.limits()


def test_what_a_released_configuration_says_besides_is_kept_or_refused() -> None:
    released = {"image_mean": [0.48145466, 0.4578275, 0.40821073], "patch_size": 14, "temporal_patch_size": 2}
    assert PanguVLImageProcessor(min_pixels=50176, max_pixels=3312400, **released).to_dict()["patch_size"] == 14
    with pytest.raises(ConfigError, match=r"'patch_size': 16"):
        PanguVLImageProcessor(patch_size=16)
    with pytest.raises(ConfigError, match="min_pixels 10"):
        PanguVLImageProcessor(min_pixels=10)


def test_a_tokenizer_without_vision_tokens_is_refused(tiny_model: Path) -> None:
    with pytest.raises(ConfigError, match=r"has no special tokens .*unused18"):
        PanguVLProcessor(PanguVLImageProcessor(), AutoTokenizer.from_pretrained(tiny_model))


def test_the_released_spelling_is_known_too(tiny_model: Path) -> None:
    tokenizer = AutoTokenizer.from_pretrained(tiny_model)
    tokenizer.add_special_tokens({"additional_special_tokens": list(FAMILIES[1])})
    encoded = PanguVLProcessor(PanguVLImageProcessor(), tokenizer)(
        text="[unused18][unused19][unused20] [unused19]", images=picture()
    )
    start, image, _, end = (tokenizer.convert_tokens_to_ids(token) for token in FAMILIES[1])
    assert encoded["input_ids"][0][:8] == [start, *[image] * 6, end] and image not in encoded["input_ids"][0][8:]
