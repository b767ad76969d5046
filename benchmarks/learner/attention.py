"""Attention over a pack's tree: memory and time by length, beside torch's own kernel in the same run.

lengths   one row of 2k to --longest tokens, and 8 answers of an eighth of that behind a prompt of 8k: forward and
          backward of two layers, each size in a process of its own; the exponent of memory and time over tokens
sdpa      one layer's attention against scaled_dot_product_attention of the same shapes, by turns, best of --repeats
layout    milliseconds to build the layout of an answer of 24,576 tokens
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import time
from collections.abc import Callable
from itertools import accumulate
from pathlib import Path

import numpy as np
import torch
from torch.nn.functional import scaled_dot_product_attention
from transformers import LlamaConfig, LlamaForCausalLM

from benchmarks.machine import machine
from pangu_rl.accelerators.attention.kernel import Scores
from pangu_rl.learner.model import PackedCausalLM, PackTensors
from pangu_rl.learner.packed_attention import PACKED, attend_by, build_layout, tree_attention
from pangu_rl.records import Pack

PROMPT, ANSWERS = 8192, 8
SDPA_SHAPES = [(64, 128), (32, 256), (8, 512), (4, 1024), (1, 2048), (1, 4096), (1, 8192), (1, 16384)]
"""Sequences and tokens of each."""
PARTS = ("layout", "sdpa", "lengths")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--longest", type=int, default=131072)
    parser.add_argument("--heads", type=int, nargs=3, default=(8, 2, 128), help="heads, key-value heads, size")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=PARTS)
    parser.add_argument("--one", help="lengths of one tree, for a process of its own")
    args = parser.parse_args()
    if args.one:
        print(json.dumps(measure_row([int(length) for length in args.one.split(",")], args.heads)))
        return
    report = {"machine": machine(), "heads": list(args.heads)}
    if "layout" in args.parts:
        report["layout_24576_ms"] = round(best(lambda: build_layout(tree([24576])), args.repeats) * 1e3, 3)
    if "sdpa" in args.parts:
        report["sdpa"] = [against_sdpa(*shape, args.heads, args.repeats) for shape in SDPA_SHAPES]
    if "lengths" in args.parts:
        sizes = [2048 << i for i in range(20) if 2048 << i <= args.longest]
        report["one row"] = by_length([[size] for size in sizes], args.heads)
        report["group"] = by_length([[PROMPT, *[size // ANSWERS] * ANSWERS] for size in sizes], args.heads)
    print(json.dumps(report, indent=1))


def against_sdpa(count: int, length: int, heads: tuple[int, int, int], repeats: int) -> dict[str, float]:
    """Milliseconds of forward and of both directions, ours and torch's, for so many causal sequences."""
    queries, keys, size = heads
    generator = torch.Generator().manual_seed(0)
    shapes = [(count * length, queries, size), *[(count * length, keys, size)] * 2]
    inputs = [torch.randn(s, generator=generator).bfloat16().requires_grad_() for s in shapes]
    upstream = torch.randn(shapes[0], generator=generator).bfloat16()
    pack = pack_of([length] * count, [-1] * count)
    layout, scores = build_layout(pack), Scores(scale=size**-0.5)

    def ours() -> torch.Tensor:
        return tree_attention(*inputs, layout, scores)

    def theirs() -> torch.Tensor:
        batched = (x.unflatten(0, (count, length)).transpose(1, 2) for x in inputs)
        out = scaled_dot_product_attention(*batched, is_causal=True, enable_gqa=True)
        return out.transpose(1, 2).flatten(0, 1)

    def both(forward: Callable[[], torch.Tensor]) -> None:
        torch.autograd.grad(forward(), inputs, upstream)

    times = by_turns([ours, theirs, lambda: both(ours), lambda: both(theirs)], repeats)
    names = ("forward", "sdpa_forward", "both", "sdpa_both")
    row = {"sequences": count, "tokens": length} | {n: round(t * 1e3, 2) for n, t in zip(names, times, strict=True)}
    print(row, file=sys.stderr, flush=True)
    return row | {"ratio": round(times[3] / times[2], 2)}


