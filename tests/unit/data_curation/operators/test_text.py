"""Text operators, on texts whose verdict is plain."""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any

import pytest
from py3langid.langid import MODEL_FILE, LanguageIdentifier, visit_counts

from data_curation.operators.text._languages import languages
from data_curation.operators.text.boilerplate import boilerplate
from data_curation.operators.text.held_out import held_out
from data_curation.operators.text.language import language
from data_curation.operators.text.repetition import (
    _WORD,
    repeated_lines,
    repeated_ngrams,
    repeated_substring,
    repetition,
    words_of,
)
from data_curation.operators.text.text_length import text_length
from data_curation.operators.text.text_quality import text_quality
from data_curation.pipeline.record import Annotate, Drop, Edit, Keep, Record, Verdict
from pangu_rl.data.fields.bad_row import BadRow

PROSE = (
    "The harbour was quiet when the first boats came back. Nets lay in heaps along the wall, and two boys counted the "
    "boxes of herring that their father lifted ashore. Nobody spoke of the storm, although everyone had seen how the "
    "lamp on the far rock went out, and how long it took until somebody lit it again with a hand that was steady."
)
GERMAN = "Der Hafen war ruhig, als die ersten Boote zurückkamen, und niemand sprach vom Sturm der letzten Nacht."
CHINESE = "港口很安静，第一批渔船刚刚回来。渔网堆在墙边，两个男孩数着父亲搬上岸的鲱鱼箱子。没有人谈起昨夜的风暴。"


def document(text: Any, **more: Any) -> Record:
    return Record({"id": "d", "document": text, **more}, "d", "file, row 1")


def dialogue(*turns: str) -> Record:
    roles = ("user", "assistant")
    messages = [{"role": roles[number % 2], "content": text} for number, text in enumerate(turns)]
    return Record({"id": "c", "messages": messages}, "c", "file, row 1")


def reason(verdict: Verdict) -> str:
    return verdict.reason if isinstance(verdict, Drop) else ""


def test_the_sides_of_a_dialogue_are_told_apart() -> None:
    record = dialogue("ask", "say", "again", "more")
    assert (record.text(), record.text("asked"), record.text("answered")) == (
        "ask\nsay\nagain\nmore",
        "ask\nagain",
        "say\nmore",
    )
    shown = Record({"document": ["one", {"type": "image"}, "two"]}, "d", "")
    assert shown.text("answered") == "one\n\ntwo" and shown.text("asked") == ""
    with pytest.raises(BadRow, match="is no list of messages"):
        Record({"messages": "hello", "prompt": 3} | {"messages": 7}, "d", "").text()


def test_lengths() -> None:
    assert reason(text_length(document("  four "), least=5)) == "too short"
    assert text_length(document("  four "), least=4, most=4) == Keep(values={"chars": 4})
    assert reason(text_length(dialogue("a long question", "yes"), most=5)) == "too long"
    assert isinstance(text_length(dialogue("a long question", "yes"), most=5, part="answered"), Keep)


def test_languages_by_script_and_by_words() -> None:
    records = list(map(document, (PROSE, CHINESE, GERMAN, "17 + 25 = 42")))
    english, chinese, german, none = language(records, keep=["en", "zh"])
    assert (english.notes["language"], chinese.notes["language"]) == ("en", "zh")
    assert reason(german) == "language" and german.detail.startswith("de (")
    assert none == Annotate({"language": None}) == language(records[3:], keep=["en"])[0]


def test_marks_are_parts_of_words() -> None:
    """Without its vowel signs Nepali looks like Hindi, and Marathi like nothing; an emoji's mark is no letter's."""
    said = {
        "hi": "बंदरगाह शांत था जब पहली नावें लौटीं और दो लड़के मछली के डिब्बे गिन रहे थे।",
        "ne": "पहिलो डुङ्गा फर्किँदा बन्दरगाह शान्त थियो र दुई केटाहरू माछाका बाकस गन्दै थिए।",
        "mr": "पहिल्या होड्या परत आल्या तेव्हा बंदर शांत होते आणि दोन मुले माशांच्या पेट्या मोजत होती.",
        "th": "ท่าเรือเงียบสงบเมื่อเรือลำแรกกลับมา และเด็กชายสองคนนับกล่องปลา",
        "vi": "Bến cảng yên tĩnh khi những chiếc thuyền đầu tiên trở về và hai cậu bé đếm những thùng cá.",
    }
    noted = language(list(map(document, said.values())), keep=list(said))
    assert [verdict.notes["language"] for verdict in noted] == list(said)
    assert language([document("❤️" * 30)], keep=["en"]) == [Annotate({"language": None})]


