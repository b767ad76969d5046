"""The memory estimate of a learner rank against measured peaks, and what it says of a large model.

    python -m benchmarks.learner.memory_estimate                 # the cases below, run for real
    python -m benchmarks.learner.memory_estimate --model configs/models/openpangu_vl_7b

Each case is a model of 14 to 33 million random weights on one or two ranks (gloo), which takes two updates: the first
makes the optimizer's states, the second adds the gradients of one pack to those of another. Measured is the most that
torch's allocator had handed out at any moment of the second, from its own events, as a device's `max_memory_allocated`
counts it; interpreter and libraries are left out.
"""

from __future__ import annotations

import argparse
import gc
import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from benchmarks.learner.memory_cases import CASES, TEXT, TOWER, Case
from pangu_rl.accelerators.collective import free_port
from pangu_rl.config.paths import resolve_path
from pangu_rl.config.sections.learner import LearnerConfig
from pangu_rl.config.sections.model import ModelConfig
from pangu_rl.learner.measure.memory_estimate import estimate
from pangu_rl.learner.measure.memory_inputs import DEVICE, HOST, MicroBatch, Settings
from pangu_rl.learner.measure.model_shape import read_shape

MIB, GIB = 2**20, 2**30
PEAK = "peak in bytes: "
"""What a rank's line of a measurement begins with."""
LAYOUTS = (
    ("8 ranks, ZeRO 1", Settings(zero_stage=1, ranks=8, gradient_checkpointing=True)),
    ("8 ranks, ZeRO 3", Settings(zero_stage=3, ranks=8, gradient_checkpointing=True)),
    ("8 ranks, ZeRO 3, sequence 8", Settings(zero_stage=3, ranks=8, sequence_parallel=8, gradient_checkpointing=True)),
    (
        "8 ranks, ZeRO 3, sequence 8, offload",
        Settings(zero_stage=3, ranks=8, sequence_parallel=8, gradient_checkpointing=True, offload_optimizer=True),
    ),
    ("32 ranks, ZeRO 3", Settings(zero_stage=3, ranks=32, gradient_checkpointing=True)),
    ("32 ranks, ZeRO 3, no checkpointing", Settings(zero_stage=3, ranks=32)),
    (
        "32 ranks, ZeRO 3, sequence 8",
        Settings(zero_stage=3, ranks=32, sequence_parallel=8, gradient_checkpointing=True),
    ),
    ("32 ranks, ZeRO 3, sequence 8, no checkpointing", Settings(zero_stage=3, ranks=32, sequence_parallel=8)),
)
LENGTHS = (24_576, 131_072)
DEVICES_GIB = (64, 80)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", default="", help="cases whose names hold this")
    parser.add_argument("--model", help="a folder with a config.json: print what its ranks would hold, run nothing")
    parser.add_argument("--rank", type=int, help=argparse.SUPPRESS)
    parser.add_argument("--orders", help=argparse.SUPPRESS)
    args = parser.parse_args()
    cases = [case for case in CASES if args.only in case.name]
    if args.model is not None:
        print_layouts(args.model)
    elif args.rank is not None:
        serve(cases, args.rank, json.loads(args.orders))
    else:
        print("| case | estimated, MiB | measured | ratio |\n|---|---|---|---|", flush=True)
        for ranks in (1, 2):
            own = [case for case in cases if ranks_of(case) == ranks]
            if own:
                run(own, ranks, args.only)


