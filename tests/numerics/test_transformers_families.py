"""transformers' vision-language models, packed, against transformers alone: its processor, its positions, its forward.

Nothing of the reference is ours: pictures go through the family's image processor (the one of Pillow), positions and
log-probs come from the model's own forward with eager attention, a sequence at a time, in float32.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file
from torch import Tensor
from transformers import AutoModelForImageTextToText, PreTrainedModel
from transformers.models.clip.image_processing_pil_clip import CLIPImageProcessorPil
from transformers.models.got_ocr2.image_processing_pil_got_ocr2 import GotOcr2ImageProcessorPil
from transformers.models.qwen2_vl.image_processing_pil_qwen2_vl import Qwen2VLImageProcessorPil

from pangu_rl.checkpoint.model_folder import model_config
from pangu_rl.config.sections.learner import LearnerConfig
from pangu_rl.config.sections.model import ModelConfig
from pangu_rl.errors import ConfigError, DataError
from pangu_rl.learner.checks.packing_check import check_packing
from pangu_rl.learner.checks.trial_pack import trial_pack
from pangu_rl.learner.model import PackedCausalLM, PackTensors, load_causal_lm
from pangu_rl.learner.packed_attention import attend_by
from pangu_rl.learner.parts import freeze_parts
from pangu_rl.learner.pictures import family_of_model
from pangu_rl.records import Group, Pack, Picture
from pretrain.families import family_of, tower_attention
from pretrain.families.family import Family
from pretrain.processing.resize import PixelLimits
from tests.family_builders import KINDS, build_tiny_family
from tests.unit.data.groups import make_group, pack_groups

NATS = 1e-5
"""A log-prob of 11 in float32 is known to 1e-6. Other positions, patches or features move one by more than 0.001."""
GRADIENT = 1e-5
PROCESSORS = {"internvl": GotOcr2ImageProcessorPil, "llava": CLIPImageProcessorPil}
SIZES = {"small": (60, 60), "wide": (250, 90), "tall": (70, 300), "large": (640, 480)}
"""Width and height in pixels; the large one is scaled down to the limit."""


@dataclass(frozen=True)
class Case:
    """A model of a family with what reads its pictures."""

    folder: Path
    lm: PreTrainedModel
    family: Family
    processor: Any
    """transformers' image processor."""


