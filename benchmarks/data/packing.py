"""Packing a corpus: ours against an online pool, NeMo's first-fit-decreasing, and planning by decoding, in one run.

Samples are drawn like a corpus of vision and language: text of log-normal length, pictures of camera, screen and icon
sizes, documents of many pages. All planners see the same samples. `pool` is MindSpeed's and MindVL's kind: 200 samples
wait, and each pack takes the largest that fit. `ffd` packs first-fit-decreasing on estimated lengths, as NeMo
Automodel's `neat_packing_vlm` does; `ffd, neighbours` then orders the bins by visual load, as its `_vt_balanced` does.
Imbalance is the largest rank's encoder FLOPs over the mean rank's, averaged over the global batches. Speeds are per
second of processor time; every planner runs on one core. `packing_rows.py` plans real rows by decoding and from sizes.
"""

from __future__ import annotations

import argparse
import io
import json
import os
import resource
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image
from rich.console import Console
from rich.table import Table

from benchmarks.data.packing_rows import plan_rows
from pangu_rl.config.sections.packing import PackingConfig
from pretrain.packing.balance import imbalance
from pretrain.packing.metadata import Metadata, read_metadata
from pretrain.packing.online import OnlinePacker, StreamSample
from pretrain.packing.plan import make_plan
from pretrain.processing.pictures import picture_size
from pretrain.processing.resize import PixelLimits, grid_of

SIZES = [(4032, 3024), (3024, 4032), (1920, 1080), (1280, 720), (1080, 1920), (800, 600), (640, 480), (512, 512)]
"""Half of the pictures; the others have sides of any length."""


@dataclass(frozen=True, slots=True)
class Result:
    """How one planner did."""

    packs: int
    fill: float
    imbalance: float
    samples_per_s: float

    def as_dict(self) -> dict[str, float]:
        return {name: getattr(self, name) for name in self.__slots__}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--samples", type=int, default=1_000_000)
    parser.add_argument("--peer-samples", type=int, default=100_000, help="of the same draw, for the slower planners")
    parser.add_argument("--contexts", type=int, nargs="+", default=[24_576, 131_072])
    parser.add_argument("--ranks", type=int, default=64)
    parser.add_argument("--decoded", type=int, default=300, help="pictures of the comparison with planning by decoding")
    parser.add_argument("--rows", type=int, default=1000, help="rows of the mini-corpus in the same comparison")
    args = parser.parse_args()
    report: dict = {"load_before": round(os.getloadavg()[0], 2), "samples": args.samples, "ranks": args.ranks}
    with TemporaryDirectory() as folder:
        path = Path(folder) / "corpus.parquet"
        pq.write_table(draw(args.samples), path)
        started = time.process_time()
        config = PackingConfig(context=args.contexts[0], ranks=args.ranks)
        metadata = read_metadata(path, config)
        report["sizes_per_s"] = round(args.samples / (time.process_time() - started))
        report["planning_by_decoding"] = by_decoding(args.decoded)
        report["planning_real_rows"] = plan_rows(args.rows)
        for context in args.contexts:
            report[f"context {context}"] = compare(metadata, context, args)
    report["peak_memory_gib"] = round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20, 2)
    for context in args.contexts:
        Console(stderr=True).print(table(context, report[f"context {context}"]))
    print(json.dumps(report, indent=1))


def draw(count: int, seed: int = 0) -> pa.Table:
    """A corpus' sizes: a fifth text alone, three fifths with a picture, the rest with up to twelve."""
    random = np.random.default_rng(seed)
    kind = random.choice(3, count, p=[0.2, 0.6, 0.2])
    pictures = np.select([kind == 0, kind == 1], [0, 1], random.integers(2, 13, count))
    text = np.exp(random.normal(np.select([kind == 0, kind == 1], [6.0, 5.0], 5.5), 1.0)).astype(np.int64) + 8
    total = int(pictures.sum())
    listed = np.array(SIZES)[random.integers(0, len(SIZES), total)]
    free = np.exp(random.normal(6.2, 0.6, (total, 2))).astype(np.int64) + 28
    sizes = np.where((random.random(total) < 0.5)[:, None], listed, np.clip(free, 28, 4000))
    offsets = pa.array(np.concatenate([[0], np.cumsum(pictures)]).astype(np.int32))
    columns = [pa.ListArray.from_arrays(offsets, pa.array(sizes[:, axis])) for axis in (0, 1)]
    ids = pa.array(np.arange(count))
    return pa.table({"id": ids, "text_tokens": np.minimum(text, 20_000), "width": columns[0], "height": columns[1]})


