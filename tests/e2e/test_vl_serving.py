"""Our multimodal model in vLLM through the plugin, against its own forward: tokens, log-probs, pictures, weights."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import ray
import torch
from PIL import Image
from safetensors.torch import load_file, save_file
from transformers import AutoModelForImageTextToText, AutoTokenizer

from pangu_rl.accelerators import get_accelerator
from pangu_rl.checkpoint.model_folder import model_config
from pangu_rl.config.sections.model import ModelConfig
from pangu_rl.config.sections.rollout import RolloutConfig
from pangu_rl.errors import DataError, RunError, UserError, WeightSyncError
from pangu_rl.records import Completion, Picture, RolloutRequest, SamplingParams, Scorable
from pretrain.auto import register_auto_classes
from pretrain.models.positions import VisionTokens, expand_placeholders
from pretrain.processing.patches import resized, to_patches
from pretrain.processing.resize import read_limits
from rollout.actors.actor import CONCURRENCY, QUIET, RolloutActor
from rollout.engine import EngineSpec, Interrupted
from rollout.intake import Intake
from rollout.probe import mean_gap
from tests.builders import build_tiny_vl_model
from tests.e2e.published import Weights, perturbed, publish, tensor_digest, zero_in_place
from tests.small_ray import small_ray

FP32_NATS = 1e-4
"""A log-prob of about 10 is known to 1e-6 in fp32, over some ten layers; other positions move it by more than 0.01."""
BF16_NATS = 0.03
"""As for the text model (`test_rollout_vllm.py`): the two round in different places."""
NEW = 12
SLOW = pytest.mark.slow
GREEDY = SamplingParams(temperature=0.0, max_new_tokens=NEW, ignore_eos=True)
GRIDS = {
    "text": (),
    "one image": ((1, 6, 8),),
    "two images": ((1, 4, 10), (1, 20, 6)),
    "video": ((3, 4, 6),),
    "image and video": ((1, 6, 8), (2, 6, 4)),
}


class Server(RolloutActor):
    """An actor that also runs a test's function beside its engine."""

    def run(self, function: Callable, *args: Any) -> Any:
        return function(self._engine, *args)


def serve(model: Path, dtype: str = "float32", **rollout) -> Any:
    cpu = get_accelerator("cpu")
    config = {"kv_cache_gib": 0.1, "max_model_tokens": 384, "max_concurrent": 16} | rollout
    spec = EngineSpec(
        model=ModelConfig(path=str(model), dtype=dtype),
        rollout=RolloutConfig(**config),
        accelerator=cpu,
        model_path=model,
    )
    remote = ray.remote(concurrency_groups=CONCURRENCY)(Server)
    server = remote.options(num_cpus=0, runtime_env={"env_vars": QUIET | cpu.rollout_env(1)}).remote(spec)
    ask(server.start)
    return server


def ask(method: Any, *args: Any) -> Any:
    """The result, or the engine's own error."""
    try:
        return ray.get(method.remote(*args))
    except ray.exceptions.RayTaskError as error:
        raise error.cause from None


@pytest.fixture(scope="module", autouse=True)
def ray_session():
    with small_ray():
        yield


@pytest.fixture(scope="module")
def server(ray_session, tiny_vl_model) -> Iterator[Any]:
    server = serve(tiny_vl_model)
    yield server
    ray.kill(server)


@pytest.fixture(scope="module")
def bf16_server(ray_session, tiny_vl_model) -> Iterator[Any]:
    server = serve(tiny_vl_model, "bfloat16")
    yield server
    ray.kill(server)


@pytest.fixture(scope="module")
def tokens(tiny_vl_model) -> VisionTokens:
    return VisionTokens.from_config_dict(model_config(tiny_vl_model))


@pytest.fixture(scope="module")
def weights(tiny_vl_model) -> Weights:
    return load_file(tiny_vl_model / "model.safetensors")


@pytest.fixture(scope="module")
def reference(tiny_vl_model):
    return load_reference(tiny_vl_model, torch.float32)


@pytest.fixture(scope="module")
def versions() -> Iterator[int]:
    return iter(range(1, 100))


def load_reference(model: Path, dtype: torch.dtype) -> Any:
    register_auto_classes()
    return AutoModelForImageTextToText.from_pretrained(model, dtype=dtype).eval()


