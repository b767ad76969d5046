"""Seconds of an optimiser step by `micro_batch_tokens`, buckets and ZeRO stage: two ranks over gloo, a thread each.

Sixteen packs of 512 tokens, four sequences in each, on 8 layers of 512 (37 million parameters, bf16). ZeRO 2 and 3
communicate at every micro-batch, so that fewer of them cost less; ZeRO 1 shows what the larger micro-batch is worth by
itself. The settings run one after the other, twice; the best of all steps is taken.
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np

from pangu_rl.accelerators.collective import free_port
from pangu_rl.config.sections.learner import LearnerConfig
from pangu_rl.config.sections.model import ModelConfig
from pangu_rl.data.packs.batching import pack_conversations, pack_counts, split_ranks
from pangu_rl.data.packs.layout import TrainingRow
from pangu_rl.data.packs.micro_batches import Dealing
from pangu_rl.learner.spec import LearnerSpec

RANKS, PACK, STEPS, ROUNDS = 2, 512, 2, 2
SETTINGS: tuple[dict[str, Any], ...] = (
    *({"zero_stage": stage, "micro_batch_tokens": size} for stage in (1, 2, 3) for size in (None, 2048, 4096)),
    *({"zero_stage": stage, "reduce_bucket": size} for stage in (2, 3) for size in (1_000_000, 8_000_000)),
    *({"zero_stage": 3, "prefetch_bucket": size} for size in (0, 5_000_000)),
)


def main() -> None:
    argparse.ArgumentParser(description=__doc__).parse_args()
    from transformers import LlamaConfig, LlamaForCausalLM

    with tempfile.TemporaryDirectory() as folder:
        sizes = {"hidden_size": 512, "intermediate_size": 2048, "num_hidden_layers": 8, "num_attention_heads": 8}
        LlamaForCausalLM(LlamaConfig(**sizes, vocab_size=4096)).bfloat16().save_pretrained(folder)
        best = [float("inf")] * len(SETTINGS)
        for _ in range(ROUNDS):
            for index, settings in enumerate(SETTINGS):
                best[index] = min(best[index], measure(Path(folder), settings))
    for settings, seconds in zip(SETTINGS, best, strict=True):
        print(f"{seconds:6.2f} s  {settings}")


def measure(folder: Path, settings: dict[str, Any]) -> float:
    """In processes of their own: DeepSpeed lets go of an engine's memory when its process ends."""
    context, port = multiprocessing.get_context("spawn"), free_port()
    ranks = [context.Process(target=run_rank, args=(folder, rank, port, settings)) for rank in range(RANKS)]
    for rank in ranks:
        rank.start()
    while any(rank.is_alive() for rank in ranks):
        if any(rank.exitcode for rank in ranks):
            for rank in ranks:
                rank.terminate()
            raise SystemExit(f"a rank failed with {settings}")
        time.sleep(0.1)
    return float((folder / "seconds").read_text())


def run_rank(folder: Path, rank: int, port: int, settings: dict[str, Any]) -> None:
    import torch

    os.environ.update(MASTER_ADDR="127.0.0.1", MASTER_PORT=str(port), DS_ACCELERATOR="cpu")
    torch.set_num_threads(1)
    seconds = seconds_of(folder, rank, settings)
    if rank == 0:
        (folder / "seconds").write_text(str(seconds))


def seconds_of(folder: Path, rank: int, settings: dict[str, Any]) -> float:
    """Best of some steps behind one that is not counted."""
    from pangu_rl.learner.learner import Learner

    config = LearnerConfig(ranks=RANKS, pack_tokens=PACK, **settings)
    spec = LearnerSpec(
        model=ModelConfig(path=str(folder)),
        learner=config,
        objective="sft",
        total_steps=1000,
        rank=rank,
        world_size=RANKS,
    )
    learner = Learner(spec)
    random = np.random.default_rng(0)
    ids = [tuple(random.integers(0, 4096, PACK // 4).tolist()) for _ in range(64)]
    packs = pack_conversations([TrainingRow(token_ids=row, trained=(True,) * len(row)) for row in ids], PACK)
    dealing = Dealing(micro_batch_tokens=config.micro_batch_tokens, in_rows=config.ranks_meet_at_micro_batches)
    batch = split_ranks(packs, RANKS, *pack_counts(packs), dealing)[rank]
    seconds = []
    for _ in range(STEPS + 1):
        begun = time.perf_counter()
        learner.update([batch])
        seconds.append(time.perf_counter() - begun)
    return min(seconds[1:])


if __name__ == "__main__":
    main()
