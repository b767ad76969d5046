"""The quickstart's text prompts: easy sums, products, comparisons and stories, with a few hard questions beside them.

Writes `sft.jsonl` (conversations that teach the `\\boxed{}` format), `train.jsonl`, `heldout.jsonl` and `report.json`.
The three are disjoint by source item, alike in composition, and the same bytes every time.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from pathlib import Path
from random import Random

from data_curation.sources import arithmetic, packaged_questions
from data_curation.sources.folders import Row, whole_folder, write_report, write_rows
from data_curation.sources.items import Item, Question, Split

SEED = 20261122
SIZES: dict[Split, int] = {"sft": 1200, "train": 4000, "heldout": 512}
SHARES = {"product": 0.09, "largest": 0.20, "story": 0.28, "reasoning_gym": 0.04, "mmlu": 0.02, "gsm": 0.02}
"""Of every split; sums take the rest, and what a source cannot fill."""
FILLER = "sum"
SYSTEM = "Answer briefly."
"""An explicit system message: SmolLM2's template otherwise adds a longer one of its own."""
INSTRUCTION = "Put the final answer in \\boxed{}."


def prepare(directory: Path) -> Path:
    """Write the prompt set into `directory`, whole or not at all; kept if already there."""
    if (directory / "report.json").is_file():
        return directory
    items = all_items()
    rows = {split: draw(items, split) for split in SIZES}
    with whole_folder(directory) as folder:
        for split, drawn in rows.items():
            write_rows(folder / f"{split}.jsonl", drawn)
        write_report(folder / "report.json", rows)
    return directory


def all_items() -> list[Item]:
    """Every source's items in a fixed order."""
    rng = Random(SEED)
    return [
        *arithmetic.sums(),
        *arithmetic.products(),
        *arithmetic.largest(rng),
        *arithmetic.stories(rng),
        *packaged_questions.reasoning_gym(SEED),
        *packaged_questions.mmlu_letters(),
        *packaged_questions.gsm_symbolic(),
    ]


def draw(items: Iterable[Item], split: Split) -> list[Row]:
    """`SIZES[split]` rows in the composition of `SHARES`, shuffled; no question twice."""
    rng = Random(f"{SEED}/{split}")
    questions = _questions_by_task(items, split, rng)
    chosen: list[tuple[str, Question]] = []
    for task, share in SHARES.items():
        chosen += [(task, question) for question in questions.get(task, [])[: round(share * SIZES[split])]]
    chosen += [(FILLER, question) for question in questions[FILLER][: SIZES[split] - len(chosen)]]
    rng.shuffle(chosen)
    return [_row(f"{split}-{task}-{index:05d}", task, question, split) for index, (task, question) in enumerate(chosen)]


def _questions_by_task(items: Iterable[Item], split: Split, rng: Random) -> dict[str, list[Question]]:
    """Per task: one question of every item, then a second of every item, and so on, each pass in its own order."""
    passes: dict[str, list[tuple[int, float, Question]]] = defaultdict(list)
    for item in items:
        if item.split == split:
            ordered = rng.sample(item.questions, len(item.questions))
            passes[item.task] += [(turn, rng.random(), question) for turn, question in enumerate(ordered)]
    return {
        task: [question for *_, question in sorted(entries, key=lambda e: e[:2])] for task, entries in passes.items()
    }


def _row(uid: str, task: str, question: Question, split: Split) -> Row:
    separator = "\n" if "\n" in question.text else " "
    messages = [
        {"role": "system", "content": SYSTEM},
        {"role": "user", "content": question.text + separator + INSTRUCTION},
    ]
    if split == "sft":
        messages.append({"role": "assistant", "content": question.response})
        return {"id": uid, "messages": messages, "source": task}
    return {
        "id": uid,
        "messages": messages,
        "answer": question.answer,
        "answer_type": question.answer_type,
        "source": task,
    }
