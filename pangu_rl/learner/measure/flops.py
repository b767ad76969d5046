"""Floating-point operations that training on a pack takes by its model's shape -> **dealing, TFLOP/s and MFU**.

What the mathematics asks for, not what is computed: attention counts the pairs that attend, in their window where a
layer has one; recomputation counts nothing. A multiplication with its addition is two. The language model is counted as
a decoder with gated MLPs, of which a token enters `num_experts_per_tok` where there are experts.
Letters: T tokens, M targets, P patches, S segments.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from pangu_rl.config.sections.learner import ModelPart
from pangu_rl.learner.measure.model_shape import ModelShape
from pangu_rl.records import PackLike
from pretrain.families import family_of
from pretrain.families.family import Family

FORWARD, THROUGH, WHOLE = 1, 2, 3
"""Forward alone; with the gradient of the inputs; with that of the weights too. The two products of attention have no
weights: whatever is passed through them, both of their factors get a gradient, so that they count `WHOLE`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Work:
    """What there is to do in a pack."""

    tokens: float
    targets: float
    pairs: float
    """A token and one that it attends to, itself among them, as if nothing limited attention."""
    near_pairs: float = 0.0
    """Those within the window of the layers that have one."""
    patches: float = 0.0
    patch_pairs: float = 0.0
    """Two patches of one frame."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelFlops:
    """Forward FLOPs of a model's parts."""

    per_token: float
    """All layers of the language model, without attention's pairs and without the head."""
    per_pair: float
    """A token that attends to a token, all layers without a window."""
    per_target: float
    """The output head."""
    per_near_pair: float = 0.0
    """A token that attends to a token, all layers with a window."""
    window: int | None = None
    """Tokens that such a layer attends to, the token itself among them."""
    per_patch: float = 0.0
    """The tower without its connector, attention in windows included."""
    windows_per_patch: float = 0.0
    """Of it, attention in windows."""
    per_patch_pair: float = 0.0
    """Two patches of one frame, in the blocks with full attention."""
    connector_per_patch: float = 0.0

    @classmethod
    def of(cls, config: Any) -> ModelFlops:
        """From a model's configuration as transformers loads it."""
        text = config.get_text_config()
        layers = _layers(text)
        window = getattr(text, "sliding_window", None)
        usual = "sliding_attention" if window else "full_attention"
        kinds = getattr(text, "layer_types", None) or (usual,) * len(layers)
        family = family_of(config.to_dict(), Path())

        def per_pair(kind: str) -> int:
            return sum(4 * layer.heads * layer.size for layer, own in zip(layers, kinds) if own == kind)

        return cls(
            per_token=sum(layer.per_token(text.hidden_size) for layer in layers),
            per_pair=per_pair("full_attention"),
            per_target=2 * text.hidden_size * text.vocab_size,
            per_near_pair=per_pair("sliding_attention"),
            window=window,
            **(_tower_flops(family, config.vision_config, text.hidden_size) if family is not None else {}),
        )

    @classmethod
    def of_shape(cls, shape: ModelShape) -> ModelFlops:
        """Of the language model of `shape` alone, every layer attending to everything."""
        projections = 2 * shape.width * shape.head_size * 2 * (shape.heads + shape.kv_heads)
        return cls(
            per_token=shape.layers * (projections + 6 * shape.width * shape.inner),
            per_pair=shape.layers * 4 * shape.heads * shape.head_size,
            per_target=2 * shape.embedding,
        )

    def of_training(self, pack: PackLike, trained: Collection[ModelPart], adapted: bool = False) -> float:
        """Forward and backward passes of a pack; what is frozen is passed through, or not entered at all. An empty pack
        asks for nothing.

        Where the `trained` parts are `adapted` they have no gradients of weights (attention has none to lose); the
        adapters' own products, a few per cent of a layer's, are not counted.
        """
        if not pack.num_targets:
            return 0.0
        lengths, before = _segments(pack)
        grids = {(picture.sha256, picture.grid): picture.grid for picture in pack.pictures}.values()
        patches, patch_pairs = _patches(grids)
        work = Work(
            tokens=pack.num_tokens,
            targets=pack.num_targets,
            pairs=attended(lengths, before),
            near_pairs=attended(lengths, before, self.window),
            patches=patches,
            patch_pairs=patch_pairs,
        )
        return self.of_work(work, trained, adapted)

    def of_language(self, work: Work) -> float:
        """Forward pass of the language model alone."""
        return sum(self._language(work))

    def of_work(self, work: Work, trained: Collection[ModelPart], adapted: bool = False) -> float:
        """As `of_training`."""
        learned = THROUGH if adapted else WHOLE
        if not self.per_patch:
            return _passes(learned, *self._language(work))
        factors = (
            learned if "language" in trained else THROUGH,
            learned if "encoder" in trained else FORWARD,
            learned if "connector" in trained else THROUGH if "encoder" in trained else FORWARD,
        )
        connector = work.patches * self.connector_per_patch, 0.0
        parts = self._language(work), self._tower(work.patches, work.patch_pairs), connector
        return sum(_passes(factor, *part) for factor, part in zip(factors, parts, strict=True))

    def of_tower(self, grids: Iterable[tuple[int, int, int]]) -> float:
        """Forward pass of the tower alone over pictures of (t, h, w) patches."""
        return sum(self._tower(*_patches(grids)))

    def _language(self, work: Work) -> tuple[float, float]:
        """Of a forward pass: products with weights, and those of attention."""
        return (
            work.tokens * self.per_token + work.targets * self.per_target,
            work.pairs * self.per_pair + work.near_pairs * self.per_near_pair,
        )

    def _tower(self, patches: float, patch_pairs: float) -> tuple[float, float]:
        """As `_language`."""
        windows = patches * self.windows_per_patch
        return patches * self.per_patch - windows, windows + patch_pairs * self.per_patch_pair


