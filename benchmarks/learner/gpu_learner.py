"""The learner on one GPU, against the mathematics and against transformers: parity, MFU, speed, memory.

    python -m benchmarks.learner.gpu_learner                            # an H200: at most eight minutes
    python -m benchmarks.learner.gpu_learner --device cpu --miniature   # the same on small shapes, within a minute

Needs torch, transformers and this package, no cluster and no weights: the model is a Llama of 1.6 billion random ones.

* parity: attention forward and backward in bf16 over trees of segments, as the share of the norm by which output and
  gradients miss a plain float32 computation; `sdpa` is what torch's own bf16 attention misses it by.
* step: forward, backward and AdamW on groups of completions behind a prompt. MFU counts what the mathematics asks for
  (`pangu_rl.learner.measure.flops`) over the measured matmul peak in bf16. `padded` and `single` are transformers' SDPA
  on the same sequences, each prompt repeated per completion: one group a batch, or one sequence after the other.
* memory: peak of a step on one long row, with gradient checkpointing.

A part that runs out of memory, or has no time left, says so and the others go on.
"""

from __future__ import annotations

import argparse
import gc
import json
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import torch
from torch import Tensor
from transformers import AutoModelForCausalLM, LlamaConfig, PreTrainedModel

from pangu_rl.accelerators import get_accelerator
from pangu_rl.accelerators.attention.kernel import Scores
from pangu_rl.config.sections.model import ModelConfig
from pangu_rl.learner.checks.packing_check import unpacked
from pangu_rl.learner.measure.flops import ModelFlops
from pangu_rl.learner.model import PackedCausalLM, PackTensors, load_causal_lm
from pangu_rl.learner.packed_attention import attend_by, build_layout, tree_attention
from pangu_rl.records import Pack

TEMPERATURE = 1.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Size:
    """Shapes of one run; lengths are tokens."""

    model: dict[str, int]
    heads: tuple[int, int, int]
    """Query heads, key-value heads and head size of the parity check."""
    trees: tuple[tuple[tuple[int, tuple[int, ...]], ...], ...]
    """Packs of the parity check: (prompt, completions) of each group."""
    groups: tuple[tuple[int, tuple[int, ...]], ...]
    """The pack of the timed step."""
    rows: tuple[int, ...]
    """Lengths of the memory check."""
    matmul: int
    repeats: int


WHOLE = Size(
    model={
        "vocab_size": 32_768,
        "hidden_size": 2048,
        "intermediate_size": 8192,
        "num_hidden_layers": 24,
        "num_attention_heads": 16,
        "num_key_value_heads": 8,
        "max_position_embeddings": 131_072,
    },
    heads=(16, 8, 128),
    trees=(
        ((700, (300, 1, 513, 64)), (1, (1, 2)), (257, ())),
        ((2048, ()),),
        ((129, (96,) * 8), (40, (31, 1, 700))),
    ),
    groups=((512, (1024,) * 8), (1024, (960,) * 8)),
    rows=(24_576, 131_072),
    matmul=8192,
    repeats=5,
)
MINIATURE = Size(
    model={
        "vocab_size": 4096,
        "hidden_size": 256,
        "intermediate_size": 704,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "max_position_embeddings": 8192,
    },
    heads=(4, 2, 64),
    trees=(((70, (30, 1, 51, 64)), (1, (1, 2)), (257, ())), ((300, ()),)),
    groups=((64, (96,) * 4), (96, (64,) * 4)),
    rows=(512, 2048),
    matmul=1024,
    repeats=3,
)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", choices=["cuda", "cpu"], default="cuda")
    parser.add_argument("--miniature", action="store_true")
    parser.add_argument("--minutes", type=float, default=7.0, help="no part begins later")
    args = parser.parse_args()
    deadline = time.monotonic() + 60 * args.minutes
    size, bench = MINIATURE if args.miniature else WHOLE, Bench(args.device)
    torch.manual_seed(0)
    report: dict[str, Any] = {"machine": bench.machine(size.matmul)}
    report["parity"] = [parity(pack, size.heads, bench) for pack in (grow(trees, 100) for trees in size.trees)]
    with tempfile.TemporaryDirectory() as folder:
        bench.save_model(size.model, Path(folder))
        parts: dict[str, Callable[[], dict[str, Any]]] = {
            "ours": lambda: packed_step(Path(folder), grow(size.groups, size.model["vocab_size"]), size, bench),
            "padded": lambda: plain_step(Path(folder), size, bench, together=True),
            "single": lambda: plain_step(Path(folder), size, bench, together=False),
        }
        for tokens in size.rows:
            parts[f"row of {tokens}"] = lambda tokens=tokens: row_memory(Path(folder), tokens, size, bench)
        for name, part in parts.items():
            report[name] = attempted(part, deadline, bench)
    finish(report, bench.peak)
    print(table(report))
    print(json.dumps(report))


