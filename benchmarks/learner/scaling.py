"""Does a step's time grow with its rollouts, and no faster? And what does dealing by FLOPs save?

Groups of 8 completions, 1, 2, 4 and 8 times as many, are packed, dealt to 32 ranks and pickled as Ray would send them;
lengths are log-normal up to 24,576 tokens, as long answers are, and costs those of openPangu-VL-7B. `exponent` is the
slope of log(CPU seconds) over log(rollouts), the best of several runs each, by turns; 1 is linear. With `--update` the
whole update of a small model on the CPU is timed too, on short answers.

The share of the work that ranks wait for comes beside it: ranks that meet at every pack (ZeRO 2 and 3) wait for each
row's largest, ranks that meet once (ZeRO 0 and 1) for the largest sum.
"""

from __future__ import annotations

import argparse
import json
import os
import pickle
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from pangu_rl.accelerators.collective import free_port
from pangu_rl.config.sections.algorithm import GrpoAlgorithmConfig
from pangu_rl.config.sections.learner import LearnerConfig
from pangu_rl.config.sections.model import ModelConfig
from pangu_rl.data.packs.batching import loss_counts, outline_groups, split_ranks
from pangu_rl.data.packs.micro_batches import BY_TOKENS, Dealing
from pangu_rl.learner.measure.flops import ModelFlops, loaded_config
from pangu_rl.learner.spec import LearnerSpec
from pangu_rl.records import Completion, FinishReason, Group, MiniBatch, Outcome, PackLike, Part, Prompt, Score

REPO = Path(__file__).parents[2]
FACTORS = (1, 2, 4, 8)
COMPLETIONS, PROMPT, LONGEST = 8, 200, 24_576


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--groups", type=int, default=128, help="groups of 8 rollouts at factor 1")
    parser.add_argument("--mean", type=int, default=1500, help="median tokens of an answer")
    parser.add_argument("--ranks", type=int, default=32)
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--update", action="store_true", help="also a small model's update")
    args = parser.parse_args()
    flops = ModelFlops.of(loaded_config(REPO / "configs/models/openpangu_vl_7b", trust_remote_code=False))
    by_flops = Dealing(cost=lambda pack: flops.of_training(pack, ("language",)), in_rows=True)
    sets = [draw(args.groups * factor, args.mean, LONGEST) for factor in FACTORS]
    report = {
        "rollouts": [len(groups) * COMPLETIONS for groups in sets],
        "tokens": [loss_counts(groups)[0] for groups in sets],
        "pack_deal_pickle": scaling([lambda g=groups: send(g, args.ranks, by_flops) for groups in sets], args.runs),
        "waited_over_mean": {
            f"{len(groups) * COMPLETIONS} rollouts": waits(groups, args.ranks, by_flops) for groups in sets[::3]
        },
    }
    if args.update:
        with tempfile.TemporaryDirectory() as folder:
            report["update"] = updates(Path(folder), args.runs)
    print(json.dumps(report, indent=1))


def send(groups: Sequence[Group], ranks: int, dealing: Dealing) -> int:
    """Bytes of what the ranks get, one rank's after the other: a pickle, and its arrays copied beside it."""
    sent = 0
    for batch in dealt(groups, ranks, dealing):
        buffers: list[pickle.PickleBuffer] = []
        message = pickle.dumps(batch, protocol=5, buffer_callback=buffers.append)
        sent += len(b"".join([message, *(buffer.raw() for buffer in buffers)]))
    return sent


def dealt(groups: Sequence[Group], ranks: int, dealing: Dealing) -> list[MiniBatch]:
    return split_ranks(outline_groups(groups, LONGEST + PROMPT), ranks, *loss_counts(groups), dealing)


