"""The peer: TRL's GRPOTrainer on the same weights, prompts and sampling; prints seconds per step as one JSON line.

Run by grpo_step.py in a process of its own. bf16 weights, fused AdamW, no KL, its DAPO loss, one optimiser step per
64 rollouts; generation is transformers' own, since TRL's vLLM mode does not run on a CPU.
"""

from __future__ import annotations

import argparse
import json
import time

import torch
import xxhash
from datasets import Dataset
from transformers import TrainerCallback
from trl import GRPOConfig, GRPOTrainer


class StepClock(TrainerCallback):
    """Wall time of every step, from its begin (generation included) to its end."""

    def __init__(self) -> None:
        self.seconds: list[float] = []

    def on_step_begin(self, args, state, control, **kwargs) -> None:
        self.start = time.perf_counter()

    def on_step_end(self, args, state, control, **kwargs) -> None:
        self.seconds.append(time.perf_counter() - self.start)


def drawn_reward(completions: list, **columns) -> list[float]:
    """A number in [0, 1) from the text's hash: no group is without variance."""
    return [xxhash.xxh3_64_intdigest(repr((i, c)).encode()) / 2**64 for i, c in enumerate(completions)]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", required=True)
    parser.add_argument("--prompts", required=True, help="JSON file: a list of message lists")
    parser.add_argument("--steps", type=int, default=3)
    parser.add_argument("--new-tokens", type=int, default=128)
    parser.add_argument("--output", required=True)
    args = parser.parse_args()
    with open(args.prompts, encoding="utf-8") as file:
        prompts = json.load(file)
    clock = StepClock()
    trainer = GRPOTrainer(
        model=args.model,
        reward_funcs=drawn_reward,
        args=GRPOConfig(
            output_dir=args.output,
            model_init_kwargs={"dtype": torch.bfloat16},
            use_cpu=True,
            bf16=False,
            per_device_train_batch_size=8,
            gradient_accumulation_steps=8,
            num_generations=8,
            max_completion_length=args.new_tokens,
            generation_kwargs={"min_new_tokens": args.new_tokens},
            temperature=1.0,
            beta=0.0,
            epsilon=0.2,
            epsilon_high=0.28,
            loss_type="dapo",
            learning_rate=1e-6,
            optim="adamw_torch_fused",
            gradient_checkpointing=False,
            max_steps=args.steps,
            logging_steps=1,
            save_strategy="no",
            report_to=[],
            disable_tqdm=True,
            shuffle_dataset=False,
        ),
        train_dataset=Dataset.from_dict({"prompt": prompts}),
        callbacks=[clock],
    )
    trainer.train()
    print(json.dumps({"seconds": clock.seconds}))


if __name__ == "__main__":
    main()
