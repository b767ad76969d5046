"""Small models and packs whose every number a test can work out again."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedModel

from pangu_rl.records import Pack

VOCABULARY = 97


def save_llama(directory: Path, *, dtype: torch.dtype = torch.float32, tied: bool = True) -> Path:
    llama(tied=tied).to(dtype).save_pretrained(directory)
    return directory


def llama(*, tied: bool = True, **options: object) -> PreTrainedModel:
    """Two layers, hidden 32, 4 heads over 2 key-value heads, random weights of deviation 0.2."""
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=VOCABULARY,
        hidden_size=32,
        intermediate_size=48,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=1024,
        tie_word_embeddings=tied,
        initializer_range=0.2,
        bos_token_id=1,
        eos_token_id=2,
        pad_token_id=0,
        **options,
    )
    return LlamaForCausalLM(config).eval()


def tree_pack(groups: Sequence[tuple[int, Sequence[int]]], *, seed: int = 0, first_sequence: int = 0) -> Pack:
    """Groups of (prompt length, completion lengths) with random tokens; all completion tokens are targets.

    Advantages are one number per completion, sampler log-probs are around those of a uniform guess.
    """
    rng = np.random.default_rng(seed)
    starts, parents, positions, targets, predictors, sequences = [0], [], [], [], [], []
    for prompt, completions in groups:
        root, root_start = len(parents), starts[-1]
        parents.append(-1)
        positions += range(prompt)
        starts.append(root_start + prompt)
        for length in completions:
            start = starts[-1]
            parents.append(root)
            positions += range(prompt, prompt + length)
            starts.append(start + length)
            targets += range(start, start + length)
            predictors += [root_start + prompt - 1, *range(start, start + length - 1)]
            sequences += [first_sequence + len(set(sequences))] * length
    advantage = rng.normal(size=len(set(sequences)))
    return Pack(
        token_ids=rng.integers(3, VOCABULARY, starts[-1]),
        position_ids=np.array(positions, dtype=np.int64),
        segment_starts=np.array(starts, dtype=np.int64),
        segment_parents=np.array(parents, dtype=np.int64),
        targets=np.array(targets, dtype=np.int64),
        predictors=np.array(predictors, dtype=np.int64),
        sequence_ids=np.array(sequences, dtype=np.int64),
        columns={
            "advantages": advantage[np.array(sequences, dtype=np.int64) - first_sequence].astype(np.float32),
            "sampler_logprobs": rng.normal(-4.6, 0.3, len(targets)).astype(np.float32),
        },
    )


def plain_pack(sequences: Sequence[Sequence[int]], trained_from: Sequence[int]) -> Pack:
    """Every sequence a root of its own; tokens from index `trained_from` of each on are targets."""
    lengths = [len(sequence) for sequence in sequences]
    starts = np.cumsum([0, *lengths])
    spans = [np.arange(start + first, start + n) for start, first, n in zip(starts, trained_from, lengths)]
    targets = np.concatenate(spans)
    return Pack(
        token_ids=np.concatenate([np.asarray(sequence, dtype=np.int64) for sequence in sequences]),
        position_ids=np.concatenate([np.arange(n) for n in lengths]),
        segment_starts=starts,
        segment_parents=np.full(len(lengths), -1),
        targets=targets,
        predictors=targets - 1,
        sequence_ids=np.repeat(np.arange(len(lengths)), [len(span) for span in spans]),
    )


def join(packs: Sequence[Pack]) -> Pack:
    """One pack of all of them."""
    tokens = np.cumsum([0, *[pack.num_tokens for pack in packs]])
    segments = np.cumsum([0, *[len(pack.segment_parents) for pack in packs]])
    parents = [np.where(p.segment_parents < 0, -1, p.segment_parents + s) for p, s in zip(packs, segments)]
    return Pack(
        token_ids=np.concatenate([pack.token_ids for pack in packs]),
        position_ids=np.concatenate([pack.position_ids for pack in packs]),
        segment_starts=np.concatenate([[0], *[p.segment_starts[1:] + t for p, t in zip(packs, tokens)]]),
        segment_parents=np.concatenate(parents),
        targets=np.concatenate([pack.targets + t for pack, t in zip(packs, tokens)]),
        predictors=np.concatenate([pack.predictors + t for pack, t in zip(packs, tokens)]),
        sequence_ids=np.concatenate([pack.sequence_ids for pack in packs]),
        columns={name: np.concatenate([pack.columns[name] for pack in packs]) for name in packs[0].columns},
    )
