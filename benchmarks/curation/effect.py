"""What injected loops and duplicates do to a model, and filters against them: held-out loss after equal training.

`python -m benchmarks.curation effect`: texts of packages' documentation, of which held-out ones are taken away; of the
rows `SPOILED` are made to loop, or repeat another one with every 50th word another. The miniature (`pangu-rl curate
tiny-pangu-vl`) is trained on these rows and on what `repetition` and `near_duplicate_texts` leave of them, from the
same start, for as many steps, with several seeds. Loss and accuracy are of the next token of held-out texts. Runs that
are done are not repeated, one that was interrupted goes on, and `--until` stops before the next one.
"""

from __future__ import annotations

import json
import math
import random
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from statistics import fmean, stdev
from typing import Any

from benchmarks.curation.faults import prose
from benchmarks.learning.loss_ablation import MODEL, newest, stage, train
from data_curation.pipeline.run import run_pipeline
from pangu_rl.cluster.ray_runtime import session
from pangu_rl.config.curate import CurateConfig
from pangu_rl.config.load import checked
from pangu_rl.config.sections.trainer import ClusterConfig

WORDS = 100
"""Of a text, the first 12 of which are what is asked."""
ASKED = 12
HELD_OUT = 96
SPOILED = 0.05
"""Of the rows: half of these loop, half repeat one of `COPIED`."""
COPIED = 4
VARIANTS = ("spoiled", "filtered")
SEQUENCES = 8
"""Of a step."""
FILTERS = [{"name": "repetition"}, {"name": "near_duplicate_texts", "args": {"part": "answered"}}]


def effect(output: Path, seeds: int, steps: int, until: float) -> None:
    write_rows(output)
    deadline = time.monotonic() + until
    measured: dict[str, list[tuple[float, float]]] = {name: [] for name in VARIANTS}
    with session(ClusterConfig(object_store_gib=0.3)):
        for seed in range(seeds):
            for name in VARIANTS:
                if time.monotonic() > deadline:
                    sys.exit("not all runs are done; the same command goes on")
                run = train(output / f"{name}_{seed}", run_config(output, name, seed, steps))
                measured[name].append(held_out(run, output / "held_out.jsonl"))
                loss, accuracy = measured[name][-1]
                print(f"seed {seed}, {name}: loss {loss:.4f}, accuracy {accuracy:.4f}", flush=True)
    for number, what in enumerate(("loss", "accuracy")):
        columns = [[one[number] for one in measured[name]] for name in VARIANTS]
        changes = [other - one for one, other in zip(*columns, strict=True)]
        error = stdev(changes) / math.sqrt(len(changes)) if len(changes) > 1 else float("nan")
        means = ", ".join(f"{name} {fmean(own):.4f}" for name, own in zip(VARIANTS, columns, strict=True))
        print(
            f"{what}: {means}; filtered less spoiled {fmean(changes):+.4f}, standard error {error:.4f}, each {changes}"
        )


def write_rows(output: Path) -> None:
    """`spoiled/rows.jsonl`, what the filters leave of it, and `held_out.jsonl`; once."""
    if (output / "held_out.jsonl").is_file():
        return
    (output / "spoiled").mkdir(parents=True, exist_ok=True)
    texts = [" ".join(text.split()[:WORDS]) for text in prose(2000)]
    random.Random(0).shuffle(texts)
    own = texts[HELD_OUT:]
    rows = [_row(f"clean-{n}", text) for n, text in enumerate(own)]
    rows += spoiled(own, round(len(own) * SPOILED / (1 - SPOILED)))
    _write(output / "spoiled/rows.jsonl", rows)
    tree = {"input": [str(output / "spoiled/rows.jsonl")], "output": str(output / "curated"), "operators": FILTERS}
    run_pipeline(checked(CurateConfig, tree, "benchmark"))
    left = [json.loads(line) for file in sorted((output / "curated/rows").iterdir()) for line in file.open()]
    (output / "filtered").mkdir(exist_ok=True)
    _write(output / "filtered/rows.jsonl", left)
    faults = sum(not row["id"].startswith("clean") for row in left)
    print(f"{len(rows)} rows; the filters leave {len(left)}, {faults} of the injected ones among them")
    _write(output / "held_out.jsonl", [_row(f"held-{n}", text) for n, text in enumerate(texts[:HELD_OUT])])


def spoiled(texts: list[str], count: int) -> Iterator[dict[str, Any]]:
    draw = random.Random(1)
    for number in range(count):
        words = draw.choice(texts).split()
        if number % 2:
            words = texts[number // 2 % COPIED].split()
            words[::50] = ["other"] * len(words[::50])
            yield _row(f"again-{number}", " ".join(words))
        else:
            end = words[-draw.randint(3, 8) :]
            yield _row(f"loop-{number}", " ".join(words[: WORDS // 3] + end * (2 * WORDS // (3 * len(end)))))


def run_config(output: Path, name: str, seed: int, steps: int) -> dict[str, Any]:
    data = {"train": str(output / name / "rows.jsonl"), "max_tokens": 512}
    trainer = {"steps": steps, "sequences_per_step": SEQUENCES, "seed": seed}
    return stage(MODEL, data, trainer, {"lr": 5e-4, "schedule": "linear", "warmup_steps": 4}, {})


def held_out(run: Path, rows: Path) -> tuple[float, float]:
    """Mean loss of the answers' tokens, in nats, and the share of them that are the likeliest one."""
    import torch

    from pangu_rl.data.chat_template import ChatTemplate
    from pretrain.models.pangu_vl import PanguVLForConditionalGeneration

    folder = newest(run)
    template = ChatTemplate(folder)
    model = PanguVLForConditionalGeneration.from_pretrained(folder, dtype=torch.float32).eval()
    loss = right = count = 0.0
    with rows.open(encoding="utf-8") as file, torch.inference_mode():
        for row in map(json.loads, file):
            ids, learned = template.encode_conversation(row["messages"])
            logits = model(input_ids=torch.tensor([ids])).logits[0, :-1]
            targets, mask = torch.tensor(ids[1:]), torch.tensor(learned[1:], dtype=torch.bool)
            loss += float(torch.nn.functional.cross_entropy(logits[mask], targets[mask], reduction="sum"))
            right += float((logits[mask].argmax(-1) == targets[mask]).sum())
            count += float(mask.sum())
    return loss / count, right / count


def _row(uid: str, text: str) -> dict[str, Any]:
    words = text.split()
    turns = [{"role": "user", "content": f"Go on: {' '.join(words[:ASKED])}"}]
    return {"id": uid, "messages": [*turns, {"role": "assistant", "content": " ".join(words[ASKED:])}]}


def _write(path: Path, rows: list[dict[str, Any]]) -> None:
    path.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), encoding="utf-8")
