"""The learner's fused operations against their plain-torch references, and an update's share of the matmul peak.

Shapes are SmolLM2-135M's with a pack of so many tokens; each row is the best of several calls, both ways by turns, in
one run. `--update` measures a whole GRPO update of the model in this process, 64 completions of 128 tokens.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor

from benchmarks.machine import machine
from benchmarks.online.grpo_step import matmul_peak
from pangu_rl.accelerators import get_accelerator, ops
from pangu_rl.accelerators.collective import free_port
from pangu_rl.accelerators.ops.table import Operation
from pangu_rl.config.sections.algorithm import GrpoAlgorithmConfig
from pangu_rl.config.sections.learner import LearnerConfig
from pangu_rl.config.sections.model import ModelConfig
from pangu_rl.learner.spec import LearnerSpec
from pangu_rl.records import MiniBatch, Pack

WIDTH, INNER, HEADS, SIZE, VOCABULARY = 576, 1536, 9, 64, 49152
GROUPS, COMPLETIONS, PROMPT, LENGTH = 8, 8, 40, 128


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tokens", type=int, default=1064, help="of a pack, for the table of operations")
    parser.add_argument("--update", action="store_true", help="measure a whole update too: 4 GiB, some minutes")
    parser.add_argument("--groups-per-pack", type=int, default=4)
    args = parser.parse_args()
    environment = get_accelerator("cpu").train_env(torch.get_num_threads())
    if not environment.items() <= os.environ.items():
        # A learner's: threads and memory read it when a process starts.
        os.execve(sys.executable, [sys.executable, *sys.orig_argv[1:]], os.environ | environment)
    report: dict[str, object] = {"machine": machine(), "tokens": args.tokens}
    report["operations"] = [row for name in rows(args.tokens) for row in measure(name, *rows(args.tokens)[name])]
    if args.update:
        report["update"] = update(args.groups_per_pack)
    print(json.dumps(report, indent=1))


def rows(tokens: int) -> dict[str, tuple[Operation, tuple[object, ...], bool]]:
    """Operation, its arguments, whether it has a backward pass."""
    x, gate, up = half(1, tokens, WIDTH), half(1, tokens, INNER), half(1, tokens, INNER)
    query, angle = half(1, tokens, HEADS, SIZE).transpose(1, 2), half(1, tokens, SIZE)
    logits, targets = half(tokens, VOCABULARY), torch.randint(0, VOCABULARY, (tokens,))
    logp, entropy = torch.empty(tokens), torch.empty(tokens)
    return {
        "rms_norm": (ops.rms_norm, (x, half(WIDTH), 1e-5), True),
        "silu gate": (ops.gated, (gate, up, ops.SILU), True),
        "gelu gate": (ops.gated, (gate, up, ops.GELU_TANH), True),
        "rotary": (ops.rotary, (query, angle.cos(), angle.sin()), True),
        "weight gradient": (ops.weight_gradient, (gate[0], x[0]), False),
        "weight gradient of the head": (ops.weight_gradient, (logits, x[0]), False),
        "softmax of the head": (ops.softmax_head_, (logits, targets, logp, entropy, 1.0), False),
        "slopes of the logits": (ops.logit_slopes_, (logits, targets, logp, entropy), False),
    }


def half(*shape: int) -> Tensor:
    return torch.randn(shape).bfloat16()


def measure(name: str, operation: Operation, args: tuple[object, ...], has_backward: bool) -> list[dict[str, object]]:
    """Milliseconds of both ways, forward and, where there is one, backward."""
    ways = {"ours": operation, "reference": operation.reference}
    directions = {"forward": {way: lambda f=f: f(*args) for way, f in ways.items()}}
    if has_backward:
        leaves = [x.requires_grad_() if isinstance(x, Tensor) and i < 2 else x for i, x in enumerate(args)]
        if operation is ops.rotary:
            leaves = [args[0], *(x.detach() for x in args[1:])]
        directions["backward"] = {way: backward(f, leaves) for way, f in ways.items()}
    found = []
    for direction, calls in directions.items():
        ms = {way: float("inf") for way in calls}
        for _ in range(10):
            for way, call in calls.items():
                begun = time.perf_counter()
                call()
                ms[way] = min(ms[way], (time.perf_counter() - begun) * 1e3)
        ratio = round(ms["reference"] / ms["ours"], 2)
        found.append({"operation": name, "direction": direction} | {way: round(x, 3) for way, x in ms.items()})
        found[-1]["ratio"] = ratio
    return found


def backward(function: Callable[..., Tensor], leaves: list[object]) -> Callable[[], object]:
    result = function(*leaves)
    upstream = torch.randn(result.shape).bfloat16()
    learned = [x for x in leaves if isinstance(x, Tensor) and x.requires_grad]
    return lambda: torch.autograd.grad(result, learned, upstream, retain_graph=True)


def update(groups_per_pack: int) -> dict[str, object]:
    """Best of four updates of one rank: seconds, tokens/s, and the share of the peak measured beside each."""
    os.environ.update(
        get_accelerator("cpu").train_env(torch.get_num_threads()) | {"RANK": "0", "WORLD_SIZE": "1", "LOCAL_RANK": "0"}
    )
    os.environ.update(MASTER_ADDR="127.0.0.1", MASTER_PORT=str(free_port()))
    from pangu_rl.learner.learner import Learner

    targets = GROUPS * COMPLETIONS * LENGTH
    learner = Learner(
        LearnerSpec(
            model=ModelConfig(path="cache://models/smollm2-135m-instruct"),
            learner=LearnerConfig(logprob_chunk=targets),
            objective="grpo",
            algorithm=GrpoAlgorithmConfig(),
            total_steps=100,
        )
    )
    packs = tuple(drawn_pack(groups_per_pack, first) for first in range(0, GROUPS, groups_per_pack))
    batch = MiniBatch(packs=packs, loss_tokens=targets, loss_sequences=GROUPS * COMPLETIONS)
    tokens, config = sum(pack.num_tokens for pack in packs), learner.lm.config
    attention = 2 * WIDTH * (WIDTH + config.num_key_value_heads * SIZE)
    body = config.num_hidden_layers * (attention + 3 * WIDTH * INNER)
    flops, best = 6.0 * (body * tokens + WIDTH * VOCABULARY * targets), {"seconds": float("inf")}
    for _ in range(4):
        peak, begun = matmul_peak(), time.perf_counter()
        metrics = learner.update([batch])[0]
        seconds = time.perf_counter() - begun
        if seconds < best["seconds"]:
            share = flops / seconds / max(peak, matmul_peak())
            best = {"seconds": round(seconds, 2), "peak_tflops": round(peak / 1e12, 3), "share": round(share, 3)}
            best |= {"tokens": tokens, "packs": len(packs), "fallback_ops": metrics["fallback_ops"]}
    learner.close()
    return best


def drawn_pack(groups: int, first: int) -> Pack:
    """Groups of COMPLETIONS random completions behind one prompt each."""
    rng = np.random.default_rng(first)
    lengths = ([PROMPT] + [LENGTH] * COMPLETIONS) * groups
    starts = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)
    roots = np.repeat(np.arange(groups) * (COMPLETIONS + 1), COMPLETIONS + 1)
    is_root = np.arange(len(lengths)) % (COMPLETIONS + 1) == 0
    offsets = [np.arange(length) + (0 if root else PROMPT) for length, root in zip(lengths, is_root)]
    targets = np.concatenate([np.arange(*starts[i : i + 2]) for i in np.flatnonzero(~is_root)])
    predictors = targets - 1
    heads = np.isin(targets, starts[:-1])
    predictors[heads] = starts[roots[~is_root]] + PROMPT - 1
    sequences = np.repeat(np.arange(groups * COMPLETIONS) + first * COMPLETIONS, LENGTH)
    advantages = rng.normal(size=groups * COMPLETIONS).astype(np.float32).repeat(LENGTH)
    return Pack(
        token_ids=rng.integers(3, VOCABULARY, starts[-1]),
        position_ids=np.concatenate(offsets),
        segment_starts=starts,
        segment_parents=np.where(is_root, -1, roots),
        targets=targets,
        predictors=predictors,
        sequence_ids=sequences,
        columns={"advantages": advantages, "sampler_logprobs": np.full(len(targets), -5, dtype=np.float32)},
    )


if __name__ == "__main__":
    main()
