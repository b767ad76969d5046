"""pairs -> **log-probs under the start model, once** -> the reference store -> every step."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path

import numpy as np

from pangu_rl.checkpoint.model_folder import model_checksum
from pangu_rl.config.paths import resolve_path
from pangu_rl.config.stages import DpoConfig
from pangu_rl.data.packs.batching import PairRow, outline_pairs, pack_counts, split_ranks
from pangu_rl.data.reference import Reference, ReferenceIdentity, ReferenceStore
from pangu_rl.loops.actors.learners import Learners
from pangu_rl.loops.inputs.pairs import DpoInputs
from pangu_rl.loops.session import Run


def open_store(config: DpoConfig, inputs: DpoInputs) -> ReferenceStore:
    """The store of `config`, checked and not read yet.

    Raises:
        DataError: it was made by another model or for other pairs.
    """
    path = config.data.reference
    store = ReferenceStore(
        resolve_path(path) if path else Path(config.trainer.run_dir) / "reference.jsonl",
        ReferenceIdentity(
            model=model_checksum(resolve_path(config.model.path)),
            dtype=config.model.dtype,
            pairs=inputs.fingerprint,
        ),
        [pair.uid for pair in inputs.train],
        config.trainer.pairs_per_step,
    )
    store.check()
    return store


def reference_log_probs(
    config: DpoConfig, run: Run, inputs: DpoInputs, store: ReferenceStore, learners: Learners
) -> Mapping[str, Reference]:
    """Log-probs of all pairs by uid; those that the store lacks are computed by `learners`, who hold the start model.

    Raises:
        DataError: the store is that of another model or of other pairs, or a picture has changed.
        Preempted: SIGTERM came; what is done is stored.
    """
    with ExitStack() as stack:
        with run.phase("reference", lambda: [f"another run that makes {store.path}"]):
            stack.enter_context(store.held(run.say, run.stop))
        done = store.read()
        for start in range(len(done), len(inputs.train), store.chunk):
            with run.phase("reference"):
                pairs = inputs.train[start : start + store.chunk]
                sums = response_sums(inputs.loader.pairs(pairs), learners, config, inputs.loader.encoder.placeholders)
                chunk = [Reference(pair.uid, *logps) for pair, logps in zip(pairs, sums.tolist(), strict=True)]
                store.add(chunk)
                done += chunk
            found = f"reference log-probs: {len(done)} of {len(inputs.train)} pairs"
            run.say(found)
            if run.preempted:
                raise run.preemption.preempted(f"{found} are in {store.path}; the same command goes on from there")
    return {reference.id: reference for reference in done}


def response_sums(
    rows: Sequence[PairRow], learners: Learners, config: DpoConfig, placeholders: frozenset[int]
) -> np.ndarray:
    """float64 [B, 2] summed log-probs of the chosen and the rejected responses under the model that adapters stand
    beside, or without any under the current weights."""
    packs = outline_pairs(rows, config.learner.pack_tokens, placeholders)
    batches = split_ranks(packs, config.learner.groups, *pack_counts(packs), learners.dealing)
    shares = [batch.packs for batch in batches]
    sums = np.zeros(2 * len(rows))
    for own, found in zip(shares, learners.shared_log_probs(shares, temperature=1.0, adapted=False), strict=True):
        for pack, logp in zip(own, found, strict=True):
            np.add.at(sums, pack.sequence_ids, logp.astype(np.float64))
    return sums.reshape(-1, 2)
