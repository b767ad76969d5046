"""Metadata too large for one process -> **pieces, each planned apart by a worker** -> one plan.

    row groups --scan--> spills: a batch of rows for each piece --plan--> steps of the piece, and packs left over
                                                                                   left over of all --> last steps

A piece is a random part of the whole, by the hash of ids: rows of one id meet in one piece, and no trend runs through
training. A worker holds one piece; the process that started them holds counts and the packs left over, fewer than a
step's for each piece. The plan does not depend on how many workers there are, nor on how often it was interrupted: a
spill or piece that is sealed is not made again.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import xxhash

from pangu_rl.config.sections.packing import PackingConfig
from pangu_rl.whole_file import whole_file
from pretrain.packing.balance import global_batches, imbalance
from pretrain.packing.columns import Columns
from pretrain.packing.metadata import Metadata, costs, group_rows, read_rows, require_distinct, video_seed_of
from pretrain.packing.mixing import draw, sizes_of
from pretrain.packing.plan import LEFT_OUT, fitting, plan_of, require_drawn, require_fitting
from pretrain.packing.plan_file import Figures, Part, packs_table, rest_table, write_part
from pretrain.packing.unfinished import PLAN, Tell, seal, sealed

PIECE_SAMPLES = 2**20
"""Of metadata with more, pieces have about so many each."""
Map = Callable[..., Iterable[Any]]
"""As the built-in one, in order."""
CARRIED = LEFT_OUT.index("carried over")


@dataclass(frozen=True, slots=True, kw_only=True)
class Scanned:
    """What one worker found in its row groups."""

    samples: int
    fitting: int
    shortest: int
    """Tokens of the shortest sample."""
    have: dict[str, int]
    """By source, tokens or samples that fit, whichever shares are of."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Planned:
    """A piece: its whole steps are written, its last packs are left over."""

    part: Part
    over: pa.Table
    """Packs, as `packs_table` has them."""
    untrained: pa.Table
    """Samples of these packs that none of the piece's steps has, as `rest_table` has them."""
    kept: bool
    """From a run that was interrupted."""


