"""Samples without pictures: the packaged problems, easy arithmetic, and words of one language in the other."""

from __future__ import annotations

from collections.abc import Iterator
from random import Random

from data_curation.corpus.choices import lettered
from data_curation.corpus.cutouts.pool import cutouts
from data_curation.corpus.materials import Materials
from data_curation.corpus.splits import in_split
from data_curation.corpus.texts.problems import problems
from data_curation.schema import Answer, Language, Sample, Turn, boxed
from data_curation.sources import arithmetic
from data_curation.sources.items import Item, Split

TRANSLATE: dict[Language, str] = {
    "en": "Which of these means {word}?",
    "zh": "“{word}”用英语怎么说？",
}


def packaged(materials: Materials, split: Split, rng: Random) -> Iterator[Sample]:
    """GSM8K with its reasoning in both languages, MMLU, CHAMP: each once."""
    found = [problem for problem in problems(materials) if in_split(problem.key, split)]
    for problem in rng.sample(found, len(found)):
        said = boxed(problem.answer.text, problem.reason)
        yield _sample(problem.origin, (problem.key,), problem.language, problem.question, said, problem.answer)


def sums(materials: Materials, split: Split, rng: Random) -> Iterator[Sample]:
    """Sums, products and one-step stories, by operand pair."""
    items = [*arithmetic.sums(), *arithmetic.products(), *arithmetic.stories(Random("stories"), 400)]
    found = [item for item in items if in_split(item.key, split)]
    groups = [[item for item in found if item.task == task] for task in ("sum", "product", "story")]
    while True:
        item: Item = rng.choice(rng.choice([group for group in groups if group]))
        question = rng.choice(item.questions)
        answer = Answer(question.answer, question.answer_type)
        yield _sample("drawn", (item.key,), "en", question.text, question.response, answer)


def translations(materials: Materials, split: Split, rng: Random) -> Iterator[Sample]:
    """A word of the emoji's or the stamps' names, and four of the other language to choose from."""
    named = [thing for thing in cutouts(materials, split) if "zh" in thing.names]
    while len(named) >= 4:
        language: Language = rng.choice(("en", "zh"))
        other: Language = "zh" if language == "en" else "en"
        thing, *rest = rng.sample(named, 4)
        if len({one.names["zh"] for one in (thing, *rest)}) < 4:
            continue
        question = TRANSLATE[language].format(word=thing.names[language])
        question, answer = lettered(rng, question, thing.names[other], [one.names[other] for one in rest])
        yield _sample(thing.origin, (thing.key,), language, question, boxed(answer.text), answer)


def _sample(
    origin: str, items: tuple[str, ...], language: Language, question: str, response: str, answer: Answer
) -> Sample:
    return Sample(
        category="text",
        origin=origin,
        items=items,
        language=language,
        turns=(Turn((question,), response),),
        answer=answer,
    )
