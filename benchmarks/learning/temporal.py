"""Does the order of a video's frames reach the answers? SFT, then GRPO, on drawn clips, with two controls held out.

`python -m benchmarks.learning.temporal --out runs/temporal`: a miniature openPangu-VL whose tower is untrained is asked
which colour comes first, in which order colours come, and how many frames are coloured. Held-out clips are shown as
they are, with their frames out of order (the count stays right, the rest is guessing) and as their first frame alone,
which is grey. The tables that `pangu-rl eval` prints have 95 % intervals, and changes between sets paired by item.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from random import Random
from typing import Any

import numpy as np
import yaml

from benchmarks.learning.family_learns import run
from pangu_rl.config.paths import resolve_path

MODEL = "cache://models/tiny-pangu-vl"
COLOURS = {"red": (220, 30, 30), "green": (30, 180, 30), "blue": (30, 60, 220), "yellow": (230, 220, 40)}
FRAMES, SIDE = 6, 56
"""A frame a second, of 4 tokens: 36 tokens a clip, the marks between frames among them."""
SQUARES = (28, 56)
"""Least and greatest side of what is drawn."""
ASK = {
    "first": "Which colour comes first?",
    "order": "In which order do the colours come? Answer with a list.",
    "count": "How many frames are coloured?",
}
SETS = ("clips", "shuffled", "first_frame")
SPLITS = {"sft": 3000, "train": 6000, "heldout": 300}


def draw(rng: Random, task: str, frames: int = FRAMES) -> tuple[list[str | None], str]:
    """(the colour of each frame, None for grey; the answer)."""
    shown: list[str | None] = [None] * frames
    if task == "count":
        places = rng.sample(range(1, frames), rng.randint(1, frames - 1))
        for place in places:
            shown[place] = rng.choice(list(COLOURS))
        return shown, str(len(places))
    order = rng.sample(list(COLOURS), rng.randint(2, min(3, frames - 1)))
    for place, colour in zip(sorted(rng.sample(range(1, frames), len(order))), order, strict=True):
        shown[place] = colour
    return shown, order[0] if task == "first" else f"[{', '.join(order)}]"


def write_clip(path: Path, shown: list[str | None], rng: Random, side: int = SIDE) -> None:
    """An MP4 of grey frames of so many pixels a side, some with a square of a colour."""
    import cv2

    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*"mp4v"), 1.0, (side, side))
    for colour in shown:
        frame = np.full((side, side, 3), rng.randint(90, 160), np.uint8)
        if colour is not None:
            edge = rng.randint(*SQUARES)
            top, left = (rng.randint(0, side - edge) for _ in range(2))
            frame[top : top + edge, left : left + edge] = COLOURS[colour][::-1]
        writer.write(frame)
    writer.release()


def write_data(folder: Path, seed: int, lengths: Sequence[int] = (FRAMES,), side: int = SIDE) -> None:
    """Clips of one of so many frames, and rows of all splits; a held-out clip three times, as `SETS` says."""
    rng, media = Random(seed), folder / "media"
    media.mkdir(parents=True)
    for split, count in SPLITS.items():
        sets: dict[str, list[dict[str, Any]]] = {name: [] for name in (SETS if split == "heldout" else SETS[:1])}
        for number in range(count):
            task = list(ASK)[number % len(ASK)]
            shown, answer = draw(rng, task, rng.choice(lengths))
            for name, rows in sets.items():
                seen = {"clips": shown, "shuffled": rng.sample(shown, len(shown)), "first_frame": shown[:1]}[name]
                clip = f"{split}_{name}_{number}.mp4"
                write_clip(media / clip, seen, rng, side)
                row = {"id": f"{split}{number}", "prompt": ASK[task], "videos": [clip], "time_precise": True}
                said = {"response": rf"\boxed{{{answer}}}"} if split == "sft" else {"answer": answer}
                rows.append(row | said | {"source": task})
        for name, rows in sets.items():
            text = "".join(json.dumps(row) + "\n" for row in rows)
            (folder / (f"{split}.jsonl" if name == "clips" else f"{split}_{name}.jsonl")).write_text(text)


def copy_model(folder: Path) -> Path:
    """The miniature with a budget of so many small frames."""
    import shutil

    shutil.copytree(resolve_path(MODEL), folder)
    path = folder / "processor_config.json"
    config = json.loads(path.read_text())
    frame = {"any_res_min_frame_pixels": SIDE**2, "any_res_max_frame_pixels": SIDE**2}
    config["image_processor"].update(frame, any_res_max_video_total_pixels=FRAMES * SIDE**2)
    path.write_text(json.dumps(config))
    return folder


def settings(folder: Path, model: Path, stage: str, steps: int) -> Path:
    """The stage's configuration, after those of configs/quickstart."""
    media = {"media_root": str(folder / "media")}
    optimizer = {"encoder_lr_ratio": 1.0, "schedule": "linear"}
    rollout = {"max_new_tokens": 24, "max_model_tokens": 192, "max_concurrent": 512, "kv_cache_gib": 0.5}
    trainer = {"run_dir": str(folder / stage), "steps": steps}
    tree: dict[str, Any] = {
        "sft": {
            "data": {"train": str(folder / "sft.jsonl"), "max_tokens": 160} | media,
            "learner": {"optimizer": optimizer | {"lr": 1e-3, "warmup_steps": 10}, "pack_tokens": 4096},
            "trainer": trainer | {"sequences_per_step": 64},
        },
        "grpo": {
            "data": {"train": str(folder / "train.jsonl"), "max_prompt_tokens": 128} | media,
            "rollout": rollout | {"completions": 8, "temperature": 1.0},
            "algorithm": {"mini_batches": 4},
            "learner": {"optimizer": optimizer | {"lr": 1e-4, "warmup_steps": 2}, "pack_tokens": 4096},
            "trainer": trainer | {"prompts_per_step": 64},
        },
    }.get(stage) or {
        "data": {"sets": {name: str(folder / _rows_of(name)) for name in SETS}, "max_prompt_tokens": 128} | media,
        "rollout": rollout,
        "trainer": {"run_dir": str(folder / stage)},
    }
    path = folder / f"{stage}.yaml"
    path.write_text(yaml.safe_dump({"model": {"path": str(model)}} | tree))
    return path


def _rows_of(name: str) -> str:
    return "heldout.jsonl" if name == "clips" else f"heldout_{name}.jsonl"


def newest(run_dir: Path) -> Path:
    return sorted((run_dir / "checkpoints").glob("step_*/hf"))[-1]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--sft-steps", type=int, default=90)
    parser.add_argument("--grpo-steps", type=int, default=120)
    args = parser.parse_args()
    folder = args.out.resolve()
    write_data(folder, args.seed)
    subprocess.run([sys.executable, "-m", "pangu_rl", "curate", "tiny-pangu-vl"], check=True)
    model = copy_model(folder / "model")
    for stage, steps in (("sft", args.sft_steps), ("grpo", args.grpo_steps)):
        run(stage, str(settings(folder, model, stage, steps)))
        model = newest(folder / stage)
        run("eval", str(settings(folder, model, f"eval_{stage}", 0)))


if __name__ == "__main__":
    main()