def pieces_of(path: Path) -> int:
    """How many pieces the metadata of `path` is planned in; raises as `group_rows`."""
    return max(1, -(-sum(group_rows(path)) // PIECE_SAMPLES))


def plan_pieces(
    path: Path, sha256: str, folder: Path, config: PackingConfig, run: Map, tell: Tell
) -> tuple[list[Part], Figures]:
    """Plan `path`, whose hash is given, in the unfinished `folder`; the parts are in the order of training.

    Raises:
        DataError, ConfigError: as `read_metadata` and `make_plan`.
    """
    pieces, groups = pieces_of(path), _ranges(group_rows(path))
    spills = [folder / f"spill-{number:05d}.arrow" for number in range(len(groups))]
    scanned: list[Scanned] = list(run(partial(scan, path, config, pieces), groups, spills))
    samples, fitting = (sum(getattr(part, name) for part in scanned) for name in ("samples", "fitting"))
    require_fitting(path.name, samples, fitting, min(part.shortest for part in scanned), config)
    every = {name: sum(part.have.get(name, 0) for part in scanned) for part in scanned for name in part.have}
    plan = partial(plan_piece, path, spills, config, every, folder)
    planned: list[Planned] = list(run(plan, range(pieces)))
    require_drawn(path.name, sum(piece.part.packs + len(piece.over) for piece in planned), config)
    if kept := sum(piece.kept for piece in planned):
        tell(f"{kept} of {pieces} pieces are from a run that was interrupted")
    parts = [*(piece.part for piece in planned), _last_steps(planned, folder / PLAN, config)]
    return parts, Figures(name=path.name, sha256=sha256, samples=samples, video_seed=video_seed_of(path))


def scan(path: Path, config: PackingConfig, pieces: int, groups: tuple[int, Sequence[int]], spill: Path) -> Scanned:
    """Check and count some row groups, and write their samples into `spill`, a batch for each piece.

    `groups` are the rows of the file before them, and their numbers.
    """
    if (known := sealed(spill.with_suffix(".seal"))) is not None:
        return Scanned(**known)
    first, numbers = groups
    columns = Columns(path, read_rows(path, numbers), config.max_frames, first)
    ids = columns.ids()
    source, names = columns.sources()
    tokens, visual_tokens, visual_flops = costs(columns, config)
    rows = np.arange(first, first + len(ids))
    metadata = Metadata(
        name=path.name,
        sha256="",
        numbers=rows,
        ids=ids,
        source=source,
        sources=names,
        tokens=tokens,
        visual_tokens=visual_tokens,
        visual_flops=visual_flops,
    )
    fits, sizes = fitting(metadata, config), sizes_of(metadata, config)
    have = np.bincount(source, weights=np.where(fits, sizes, 0), minlength=len(names))
    table = pa.table(
        {
            "id": ids,
            "row": rows,
            "source": pa.DictionaryArray.from_arrays(source, list(names)).dictionary_decode(),
            "tokens": tokens,
            "visual_tokens": visual_tokens,
            "visual_flops": visual_flops,
        }
    )
    with whole_file(spill) as target:
        _write_spill(target, table, _piece_of(ids, pieces, config.seed), pieces)
    scanned = Scanned(
        samples=len(ids),
        fitting=int(fits.sum()),
        shortest=int(tokens.min()),
        have=dict(zip(names, have.astype(np.int64).tolist(), strict=True)),
    )
    seal(spill.with_suffix(".seal"), [spill], asdict(scanned))
    return scanned


def plan_piece(
    path: Path, spills: Sequence[Path], config: PackingConfig, every: Mapping[str, int], folder: Path, number: int
) -> Planned:
    """Plan one piece and write its whole steps, unless that is done; `every` as `draw` takes it.

    Raises:
        DataError: an id that stands twice.
    """
    over, untrained = (folder / f"{name}-{number:05d}.arrow" for name in ("over", "untrained"))
    done = folder / f"piece-{number:05d}.seal"
    if (known := sealed(done)) is not None:
        return Planned(part=Part(**known), over=_read_table(over), untrained=_read_table(untrained), kept=True)
    metadata = _read_piece(path, spills, number)
    fits = fitting(metadata, config)
    rows = draw(metadata, fits, config, every) if config.shares else np.flatnonzero(fits)
    plan = plan_of(metadata, rows, config, (config.seed, number + 1))
    steps = plan.packs // config.step_packs
    whole = steps * config.step_packs
    end = plan.starts[whole]
    elsewhere = plan.reasons != CARRIED
    part = Part(
        packs_file=f"packs-{number:05d}.parquet",
        rest_file=f"left_out-{number:05d}.parquet",
        packs=whole,
        samples=int(end),
        left_out=np.bincount(plan.reasons[elsewhere], minlength=len(LEFT_OUT)).tolist(),
        tokens=int(plan.tokens[:whole].sum()),
        visual_imbalance=imbalance(plan.visual_flops[:whole], config.ranks, config.step_packs),
    )
    rest = rest_table(metadata, plan.left_out[elsewhere], plan.reasons[elsewhere])
    write_part(folder / PLAN, part, packs_table(plan, metadata, 0, whole), rest, config.step_packs)
    alone = np.setdiff1d(plan.rows[end:], plan.rows[:end])
    planned = Planned(
        part=part,
        over=packs_table(plan, metadata, whole, len(plan.tokens)),
        untrained=rest_table(metadata, alone, np.full(len(alone), CARRIED, dtype=np.int8)),
        kept=False,
    )
    _write_table(over, planned.over)
    _write_table(untrained, planned.untrained)
    files = [folder / PLAN / part.packs_file, folder / PLAN / part.rest_file, over, untrained]
    seal(done, files, asdict(part))
    return planned


def _last_steps(planned: Sequence[Planned], folder: Path, config: PackingConfig) -> Part:
    """Write the steps of the packs that the pieces leave over."""
    over = pa.concat_tables([piece.over for piece in planned])
    loads, fills = over["visual_flops"].to_numpy(), over["tokens"].to_numpy()
    trained, carried = global_batches(loads, fills, config.ranks, config.step_packs, (config.seed, 0))
    packs = over.take(np.concatenate([trained, carried]))
    used = pc.list_flatten(over["rows"].take(trained))
    untrained = pa.concat_tables([piece.untrained for piece in planned])
    rest = untrained.filter(pc.invert(pc.is_in(untrained["row"], value_set=used.combine_chunks())))
    part = Part(
        packs_file=f"packs-{len(planned):05d}.parquet",
        rest_file=f"left_out-{len(planned):05d}.parquet",
        packs=len(trained),
        carried_over=len(carried),
        samples=len(used),
        left_out=np.bincount(np.full(len(rest), CARRIED), minlength=len(LEFT_OUT)).tolist(),
        tokens=int(fills.sum()),
        visual_imbalance=imbalance(loads[trained], config.ranks, config.step_packs),
    )
    write_part(folder, part, packs, rest, config.step_packs)
    return part


def _ranges(rows: Sequence[int]) -> list[tuple[int, list[int]]]:
    """Consecutive row groups of about a piece's samples together, each with the rows before them."""
    ranges: list[tuple[int, list[int]]] = []
    before = there = 0
    for group, count in enumerate(rows):
        if not ranges or there + count > PIECE_SAMPLES:
            ranges.append((before, []))
            there = 0
        ranges[-1][1].append(group)
        before, there = before + count, there + count
    return ranges


def _piece_of(ids: pa.Array, pieces: int, seed: int) -> np.ndarray:
    """int64 [N], the piece of each id."""
    hashes = (xxhash.xxh3_64_intdigest(str(uid).encode(), seed) for uid in ids.to_pylist())
    return (np.fromiter(hashes, np.uint64, len(ids)) % np.uint64(pieces)).astype(np.int64)


def _write_table(path: Path, table: pa.Table) -> None:
    with whole_file(path) as target, pa.ipc.new_file(target, table.schema) as writer:
        writer.write_table(table)


def _read_table(path: Path) -> pa.Table:
    with pa.OSFile(str(path)) as file:
        return pa.ipc.open_file(file).read_all()


def _write_spill(path: Path, table: pa.Table, piece: np.ndarray, pieces: int) -> None:
    order = np.argsort(piece, kind="stable")
    ends = np.cumsum(np.bincount(piece, minlength=pieces)).tolist()
    ordered = table.take(order).combine_chunks()
    with pa.ipc.new_file(path, table.schema) as writer:
        for start, end in zip([0, *ends], ends):
            batches = ordered.slice(start, end - start).to_batches()
            writer.write_batch(batches[0] if batches else pa.RecordBatch.from_pylist([], table.schema))


def _read_piece(path: Path, spills: Sequence[Path], number: int) -> Metadata:
    batches = []
    for spill in spills:
        with pa.memory_map(str(spill)) as file:
            batches.append(pa.ipc.open_file(file).get_batch(number))
    table = pa.Table.from_batches(batches).combine_chunks()
    ids, rows = table["id"].combine_chunks(), table["row"].to_numpy()
    require_distinct(ids, rows, path)
    source = table["source"].combine_chunks().dictionary_encode()
    return Metadata(
        name=path.name,
        sha256="",
        numbers=rows,
        ids=ids,
        source=source.indices.to_numpy(),
        sources=tuple(source.dictionary.to_pylist()),
        tokens=table["tokens"].to_numpy(),
        visual_tokens=table["visual_tokens"].to_numpy(),
        visual_flops=table["visual_flops"].to_numpy(),
    )
