"""The share of a completion that is said for the first time: 1.0 without repetition, near 0 for a loop."""

from __future__ import annotations

from pangu_rl.records import Completion, Outcome, Part, Prompt


def no_repetition(prompt: Prompt, completion: Completion, *, ngram: int = 4) -> Part:
    """Distinct n-grams of words over all of them; a text shorter than one n-gram repeats nothing."""
    words = completion.text.split()
    ngrams = [tuple(words[start : start + ngram]) for start in range(len(words) - ngram + 1)]
    share = len(set(ngrams)) / len(ngrams) if ngrams else 1.0
    outcome = Outcome.CORRECT if share == 1.0 else Outcome.INCORRECT
    return Part(value=share, outcome=outcome, detail=f"{len(set(ngrams))} of {len(ngrams)} {ngram}-grams are new")
