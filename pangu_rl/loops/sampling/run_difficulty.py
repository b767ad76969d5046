"""Prompts -> several samples each by a given model -> **pass rates, and the prompts worth training on**.

openPangu-VL 4.2: eight samples by a preliminary SFT model, prompts answered right in at most three quarters are kept.
"""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

from rich.console import Console

from pangu_rl.algorithms.rejection_sampling import Reason, select_by_difficulty
from pangu_rl.checkpoint.model_folder import model_checksum
from pangu_rl.config.paths import resolve_path
from pangu_rl.config.sampling import DifficultyConfig
from pangu_rl.data.queries import query_row
from pangu_rl.loops.sampling.queries import read_queries
from pangu_rl.loops.sampling.sample import made_from, sample
from pangu_rl.loops.stage_report import (
    candidate_figures,
    histogram_table,
    reason_counts,
    write_manifest,
    write_rows,
)
from pangu_rl.monitoring.run_log import logs_refusals

NOT_DRAWN = "not_drawn"
"""A query beyond `trainer.steps`."""


@logs_refusals
def run_difficulty(config: DifficultyConfig) -> dict[str, Any]:
    """Write `prompts.jsonl` (kept), `left_out.jsonl` and `manifest.json` into the run directory; returns the manifest.

    Every row has its `pass_rate`; a row left out also its `reason`.

    Raises:
        UserError, RunError: see `pangu_rl.errors`. Preempted: SIGTERM came; the same command goes on.
    """
    queries = read_queries(config)
    checksum = model_checksum(resolve_path(config.model.path))
    candidates = sample(config, queries.rows, queries.loader, "Difficulty", checksum)
    kept, left_out, rates = [], [], []
    for prompt in queries.rows:
        rate, reason = None, NOT_DRAWN
        if prompt.uid in candidates:
            rate, reason = select_by_difficulty(candidates[prompt.uid], max_pass_rate=config.max_pass_rate)
        row = query_row(prompt) | {"pass_rate": rate}
        rates.append(rate)
        if reason is Reason.SELECTED:
            kept.append(row)
        else:
            left_out.append(row | {"reason": str(reason)})
    run_dir = Path(config.trainer.run_dir)
    manifest = {
        "stage": "difficulty",
        "made_from": made_from(config, queries.rows, queries.loader, checksum),
        "rule": {"max_pass_rate": config.max_pass_rate},
        "bad_rows": len(queries.skipped),
        "queries": reason_counts([Reason.SELECTED] * len(kept) + [row["reason"] for row in left_out]),
        **{key: value for key, value in candidate_figures(candidates).items() if key != "scores"},
        "pass_rates": _histogram(rates),
        "outputs": {
            "prompts.jsonl": write_rows(run_dir / "prompts.jsonl", kept),
            "left_out.jsonl": write_rows(run_dir / "left_out.jsonl", left_out),
        },
    }
    write_manifest(run_dir, manifest)
    console = Console(stderr=True)
    console.print(histogram_table("Queries by pass rate", manifest["pass_rates"]))
    console.print(histogram_table("Queries", manifest["queries"]))
    return manifest


def _histogram(rates: list[float | None]) -> dict[str, int]:
    """Queries by pass rate, in order; `none` without a verdict or a sample."""
    counts = Counter(rates)
    none = counts.pop(None, 0)
    return {f"{rate:.3f}": counts[rate] for rate in sorted(counts)} | {"none": none}