def test_the_words_of_tags_are_no_language() -> None:
    """Eight of ten letters of a label are its tags'."""
    places = "<|point_start|>(100,200)<|point_end|>" * 4
    said = f"<|object_ref_start|>绿色巴士<|object_ref_end|>{places} 4"
    assert language([dialogue("请指出每一个绿色巴士。", said)], keep=["zh"]) == [Annotate({"language": None})]
    assert language([dialogue(CHINESE, said)], keep=["zh"])[0].notes["language"] == "zh"


def test_a_batch_is_classified_as_the_library_classifies_each_text() -> None:
    """Verdict for verdict: prose of five scripts, cut anywhere, in capitals, letters at random, half a surrogate pair,
    a text without a known n-gram, none at all. The library adds float32 in another order: hence the tolerance."""
    draw = random.Random(0)
    prose = [PROSE, CHINESE, GERMAN, "Гавань была тихой, когда вернулись первые лодки.", "港は静かで、船が戻った。"]
    prose += ["El puerto estaba tranquilo cuando volvieron los barcos.", "كان الميناء هادئا عندما عادت القوارب الأولى"]
    texts = [text[at : at + 90] for text in prose for at in range(0, len(text), 7)]
    texts += ["".join(chr(draw.randrange(32, 0x9FFF)) for _ in range(draw.randrange(200))) for _ in range(100)]
    texts += [text.upper() for text in prose] + ["", "\ud800 half", "\U0001f600" * 9, PROSE * 40]
    library = LanguageIdentifier.from_model_file(MODEL_FILE, norm_probs=True)
    raw = " ".join(prose * 20).encode()
    ((features, counts),) = languages()._counted([raw])
    rows = [row << 8 for row in library.tk_row]
    assert dict(zip(features, counts, strict=True)) == visit_counts(library.tk_nextmove, rows, library.tk_output, raw)
    for text, (code, confidence) in zip(texts, languages().classify(texts), strict=True):
        assert (code, pytest.approx(confidence, abs=1e-4)) == library.classify(text), text


def test_prose_passes_and_fragments_do_not() -> None:
    assert isinstance(text_quality(document(PROSE)), Keep)
    assert isinstance(text_quality(document(CHINESE), least_words=30), Keep)
    assert reason(text_quality(document("too few words"))) == "words"
    assert text_quality(dialogue("How many?", "12")) is None
    assert reason(text_quality(dialogue("How many?", "12"), dialogues=True)) == "words"
    assert reason(text_quality(document("a b c d e " * 20))) == "mean word length"
    assert reason(text_quality(document("#tag " * 30 + PROSE), most_symbols=0.1)) == "symbols"
    assert reason(text_quality(document("12.50 1999 334 " * 40))) == "words with a letter"
    assert reason(text_quality(document("- one thing and another\n" * 20))) == "bullets"
    assert reason(text_quality(document("it went on and on...\nand stopped there\n" * 20), most_symbols=1.0)) == (
        "lines that break off"
    )


@pytest.mark.parametrize(
    "prose",
    [
        "항구는 조용했고 첫 배들이 돌아왔다. 벽을 따라 그물이 쌓여 있었고 두 소년이 청어 상자를 세었다. " * 4,
        "ท่าเรือเงียบสงบเมื่อเรือลำแรกกลับมา อวนกองอยู่ตามกำแพง และเด็กชายสองคนนับกล่องปลา",
        "ທ່າເຮືອງຽບສະຫງົບ ເມື່ອເຮືອລຳທຳອິດກັບມາ ແລະເດັກນ້ອຍສອງຄົນນັບກ່ອງປາ ທີ່ພໍ່ຍົກຂຶ້ນຝັ່ງ",
        "កំពង់ផែស្ងាត់ នៅពេលទូកដំបូងត្រឡប់មកវិញ ហើយក្មេងប្រុសពីរនាក់រាប់ប្រអប់ត្រី ដែលឪពុកលើកឡើងលើច្រាំង។ ",
        "ပထမဆုံး လှေများ ပြန်လာသောအခါ ဆိပ်ကမ်းသည် တိတ်ဆိတ်နေပြီး ကလေးနှစ်ယောက်က ငါးသေတ္တာများကို ရေတွက်ကြသည်။" * 2,
        "बंदरगाह शांत था जब पहली नावें लौटीं। दीवार के किनारे जाल पड़े थे और दो लड़के मछली के डिब्बे गिन रहे थे। " * 3,
    ],
    ids=["Korean", "Thai", "Lao", "Khmer", "Burmese", "Hindi"],
)
def test_prose_of_scripts_whose_words_are_other_ones_passes(prose: str) -> None:
    """Korean has spaces, and words of three syllables, which are seven letters; Thai, Lao, Khmer and Burmese have none,
    and marks that are no characters of their own; Hindi has both spaces and marks."""
    assert isinstance(text_quality(document(prose)), Keep)