def picture(grid: tuple[int, int, int], seed: int = 0) -> Picture:
    shape = (grid[0] * grid[1] * grid[2], 588)
    patches = np.random.default_rng(seed).integers(0, 256, shape, dtype=np.uint8)
    return Picture(path=f"{grid}.png", sha256=f"{seed} {grid}", grid=grid, patches=patches)


def lone_prompt(grids: Sequence[tuple[int, int, int]], tokens: VisionTokens) -> list[int]:
    """One placeholder per picture, text before, between and after."""
    ids = [300, 301, 302]
    for t, _, _ in grids:
        ids += [tokens.start, tokens.video if t > 1 else tokens.image, tokens.end, 400]
    return [*ids, 500, 501]


def request(grids: Sequence[tuple[int, int, int]], tokens: VisionTokens, **changes: Any) -> RolloutRequest:
    return replace(
        RolloutRequest(
            uid="g/0",
            group="g",
            prompt_uid="p",
            prompt_token_ids=tuple(expand_placeholders(lone_prompt(grids, tokens), grids, tokens)),
            sampling=GREEDY,
            seed=7,
            pictures=tuple(picture(grid, seed) for seed, grid in enumerate(grids)),
        ),
        **changes,
    )


def model_inputs(ids: Sequence[int], pictures: Sequence[Picture]) -> dict[str, torch.Tensor]:
    inputs = {"input_ids": torch.tensor([ids])}
    for kind, pixels, grids in (
        (lambda t: t == 1, "pixel_values", "image_grid_thw"),
        (lambda t: t > 1, "pixel_values_videos", "video_grid_thw"),
    ):
        if some := [p for p in pictures if kind(p.grid[0])]:
            inputs[pixels] = torch.from_numpy(np.concatenate([p.patches for p in some]))
            inputs[grids] = torch.tensor([p.grid for p in some])
    return inputs


@torch.no_grad()
def forward_logprobs(model: Any, ids: Sequence[int], pictures: Sequence[Picture], **options: Any) -> list[float]:
    logits = model(**model_inputs(ids, pictures), **options).logits[0, :-1].float()
    return logits.log_softmax(-1).gather(-1, torch.tensor(ids[1:])[:, None])[:, 0].tolist()


def draw(engine: Any, requests: Sequence[RolloutRequest]) -> list[Any]:
    return [item for item in engine.generate(requests) if isinstance(item, Completion)]


class AfterSteps(Intake):
    """One that is interrupted after so many steps of the engine."""

    def __init__(self, steps: int) -> None:
        super().__init__()
        self._left = steps

    @property
    def interrupted(self) -> bool:
        self._left -= 1
        return self._left < 0


def broken_off(engine: Any, requests: Sequence[RolloutRequest], steps: int) -> list[RolloutRequest]:
    items = [item for item in engine.generate(requests, AfterSteps(steps)) if isinstance(item, Interrupted)]
    assert [item.uid for item in items] == [request.uid for request in requests]
    return [replace(request, begun=item.begun) for request, item in zip(requests, items, strict=True)]


def both(server: Any, reference: Any, asked: RolloutRequest) -> tuple[list[float], list[float], Any]:
    """Log-probs of prompt and greedy completion from the engine and from the forward, and the completion."""
    (drawn,) = ask(server.run, draw, [asked])
    whole = Scorable(token_ids=asked.prompt_token_ids + drawn.token_ids, pictures=asked.pictures)
    (served,) = ask(server.score, [whole])
    return served, forward_logprobs(reference, whole.token_ids, whole.pictures), drawn


def widest_gap(left: Sequence[float], right: Sequence[float]) -> float:
    return max(abs(a - b) for a, b in zip(left, right, strict=True))


@pytest.mark.parametrize("layout", GRIDS)
def test_greedy_tokens_and_logprobs_are_those_of_our_model(server, reference, tokens, layout):
    asked = request(GRIDS[layout], tokens)
    served, plain, drawn = both(server, reference, asked)
    inputs = model_inputs(asked.prompt_token_ids, asked.pictures)
    written = reference.generate(**inputs, max_new_tokens=NEW, min_new_tokens=NEW, do_sample=False)
    assert tuple(written[0, -NEW:].tolist()) == drawn.token_ids
    assert widest_gap(served, plain) < FP32_NATS
    assert widest_gap(drawn.logprobs, plain[-NEW:]) < FP32_NATS