def by_length(trees: list[list[int]], heads: tuple[int, int, int]) -> dict[str, object]:
    rows = []
    for lengths in trees:
        command = [sys.executable, "-m", "benchmarks.learner.attention", "--one", ",".join(map(str, lengths))]
        done = subprocess.run([*command, "--heads", *map(str, heads)], capture_output=True, text=True, check=True)
        rows.append(json.loads(done.stdout.strip().splitlines()[-1]))
        print(rows[-1], file=sys.stderr, flush=True)
    exponents = {name: exponent([r["tokens"] for r in rows], [r[name] for r in rows]) for name in ("mib", "seconds")}
    return {"rows": rows, "exponents": exponents}


def exponent(tokens: list[int], values: list[float]) -> float:
    """Of the power of the tokens that fits best."""
    return round(float(np.polyfit(np.log(tokens), np.log(values), 1)[0]), 3)


def measure_row(lengths: list[int], heads: tuple[int, int, int]) -> dict[str, float]:
    """A step's peak above what stood before it, and its seconds, of two layers; the first of several is the prompt."""
    queries, keys, size = heads
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=1024,
        hidden_size=queries * size,
        intermediate_size=2 * queries * size,
        num_hidden_layers=2,
        num_attention_heads=queries,
        num_key_value_heads=keys,
        head_dim=size,
        attn_implementation=PACKED,
    )
    lm = LlamaForCausalLM(config).bfloat16()
    model = PackedCausalLM(lm, temperature=1.0, chunk=2048)
    step(model, tree([64]))  # makes gradients and whatever is made once
    pack = tree(lengths)
    # Linux forgets the peak, so that it counts from what is there now.
    Path("/proc/self/clear_refs").write_text("5", encoding="ascii")
    before = memory("VmRSS")
    begun = time.perf_counter()
    step(model, pack)
    seconds = time.perf_counter() - begun
    return {
        "tokens": pack.num_tokens,
        "mib": round(memory("VmHWM") - before, 1),
        "seconds": round(seconds, 2),
    }


def memory(name: str) -> float:
    """MiB of this process: `VmRSS` now, `VmHWM` at the most."""
    lines = Path("/proc/self/status").read_text(encoding="utf-8").splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(name)) / 1024


def step(model: PackedCausalLM, pack: Pack) -> None:
    batch = PackTensors.of(pack, "cpu")
    with attend_by(batch.layout):
        model(batch)[0].mean().backward()


def tree(lengths: list[int]) -> Pack:
    """One sequence, or a prompt with answers behind it; every token of an answer is trained."""
    return pack_of(lengths, [-1, *[0] * (len(lengths) - 1)])


def pack_of(lengths: list[int], parents: list[int]) -> Pack:
    starts = np.array([0, *accumulate(lengths)])
    positions = np.concatenate([np.arange(n) + (lengths[p] if p >= 0 else 0) for n, p in zip(lengths, parents)])
    own = [np.arange(s + 1, e) for s, e, p in zip(starts, starts[1:], parents) if p >= 0 or len(lengths) == 1]
    targets = np.concatenate(own) if own else np.zeros(0, dtype=np.int64)
    return Pack(
        token_ids=np.random.default_rng(0).integers(0, 1024, starts[-1]),
        position_ids=positions,
        segment_starts=starts,
        segment_parents=np.array(parents),
        targets=targets,
        predictors=targets - 1,
        sequence_ids=np.zeros_like(targets),
    )


def best(call: Callable[[], object], repeats: int) -> float:
    return by_turns([call], repeats)[0]


def by_turns(calls: list[Callable[[], object]], repeats: int) -> list[float]:
    """Shortest seconds of each, called in turn so that all meet the same machine."""
    shortest = [float("inf")] * len(calls)
    for _ in range(repeats + 1):
        for index, call in enumerate(calls):
            begun = time.perf_counter()
            call()
            shortest[index] = min(shortest[index], time.perf_counter() - begun)
    return shortest


if __name__ == "__main__":
    main()
