"""Seconds per GRPO step, ours and TRL's, on the same weights, prompts and sampling, in one run.

64 rollouts in groups of 8, exactly 128 new tokens each (end-of-sequence is ignored), rewards drawn so that no
advantage is 0. Ours runs the loop's own step through Ray, vLLM and DeepSpeed; the first step of each is left out.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from dataclasses import replace
from pathlib import Path
from statistics import median
from typing import Any

import torch

from pangu_rl.accelerators.cpu import CPU
from pangu_rl.config.load import load_config
from pangu_rl.config.paths import resolve_path
from pangu_rl.config.stages import GrpoConfig
from pangu_rl.learner.measure.peak import matmul_peak as device_peak
from pangu_rl.loops.inputs.prompts import read_grpo_inputs
from pangu_rl.loops.online.open_parts import open_parts
from pangu_rl.loops.online.parts import GrpoParts
from pangu_rl.loops.online.run_grpo import grpo_step
from pangu_rl.loops.session import open_run

REPO = Path(__file__).parents[2]
DRAWN = f"{Path(__file__).parent}/drawn.py:drawn"
PROMPTS, COMPLETIONS = 8, 8


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--steps", type=int, default=3, help="measured steps of each")
    parser.add_argument("--new-tokens", type=int, default=128)
    parser.add_argument("--ours-only", action="store_true")
    args = parser.parse_args()
    peak = matmul_peak()
    with tempfile.TemporaryDirectory() as folder:
        ours, prompts = measure_ours(Path(folder), args.steps, args.new_tokens, peak)
        report = {"matmul_peak_tflops": round(peak / 1e12, 3), "ours": ours}
        if not args.ours_only:
            report["trl"] = measure_trl(Path(folder), args.steps, args.new_tokens, prompts)
            report["ratio"] = round(report["trl"]["step_s"] / ours["step_s"], 2)
    print(json.dumps(report, indent=1))


def measure_ours(folder: Path, steps: int, new_tokens: int, peak: float) -> tuple[dict[str, Any], list[Any]]:
    """Median seconds per phase and per step, tokens/s, and the share of the matmul peak that training reaches."""
    config = load_config(
        GrpoConfig,
        REPO / "configs/quickstart/grpo_text.yaml",
        [
            f"trainer.run_dir={folder}/ours",
            f"trainer.steps={steps + 1}",
            f"trainer.prompts_per_step={PROMPTS}",
            f"rollout.completions={COMPLETIONS}",
            "start=null",
            "data.heldout=null",
            "algorithm.dynamic_sampling.enabled=false",
            "rollout.temperature=1.0",
            f"rollout.max_new_tokens={new_tokens}",
            f"rollout.max_model_tokens={256 + new_tokens}",
            # Four groups a pack, its targets in one chunk: gradients are summed, and the head is read, twice a step.
            f"learner.pack_tokens={4 * COMPLETIONS * new_tokens + 512}",
            f"learner.logprob_chunk={4 * COMPLETIONS * new_tokens}",
            f"rewards.functions=[{{name: boxed_accuracy, weight: 0}}, {{name: '{DRAWN}'}}]",
        ],
    )
    rows = []
    inputs, model = read_grpo_inputs(config), resolve_path(config.model.path)
    with (
        open_run(config, "GRPO benchmark") as run,
        open_parts(config, run, inputs, model) as parts,
        parts.learning(),
    ):
        parts.collector.sampling = replace(parts.collector.sampling, ignore_eos=True)
        parts.sync(0)
        run.phases.take()
        for step in range(1, steps + 2):
            begun = time.perf_counter()
            metrics = grpo_step(run, parts, step)
            seconds = time.perf_counter() - begun
            rows.append({"step_s": seconds, **run.phases.take(), **metrics, "flops": training_flops(parts)})
            assert metrics["groups/zero_variance"] == 0
            assert metrics["response/tokens"] == PROMPTS * COMPLETIONS * new_tokens
        prompts = [group.prompt.messages for group in parts.batch.groups]
    rows = rows[1:]
    figures = {
        name: round(median(row[name] for row in rows), 3) for name in rows[0] if name.startswith(("step", "time"))
    }
    trained = median(row["flops"] / row["time/train"] for row in rows)
    drawn = median(row["response/tokens"] / row["time/rollout"] for row in rows)
    return figures | {"rollout_tokens_per_s": round(drawn), "train_share_of_peak": round(trained / peak, 3)}, prompts


def training_flops(parts: GrpoParts) -> float:
    """Useful matrix-product FLOPs of the last update: 6 per weight and token, the head for trained tokens alone.

    A group's prompt counts once, as it is computed once. Attention's own products are left out.
    """
    config = json.loads((resolve_path(parts.config.model.path) / "config.json").read_text())
    hidden, layers = config["hidden_size"], config["num_hidden_layers"]
    attention = hidden * hidden * 2 + 2 * hidden * config["num_key_value_heads"] * config["head_dim"]
    body = layers * (attention + 3 * hidden * config["intermediate_size"])
    trained = sum(len(completion.token_ids) for group in parts.batch.trained for completion in group.completions)
    prompts = sum(len(group.prompt_token_ids) for group in parts.batch.trained)
    return 6.0 * (body * (trained + prompts) + hidden * config["vocab_size"] * trained)


def measure_trl(folder: Path, steps: int, new_tokens: int, prompts: list[Any]) -> dict[str, Any]:
    """TRL in a process of its own, since both want the machine's threads."""
    file = folder / "prompts.json"
    file.write_text(json.dumps([list(messages) for messages in prompts] * 2), encoding="utf-8")
    command = [
        *(
            sys.executable,
            str(REPO / "benchmarks/online/trl_step.py"),
            "--prompts",
            str(file),
            "--output",
            str(folder / "trl"),
        ),
        *("--model", str(resolve_path("cache://models/smollm2-135m-instruct"))),
        *("--steps", str(steps + 1), "--new-tokens", str(new_tokens)),
    ]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    seconds = json.loads(done.stdout.strip().splitlines()[-1])["seconds"][1:]
    return {"step_s": round(median(seconds), 3), "steps": [round(value, 2) for value in seconds]}


def matmul_peak() -> float:
    """bf16 FLOP/s of a matrix product on this machine, as the learner measures it for `speed/mfu`."""
    return device_peak(CPU, torch.device("cpu"), torch.bfloat16)


if __name__ == "__main__":
    main()
