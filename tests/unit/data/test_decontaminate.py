"""What is too like a held-out prompt: the same words, most of the n-grams, the same picture."""

from __future__ import annotations

from pangu_rl.config.sampling import DecontaminationConfig
from pangu_rl.data.decontaminate import HeldOut, prompt_words
from pangu_rl.records import Prompt


def ask(text: str, *images: str) -> Prompt:
    system = {"role": "system", "content": "Answer briefly."}
    return Prompt(uid="p", messages=(system, {"role": "user", "content": text}), answer="1", images=images)


def problem(heldout: str, asked: str, **config: object) -> str | None:
    return HeldOut([ask(heldout)], DecontaminationConfig(**config)).problem(ask(asked))


def test_case_spaces_and_punctuation_do_not_matter() -> None:
    assert problem("What is  2 + 2?", "what is 2+2") == "same_prompt"
    assert problem("Ｗｈａｔ is 2 + 2", "WHAT IS 2 + 2 !") == "same_prompt"


def test_other_numbers_and_other_signs_are_other_questions() -> None:
    assert problem("What is 2 + 2?", "What is 2 + 3?") is None
    assert problem("What is 2 + 2?", "What is 2 - 2?") is None
    assert problem("What is 2.5?", "What is 2 5?") is None


def test_ngrams_by_hand() -> None:
    """a b c d e f: bigrams ab bc cd de ef. Against a b c x e f, of which ab bc ef stand in it: 3 of 5 = 60 %."""
    assert problem("a b c d e f", "a b c x e f", ngram=2, share=0.6) == "ngram_overlap"
    assert problem("a b c d e f", "a b c x e f", ngram=2, share=0.61) is None
    assert problem("a b c d e f", "a b c x e f", ngram=None) is None


def test_a_prompt_shorter_than_an_ngram_is_compared_whole() -> None:
    assert problem("a b c d e f g h i", "a b c") is None
    assert problem("a b c", "A, b, c.") == "same_prompt"


def test_scripts_without_spaces_are_cut_into_characters() -> None:
    assert prompt_words(ask("图中 ABC 是2.5？")) == ("图", "中", "abc", "是", "2.5")
    assert problem("图中有几个红色的圆形物体", "请问图中有几个红色的圆形物体呢", ngram=4) == "ngram_overlap"


def test_a_question_repeats_over_pictures_and_is_contaminated_only_with_its_own() -> None:
    """By content: b.png is a copy of a.png under another name."""
    digests = {"a.png": "1", "b.png": "1", "c.png": "2"}
    heldout = HeldOut([ask("Which colour?", "a.png")], DecontaminationConfig(), digests)
    assert heldout.problem(ask("Which colour?", "b.png")) == "same_prompt"
    assert heldout.problem(ask("Which colour?", "c.png")) is None
    assert heldout.problem(ask("Which colour?")) is None
    assert heldout.problem(ask("Which shape?", "a.png")) is None