@pytest.mark.parametrize("layout", ["one image", "image and video"])
def test_an_answer_about_pictures_goes_on_where_it_was_broken_off(server, tokens, layout):
    asked = request(GRIDS[layout], tokens)
    (whole,) = ask(server.run, draw, [asked])
    (begun,) = ask(server.run, broken_off, [asked], 5)
    assert 0 < len(begun.begun.token_ids) <= 5
    (drawn,) = ask(server.run, draw, [begun])
    assert drawn.token_ids == whole.token_ids
    assert widest_gap(drawn.logprobs, whole.logprobs) < FP32_NATS


def test_tolerance_would_notice_wrong_positions_and_wrong_pixels(reference, tokens):
    asked = request(GRIDS["one image"], tokens)
    ids, pictures = asked.prompt_token_ids, asked.pictures
    right = forward_logprobs(reference, ids, pictures)
    flat = torch.arange(len(ids)).expand(3, 1, -1)
    assert widest_gap(right, forward_logprobs(reference, ids, pictures, position_ids=flat)) > 100 * FP32_NATS
    assert widest_gap(right, forward_logprobs(reference, ids, [picture((1, 6, 8), 9)])) > 100 * FP32_NATS


def registered(engine: Any) -> dict[str, str]:
    from vllm import ModelRegistry

    from rollout.vllm.plugin import CLASSES, register

    register()
    return {name: ModelRegistry.models[name].module_name for name in CLASSES}


def test_plugin_registers_twice_and_replaces_the_released_architecture(server):
    names = ["PanguVLForConditionalGeneration", "MindVLForConditionalGeneration", "OpenPanguVLForConditionalGeneration"]
    assert ask(server.run, registered) == dict.fromkeys(names, "rollout.vllm.pangu_vl")


def encoded(engine: Any, requests: Sequence[RolloutRequest]) -> list[list[list[int]]]:
    """Grids of each call of the vision tower while the requests are drawn."""
    calls = []

    def watch(model: torch.nn.Module) -> Any:
        return model.visual.register_forward_hook(lambda module, args, output: calls.append(args[1].tolist()))

    (hook,) = engine._llm.apply_model(watch)
    list(engine.generate(requests))
    hook.remove()
    return calls


def test_a_group_s_picture_is_encoded_once_and_again_after_a_sync(server, tokens, weights, versions, tmp_path):
    grid = (1, 8, 8)
    group = [request((grid,), tokens, uid=f"g/{i}", seed=i) for i in range(8)]
    assert ask(server.run, encoded, group) == [[list(grid)]]
    assert ask(server.run, encoded, group) == []
    ask(server.load_weights, publish(weights, next(versions), tmp_path / "same"), None)
    assert ask(server.run, encoded, group) == [[list(grid)]]


def ordinary(engine: Any, prompt: Any) -> tuple[list[int], list[int]]:
    """(prompt ids as the engine read them, greedy completion) of a prompt as vLLM's users write it."""
    from vllm import SamplingParams as VllmSamplingParams

    engine._llm.add_request("ordinary", prompt, VllmSamplingParams(temperature=0.0, max_tokens=NEW, ignore_eos=True))
    while engine._llm.has_unfinished_requests():
        outputs = engine._llm.step()
    return list(outputs[0].prompt_token_ids), list(outputs[0].outputs[0].token_ids)


def noise(width: int, height: int, seed: int = 3) -> Image.Image:
    return Image.fromarray(np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8))