class Bench:
    """The device, its clock and its memory."""

    def __init__(self, device: str) -> None:
        self.accelerator, self.device = get_accelerator(device), torch.device(device)
        self.peak = 0.0
        """bf16 matmul FLOP/s, measured."""

    def machine(self, matmul: int) -> dict[str, Any]:
        left, right = (torch.randn(matmul, matmul, device=self.device).bfloat16() for _ in range(2))
        self.peak = 2 * matmul**3 / min(self.seconds(lambda: left @ right) for _ in range(12))
        name = torch.cuda.get_device_name() if self.device.type == "cuda" else f"cpu, {torch.get_num_threads()} threads"
        return {"device": name, "torch": torch.__version__, "matmul_peak_tflops": round(self.peak / 1e12, 3)}

    def seconds(self, call: Callable[[], Any]) -> float:
        self._synchronize()
        begun = time.perf_counter()
        call()
        self._synchronize()
        return time.perf_counter() - begun

    def fresh(self) -> None:
        """Let go of cached memory, and begin the peak anew where the device can."""
        gc.collect()
        self.accelerator.empty_cache()
        if self.device.type == "cuda":
            torch.cuda.reset_peak_memory_stats()

    def peak_gib(self) -> float:
        return round(self.accelerator.memory_stats()["peak"] / 2**30, 2)

    def save_model(self, shapes: dict[str, int], folder: Path) -> None:
        config = LlamaConfig(**shapes, tie_word_embeddings=True)
        with self.device:
            AutoModelForCausalLM.from_config(config, dtype=torch.bfloat16).save_pretrained(folder)

    def _synchronize(self) -> None:
        if self.device.type == "cuda":
            self.accelerator.synchronize()


def grow(groups: tuple[tuple[int, tuple[int, ...]], ...], vocabulary: int) -> Pack:
    """A pack of random tokens: each completion behind its prompt, all of a completion's tokens targets."""
    lengths, parents, positions = [], [], []
    for prompt, completions in groups:
        root = len(lengths)
        lengths += [prompt, *completions]
        parents += [-1, *(root for _ in completions)]
        positions += [np.arange(prompt), *(np.arange(prompt, prompt + length) for length in completions)]
    starts = np.cumsum([0, *lengths])
    leaves = [index for index in range(len(lengths)) if parents[index] >= 0 or index not in parents]
    targets, predictors, sequences = [], [], []
    for sequence, leaf in enumerate(leaves):
        own = np.arange(starts[leaf] + (parents[leaf] < 0), starts[leaf + 1])
        before = own - 1
        if parents[leaf] >= 0:
            before[0] = starts[parents[leaf] + 1] - 1
        targets.append(own)
        predictors.append(before)
        sequences.append(np.full(len(own), sequence))
    rng = np.random.default_rng(0)
    return Pack(
        token_ids=rng.integers(0, vocabulary, starts[-1]),
        position_ids=np.concatenate(positions),
        segment_starts=starts,
        segment_parents=np.array(parents),
        targets=np.concatenate(targets),
        predictors=np.concatenate(predictors),
        sequence_ids=np.concatenate(sequences),
        columns={},
    )


