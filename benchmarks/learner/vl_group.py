"""Learner seconds for one GRPO group of 8 that asks about one picture: picture encoded once, and eight times.

`group` is our pack: prompt and picture once, eight completions that hang on them. `sequences` are eight packs, each
with its own prompt and picture, as a learner without shared prompts has them. `prompts` shares the picture alone: one
pack of eight prompts, whose picture is encoded once. The three update in turn, on the same tokens, in one run.
"""

from __future__ import annotations

import argparse
import json
import os
import tempfile
import time
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, replace
from multiprocessing import get_context
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import torch
from transformers import LlamaConfig

from pangu_rl.accelerators.collective import free_port
from pangu_rl.config.sections.algorithm import GrpoAlgorithmConfig
from pangu_rl.config.sections.learner import LearnerConfig, OptimizerConfig
from pangu_rl.config.sections.model import ModelConfig
from pangu_rl.data.packs.batching import outline_groups
from pangu_rl.learner.spec import LearnerSpec
from pangu_rl.records import Completion, FinishReason, Group, MiniBatch, Outcome, Pack, Part, Picture, Prompt, Score
from pretrain.models.configuration import PanguVLConfig
from pretrain.models.pangu_vl import PanguVLForConditionalGeneration
from pretrain.models.positions import VisionTokens, multimodal_positions

VOCABULARY = 8192
TOKENS = VisionTokens(image=8188, video=8189, start=8190, end=8191)
QUESTION = 24
"""Text tokens of the prompt beside the picture."""


@dataclass(frozen=True, slots=True)
class Size:
    """A model and the side of its square picture in pixels."""

    pixels: int
    vision: dict[str, Any]
    text: dict[str, int]


