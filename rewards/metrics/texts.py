"""An answer in words against the golds that are right: **a score from 0 to 1**, as each benchmark's authors define it.

Each equals the published evaluation on `tests/unit/rewards/metrics`' fixtures; where those differ, the docstring says
whom it follows.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from rapidfuzz.distance import Levenshtein

ANLS_THRESHOLD = 0.5
TOLERANCE = 0.05
_PUNCTUATION = ';/[]"{}()=+\\_-><@`,?!'
_THOUSANDS = re.compile(r"\d,\d")
_PERIOD = re.compile(r"\.(?!\d)")
_ARTICLES = frozenset(("a", "an", "the"))
_NUMBERS = "zero one two three four five six seven eight nine ten"
_DIGITS = {"none": "0"} | {word: str(number) for number, word in enumerate(_NUMBERS.split())}
_CONTRACTED = """
    ain't aren't can't could've couldn't didn't doesn't don't hadn't hasn't haven't he'd he's how'd how'll how's isn't
    it'd it'll ma'am mightn't might've mustn't must've needn't not've o'clock oughtn't shan't should've shouldn't
    somebody'll somebody's someone'll someone's something'll that's there'd there're there's they'd they'll they're
    they've wasn't we've weren't what'll what're what's what've when's where'd where's where've who'd who'll who's
    who've why'll why're why's won't would've wouldn't y'all you'd you'll you're you've
"""
_CONTRACTIONS = {word.replace("'", ""): word for word in _CONTRACTED.split()}


def exact_match(answer: str, golds: Sequence[str]) -> float:
    """Equal but for case and white space at the ends (VLMEvalKit's `accuracy`)."""
    return float(answer.strip().lower() in {gold.strip().lower() for gold in golds})


def anls(answer: str, golds: Sequence[str], threshold: float = ANLS_THRESHOLD) -> float:
    """Average normalised Levenshtein similarity (Biten et al. 2019, ICCV): the best of the golds, 0 below `threshold`.

    Exactly the threshold counts, as for the evaluation servers and VLMEvalKit; the paper's formula leaves it out.

    Example: `kitten` for `sitting` has distance 3 of 7, so it scores 4/7; `kit` has 5 of 7, and scores 0.
    """
    best = max(Levenshtein.normalized_similarity(_spaced(answer), _spaced(gold)) for gold in golds)
    return best if best >= threshold else 0.0


def relaxed_accuracy(answer: str, golds: Sequence[str], tolerance: float = TOLERANCE) -> float:
    """Numbers within 5 % of a gold number, words equal but for case (ChartQA, Masry et al. 2022, section 5.1).

    As pix2struct and VLMEvalKit have it: `5%` is 0.05, and a gold of 0 is compared as a word.
    """
    return float(any(_relaxed(answer.strip(), gold, tolerance) for gold in golds))


def vqa_accuracy(answer: str, golds: Sequence[str]) -> float:
    """How many of ten people said the same: min(1, n / 3), averaged over leaving out one of them (Antol et al. 2015).

    Words are compared in VQA's normal form. Its table of contractions is followed for forms without an apostrophe.

    Example: of ten people two said `red`: 8 times 2 of nine others say so, twice 1, so (8 * 2/3 + 2 * 1/3) / 10 = 0.6.
    """
    said, others = vqa_form(answer), [vqa_form(gold) for gold in golds]
    same = sum(other == said for other in others)
    counts = [same - (other == said) for other in others]
    return sum(min(1.0, count / 3) for count in counts) / len(counts)


def contains_answer(answer: str, golds: Sequence[str], *, spaces: bool = True) -> float:
    """Whether a gold stands in the answer, in lower case (OCRBench, Liu et al. 2023); without `spaces`, which is for
    handwritten formulas, letters count as they are and white space does not."""

    def form(text: str) -> str:
        text = text.strip().replace("\n", " ")
        return text.lower() if spaces else text.replace(" ", "")

    return float(any(form(gold) in form(answer) for gold in golds))


def charxiv_match(answer: str, golds: Sequence[str]) -> float:
    """Whether the answer says what a gold says, by rules for CharXiv's judge (Wang et al. 2024): equal texts but for
    case, spacing, a final period and dollar signs; numbers by their value; lists item by item, in order."""
    said = _items(answer)
    return float(any(len(said) == len(wanted) and all(map(_alike, said, wanted)) for wanted in map(_items, golds)))


def yes_or_no(answer: str) -> str | None:
    """`yes` or `no`, if one of the words is in the answer and the other is not."""
    words = set(vqa_punctuation(answer.lower()).split())
    found = words & {"yes", "no"}
    return found.pop() if len(found) == 1 else None


def vqa_form(text: str) -> str:
    """VQA's normal form of an answer: lower case, digits for number words, no articles, no punctuation."""
    text = vqa_punctuation(text.replace("\n", " ").replace("\t", " ").strip())
    words = (_DIGITS.get(word, word) for word in text.lower().split())
    return " ".join(_CONTRACTIONS.get(word, word) for word in words if word not in _ARTICLES)


def vqa_punctuation(text: str) -> str:
    """Punctuation beside a space goes, and all of it in a text with a thousands' comma; any other becomes a space."""
    thousands = _THOUSANDS.search(text) is not None
    spaced = {ord(sign): "" if thousands or f"{sign} " in text or f" {sign}" in text else " " for sign in _PUNCTUATION}
    return _PERIOD.sub("", text.translate(spaced))


def _spaced(text: str) -> str:
    return " ".join(text.lower().split())


def _items(text: str) -> list[str]:
    bare = " ".join(text.replace("$", "").casefold().split()).rstrip(". ")
    return [item.strip() for item in re.split(r"[;,](?!\d{3}\b)", bare)]


def _alike(one: str, other: str) -> bool:
    left, right = (_number(text.replace(",", "")) for text in (one, other))
    return one == other if left is None or right is None else left == right


def _relaxed(answer: str, gold: str, tolerance: float) -> bool:
    said, wanted = _number(answer), _number(gold)
    if said is not None and wanted:
        return abs(said - wanted) / abs(wanted) <= tolerance
    return answer.lower() == gold.lower()


def _number(text: str) -> float | None:
    try:
        return float(text.rstrip("%")) / 100 if text.endswith("%") else float(text)
    except ValueError:
        return None
