"""Tokens per second of one rollout engine on a CPU, by turns with and without what this system adds to vLLM there.

64 completions in groups of 8, exactly 128 tokens each (end-of-sequence is ignored), SmolLM2-135M in bf16; the engine is
the actor's own, without Ray. Each turn is a process of its own, which draws the same completions several times and
counts the fastest. `bare` leaves out vLLM's plugins, the norm among them, and the allocator's settings. All drawings of
a side must agree to the last bit.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import time
from collections.abc import Iterable
from typing import Any

import xxhash

from benchmarks.machine import machine
from pangu_rl.accelerators.cpu import CPU, ENGINE_MEMORY
from pangu_rl.accelerators.threads import threads_each
from pangu_rl.config.paths import resolve_path
from pangu_rl.config.sections.model import ModelConfig
from pangu_rl.config.sections.rollout import RolloutConfig
from pangu_rl.records import Completion, RolloutRequest, SamplingParams
from rollout.actors.actor import QUIET
from rollout.engine import EngineSpec

MODEL = "cache://models/smollm2-135m-instruct"
GROUPS, COMPLETIONS, PROMPT_TOKENS = 8, 8, 64


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--turns", type=int, default=2, help="processes of each side")
    parser.add_argument("--repeats", type=int, default=3, help="measured drawings in a process, after one that is not")
    parser.add_argument("--new-tokens", type=int, default=128)
    parser.add_argument("--no-amx", action="store_true", help="keep oneDNN's matrix products from AMX")
    parser.add_argument("--child", action="store_true", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.child:
        print(json.dumps(measure(args.repeats, args.new_tokens)))
        return
    sides: dict[str, list[dict[str, Any]]] = {"bare": [], "ours": []}
    for _ in range(args.turns):
        for side, turns in sides.items():
            turns.append(turn(side, args))
            print(f"{side}: {turns[-1]['tokens_per_s']:.0f} tokens/s", file=sys.stderr)
    report = {side: summary(turns) for side, turns in sides.items()}
    report["ratio"] = round(report["ours"]["tokens_per_s"] / report["bare"]["tokens_per_s"], 2)
    print(json.dumps({"machine": machine(), "no_amx": args.no_amx} | report, indent=1))


def turn(side: str, args: argparse.Namespace) -> dict[str, Any]:
    environment = os.environ | QUIET | CPU.rollout_env(threads_each(1))
    if side == "bare":
        environment = {name: value for name, value in environment.items() if name not in ENGINE_MEMORY}
        environment["VLLM_PLUGINS"] = ""
    if args.no_amx:
        environment["ONEDNN_MAX_CPU_ISA"] = "AVX512_CORE_BF16"
    command = [
        sys.executable,
        "-m",
        "benchmarks.online.rollout_engine",
        "--child",
        f"--repeats={args.repeats}",
        f"--new-tokens={args.new_tokens}",
    ]
    done = subprocess.run(command, env=environment, stdout=subprocess.PIPE, text=True, check=True)
    return json.loads(done.stdout.strip().splitlines()[-1])


def measure(repeats: int, new_tokens: int) -> dict[str, Any]:
    """The fastest of several drawings of the same requests, in this process."""
    from rollout.vllm.engine import VllmEngine

    model = resolve_path(MODEL)
    rollout = RolloutConfig(max_model_tokens=PROMPT_TOKENS + new_tokens, max_concurrent=GROUPS * COMPLETIONS)
    spec = EngineSpec(model=ModelConfig(path=MODEL), rollout=rollout, accelerator=CPU, model_path=model)
    engine, wanted = VllmEngine(spec), requests(new_tokens)
    digests, seconds = set(), []
    for _ in range(repeats + 1):
        begun = time.perf_counter()
        drawn = [item for item in engine.generate(wanted) if isinstance(item, Completion)]
        seconds.append(time.perf_counter() - begun)
        digests.add(digest(drawn))
    if len(digests) > 1:
        raise SystemExit("the same requests were answered with other completions")
    return {"tokens_per_s": len(wanted) * new_tokens / min(seconds[1:]), "digest": digests.pop()}


def requests(new_tokens: int) -> list[RolloutRequest]:
    """Prompts of ids that are spread over the vocabulary, another in each group."""
    sampling = SamplingParams(temperature=1.0, top_p=1.0, top_k=0, max_new_tokens=new_tokens, ignore_eos=True)
    return [
        RolloutRequest(
            uid=f"{group}/{index}",
            group=f"{group}",
            prompt_uid=f"{group}",
            prompt_token_ids=tuple(
                (7919 * (PROMPT_TOKENS * group + place) + 17) % 49_000 for place in range(PROMPT_TOKENS)
            ),
            sampling=sampling,
            seed=COMPLETIONS * group + index,
        )
        for group in range(GROUPS)
        for index in range(COMPLETIONS)
    ]


def digest(drawn: Iterable[Completion]) -> str:
    told = sorted((completion.uid, completion.token_ids, completion.logprobs) for completion in drawn)
    return xxhash.xxh3_64_hexdigest(repr(told).encode())


def summary(turns: list[dict[str, Any]]) -> dict[str, Any]:
    if len({turn["digest"] for turn in turns}) > 1:
        raise SystemExit(f"two processes drew other completions: {turns}")
    rates = [round(turn["tokens_per_s"]) for turn in turns]
    return {"tokens_per_s": max(rates), "turns": rates}


if __name__ == "__main__":
    main()