def parity(pack: Pack, heads: tuple[int, int, int], bench: Bench) -> dict[str, Any]:
    """Relative errors of output and gradients, ours and SDPA's in bf16, and whether ours is the same bits twice."""
    query_heads, key_heads, width = heads
    shapes = [(pack.num_tokens, count, width) for count in (query_heads, key_heads, key_heads, query_heads)]
    query, key, value, slope = (torch.randn(shape, device=bench.device).bfloat16() for shape in shapes)
    layout, scale, mask = build_layout(pack, bench.device), width**-0.5, seen(pack).to(bench.device)

    def ours(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        return tree_attention(q, k, v, layout, Scores(scale=scale))

    def sdpa(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        q, k, v = (x.transpose(0, 1).unsqueeze(0) for x in (q, *grouped(q, k, v)))
        mixed = torch.nn.functional.scaled_dot_product_attention(q, k, v, attn_mask=mask, scale=scale)
        return mixed[0].transpose(0, 1)

    def plain(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        k, v = grouped(q, k, v)
        scores = torch.einsum("thd,shd->hts", q, k) * scale
        return torch.einsum("hts,shd->thd", scores.masked_fill(~mask, float("-inf")).softmax(-1), v)

    inputs = (query, key, value)
    exact = gradients(plain, [x.float() for x in inputs], slope.float())
    first, second, peer = (gradients(call, inputs, slope) for call in (ours, ours, sdpa))
    names = ("output", "query", "key", "value")
    return {
        "tokens": pack.num_tokens,
        "ours": dict(zip(names, map(missed, first, exact))),
        "sdpa": dict(zip(names, map(missed, peer, exact))),
        "same_bits_twice": all(map(torch.equal, first, second)),
    }


def gradients(call: Callable[..., Tensor], inputs: Any, slope: Tensor) -> tuple[Tensor, ...]:
    leaves = [x.detach().requires_grad_() for x in inputs]
    output = call(*leaves)
    output.backward(slope)
    return output.detach(), *(leaf.grad for leaf in leaves)


def grouped(query: Tensor, *shared: Tensor) -> Iterator[Tensor]:
    """Every key-value head as often as queries share it."""
    return (x.repeat_interleave(query.shape[1] // x.shape[1], dim=1) for x in shared)


def seen(pack: Pack) -> Tensor:
    """bool [T, T]: whether the row's token attends to the column's."""
    mask = torch.zeros(pack.num_tokens, pack.num_tokens, dtype=torch.bool)
    spans = [slice(int(a), int(b)) for a, b in zip(pack.segment_starts[:-1], pack.segment_starts[1:])]
    for segment, span in enumerate(spans):
        mask[span, span] = torch.ones(span.stop - span.start, span.stop - span.start).tril().bool()
        parent = int(pack.segment_parents[segment])
        while parent >= 0:
            mask[span, spans[parent]] = True
            parent = int(pack.segment_parents[parent])
    return mask


def missed(found: Tensor, exact: Tensor) -> float:
    return float(f"{((found.float() - exact).norm() / exact.norm()).item():.3g}")


def packed_step(folder: Path, pack: Pack, size: Size, bench: Bench, checkpointing: bool = False) -> dict[str, Any]:
    """Seconds, useful FLOPs and peak of our step on `pack`."""
    lm = load_causal_lm(ModelConfig(path=str(folder))).to(bench.device)
    if checkpointing:
        lm.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})
        lm.train()
    model, optimizer = PackedCausalLM(lm, temperature=TEMPERATURE, chunk=2048), adamw(lm)
    losses: list[float] = []

    def step() -> None:
        batch = PackTensors.of(pack, bench.device)
        with attend_by(batch.layout):
            logp, _ = model(batch)
            loss = -logp.mean()
            loss.backward()
        losses.append(loss.item())
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)

    flops = ModelFlops.of(lm.config).of_training(pack, {"language"})
    return timed(step, size.repeats if not checkpointing else 1, bench) | {
        "tokens": pack.num_tokens,
        "useful_tflop": round(flops / 1e12, 4),
        "first_loss": round(losses[0], 4),
    }


def plain_step(folder: Path, size: Size, bench: Bench, *, together: bool) -> dict[str, Any]:
    """The same sequences through transformers' own model, one backward pass per batch, one AdamW step."""
    lm = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.bfloat16, attn_implementation="sdpa")
    lm, losses = lm.to(bench.device), []
    optimizer, pack = adamw(lm), grow(size.groups, size.model["vocab_size"])
    sequences = [(pack.token_ids[tokens], len(rows)) for tokens, rows in unpacked(pack)]
    batches = list(by_shape(sequences)) if together else [[sequence] for sequence in sequences]
    total = sum(targets for _, targets in sequences)

    def step() -> None:
        loss = 0.0
        for batch in batches:
            part = plain_loss(lm, batch, bench.device) / total
            part.backward()
            loss += part.item()
        losses.append(loss)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)

    tokens = sum(len(ids) for ids, _ in sequences)
    return timed(step, size.repeats, bench) | {"tokens": tokens, "first_loss": round(losses[0], 4)}


