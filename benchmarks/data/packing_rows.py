"""Real rows with pictures planned three ways on one core: by decoding, by headers, and from sizes that are known.

`decoded` is what an online packer does: it renders and tokenises a row, decodes its pictures, resizes them and cuts
them into patches, and so learns how long the row is. `headers` is `pangu-rl pretrain --measure`: it tokenises too, and
reads a picture's size from its header. `metadata` is `pangu-rl pack`: the sizes lie in a Parquet file. Each then packs
with the same planner, from lengths that must agree to the token.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np

from pangu_rl.config.load import checked
from pangu_rl.config.paths import resolve_path
from pangu_rl.config.pretrain import PretrainConfig
from pangu_rl.config.sections.packing import PackingConfig
from pangu_rl.data.files.row_files import open_rows
from pangu_rl.data.pictures import in_threads
from pretrain.packing.metadata import read_metadata
from pretrain.packing.plan import make_plan
from pretrain.train.loader import PackLoader
from pretrain.train.measure import write_sizes

MODEL = "cache://models/tiny-pangu-vl"
CORPUS = "cache://data/mini_corpus"
CONTEXT = 8192


def plan_rows(count: int, min_pixels: int = 56 * 56, max_pixels: int = 1344 * 1344) -> dict[str, float]:
    """Rows a second of processor time of each way over `count` SFT rows of the mini-corpus, and the ratios.

    The limits of pixels are the paper's.
    """
    tree = {
        "model": {"path": MODEL},
        "data": {"train": "", "media_root": CORPUS, "min_pixels": min_pixels, "max_pixels": max_pixels},
        "learner": {"pack_tokens": CONTEXT},
        "trainer": {"run_dir": "none", "steps": 1, "packs_per_step": 1},
    }
    packing = PackingConfig(context=CONTEXT, ranks=1, min_pixels=min_pixels, max_pixels=max_pixels)
    with TemporaryDirectory() as folder:
        rows, sizes = Path(folder) / "rows.jsonl", Path(folder) / "sizes.parquet"
        lines = (resolve_path(CORPUS) / "sft.jsonl").read_text(encoding="utf-8").splitlines(keepends=True)
        # The categories follow one another in the file.
        rows.write_text("".join(lines[:: max(1, len(lines) // count)][:count]), encoding="utf-8")
        tree["data"]["train"] = str(rows)
        config = checked(PretrainConfig, tree, "benchmark")
        write_sizes(config, sizes)
        known = read_metadata(sizes, packing)
        files = open_rows(rows, on_bad_row="refuse")
        loader = PackLoader(config, files)

        def decoded() -> np.ndarray:
            return np.array([decoded_tokens(loader, index) for index in range(len(files))])

        def headers() -> np.ndarray:
            return np.array([loader.sizes(index)[0] for index in range(len(files))])

        def metadata() -> np.ndarray:
            return read_metadata(sizes, packing).tokens

        pictures = sum(len(files.read(index).images) for index in range(len(files)))
        found: dict[str, float] = {"rows": len(files), "pictures": pictures}
        for way in (decoded, headers, metadata):
            found[f"{way.__name__}_rows_per_s"] = rate(way, known.tokens, lambda: make_plan(known, packing))
    for way in ("headers", "metadata"):
        found[f"{way}_over_decoded"] = round(found[f"{way}_rows_per_s"] / found["decoded_rows_per_s"], 2)
    return found


def decoded_tokens(loader: PackLoader, index: int) -> int:
    """Tokens of a row by the trainer's own path: its pictures are decoded, resized and cut."""
    row = loader.files.read(index)
    pictures = list(in_threads(loader.folder.load, row.images))
    return len(loader.encoder.conversation(row.messages, pictures).token_ids)


def rate(lengths: Callable[[], np.ndarray], expected: np.ndarray, plan: Callable[[], object]) -> float:
    """Rows a second of sizing and planning."""
    started = time.process_time()
    found = lengths()
    plan()
    seconds = time.process_time() - started
    if not (found == expected).all():
        raise SystemExit(f"{int((found != expected).sum())} rows have another length than the metadata says")
    return round(len(expected) / seconds, 1)