def _passes(factor: int, weighted: float, attention: float) -> float:
    """All passes of a part that is entered so far, by the products of its forward pass."""
    return factor * weighted + (FORWARD if factor == FORWARD else WHOLE) * attention


def attended(lengths: np.ndarray, before: np.ndarray, window: int | None = None) -> float:
    """Pairs of attention in segments of `lengths` [S] that also attend to `before` [S] tokens; with a `window`, those
    of which at most so many tokens lie from the one to the other, both counted."""

    def up_to(end: np.ndarray) -> np.ndarray:
        near = end if window is None else np.minimum(end, window)
        return near * (near + 1) / 2 + (end - near) * near

    return float((up_to(before + lengths) - up_to(before)).sum())


def loaded_config(path: Path, trust_remote_code: bool) -> Any:
    """The configuration of a model folder, defaults filled in."""
    from transformers import AutoConfig

    from pretrain.auto import register_auto_classes

    register_auto_classes()
    return AutoConfig.from_pretrained(path, trust_remote_code=trust_remote_code)


@dataclass(frozen=True, slots=True)
class _Layer:
    heads: int
    keys: int
    size: int
    inner: int
    """Width of the perceptron that a token enters."""

    def per_token(self, width: int) -> int:
        return 2 * width * self.size * (2 * self.heads + 2 * self.keys) + 6 * width * self.inner


def _layers(text: Any) -> list[_Layer]:
    """Those of a language model, which may differ: then each has a configuration, or its number in a list."""
    differ = getattr(text, "per_layer_attributes", None)
    return [
        _layer(text.per_layer_config[number] if differ else text, number) for number in range(text.num_hidden_layers)
    ]


def _layer(config: Any, number: int) -> _Layer:
    heads = config.num_attention_heads
    inner = getattr(config, "intermediate_size", None) or 4 * config.hidden_size
    inner = inner if isinstance(inner, int) else inner[number]
    experts = getattr(config, "num_experts_per_tok", None)
    return _Layer(
        heads=heads,
        keys=getattr(config, "num_key_value_heads", None) or heads,
        size=getattr(config, "head_dim", None) or config.hidden_size // heads,
        inner=experts * (getattr(config, "moe_intermediate_size", None) or inner) if experts else inner,
    )


def _tower_flops(family: Family, vision: Any, text_width: int) -> dict[str, float]:
    tower = family.tower_size(vision, text_width)
    block = 2 * (4 * tower.width**2 + tower.matrices * tower.width * tower.inner)
    windows = (tower.depth - tower.full) * 4 * tower.window * tower.width
    return {
        "per_patch": tower.depth * block + windows,
        "windows_per_patch": windows,
        "per_patch_pair": tower.full * 4 * tower.width,
        "connector_per_patch": 2 * tower.connector / family.merge**2,
    }


def _patches(grids: Iterable[tuple[int, int, int]]) -> tuple[int, int]:
    """Patches of pictures, and pairs of patches of one frame."""
    frames = [(count, rows * columns) for count, rows, columns in grids]
    return sum(count * size for count, size in frames), sum(count * size**2 for count, size in frames)


def _segments(pack: PackLike) -> tuple[np.ndarray, np.ndarray]:
    """float64 [S] each: tokens of every segment, and of those that it attends to beside its own."""
    lengths, parents = np.diff(pack.segment_starts).astype(np.float64), pack.segment_parents
    before, ancestor = np.zeros_like(lengths), parents.copy()
    while (has := ancestor >= 0).any():
        before[has] += lengths[ancestor[has]]
        ancestor[has] = parents[ancestor[has]]
    return lengths, before
