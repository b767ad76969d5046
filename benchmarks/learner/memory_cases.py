"""The models and packs whose memory `memory_estimate` measures."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

TEXT = {
    "vocab_size": 4_096,
    "hidden_size": 512,
    "intermediate_size": 1_408,
    "num_hidden_layers": 4,
    "num_attention_heads": 8,
    "num_key_value_heads": 4,
    "max_position_embeddings": 32_768,
}
TOWER = {
    "depth": 6,
    "hidden_size": 384,
    "num_heads": 6,
    "intermediate_size": 1_152,
    "out_hidden_size": 768,
    "fullatt_block_indexes": [2, 5],
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    name: str
    tokens: int
    """Of the one pack."""
    trained: int
    """Targets among them, at the end."""
    dtype: str = "bfloat16"
    picture_cells: tuple[int, ...] = ()
    """Sides, in merged cells of 28 pixels, of square pictures among the tokens; not empty makes a multimodal model."""
    tied: bool = False
    text: dict[str, int] = field(default_factory=dict)
    """What differs from TEXT."""
    learner: dict[str, Any] = field(default_factory=dict)


CASES = (
    Case(name="text, ZeRO 1", tokens=1024, trained=768, learner={"zero_stage": 1}),
    Case(name="text, ZeRO 1, long", tokens=3072, trained=768, learner={"zero_stage": 1}),
    Case(
        name="text, ZeRO 1, long, checkpointing",
        tokens=3072,
        trained=768,
        learner={"zero_stage": 1, "gradient_checkpointing": True},
    ),
    Case(name="text, tied, chunks of the head", tied=True, tokens=2048, trained=2000, learner={"logprob_chunk": 512}),
    Case(
        name="text, more heads than perceptron",
        tokens=3072,
        trained=512,
        text={"num_attention_heads": 16, "head_dim": 64, "intermediate_size": 256},
        learner={"zero_stage": 1, "gradient_checkpointing": True},
    ),
    Case(name="text, ZeRO 1, 2 ranks", tokens=1024, trained=768, learner={"zero_stage": 1, "ranks": 2}),
    Case(name="text, ZeRO 2, 2 ranks", tokens=1024, trained=768, learner={"zero_stage": 2, "ranks": 2}),
    Case(
        name="text, ZeRO 2, 2 ranks, smaller bucket",
        tokens=1024,
        trained=768,
        learner={"zero_stage": 2, "ranks": 2, "reduce_bucket": 4_000_000},
    ),
    Case(name="text, ZeRO 3, 2 ranks", tokens=1024, trained=768, learner={"zero_stage": 3, "ranks": 2}),
    Case(
        name="text, ZeRO 3, 2 ranks, checkpointing",
        tokens=3072,
        trained=768,
        learner={"zero_stage": 3, "ranks": 2, "gradient_checkpointing": True},
    ),
    Case(
        name="text, sequence parallel",
        tokens=2048,
        trained=768,
        learner={"zero_stage": 1, "ranks": 2, "sequence_parallel": 2},
    ),
    Case(name="text, float32, ZeRO 0", tokens=1024, trained=512, dtype="float32", learner={"zero_stage": 0}),
    Case(name="text, float32, ZeRO 1", tokens=1024, trained=512, dtype="float32", learner={"zero_stage": 1}),
    Case(name="pictures, ZeRO 1", tokens=1024, trained=512, picture_cells=(12, 16), learner={"zero_stage": 1}),
    Case(
        name="pictures, checkpointing",
        tokens=2048,
        trained=512,
        picture_cells=(24, 24),
        learner={"zero_stage": 1, "gradient_checkpointing": True},
    ),
    Case(
        name="pictures, tower frozen",
        tokens=1024,
        trained=512,
        picture_cells=(12, 16),
        learner={"zero_stage": 1, "trainable": ["connector", "language"]},
    ),
)
