"""SFT queries -> several answers each, scored from 1 to 5 -> **preference pairs** (openPangu-VL 4.2)."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from rich.console import Console

from pangu_rl.algorithms.rejection_sampling import Candidate, Pair, Reason, select_pair
from pangu_rl.checkpoint.model_folder import model_checksum
from pangu_rl.config.paths import resolve_path
from pangu_rl.config.sampling import PairsConfig
from pangu_rl.data.queries import media_columns, modality, select_queries
from pangu_rl.errors import DataError
from pangu_rl.loops.sampling.queries import Queries, read_queries
from pangu_rl.loops.sampling.sample import made_from, sample
from pangu_rl.loops.stage_report import (
    candidate_figures,
    histogram_table,
    reason_counts,
    write_manifest,
    write_rows,
)
from pangu_rl.monitoring.run_log import logs_refusals
from pangu_rl.records import Prompt


@logs_refusals
def run_pairs(config: PairsConfig) -> dict[str, Any]:
    """Write `pairs.jsonl` and `manifest.json` into the run directory; returns the manifest.

    All candidates, with every scorer's votes, are in `rollouts/`.

    Raises:
        UserError, RunError: see `pangu_rl.errors`. Preempted: SIGTERM came; the same command goes on.
    """
    queries = read_queries(config)
    selected, left_out = select_queries(queries.rows, config.selector)
    if not selected:
        raise DataError(
            f"{config.data.queries}: selector takes none of {len(queries.rows)} queries, left out by {left_out}"
        )
    checksum = model_checksum(resolve_path(config.model.path))
    candidates = sample(config, selected, queries.loader, "Pairs", checksum)
    rows, reasons = pair_rows(config, selected, candidates)
    run_dir = Path(config.trainer.run_dir)
    manifest = {
        "stage": "pairs",
        "made_from": made_from(config, selected, queries.loader, checksum),
        "rule": config.pair.model_dump(mode="json"),
        "selector": selector_figures(config, queries, left_out),
        "queries": reason_counts(reasons),
        **candidate_figures(candidates),
        "pairs": {
            "modality": dict(Counter("multimodal" if row["images"] or "videos" in row else "text" for row in rows)),
            "source": dict(sorted(Counter(row["source"] for row in rows).items())),
        },
        "outputs": {"pairs.jsonl": write_rows(run_dir / "pairs.jsonl", rows)},
    }
    write_manifest(run_dir, manifest)
    console = Console(stderr=True)
    console.print(histogram_table("Candidates by score", manifest["scores"]))
    console.print(histogram_table("Queries", manifest["queries"]))
    return manifest


def pair_rows(
    config: PairsConfig, prompts: Sequence[Prompt], candidates: Mapping[str, Sequence[Candidate]]
) -> tuple[list[dict[str, Any]], list[Reason | str]]:
    """The rows of `pairs.jsonl`, and what became of every prompt."""
    rows, reasons = [], []
    for prompt in prompts:
        if prompt.uid not in candidates:
            reasons.append("not_drawn")
            continue
        pair, reason = select_pair(
            candidates[prompt.uid],
            chosen_above=config.pair.chosen_above,
            rejected_below=config.pair.rejected_below,
        )
        reasons.append(reason)
        if pair is not None:
            rows.append(pair_row(prompt, pair))
    return rows, reasons


def pair_row(prompt: Prompt, pair: Pair) -> dict[str, Any]:
    return {
        "id": prompt.uid,
        "messages": list(prompt.messages),
        "chosen": pair.chosen.text,
        "rejected": pair.rejected.text,
        **media_columns(prompt),
        "source": prompt.source,
        "chosen_score": pair.chosen.score,
        "rejected_score": pair.rejected.score,
        "rejected_ended": pair.rejected.whole,
    }


def selector_figures(config: PairsConfig, queries: Queries, left_out: Mapping[str, int]) -> dict[str, Any]:
    """The rule that took the queries, and what it took and left out."""
    kept = len(queries.rows) - sum(left_out.values())
    return {
        "rule": config.selector.model_dump(mode="json"),
        "taken": kept,
        "left_out": dict(left_out),
        "bad_rows": len(queries.skipped),
        "modality": dict(Counter(map(modality, queries.rows))),
    }