@pytest.fixture(scope="module", params=list(KINDS))
def case(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Case:
    folder = build_tiny_family(tmp_path_factory.mktemp(request.param), request.param)
    lm = load_causal_lm(ModelConfig(path=str(folder), dtype="float32"))
    processor = PROCESSORS.get(request.param, Qwen2VLImageProcessorPil).from_pretrained(folder)
    return Case(folder, lm, family_of_model(lm), processor)


@cache
def image(name: str) -> Image.Image:
    width, height = SIZES[name]
    pixels = np.random.default_rng(len(name) + width).integers(0, 256, (height, width, 3), dtype=np.uint8)
    return Image.fromarray(pixels)


def cut(case: Case, name: str) -> Picture:
    shown, limits = image(name), case.family.limits
    grid = case.family.grid(shown.height, shown.width, limits)
    return case.family.picture(case.family.cut(shown, limits), grid, name, name)


def as_processed(case: Case, images: list[Image.Image]) -> dict[str, Tensor]:
    return dict(case.processor(images, return_tensors="pt"))


def own_grid(case: Case, one: Image.Image) -> list[int]:
    """By transformers' processor: grids of its own, or squares of 4 x 4 patches."""
    found = as_processed(case, [one])
    return found["image_grid_thw"][0].tolist() if "image_grid_thw" in found else [len(found["pixel_values"]), 4, 4]


def group(case: Case, name: str, shown: Sequence[str], lengths: Sequence[int]) -> Group:
    """Words, every picture between its marks, words; then completions of random words."""
    rng, pictures = np.random.default_rng(len(name)), [cut(case, one) for one in shown]

    def words(count: int) -> list[int]:
        return rng.integers(100, 40_000, count).tolist()

    prompt = words(4)
    for _ in shown:
        prompt += [*case.family.written, *words(1)]
    grids = [picture.grid for picture in pictures]
    ids, _ = case.family.expanded(prompt + words(3), grids)
    drawn = make_group(name, 1, lengths, rng.normal(size=len(lengths)).tolist())
    drawn.prompt_token_ids = tuple(ids.tolist())
    drawn.prompt_positions = case.family.positions(ids, grids)
    drawn.pictures = tuple(pictures)
    drawn.completions = [
        replace(one, token_ids=tuple(words(length)), logprobs=(0.0,) * length)
        for one, length in zip(drawn.completions, lengths, strict=True)
    ]
    return drawn


def run_packed(lm: PreTrainedModel, pack: Pack) -> Tensor:
    batch = PackTensors.of(pack, "cpu")
    with attend_by(batch.layout):
        return PackedCausalLM(lm, temperature=1.0, chunk=7)(batch)[0]


def run_alone(lm: PreTrainedModel, case: Case, groups: Sequence[Group]) -> Tensor:
    """transformers' own log-probs of every completion, in order."""
    found = []
    for one in groups:
        for completion in one.completions:
            ids = torch.tensor([[*one.prompt_token_ids, *completion.token_ids]])
            shown = {}
            if one.pictures:
                shown = as_processed(case, [image(picture.path) for picture in one.pictures])
                shown.pop("num_patches", None)
            if "image_grid_thw" in shown:
                shown["mm_token_type_ids"] = (ids == lm.config.image_token_id).int()
            logits = lm(input_ids=ids, use_cache=False, **shown).logits[0, :-1]
            logp = logits.log_softmax(-1).gather(-1, ids[0, 1:, None])[:, 0]
            found.append(logp[len(one.prompt_token_ids) - 1 :])
    return torch.cat(found)


@pytest.fixture(scope="module")
def own(case: Case) -> PreTrainedModel:
    """The same weights, loaded by transformers alone."""
    return AutoModelForImageTextToText.from_pretrained(
        case.folder, dtype=torch.float32, attn_implementation="eager"
    ).eval()


def mixture(case: Case) -> list[Group]:
    """Prompts with one picture, two sizes, none, and one that another prompt shows too."""
    return [
        group(case, "one", ["wide"], [5, 3, 4]),
        group(case, "no picture", [], [4, 4]),
        group(case, "two of them", ["large", "small"], [6, 2]),
        group(case, "again", ["wide", "tall"], [3]),
    ]


def test_packed_log_probs_and_gradients_are_transformers_own(case: Case, own: PreTrainedModel) -> None:
    """All in one row, prompts once; the loss weighs every target differently."""
    groups = mixture(case)
    [pack] = pack_groups(groups, 10_000, case.family.placeholders)
    packed, alone = run_packed(case.lm, pack), run_alone(own, case, groups)
    packed = packed[np.argsort(pack.sequence_ids, kind="stable")]
    torch.testing.assert_close(packed, alone, atol=NATS, rtol=0)
    weights = torch.linspace(-1, 1, len(alone))
    for lm, logp in ((case.lm, packed), (own, alone)):
        lm.zero_grad()
        (logp * weights).mean().backward()
    expected = {name: parameter.grad for name, parameter in own.named_parameters()}
    for name, parameter in case.lm.named_parameters():
        if expected[name] is not None:  # LLaVA leaves its tower's last layer out
            torch.testing.assert_close(parameter.grad, expected[name], atol=GRADIENT, rtol=1e-3, msg=name)
    towers = (name for name, grad in expected.items() if case.family.part(name) == "encoder" and grad is not None)
    largest = max(expected[name].abs().max() for name in towers)
    assert largest > 50 * GRADIENT, "a gradient of the tower that is lost would not be seen"


def test_each_distinct_picture_is_encoded_once(case: Case, monkeypatch: pytest.MonkeyPatch) -> None:
    groups = mixture(case)
    [pack] = pack_groups(groups, 10_000, case.family.placeholders)
    seen: list[int] = []
    encode = case.family.encode

    def counted(lm: PreTrainedModel, patches: Tensor, grids: Tensor) -> tuple[Tensor, ...]:
        seen.append(len(patches))
        return encode(lm, patches, grids)

    monkeypatch.setattr(case.family, "encode", counted)
    run_packed(case.lm, pack)
    assert seen == [sum(len(cut(case, name).patches) for name in ("wide", "large", "small", "tall"))]


def test_a_pack_without_pictures_runs_the_tower_and_gives_it_no_gradient(case: Case) -> None:
    """Else the ranks of ZeRO 3 would wait for each other's collectives."""
    groups = [group(case, "words", [], [4, 4])]
    [pack] = pack_groups(groups, 10_000, case.family.placeholders)
    case.lm.zero_grad()
    run_packed(case.lm, pack).mean().backward()
    gradients = {name: p.grad for name, p in case.lm.named_parameters() if p.grad is not None}
    assert {case.family.part(name) for name in gradients} == {"encoder", "connector", "language"}
    assert all(not gradient.any() for name, gradient in gradients.items() if case.family.part(name) != "language")


@pytest.mark.parametrize("name", SIZES)
def test_sizes_tokens_and_pixels_are_the_processors(case: Case, name: str) -> None:
    expected, picture = as_processed(case, [image(name)]), cut(case, name)
    assert list(picture.grid) == own_grid(case, image(name))
    found = case.family.pixels(torch.from_numpy(picture.patches))
    torch.testing.assert_close(found, expected["pixel_values"], atol=1e-5, rtol=0)
    assert 4 <= picture.tokens <= 64
    written, lengths = case.family.expanded(case.family.written, [picture.grid])
    assert np.isin(written, list(case.family.placeholders)).sum() == picture.tokens
    assert lengths.sum() == len(written)


@pytest.mark.parametrize(("width", "height"), [(3, 3), (20, 90), (1, 150), (27, 29), (2000, 15), (43, 43), (900, 901)])
def test_odd_sizes_are_shown_as_the_processor_shows_them(case: Case, width: int, height: int) -> None:
    found = case.family.grid(height, width, case.family.limits)
    assert list(found) == own_grid(case, Image.new("RGB", (width, height)))


def test_a_line_is_refused_by_name_of_its_shape(case: Case) -> None:
    if not case.family.axes:
        pytest.skip("squares take any shape")
    with pytest.raises(DataError, match=r"402 x 2 pixels: the aspect ratio 201\.0"):
        case.family.grid(2, 402, case.family.limits)


def test_positions_are_the_models_own(case: Case, own: PreTrainedModel) -> None:
    one = group(case, "two of them", ["large", "tall"], [6])
    if not case.family.axes:
        assert one.prompt_positions is None
        return
    ids = torch.tensor([one.prompt_token_ids])
    grids = torch.tensor([picture.grid for picture in one.pictures])
    kinds = (ids == own.config.image_token_id).int()
    expected, _ = own.model.get_rope_index(ids, mm_token_type_ids=kinds, image_grid_thw=grids)
    assert torch.equal(torch.from_numpy(one.prompt_positions), expected[-3:, 0])


def test_the_check_at_start_passes(case: Case) -> None:
    found = check_packing(PackedCausalLM(case.lm, temperature=1.0, chunk=64), case.lm, trial_pack(case.lm))
    assert max(found.order, found.plain) < NATS


def test_other_positions_and_other_pictures_are_seen(case: Case) -> None:
    """What the tolerance above rejects: positions that only count, and a picture for another of the same size."""
    one = group(case, "one", ["wide"], [5, 3])
    other = replace(one.pictures[0], sha256="other", patches=255 - one.pictures[0].patches)
    changed = [replace(one, pictures=(other,))]
    if case.family.axes:
        changed.append(replace(one, prompt_positions=np.tile(np.arange(len(one.prompt_token_ids)), (3, 1))))
    packs = [pack_groups([each], 10_000, case.family.placeholders)[0] for each in (one, *changed)]
    first, *others = (run_packed(case.lm, pack) for pack in packs)
    for logp in others:
        assert (logp - first).abs().max() > 100 * NATS


@pytest.mark.parametrize("part", ["encoder", "connector", "language"])
def test_parts_are_frozen_by_name(case: Case, part: str) -> None:
    freeze_parts(case.lm, LearnerConfig(trainable=(part,)))
    trained = {name for name, parameter in case.lm.named_parameters() if parameter.requires_grad}
    freeze_parts(case.lm, LearnerConfig())
    towers = {name for name, _ in case.lm.named_parameters() if ".visual." in name or ".vision_tower." in name}
    connector = {name for name, _ in case.lm.named_parameters() if "merger" in name or "multi_modal_projector" in name}
    language = {name for name, _ in case.lm.named_parameters()} - towers - connector
    assert trained == {"encoder": towers - connector, "connector": connector, "language": language}[part]


OLDER = {
    "qwen2_vl": (("model.visual.", "visual."), ("model.language_model.", "model.")),
    "qwen2_5_vl": (("model.visual.", "visual."), ("model.language_model.", "model.")),
    "llava": (
        ("model.language_model.", "language_model.model."),
        ("lm_head.", "language_model.lm_head."),
        ("model.vision_tower.", "vision_tower."),
        ("model.multi_modal_projector.", "multi_modal_projector."),
    ),
}
"""`model_type` -> how the learner's names begin, and how those of released checkpoints do."""


def test_names_of_older_checkpoints_are_known(case: Case) -> None:
    names = [name for name, _ in case.lm.named_parameters(remove_duplicate=False)]  # a tied head has its name too
    assert [case.family.learned_name(name) for name in names] == names
    for ours, theirs in OLDER.get(case.family.config["model_type"], ()):
        released = {theirs + name.removeprefix(ours): name for name in names if name.startswith(ours)}
        assert released
        assert all(case.family.learned_name(old) == new for old, new in released.items())


def test_names_that_transformers_saves_are_known(case: Case) -> None:
    saved = set(load_file(case.folder / "model.safetensors"))
    assert {case.family.learned_name(name) for name in saved} == {name for name, _ in case.lm.named_parameters()}


def test_a_processor_that_wants_something_else_is_refused_in_one_line(case: Case, tmp_path: Path) -> None:
    written = (case.folder / "preprocessor_config.json").read_text()
    for change, message in {
        '"do_normalize": true|"do_normalize": false': "do_normalize is False",
        '"resample": 3|"resample": 2': "resample is 2",
        '"image_processor_type": "|"image_processor_type": "Other': "image_processor_type is 'Other",
    }.items():
        (tmp_path / "preprocessor_config.json").write_text(written.replace(*change.split("|")))
        with pytest.raises(ConfigError, match=message):
            family_of(model_config(case.folder), tmp_path).limits  # noqa: B018
    (tmp_path / "preprocessor_config.json").unlink()
    with pytest.raises(ConfigError, match=r"has no preprocessor_config\.json"):
        family_of(model_config(case.folder), tmp_path).limits  # noqa: B018


def test_the_tower_attends_once_a_block(case: Case, monkeypatch: pytest.MonkeyPatch) -> None:
    """transformers' own code calls its attention for every window of 4 x 4 tokens: of pictures of 3 x 9, 6 x 9 and
    11 x 2 there are 3 + 6 + 3."""
    if not case.family.axes:
        pytest.skip("a square is one batch row already")
    calls: list[int] = []
    attention = tower_attention.varlen_attention

    def counted(*args: Any) -> Tensor:
        calls.append(len(args[3]))
        return attention(*args)

    monkeypatch.setattr(tower_attention, "varlen_attention", counted)
    [pack] = pack_groups([group(case, "one", ["wide", "large", "tall"], [3])], 10_000, case.family.placeholders)
    run_packed(case.lm, pack)
    assert len(calls) == 4
    assert set(calls) == ({3, 12} if case.family.config["model_type"] == "qwen2_5_vl" else {3})


def test_other_limits_are_obeyed_or_refused(case: Case) -> None:
    """Native resolution is scaled to them; squares have one size."""
    least, most = case.family.limits.min_pixels, case.family.limits.max_pixels
    if case.family.axes:
        _, rows, columns = case.family.grid(480, 640, PixelLimits(least, most // 2))
        assert rows * columns * case.family.patch**2 <= most // 2
    else:
        with pytest.raises(ConfigError, match="whatever min_pixels and max_pixels say: leave them out"):
            case.family.grid(480, 640, PixelLimits(least, 2 * most))