Sequence = tuple[np.ndarray, int]
"""Token ids of prompt and completion, and how many at the end are targets."""


def by_shape(sequences: list[Sequence]) -> Iterator[list[Sequence]]:
    """The completions of a group are of one length here, so that a batch has no padding at all."""
    shapes = sorted({(len(ids), targets) for ids, targets in sequences})
    for shape in shapes:
        yield [sequence for sequence in sequences if (len(sequence[0]), sequence[1]) == shape]


def plain_loss(lm: PreTrainedModel, batch: list[Sequence], device: torch.device) -> Tensor:
    """Sum of -log p over the batch's targets; the head runs on their predictors alone."""
    ids, targets = torch.from_numpy(np.stack([ids for ids, _ in batch])).to(device), batch[0][1]
    logits = lm(input_ids=ids, use_cache=False, logits_to_keep=targets + 1).logits[:, :-1]
    return torch.nn.functional.cross_entropy(logits.flatten(0, 1).float(), ids[:, -targets:].flatten(), reduction="sum")


def adamw(lm: PreTrainedModel) -> torch.optim.Optimizer:
    return torch.optim.AdamW(lm.parameters(), lr=1e-6, fused=True)


def row_memory(folder: Path, tokens: int, size: Size, bench: Bench) -> dict[str, Any]:
    row = grow(((tokens, ()),), size.model["vocab_size"])
    return packed_step(folder, row, size, bench, checkpointing=True)


def timed(step: Callable[[], None], repeats: int, bench: Bench) -> dict[str, Any]:
    """The first step, which compiles and reserves, counts towards the peak alone."""
    bench.fresh()
    bench.seconds(step)
    seconds = [bench.seconds(step) for _ in range(repeats)]
    return {"seconds": round(median(seconds), 4), "fastest": round(min(seconds), 4), "peak_gib": bench.peak_gib()}


def attempted(part: Callable[[], dict[str, Any]], deadline: float, bench: Bench) -> dict[str, Any]:
    if time.monotonic() > deadline:
        return {"skipped": "no time left"}
    try:
        return part()
    except (torch.OutOfMemoryError, MemoryError) as error:
        return {"skipped": f"out of memory: {str(error).splitlines()[0]}"}
    finally:
        bench.fresh()


def finish(report: dict[str, Any], peak: float) -> None:
    """MFU of our steps; how many times the faster of transformers' two ours is."""
    for part in report.values():
        if "useful_tflop" in part:
            part["mfu"] = round(part["useful_tflop"] * 1e12 / part["seconds"] / peak, 3)
    peers = [report[name]["seconds"] for name in ("padded", "single") if "seconds" in report[name]]
    if peers and "seconds" in report["ours"]:
        report["ratio"] = round(min(peers) / report["ours"]["seconds"], 2)


def table(report: dict[str, Any]) -> str:
    machine = report["machine"]
    lines = [f"{machine['device']}, torch {machine['torch']}, bf16 matmul {machine['matmul_peak_tflops']} TFLOP/s"]
    for part in report["parity"]:
        worst = {side: max(part[side].values()) for side in ("ours", "sdpa")}
        same = "same bits twice" if part["same_bits_twice"] else "other bits the second time"
        lines.append(f"attention, {part['tokens']} tokens: off by {worst['ours']} (SDPA {worst['sdpa']}), {same}")
    for name, part in report.items():
        if isinstance(part, dict) and "seconds" in part:
            mfu = f", MFU {part['mfu']:.1%}" if "mfu" in part else ""
            lines.append(f"{name}: {part['tokens']} tokens, {part['seconds']} s, peak {part['peak_gib']} GiB{mfu}")
        elif isinstance(part, dict) and "skipped" in part:
            lines.append(f"{name}: {part['skipped']}")
    lines.append(f"ours to the faster of transformers': {report.get('ratio', 'not measured')}")
    return "\n".join(lines)


if __name__ == "__main__":
    main()
