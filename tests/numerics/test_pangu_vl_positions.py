"""Positions and axis maps against vLLM's: its two functions, cut out of the installed source, run without vLLM."""

from __future__ import annotations

import ast
import importlib.util
from collections.abc import Callable, Iterator
from itertools import product
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from pretrain.models.positions import expand_placeholders, multimodal_positions
from pretrain.models.rope import interleaved_axes
from tests.unit.pretrain.models.tiny import END, IMAGE, START, TOKENS, VIDEO


def vllm_function(file: str, name: str) -> Callable[..., Any]:
    """The function `name` of vLLM's `file`; its module needs torchvision, or seconds to import."""
    source = Path(importlib.util.find_spec("vllm").origin).with_name("model_executor") / file
    (node,) = (
        node
        for node in ast.walk(ast.parse(source.read_text(encoding="utf-8")))
        if isinstance(node, ast.FunctionDef) and node.name == name
    )
    node.decorator_list, node.returns = [], None
    for argument in node.args.args:
        argument.annotation = None
    scope = {"torch": torch}
    exec(compile(ast.Module([node], []), str(source), "exec"), scope)
    return scope[name]


def random_layout(rng: np.random.Generator) -> tuple[list[int], list[tuple[str, int, tuple[int, int, int]]]]:
    """Expanded ids, and the pictures as (kind, index of the first placeholder, grid in patches)."""
    ids, found = [], []
    for kind in rng.choice(["text", "image", "video"], rng.integers(1, 8)):
        if kind == "text":
            ids += rng.integers(3, 90, rng.integers(0, 6)).tolist()
            continue
        frames = 1 if kind == "image" else int(rng.integers(1, 5))
        grid = (frames, *(2 * rng.integers(1, 7, 2)).tolist())
        run = expand_placeholders([IMAGE if kind == "image" else VIDEO], [grid], TOKENS)
        # Marks around a picture are custom, not law: positions must not depend on them.
        marked = rng.random() < 0.8
        ids += [START] * marked
        found.append((kind, len(ids), grid))
        ids += run + [END] * marked
    return ids or [3], found


def merged(features: list[tuple[str, int, tuple[int, int, int]]]) -> Iterator[tuple[str, int, int, int, int]]:
    for kind, offset, (frames, rows, columns) in features:
        yield kind, offset, frames, rows // 2, columns // 2


def test_positions_of_random_layouts() -> None:
    """300 mixtures of text, stills and videos; positions and the delta of later tokens are equal."""
    reference = vllm_function("models/openpangu_vl.py", "get_mrope_input_positions")
    rng = np.random.default_rng(0)
    kinds = set()
    for _ in range(300):
        ids, pictures = random_layout(rng)
        expected, delta = reference(SimpleNamespace(iter_mm_grid_thw=merged), ids, pictures)
        found = multimodal_positions(np.array(ids), [grid for *_, grid in pictures], TOKENS)
        assert found.tolist() == expected.tolist()
        assert found.max() + 1 - len(ids) == delta
        kinds.add(tuple(sorted({kind for kind, *_ in pictures})))
    assert kinds == {(), ("image",), ("video",), ("image", "video")}


def test_axis_maps_of_many_sections() -> None:
    """Every triple of 1 to 12 channels, and the released one."""
    reference = vllm_function("layers/rotary_embedding/mrope_interleaved.py", "get_mrope_interleaved_id_list")
    for sections in [(10, 27, 27), *product(range(1, 13), repeat=3)]:
        expected = reference(*sections, force_last=True)
        assert interleaved_axes(sections) == expected, sections


@pytest.mark.parametrize(
    ("ids", "pictures"), [([3, IMAGE, 3], [("image", 1, (1, 2, 2))]), ([VIDEO], [("video", 0, (1, 2, 2))])]
)
def test_the_smallest_pictures(ids: list[int], pictures: list[tuple[str, int, tuple[int, int, int]]]) -> None:
    reference = vllm_function("models/openpangu_vl.py", "get_mrope_input_positions")
    expected, _ = reference(SimpleNamespace(iter_mm_grid_thw=merged), ids, pictures)
    assert multimodal_positions(np.array(ids), [(1, 2, 2)], TOKENS).tolist() == expected.tolist()
