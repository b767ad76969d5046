"""The peer: TRL's DPOTrainer with sigmoid, bco_pair and sft on given token ids; takes a step for every line on stdin.

Run by dpo_step.py in a process of its own. A line on stdout that begins with @ is an answer: `@ready`, the seconds of a
step, at the end the reference log-probs and tokens. bf16 weights, fused AdamW, no gradient checkpointing, reference
log-probs precomputed by TRL's own code. With pictures TRL as it is would refuse to precompute, and its fused head would
leave them out of our model; it is helped over both: a collator of ours, and a backbone that takes pictures.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import torch
from datasets import Dataset
from torch.utils.data import SequentialSampler
from transformers import AutoModelForCausalLM, AutoTokenizer, TrainerCallback
from trl import DPOConfig, DPOTrainer
from trl.trainer.utils import pad

from pangu_rl.checkpoint.model_folder import model_config
from pangu_rl.data.pictures import PictureFolder
from pretrain.auto import register_auto_classes
from pretrain.families import family_of

MICRO_BATCH = 4
"""Pairs; about as many tokens as a pack of ours."""


class StepOnDemand(TrainerCallback):
    """Waits for a line before every step, and answers with its wall time, the collating of its batch included."""

    def on_train_begin(self, args, state, control, **kwargs) -> None:
        print("@ready", flush=True)
        self._wait()

    def on_step_end(self, args, state, control, **kwargs) -> None:
        print(f"@{time.perf_counter() - self.start}", flush=True)
        if state.global_step < state.max_steps:
            self._wait()

    def _wait(self) -> None:
        sys.stdin.readline()
        self.start = time.perf_counter()


class GivenIds(DPOTrainer):
    """TRL's trainer on rows that hold token ids, in their order."""

    def _prepare_dataset(self, dataset: Dataset, *args: object) -> Dataset:
        return dataset

    def _get_train_sampler(self, dataset: Dataset | None = None) -> SequentialSampler:
        return SequentialSampler(self.train_dataset)


class Collator:
    """What TRL's own collators make of a batch: chosen sequences, then rejected ones, each with its pictures."""

    def __init__(self, padding: int, folder: PictureFolder) -> None:
        self.padding, self.folder = padding, folder
        self.tokens: list[int] = []

    def __call__(self, rows: list[dict[str, Any]]) -> dict[str, torch.Tensor]:
        sides = [(row, row[f"{side}_ids"]) for side in ("chosen", "rejected") for row in rows]
        ids = [torch.tensor(row["prompt_ids"] + answer) for row, answer in sides]
        masks = [torch.tensor([0] * len(row["prompt_ids"]) + [1] * len(answer)) for row, answer in sides]
        batch = {
            "input_ids": pad(ids, padding_value=self.padding, padding_side="right"),
            "attention_mask": pad([torch.ones_like(row) for row in ids], padding_value=0, padding_side="right"),
            "completion_mask": pad(masks, padding_value=0, padding_side="right"),
        }
        self.tokens.append(batch["input_ids"].numel())
        for side in ("chosen", "rejected"):
            if f"ref_{side}_logps" in rows[0]:
                batch[f"ref_{side}_logps"] = torch.tensor([row[f"ref_{side}_logps"] for row in rows])
        pictures = [self.folder.load(path) for row in rows for path in row["pictures"]]
        if pictures:
            batch["pixel_values"] = torch.cat([torch.from_numpy(p.patches) for p in pictures]).repeat(2, 1)
            batch["image_grid_thw"] = torch.tensor([p.grid for p in pictures]).repeat(2, 1)
        return batch


def with_pictures(model: Any) -> Any:
    """`model` with a `base_model` that takes pictures, which TRL's fused head calls: its own forward up to the head."""

    def backbone(input_ids, attention_mask, pixel_values, image_grid_thw, use_cache=False) -> SimpleNamespace:
        pictures = dict.fromkeys(("pixel_values_videos", "video_grid_thw"))
        pictures |= {"pixel_values": pixel_values, "image_grid_thw": image_grid_thw}
        positions = model.prompt_positions(input_ids, attention_mask, pictures)
        with model.model.rotary_emb.at(positions):
            return model.model(
                inputs_embeds=model._embed(input_ids, pictures), attention_mask=attention_mask, use_cache=False
            )

    kind = type(model)
    model.__class__ = type(kind.__name__, (kind,), {"base_model": property(lambda self: backbone)})
    return model


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", required=True)
    parser.add_argument(
        "--pairs", required=True, help="JSON file: rows of prompt_ids, chosen_ids, rejected_ids, pictures"
    )
    parser.add_argument("--media-root", required=True)
    parser.add_argument("--steps", type=int, required=True)
    parser.add_argument("--pairs-per-step", type=int, required=True)
    parser.add_argument("--output", required=True)
    args = parser.parse_args()
    register_auto_classes()
    rows = json.loads(Path(args.pairs).read_text(encoding="utf-8"))
    multimodal = any(row["pictures"] for row in rows)
    tokenizer = AutoTokenizer.from_pretrained(args.model)
    model = AutoModelForCausalLM.from_pretrained(args.model, dtype=torch.bfloat16, attn_implementation="sdpa")
    collator = Collator(
        tokenizer.pad_token_id,
        PictureFolder(args.media_root, Path(args.model), family_of(model_config(Path(args.model)), Path(args.model))),
    )
    trainer = GivenIds(
        model=with_pictures(model) if multimodal else model,
        args=DPOConfig(
            output_dir=args.output,
            use_cpu=True,
            bf16=False,
            per_device_train_batch_size=MICRO_BATCH,
            gradient_accumulation_steps=args.pairs_per_step // MICRO_BATCH,
            loss_type=["sigmoid", "bco_pair", "sft"],
            loss_weights=[0.8, 0.2, 1.0],
            beta=0.1,
            max_length=None,
            precompute_ref_log_probs=True,
            learning_rate=1e-6,
            optim="adamw_torch_fused",
            gradient_checkpointing=False,
            max_steps=args.steps,
            logging_steps=1,
            save_strategy="no",
            report_to=[],
            disable_tqdm=True,
            remove_unused_columns=False,
        ),
        train_dataset=Dataset.from_list(rows),
        data_collator=collator,
        processing_class=tokenizer,
        callbacks=[StepOnDemand()],
    )
    collator.tokens.clear()
    trainer.train()
    reference = [[row["ref_chosen_logps"], row["ref_rejected_logps"]] for row in trainer.train_dataset]
    tokens = sum(collator.tokens[: args.steps * args.pairs_per_step // MICRO_BATCH]) // args.steps
    print("@" + json.dumps({"reference": reference, "tokens": tokens}), flush=True)


if __name__ == "__main__":
    main()