def test_ordinary_prompts_with_images_equal_ours(server, tokens, tiny_vl_model):
    images = [noise(90, 61), noise(150, 80, seed=4)]
    shown = [resized(image, read_limits(tiny_vl_model)) for image in images]
    grids = [(1, rgb.shape[0] // 14, rgb.shape[1] // 14) for rgb in shown]
    cut = tuple(Picture(path="", sha256=f"{g}", grid=g, patches=to_patches(rgb)) for g, rgb in zip(grids, shown))
    tokenizer = AutoTokenizer.from_pretrained(tiny_vl_model)
    text = "How many? {0} And here? {0} Both.".format(tokenizer.decode([tokens.start, tokens.image, tokens.end]))
    lone = tokenizer(text)["input_ids"]
    expanded = expand_placeholders(lone, grids, tokens)
    ours = request((), tokens, prompt_token_ids=tuple(expanded), pictures=cut)
    (drawn,) = ask(server.run, draw, [ours])
    for prompt in ({"prompt_token_ids": lone}, {"prompt": text}):
        read, written = ask(server.run, ordinary, prompt | {"multi_modal_data": {"image": images}})
        assert read == expanded and tuple(written) == drawn.token_ids


def test_pixel_limits_of_a_request_are_obeyed_and_other_settings_refused(server, tokens):
    # 280 x 280 pixels, asked to fit in 112 x 112: 4 x 4 tokens.
    lone, data = lone_prompt([(1, 8, 8)], tokens), {"image": noise(280, 280, seed=5)}
    prompt = {"prompt_token_ids": lone, "multi_modal_data": data}
    read, _ = ask(server.run, ordinary, prompt | {"mm_processor_kwargs": {"max_pixels": 112**2}})
    assert read == expand_placeholders(lone, [(1, 8, 8)], tokens)
    with pytest.raises(ValueError, match=r"mm_processor_kwargs \['fps'\]: only min_pixels and max_pixels"):
        ask(server.run, ordinary, prompt | {"mm_processor_kwargs": {"fps": 2}})


def test_ordinary_video_is_its_frames(server, tokens):
    # 448 x 252 pixels lie between a frame's 100,352 and 200,704: 16 x 9 tokens each, end and start between the two.
    frames, grid = [noise(448, 252, seed) for seed in range(2)], (2, 18, 32)
    lone = lone_prompt([grid], tokens)
    read, _ = ask(server.run, ordinary, {"prompt_token_ids": lone, "multi_modal_data": {"video": frames}})
    assert read == expand_placeholders(lone, [grid], tokens)


@pytest.mark.parametrize("change", [-1, 1])
def test_placeholders_that_do_not_match_the_picture_are_refused(server, tokens, change):
    # 3 x 4 tokens. One more or less in the prompt would shift every position after the picture.
    asked = request(((1, 6, 8),), tokens, pictures=(picture((1, 6, 8), seed=30 + change),))
    ids = list(asked.prompt_token_ids)
    place = ids.index(tokens.image)
    ids[place : place + 12] = [tokens.image] * (12 + change)
    error, words = (RunError, r"13 placeholder tokens .*\[12\]") if change > 0 else (DataError, "12 tokens .* 11 plac")
    with pytest.raises(error, match=words):
        ask(server.run, draw, [replace(asked, prompt_token_ids=tuple(ids))])


def test_quoted_placeholder_is_text(server, reference, tokens):
    # A completion may hold the id by chance, and is scored with its prompt.
    asked = request(((1, 6, 8),), tokens)
    whole = Scorable(token_ids=(*asked.prompt_token_ids, tokens.image, 600, 601), pictures=asked.pictures)
    (served,) = ask(server.score, [whole])
    plain = forward_logprobs(reference, asked.prompt_token_ids, asked.pictures)
    assert widest_gap(served[: len(plain)], plain) < FP32_NATS


def payload(engine: Any, image: Image.Image, ids: list[int]) -> int:
    """Bytes of one image's fields on their way to the engine core."""
    from vllm.v1.serial_utils import MsgpackEncoder

    processor = engine._llm.renderer.get_mm_processor()
    fields = processor(ids, processor.info.parse_mm_data({"image": image}))["mm_kwargs"]
    return sum(memoryview(part).nbytes for part in MsgpackEncoder().encode(fields))


def test_payload_is_an_eighth_of_qwen_s(server, tokens):
    from transformers.models.qwen2_vl.image_processing_pil_qwen2_vl import Qwen2VLImageProcessorPil

    image = noise(280, 224)
    qwen = Qwen2VLImageProcessorPil(min_pixels=56**2, max_pixels=448**2)(images=[image], return_tensors="pt")
    theirs = qwen["pixel_values"].nbytes
    ours = ask(server.run, payload, image, lone_prompt([(1, 16, 20)], tokens))
    assert theirs == 320 * 1176 * 4
    # 588 bytes a patch, and a few hundred of names, shapes and the grid.
    assert 320 * 588 <= ours < 320 * 588 + 1000
    assert theirs / ours > 7.9


def test_sync_reaches_the_tower_and_the_way_back_is_exact(server, reference, tokens, weights, versions, tmp_path):
    asked = request(GRIDS["two images"], tokens)
    probe = [Scorable(token_ids=asked.prompt_token_ids, pictures=asked.pictures)]
    before = ask(server.score, probe)

    moved = weights | {name: tensor for name, tensor in perturbed(weights).items() if name.startswith("visual.")}
    digests = ask(server.load_weights, publish(moved, next(versions), tmp_path / "moved"), None)
    assert digests == {name: tensor_digest(tensor) for name, tensor in moved.items()}
    after = ask(server.score, probe)
    reference.load_state_dict(moved, strict=False)
    plain = forward_logprobs(reference, *(getattr(probe[0], name) for name in ("token_ids", "pictures")))
    reference.load_state_dict(weights, strict=False)
    assert widest_gap(after[0], plain) < FP32_NATS
    assert mean_gap(before, after) > 100 * FP32_NATS

    ask(server.load_weights, publish(weights, next(versions), tmp_path / "back"), None)
    assert ask(server.score, probe) == before


def test_damaged_tower_is_caught(server, weights, versions, tmp_path):
    name = "visual.blocks.1.mlp.up_proj.weight"
    manifest = publish(weights, next(versions), tmp_path / "buffer")
    victim = zero_in_place(manifest, name)
    zeros = tensor_digest(torch.zeros_like(weights[name]))
    with pytest.raises(WeightSyncError, match=rf"{name} has digest {victim.digest} at the learner and {zeros} at"):
        ask(server.load_weights, manifest, None)
    gone = {key: tensor for key, tensor in weights.items() if key != name}
    with pytest.raises(WeightSyncError, match=rf"{name} missing from the {len(gone)} tensors"):
        ask(server.load_weights, publish(gone, next(versions), tmp_path / "gone"), None)
    ask(server.load_weights, publish(weights, next(versions), tmp_path / "whole"), None)


@pytest.mark.parametrize(
    ("damage", "words"),
    [
        pytest.param(
            {"visual.vision_projection.fc1.weight": (3, 2)}, r"fc1\.weight has shape \[3, 2\].*; the model has"
        ),
        # What vLLM's own loaders would pass over in silence: an unknown bias, and a part of a fused layer.
        pytest.param(
            {"visual.blocks.9.attn.proj.bias": (4,)}, r"blocks\.9\.attn\.proj\.bias.*no such tensor", marks=SLOW
        ),
        pytest.param(
            {"model.layers.1.self_attn.k_proj.weight": None}, r"1 tensors are missing.*layers\.1.*k_proj", marks=SLOW
        ),
    ],
)
def test_damaged_checkpoint_is_one_line(tiny_vl_model, weights, tmp_path, damage, words):
    shutil.copytree(tiny_vl_model, tmp_path / "broken")
    broken = weights | {name: torch.zeros(shape) for name, shape in damage.items() if shape}
    kept = {name: tensor for name, tensor in broken.items() if damage.get(name, ()) is not None}
    save_file(kept, tmp_path / "broken" / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(UserError, match=rf"did not start on .*broken.*{words}") as error:
        serve(tmp_path / "broken")
    assert "\n" not in str(error.value)


@SLOW
@pytest.mark.parametrize("layout", GRIDS)
def test_bf16_differs_by_rounding_alone(bf16_server, tiny_vl_model, tokens, layout):
    served, plain, _ = both(bf16_server, load_reference(tiny_vl_model, torch.bfloat16), request(GRIDS[layout], tokens))
    assert mean_gap([served], [plain]) < BF16_NATS


@SLOW
def test_mindvl_is_served_and_synced(ray_session, tokens, versions, tmp_path):
    folder = build_tiny_vl_model(tmp_path / "mindvl", text="qwen3")
    assert model_config(folder)["architectures"] == ["MindVLForConditionalGeneration"]
    server, reference = serve(folder), load_reference(folder, torch.float32)
    for grids in GRIDS.values():
        served, plain, _ = both(server, reference, request(grids, tokens))
        assert widest_gap(served, plain) < FP32_NATS
    weights = load_file(folder / "model.safetensors")
    moved = perturbed(weights)
    ask(server.load_weights, publish(moved, next(versions), tmp_path / "moved"), None)
    reference.load_state_dict(moved, strict=False)
    served, plain, _ = both(server, reference, request(GRIDS["two images"], tokens))
    assert widest_gap(served, plain) < FP32_NATS
    ray.kill(server)
