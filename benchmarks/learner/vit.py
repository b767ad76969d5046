"""Images per second of openPangu-ViT and of Qwen2.5-VL's tower (transformers) of equal size, in one run.

Both have the same width, depth, heads, window and full-attention blocks, and one patch merger; a gated perceptron of
3072 against an ungated one of 4608, so that their parameters agree. Each gets what its processor hands over: uint8
patches, or normalised doubled float32 ones. The towers take turns within a repetition, and a ratio is the median of the
repetitions' ratios. A depth below the released 26 has full attention in its last block only; at 26 openPangu-ViT as
shipped, with its two mergers and the projection, is measured too.
"""

from __future__ import annotations

import argparse
import json
import os
import time
from collections.abc import Callable
from functools import partial
from statistics import median
from typing import Any

import torch
from rich.console import Console
from rich.table import Table
from torch import Tensor, nn
from transformers.models.qwen2_5_vl.configuration_qwen2_5_vl import Qwen2_5_VLVisionConfig
from transformers.models.qwen2_5_vl.modeling_qwen2_5_vl import Qwen2_5_VisionTransformerPretrainedModel

from pangu_rl.accelerators import Accelerator, get_accelerator
from pretrain.models.configuration import PanguVisionConfig
from pretrain.models.vit import VisionModel

RELEASED_DEPTH, RELEASED_FULL = 26, [5, 12, 19, 25]
GATED_WIDTH = 3072
"""Three matrices of 1536 x 3072 hold what two of 1536 x 4608 do."""
OURS, QWEN, SHIPPED = "openPangu", "Qwen2.5", "openPangu, shipped"

Encode = Callable[[], Tensor]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sides", type=int, nargs="+", default=[224, 448, 896, 1344], help="pixels, multiples of 28")
    parser.add_argument("--depth", type=int, default=4, help=f"blocks of both towers; released: {RELEASED_DEPTH}")
    parser.add_argument("--patches", type=int, default=4096, help="a call takes as many pictures as this holds, or one")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--device", default="auto", help="a name of the accelerators' table")
    parser.add_argument("--dtype", default="bfloat16", choices=["bfloat16", "float32"])
    args = parser.parse_args()
    accelerator = get_accelerator(args.device)
    load = round(os.getloadavg()[0], 2)
    towers = build_towers(args.depth, accelerator.device(), getattr(torch, args.dtype))
    report = {
        "device": args.device if args.device != "auto" else accelerator.name,
        "dtype": args.dtype,
        "depth": args.depth,
        "threads": torch.get_num_threads(),
        "load_before": load,
        "million_parameters": {name: round(_size(tower) / 1e6, 1) for name, tower in towers.items()},
        "sides": {side: measure(towers, side, args.patches, args.repeats, accelerator) for side in args.sides},
    }
    Console(stderr=True).print(_table(report))
    print(json.dumps(report, indent=1))


def build_towers(depth: int, device: str, dtype: torch.dtype) -> dict[str, nn.Module]:
    full = RELEASED_FULL if depth == RELEASED_DEPTH else [depth - 1]
    common = {"depth": depth, "fullatt_block_indexes": full}
    single = PanguVisionConfig(**common, connector="mlp", mm_unit_vision_select_layer=[-1])
    gated = Qwen2_5_VLVisionConfig(
        **common,
        hidden_size=single.hidden_size,
        num_heads=single.num_heads,
        intermediate_size=GATED_WIDTH,
        hidden_act="silu",
        out_hidden_size=single.out_hidden_size,
    )
    with torch.device(device):
        towers = {
            OURS: VisionModel(single, single.out_hidden_size),
            QWEN: Qwen2_5_VisionTransformerPretrainedModel._from_config(gated),
        }
        if depth == RELEASED_DEPTH:
            towers[SHIPPED] = VisionModel(PanguVisionConfig(), 4096)
    return {name: tower.to(dtype).eval() for name, tower in towers.items()}


def measure(
    towers: dict[str, nn.Module], side: int, patches: int, repeats: int, accelerator: Accelerator
) -> dict[str, Any]:
    """Median images per second of each tower, and the medians and extremes of ours over Qwen's."""
    rows = side // 14
    images = max(1, patches // rows**2)
    calls = _calls(towers, rows, images, accelerator.device())
    seconds: dict[str, list[float]] = {name: [] for name in calls}
    for repetition in range(repeats + 1):
        for name, encode in calls.items():
            spent = _timed(encode, accelerator)
            if repetition:  # the first call of a shape compiles kernels and pages memory in
                seconds[name].append(spent)
    qwens = seconds[QWEN]
    ratios = {
        name: [theirs / ours for theirs, ours in zip(qwens, spent, strict=True)]
        for name, spent in seconds.items()
        if name != QWEN
    }
    return {
        "images_per_call": images,
        "images_per_second": {name: round(images / median(spent), 3) for name, spent in seconds.items()},
        "over_qwen": {name: round(median(found), 3) for name, found in ratios.items()},
        "over_qwen_range": {name: [round(min(found), 3), round(max(found), 3)] for name, found in ratios.items()},
    }


def _calls(towers: dict[str, nn.Module], rows: int, images: int, device: str) -> dict[str, Encode]:
    grid = torch.tensor([[1, rows, rows]] * images)
    patches = int(grid.prod(dim=1).sum())
    pixels = torch.randint(0, 256, (patches, 588), dtype=torch.uint8, device=device)
    doubled, on_device = torch.randn(patches, 1176, device=device), grid.to(device)
    calls: dict[str, Encode] = {name: partial(tower, pixels, grid) for name, tower in towers.items()}
    return calls | {QWEN: lambda: towers[QWEN](doubled, grid_thw=on_device).pooler_output}


@torch.no_grad()
def _timed(encode: Encode, accelerator: Accelerator) -> float:
    accelerator.synchronize()
    start = time.perf_counter()
    encode()
    accelerator.synchronize()
    return time.perf_counter() - start


def _size(tower: nn.Module) -> int:
    return sum(parameter.numel() for parameter in tower.parameters())


def _table(report: dict[str, Any]) -> Table:
    first = next(iter(report["sides"].values()))
    table = Table(
        "pixels", "per call", title=f"images/s, depth {report['depth']}, {report['dtype']}, {report['device']}"
    )
    for name in first["images_per_second"]:
        table.add_column(name)
    for name in first["over_qwen"]:
        table.add_column(f"{name} / {QWEN}")
    for side, found in report["sides"].items():
        figures = (found["images_per_call"], *found["images_per_second"].values(), *found["over_qwen"].values())
        table.add_row(str(side), *(str(figure) for figure in figures))
    return table


if __name__ == "__main__":
    main()