SIZES = {
    "tiny": Size(
        pixels=224,
        vision={
            "depth": 4,
            "hidden_size": 192,
            "num_heads": 2,
            "intermediate_size": 576,
            "out_hidden_size": 448,
            "fullatt_block_indexes": [1, 3],
        },
        text={"hidden_size": 256, "intermediate_size": 800, "num_hidden_layers": 4, "num_attention_heads": 4},
    ),
    "medium": Size(
        pixels=448,
        vision={
            "depth": 12,
            "hidden_size": 384,
            "num_heads": 4,
            "intermediate_size": 1152,
            "out_hidden_size": 896,
            "fullatt_block_indexes": [2, 5, 8, 11],
        },
        text={"hidden_size": 512, "intermediate_size": 1600, "num_hidden_layers": 12, "num_attention_heads": 8},
    ),
}
"""Heads of 96 in the tower and full attention in every third block or so, as the released model has them."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--sizes", nargs="+", choices=SIZES, default=list(SIZES))
    parser.add_argument("--repeats", type=int, default=5, help="measured updates of each")
    parser.add_argument("--completions", type=int, default=8)
    parser.add_argument("--new-tokens", type=int, default=64, help="of each completion")
    parser.add_argument("--dtype", choices=("bfloat16", "float32"), default="bfloat16")
    parser.add_argument("--accelerator", default="cpu")
    args = parser.parse_args()
    os.environ.setdefault("DS_ACCELERATOR", args.accelerator)
    os.environ.update(MASTER_ADDR="127.0.0.1", MASTER_PORT=str(free_port()))
    # A process each: DeepSpeed keeps the groups of the first learner of its process.
    with ProcessPoolExecutor(1, mp_context=get_context("spawn"), max_tasks_per_child=1) as pool:
        report = {name: pool.submit(measure, SIZES[name], args).result() for name in args.sizes}
    print(f"{'size':8} {'packs':10} {'tokens':>7} {'patches':>8} {'seconds':>8}")
    for name, figures in report.items():
        for way in ("group", "prompts", "sequences"):
            row = figures[way]
            print(f"{name:8} {way:10} {row['tokens']:7} {row['patches']:8} {row['seconds']:8.3f}")
    print(json.dumps(report, indent=1))


def measure(size: Size, args: argparse.Namespace) -> dict[str, Any]:
    """Tokens, patches through the tower and median seconds of an update, per way; `ratio` is sequences to group."""
    group = build_group(size, args.completions, args.new_tokens)
    singles = [
        replace(group, completions=[completion], scores=[score], advantages=[advantage])
        for completion, score, advantage in zip(group.completions, group.scores, group.advantages, strict=True)
    ]
    ways = {"group": pack([group]), "prompts": pack(singles), "sequences": [p for one in singles for p in pack([one])]}
    with tempfile.TemporaryDirectory() as folder:
        learner = build_learner(size, Path(folder), args)
        patches: list[int] = []
        learner.lm.visual.register_forward_pre_hook(lambda _, inputs: patches.append(len(inputs[0])))
        seconds: dict[str, list[float]] = {way: [] for way in ways}
        encoded: dict[str, int] = {}
        for _ in range(args.repeats + 1):
            for way, packs in ways.items():
                patches.clear()
                begun = time.perf_counter()
                learner.update([mini_batch(packs, group)])
                seconds[way].append(time.perf_counter() - begun)
                encoded[way] = sum(patches)
        parameters = {
            "tower": sum(p.numel() for p in learner.lm.visual.parameters()),
            "all": sum(p.numel() for p in learner.lm.parameters()),
        }
        learner.close()
    # The first of each warms up.
    figures: dict[str, Any] = {
        way: {
            "tokens": sum(p.num_tokens for p in packs),
            "patches": encoded[way],
            "seconds": round(median(seconds[way][1:]), 4),
        }
        for way, packs in ways.items()
    }
    once = figures["group"]["seconds"]
    ratios = {
        "ratio": round(figures["sequences"]["seconds"] / once, 2),
        "prompts_ratio": round(figures["prompts"]["seconds"] / once, 2),
    }
    return figures | ratios | {"parameters": parameters}


def build_group(size: Size, completions: int, new_tokens: int) -> Group:
    rng = np.random.default_rng(0)

    def draw(count: int) -> tuple[int, ...]:
        return tuple(rng.integers(3, VOCABULARY - 8, count).tolist())

    side = size.pixels // 14
    patches = rng.integers(0, 256, (side * side, 588), dtype=np.uint8)
    picture = Picture(path="drawn.png", sha256="drawn", grid=(1, side, side), patches=patches)
    prompt = (TOKENS.start, *[TOKENS.image] * picture.tokens, TOKENS.end, *draw(QUESTION))
    drawn = [
        Completion(
            uid=f"g/{index}",
            group="g",
            prompt_uid="p",
            token_ids=draw(new_tokens),
            logprobs=(-9.0,) * new_tokens,
            text="",
            finish_reason=FinishReason.STOP,
            weight_versions=(0,) * new_tokens,
        )
        for index in range(completions)
    ]
    part = Part(value=1.0, outcome=Outcome.CORRECT)
    return Group(
        prompt=Prompt(uid="p", messages=(), answer=""),
        group="g",
        prompt_token_ids=prompt,
        prompt_positions=multimodal_positions(np.array(prompt), [picture.grid], TOKENS),
        pictures=(picture,),
        completions=drawn,
        scores=[Score(completion_uid=completion.uid, reward=1.0, parts={"drawn": part}) for completion in drawn],
        advantages=rng.normal(size=completions).tolist(),
    )


def pack(groups: Sequence[Group]) -> list[Pack]:
    return [outline.lay_out() for outline in outline_groups(groups, 1 << 20, frozenset({TOKENS.image}))]


def mini_batch(packs: Sequence[Pack], group: Group) -> MiniBatch:
    tokens = sum(len(completion.token_ids) for completion in group.completions)
    return MiniBatch(packs=tuple(packs), loss_tokens=tokens, loss_sequences=len(group.completions))


def build_learner(size: Size, folder: Path, args: argparse.Namespace) -> Any:
    from pangu_rl.learner.learner import Learner

    torch.manual_seed(0)
    text = LlamaConfig(vocab_size=VOCABULARY, num_key_value_heads=2, attention_bias=True, **size.text)
    config = PanguVLConfig(
        text_config=text.to_dict(),
        vision_config=size.vision,
        image_token_id=TOKENS.image,
        video_token_id=TOKENS.video,
        vision_start_token_id=TOKENS.start,
        vision_end_token_id=TOKENS.end,
    )
    PanguVLForConditionalGeneration(config).to(getattr(torch, args.dtype)).save_pretrained(folder)
    return Learner(
        LearnerSpec(
            model=ModelConfig(path=str(folder), dtype=args.dtype),
            learner=LearnerConfig(optimizer=OptimizerConfig(lr=1e-6)),
            objective="grpo",
            algorithm=GrpoAlgorithmConfig(),
            total_steps=1000,
            accelerator=args.accelerator,
        )
    )


if __name__ == "__main__":
    main()