def test_boilerplate_is_cut_from_documents_and_dropped_where_it_is_most() -> None:
    page = f"Skip to content\n{PROSE}\nAll rights reserved.\n"
    assert boilerplate(document(page)) == Edit({"id": "d", "document": PROSE + "\n"}, "lines of boilerplate taken out")
    assert isinstance(boilerplate(document(page), remove_lines=False), Keep)
    assert isinstance(boilerplate(dialogue("What is this?", page)), Keep)
    only = "Click here to log in\nSubscribe to our newsletter\nThe end.\n"
    assert reason(boilerplate(document(only))) == "boilerplate"
    assert isinstance(boilerplate(document(PROSE + " Nobody accepts cookies, says the privacy policy. " + PROSE)), Keep)


def test_the_measures_of_repetition_by_hand() -> None:
    """Lines a b a a: 2 of 4 were there before. Words w x y w x y: bigrams wx xy yw wx xy, 2 of 5. A text of n bytes
    with period p repeats its first n - p: "abcabcabc" 6 of 9; "abcdefgh" nothing; "banana" has "ana", 3 of 6."""
    assert repeated_lines("a\nb\na\n\na\n") == 0.5
    assert repeated_ngrams("W x, y w x y", 2) == pytest.approx(0.4)
    assert repeated_ngrams("中文中文", 2) == pytest.approx(1 / 3)
    assert repeated_substring("abcabcabc") == pytest.approx(6 / 9)
    assert repeated_substring("abcdefgh") == 0
    assert repeated_substring("banana") == 0.5
    assert repeated_substring("x") == 0


def test_words_are_those_of_the_expression() -> None:
    """Letters, digits, signs of all kinds and spaces, drawn: the quick way finds what the regular expression finds."""
    draw = random.Random(1)
    for signs in ("aB1_ -.,\n", "aBéßİ9²_ —“’\u00a0\u3000·½٣", "a中の é,。"):
        for _ in range(100):
            text = "".join(draw.choices(signs, k=draw.randint(0, 60)))
            found = [word if isinstance(word, str) else word.decode() for word in words_of(text)]
            assert found == _WORD.findall(text.casefold())


def test_a_substring_is_measured_wherever_it_may_be_above_the_bound() -> None:
    """Loops of every period and place in texts of letters, against the suffix array: no verdict differs, and where it
    is not measured, it is not above."""
    draw = random.Random(0)
    skipped = 0
    for _ in range(300):
        loop = "".join(draw.choices("abcdefgh", k=draw.randint(1, 40))) * draw.randint(1, 6)
        sides = ["".join(draw.choices("abcdefghijklmnop é中", k=draw.randint(0, 150))) for _ in range(3)]
        text = sides[0] + loop + sides[1] + loop[: draw.randint(0, len(loop))] + sides[2]
        exact, most = repeated_substring(text), draw.choice([0.0, 0.1, 0.3, 0.5])
        quick = repeated_substring(text, most)
        assert quick == exact if quick is not None else exact <= most
        skipped += quick is None
    assert 50 < skipped < 250


def test_loops_of_any_period_are_found_and_prose_is_not() -> None:
    assert isinstance(repetition(document(PROSE)), Keep)
    assert repetition(document("so " * 20)) is None
    assert reason(repetition(document("the same line\n" * 20))) == "repeated lines"
    assert reason(repetition(document("I will now think about it again. " * 20))) == "repeated n-grams"
    assert reason(repetition(document(PROSE + "abcdefghij" * 40))) == "repeated substring"
    looping = dialogue("Repeat: " + "la " * 100, PROSE)
    assert isinstance(repetition(looping), Keep)
    assert reason(repetition(looping, part="all")) == "repeated n-grams"


def test_rows_that_ask_what_a_held_out_prompt_asks(tmp_path: Path) -> None:
    question = "A train leaves Leeds at noon and goes 60 miles an hour. How far has it gone at 3 o'clock?"
    row = {"id": "h", "prompt": question, "answer": "180"}
    file = tmp_path / "held.jsonl"
    file.write_text(json.dumps(row) + "\n")
    against = {"prompts": [str(file)]}
    assert held_out(dialogue(question.upper().replace(",", ""), "180"), **against).detail == "same prompt"
    longer = "Hello! " + question + " Think."
    assert held_out(dialogue(longer, "180"), **against).detail == "ngram overlap"
    assert held_out(dialogue("A train leaves York at noon.", "So?"), **against) is None
    assert reason(held_out(document(f"{PROSE} {question} {PROSE}"), **against)) == "held out"
    assert held_out(document(PROSE), **against) is None