def compare(metadata: Metadata, context: int, args: argparse.Namespace) -> dict[str, dict]:
    fits = np.flatnonzero(metadata.tokens <= context)
    some = fits[fits < args.peer_samples]
    sizes = {"ours": len(fits), **dict.fromkeys(("ours, as many", "pool of 200", "ffd", "ffd, neighbours"), len(some))}
    planners: dict[str, Callable[[], tuple[float, int, np.ndarray]]] = {
        "ours": lambda: ours(metadata, context, args.ranks),
        "ours, as many": lambda: ours(_first(metadata, some), context, args.ranks),
        "pool of 200": lambda: pool(metadata, some, context),
        "ffd": lambda: first_fit(metadata, some, context, neighbours=False),
        "ffd, neighbours": lambda: first_fit(metadata, some, context, neighbours=True),
    }
    results = {}
    for name, plan in planners.items():
        started = time.process_time()
        fill, packs, loads = plan()
        seconds = time.process_time() - started
        whole = loads[: len(loads) // args.ranks * args.ranks]
        # Peers hand pack k of a batch to rank k: nobody deals a batch of one pack a rank otherwise.
        result = Result(packs, fill, imbalance(whole, args.ranks, args.ranks), sizes[name] / seconds)
        results[name] = result.as_dict()
    return results


def ours(metadata: Metadata, context: int, ranks: int) -> tuple[float, int, np.ndarray]:
    plan = make_plan(metadata, PackingConfig(context=context, ranks=ranks))
    return plan.fill, len(plan.tokens), plan.visual_flops[: plan.packs]


def _first(metadata: Metadata, rows: np.ndarray) -> Metadata:
    columns = ("source", "tokens", "visual_tokens", "visual_flops")
    return replace(metadata, ids=metadata.ids.take(rows), **{name: getattr(metadata, name)[rows] for name in columns})


def pool(metadata: Metadata, rows: np.ndarray, context: int) -> tuple[float, int, np.ndarray]:
    packer = OnlinePacker(context, pool=200)
    order = np.random.default_rng(0).permutation(rows)
    packs = [packer.add(StreamSample(str(row), int(metadata.tokens[row]))) for row in order]
    members = [[int(sample.id) for sample in pack] for pack in [*packs, *packer.flush()] if pack]
    return figures(metadata, members, context)


def first_fit(metadata: Metadata, rows: np.ndarray, context: int, *, neighbours: bool) -> tuple[float, int, np.ndarray]:
    """First-fit-decreasing by a tree of maxima over the room of the bins, O(N log N)."""
    leaves = 1 << (len(rows) - 1).bit_length()
    room = [context] * (2 * leaves)
    bins: dict[int, list[int]] = {}
    lengths = metadata.tokens
    for row in rows[np.argsort(-lengths[rows], kind="stable")].tolist():
        length, node = int(lengths[row]), 1
        while node < leaves:
            node = 2 * node if room[2 * node] >= length else 2 * node + 1
        bins.setdefault(node, []).append(row)
        room[node] -= length
        while node > 1:
            node //= 2
            room[node] = max(room[2 * node], room[2 * node + 1])
    members = list(bins.values())
    if neighbours:
        members.sort(key=lambda pack: metadata.visual_tokens[pack].sum())
    else:
        members = [members[i] for i in np.random.default_rng(0).permutation(len(members))]
    return figures(metadata, members, context)


def figures(metadata: Metadata, members: list[list[int]], context: int) -> tuple[float, int, np.ndarray]:
    tokens = sum(int(metadata.tokens[pack].sum()) for pack in members)
    return tokens / (len(members) * context), len(members), np.array([metadata.visual_flops[p].sum() for p in members])


def by_decoding(count: int) -> dict[str, float]:
    """Pictures per second when a planner decodes and resizes them, reads their headers, or has their sizes already."""
    random = np.random.default_rng(0)
    limits = PixelLimits()
    with TemporaryDirectory() as folder:
        root = Path(folder)
        # A gradient with noise compresses like a photograph.
        ramp = np.linspace(0, 200, 1080)[None, :, None] + random.integers(0, 40, (720, 1080, 3))
        buffer = io.BytesIO()
        Image.fromarray(ramp.astype(np.uint8)).save(buffer, "JPEG", quality=85)
        for number in range(count):
            (root / f"{number}.jpg").write_bytes(buffer.getvalue())

        def decode(name: str) -> int:
            with Image.open(root / name) as image:
                shown = image.convert("RGB")
                _, rows, columns = grid_of(shown.height, shown.width, limits)
                return np.asarray(shown.resize((columns * 14, rows * 14), Image.Resampling.BICUBIC)).size

        def header(name: str) -> int:
            width, height = picture_size(name, root)
            return sum(grid_of(height, width, limits))

        names = [f"{number}.jpg" for number in range(count)]
        return {f"{call.__name__}_per_s": rate(call, names) for call in (decode, header)}


def rate(call: Callable[[str], int], names: list[str]) -> float:
    started = time.process_time()
    for name in names:
        call(name)
    return round(len(names) / (time.process_time() - started), 1)


def table(context: int, results: dict[str, dict]) -> Table:
    found = Table(title=f"{context} tokens")
    for column in ("", "packs", "fill", "imbalance", "samples/s"):
        found.add_column(column, justify="right")
    for name, row in results.items():
        cells = (f"{row['packs']}", f"{row['fill']:.2%}", f"{row['imbalance']:.3f}", f"{row['samples_per_s']:,.0f}")
        found.add_row(name, *cells)
    return found


if __name__ == "__main__":
    main()
