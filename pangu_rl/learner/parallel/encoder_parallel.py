"""Pictures of a pack that several ranks hold -> each encodes a fair share -> **all features on every rank**.

The ranks of a language model's tensor- or sequence-parallel group have the same pack, so its pictures can be dealt out
among them. Attention of the tower never crosses frames, so a video may be split between them. Every rank works the same
deal out of the grids, without a word, and takes part in the collectives even when its share is empty.
Letters: F frames (a still picture is one), P patches, K features, E width of the language model.
"""

from __future__ import annotations

import heapq
from collections.abc import Sequence

import numpy as np
import torch
import torch.distributed as dist
from torch import Tensor

from pangu_rl.accelerators.gather import gather_rows
from pretrain.models.vit import VisionModel
from pretrain.packing.cost import EncoderCost


def encode_dealt(visual: VisionModel, patches: Tensor, grids: Tensor, group: dist.ProcessGroup | None = None) -> Tensor:
    """What `visual(patches, grids)` gives, [K, E], with the tower run on this rank's share of the frames.

    patches [P, 588 | 1176] and grids int64 [I, 3], at least one picture, are the same on all ranks of the group, of all
    without one. The result must enter the loss of every one of them (an empty selection of it will do), since the
    backward pass is collective too. Each computes a part of that loss, and the tower's gradients are shares of a sum.
    """
    ranks, rank = dist.get_world_size(group), dist.get_rank(group)
    merge = visual.config.spatial_merge_size
    sizes = _frames(grids)
    share = deal_frames(sizes, encoder_cost(visual), ranks)
    rows = sizes.prod(axis=1)
    first = np.cumsum(rows) - rows
    own = share[rank]
    if own:
        chosen = np.concatenate([np.arange(first[frame], first[frame] + rows[frame]) for frame in own])
        mine = patches[torch.from_numpy(chosen).to(patches.device)]
        shapes = [(1, *sizes[frame].tolist()) for frame in own]
        features = visual(mine, torch.tensor(shapes))
    else:
        blank = patches.new_zeros((merge * merge, patches.shape[1]))
        features = visual(blank, torch.tensor([(1, merge, merge)]))[:0]
    cells = rows // merge**2
    counts = [int(cells[part].sum()) for part in share]
    return gather_rows(features, counts, group)[_places(share, cells).to(patches.device)]


def deal_frames(sizes: np.ndarray, cost: EncoderCost, ranks: int) -> list[list[int]]:
    """Frames of `sizes` int64 [F, 2] (rows and columns in patches) -> the numbers of each rank's, ascending.

    The costliest frame left goes to the rank with the least to do, the first of them.
    """
    flops = cost.flops(sizes.prod(axis=1), np.ones(len(sizes), dtype=np.int64))
    share: list[list[int]] = [[] for _ in range(ranks)]
    loads = [(0.0, rank) for rank in range(ranks)]
    for frame in np.argsort(-flops, kind="stable").tolist():
        load, rank = heapq.heappop(loads)
        share[rank].append(frame)
        heapq.heappush(loads, (load + float(flops[frame]), rank))
    return [sorted(frames) for frames in share]


def encoder_cost(visual: VisionModel) -> EncoderCost:
    """Forward FLOPs of a tower by its configuration, as `pretrain.packing.cost` has them for the released one."""
    config, full = visual.config, len(visual.config.fullatt_block_indexes)
    width, cell = config.hidden_size, config.spatial_merge_size**2
    matrices = 3 if config.hidden_act == "silu" else 2
    block = 2 * (4 * width**2 + matrices * width * config.intermediate_size)
    window = 4 * (config.window_size // config.patch_size) ** 2 * width
    connector = sum(
        2 * parameter.numel()
        for name, parameter in visual.named_parameters()
        if name.startswith(("merger.", "vision_projection.")) and parameter.dim() == 2
    )
    return EncoderCost(
        per_patch=config.depth * block + (config.depth - full) * window + connector // cell,
        per_pair=full * 4 * width,
    )


def _frames(grids: Tensor) -> np.ndarray:
    """Rows and columns of every frame, int64 [F, 2], in order."""
    shapes = grids.cpu().numpy()
    return np.repeat(shapes[:, 1:], shapes[:, 0], axis=0)


def _places(share: Sequence[Sequence[int]], cells: np.ndarray) -> Tensor:
    """int64 [K]: where among the gathered features, one rank's after the other, stands each in order of the frames."""
    dealt = np.concatenate([np.asarray(frames, dtype=np.int64) for frames in share])
    starts = np.empty(len(cells), dtype=np.int64)
    starts[dealt] = np.cumsum(cells[dealt]) - cells[dealt]
    return torch.from_numpy(np.concatenate([np.arange(start, start + n) for start, n in zip(starts, cells)]))