def print_layouts(model: str) -> None:
    """GiB of a rank, text and with pictures in half of the tokens, and the devices that are large enough for both."""
    shape = read_shape(resolve_path(model))
    print("| layout | tokens | text, GiB | half pictures | fits |\n|---|---|---|---|---|")
    for name, settings in LAYOUTS:
        for tokens in LENGTHS:
            text = MicroBatch(tokens=tokens, targets=tokens)
            batches = [text, replace(text, patches=tokens * shape.tower.cell // 2)] if shape.tower else [text]
            sizes = [estimate(shape, settings, batch, DEVICE).total / GIB for batch in batches]
            fits = ", ".join(str(device) for device in DEVICES_GIB if max(sizes) <= device) or "neither"
            print(f"| {name} | {tokens:,} | {sizes[0]:.1f} | {sizes[-1]:.1f} | {fits} |")


def ranks_of(case: Case) -> int:
    return LearnerConfig(**case.learner).ranks


def run(cases: Sequence[Case], ranks: int, only: str) -> None:
    """Print estimate and measurement of each case; `ranks` processes take the cases one after the other."""
    with TemporaryDirectory() as folder:
        for number, case in enumerate(cases):
            save_model(case, Path(folder) / str(number))
        orders = json.dumps({"ranks": ranks, "folder": folder, "port": free_port()})
        command = [
            sys.executable,
            "-m",
            "benchmarks.learner.memory_estimate",
            "--only",
            only,
            "--orders",
            orders,
            "--rank",
        ]
        environment = os.environ | {"DS_ACCELERATOR": "cpu"}
        processes = [
            subprocess.Popen([*command, str(rank)], env=environment, stdout=output, text=True)
            for rank, output in enumerate([subprocess.PIPE] + [subprocess.DEVNULL] * (ranks - 1))
        ]
        peaks = (int(line.removeprefix(PEAK)) for line in processes[0].stdout if line.startswith(PEAK))
        for number, (case, peak) in enumerate(zip(cases, peaks)):
            shape = read_shape(Path(folder) / str(number))
            patches = sum(4 * side**2 for side in case.picture_cells)
            batch = MicroBatch(tokens=case.tokens, targets=case.trained, patches=patches)
            found = estimate(shape, Settings.of(LearnerConfig(**case.learner), case.dtype), batch, HOST).total
            print(f"| {case.name} | {found / MIB:.0f} | {peak / MIB:.0f} | {found / peak:.3f} |", flush=True)
        if any(process.wait() for process in processes):
            raise SystemExit("a rank failed")


def serve(cases: Sequence[Case], rank: int, orders: dict[str, Any]) -> None:
    """Be a rank of every case of so many ranks, and print each peak."""
    os.environ.update(MASTER_ADDR="127.0.0.1", MASTER_PORT=str(orders["port"]))
    own = [case for case in cases if ranks_of(case) == orders["ranks"]]
    for number, case in enumerate(own):
        peak = measure(case, f"{orders['folder']}/{number}", rank)
        print(f"{PEAK}{peak}", flush=True)


def measure(case: Case, folder: str, rank: int) -> int:
    """Peak of this rank in bytes."""
    import torch

    from pangu_rl.learner.learner import Learner
    from pangu_rl.learner.spec import LearnerSpec
    from pangu_rl.records import MiniBatch

    spec = LearnerSpec(
        model=ModelConfig(path=folder, dtype=case.dtype),
        learner=LearnerConfig(**case.learner),
        objective="sft",
        total_steps=2,
        rank=rank,
        world_size=ranks_of(case),
    )
    pack = make_pack(case)
    counts = {"loss_tokens": len(pack.targets), "loss_sequences": 1, "loss_roots": len(pack.targets) ** 0.5}
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU], profile_memory=True) as profile:
        learner = Learner(spec)
        learner.update([MiniBatch(packs=(pack,), **counts)])
        second = time.time_ns()
        learner.update([MiniBatch(packs=(pack, pack), **counts)])
    del learner
    gc.collect()
    return peak_after(second, allocations(profile.profiler.kineto_results.experimental_event_tree()))


def allocations(events: Sequence[Any]) -> Iterator[tuple[int, int, int]]:
    """(nanoseconds, address, bytes, negative where they are freed) of every allocation among `events` and below."""
    import torch

    for event in events:
        if event.tag == torch._C._profiler._EventType.Allocation:
            yield event.start_time_ns, event.typed[1].ptr, event.typed[1].alloc_size
        yield from allocations(event.children)


def peak_after(moment: int, found: Iterator[tuple[int, int, int]]) -> int:
    """Most bytes held at a time from `moment` on; an address that is handed out again has been freed unseen."""
    held: dict[int, int] = {}
    total = peak = 0
    for time_ns, address, size in sorted(found):
        total -= held.pop(address, 0)
        if size > 0:
            held[address] = size
            total += size
        peak = max(peak, total) if time_ns >= moment else peak
    return peak


def save_model(case: Case, folder: Path) -> None:
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    from pretrain.models.configuration import PanguVLConfig
    from pretrain.models.pangu_vl import PanguVLForConditionalGeneration

    text = TEXT | case.text
    if case.picture_cells:
        ids = {"image_token_id": 9, "video_token_id": 10, "vision_start_token_id": 11, "vision_end_token_id": 12}
        settings = {"text_config": {"model_type": "llama"} | text, "vision_config": TOWER, **ids}
        model = PanguVLForConditionalGeneration(PanguVLConfig(tie_word_embeddings=case.tied, **settings))
    else:
        model = LlamaForCausalLM(LlamaConfig(tie_word_embeddings=case.tied, **text))
    model.to(getattr(torch, case.dtype)).save_pretrained(folder)


def make_pack(case: Case) -> Any:
    """One sequence: pictures, then text, of which the last tokens are trained."""
    import numpy as np

    from pangu_rl.records import Pack, Picture

    rng = np.random.default_rng(0)
    pictures = [
        Picture(
            path=f"{number}",
            sha256=f"{number}",
            grid=(1, 2 * side, 2 * side),
            patches=rng.integers(0, 256, (4 * side * side, 588), dtype=np.uint8),
        )
        for number, side in enumerate(case.picture_cells)
    ]
    shown = sum(picture.tokens for picture in pictures)
    ids = rng.integers(16, TEXT["vocab_size"], case.tokens)
    ids[:shown] = 9
    positions = np.arange(case.tokens)
    targets = np.arange(case.tokens - case.trained, case.tokens)
    return Pack(
        token_ids=ids,
        position_ids=np.stack([positions] * 3) if pictures else positions,
        segment_starts=np.array([0, case.tokens]),
        segment_parents=np.array([-1]),
        targets=targets,
        predictors=targets - 1,
        sequence_ids=np.zeros(len(targets), dtype=np.int64),
        pictures=tuple(pictures),
        picture_tokens=np.arange(shown),
    )


if __name__ == "__main__":
    main()