def scaling(calls: Sequence[Callable[[], object]], runs: int) -> dict[str, object]:
    """Best CPU seconds of each, by turns, and the exponent over `FACTORS`."""
    best = [float("inf")] * len(calls)
    for _ in range(runs):
        for index, call in enumerate(calls):
            begun = time.process_time()
            call()
            best[index] = min(best[index], time.process_time() - begun)
    exponent = np.polyfit(np.log(FACTORS), np.log(best), 1)[0]
    return {"seconds": [round(value, 3) for value in best], "exponent": round(float(exponent), 3)}


def waits(groups: Sequence[Group], ranks: int, by_flops: Dealing) -> dict[str, dict[str, float]]:
    """Work that the ranks wait for over that of the mean rank; 1 is perfect."""
    two_packs = replace(by_flops, micro_batch_tokens=2 * (LONGEST + PROMPT))
    dealings = {"by tokens": BY_TOKENS, "by FLOPs": by_flops, "by FLOPs, two packs a micro-batch": two_packs}
    return {name: _waits(groups, ranks, dealing, by_flops.cost) for name, dealing in dealings.items()}


def _waits(
    groups: Sequence[Group], ranks: int, dealing: Dealing, cost: Callable[[PackLike], float]
) -> dict[str, float]:
    def costs(rule: Dealing) -> np.ndarray:
        return np.array([[cost(pack) for pack in batch.packs] for batch in dealt(groups, ranks, rule)])

    rows, sums = costs(dealing), costs(replace(dealing, in_rows=False))
    return {
        "zero_2_and_3": round(float(rows.max(axis=0).sum() / rows.sum() * ranks), 3),
        "zero_0_and_1": round(float(sums.sum(axis=1).max() / sums.sum() * ranks), 3),
    }


def updates(folder: Path, runs: int) -> dict[str, object]:
    """One optimiser step of two layers of 256 on one rank, answers of some 60 tokens."""
    from transformers import LlamaConfig, LlamaForCausalLM

    from pangu_rl.learner.learner import Learner

    sizes = {"hidden_size": 256, "intermediate_size": 512, "num_hidden_layers": 2, "num_attention_heads": 4}
    LlamaForCausalLM(LlamaConfig(**sizes, vocab_size=512)).save_pretrained(folder)
    os.environ |= {"DS_ACCELERATOR": "cpu", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(free_port())}
    learner = Learner(
        LearnerSpec(
            model=ModelConfig(path=str(folder)),
            learner=LearnerConfig(),
            objective="grpo",
            algorithm=GrpoAlgorithmConfig(),
            total_steps=1000,
        )
    )
    batches = []
    for factor in FACTORS:
        groups = draw(8 * factor, 60, 400)
        batches.append(split_ranks(outline_groups(groups, 2048), 1, *loss_counts(groups)))
    return scaling([lambda own=own: learner.update(own) for own in batches], runs)


def draw(groups: int, median: int, longest: int) -> list[Group]:
    """The same lengths again and again, so that a larger set is only more of the same."""
    random = np.random.default_rng(0)
    lengths = np.minimum(np.exp(random.normal(np.log(median), 1.0, (64, COMPLETIONS))).astype(int) + 1, longest)
    return [_group(str(number), lengths[number % len(lengths)].tolist()) for number in range(groups)]


def _group(name: str, lengths: Sequence[int]) -> Group:
    completions = [
        Completion(
            uid=f"{name}/{index}",
            group=name,
            prompt_uid=name,
            token_ids=(7,) * length,
            logprobs=(-1.0,) * length,
            text="",
            finish_reason=FinishReason.STOP,
            weight_versions=(1,) * length,
        )
        for index, length in enumerate(lengths)
    ]
    part = {"accuracy": Part(value=1.0, outcome=Outcome.CORRECT)}
    return Group(
        prompt=Prompt(uid=name, messages=(), answer="1"),
        group=name,
        prompt_token_ids=(5,) * PROMPT,
        completions=completions,
        scores=[Score(completion_uid=one.uid, reward=1.0, parts=part) for one in completions],
        advantages=[1.0 - 2.0 * (index % 2) for index in range(len(lengths))],
    )


if __name__ == "__main__":
    main()
