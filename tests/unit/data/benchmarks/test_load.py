"""Files as the hub has them become prompts; what cannot be asked is named and left out."""

from __future__ import annotations

import base64
import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from pangu_rl.config.benchmark import BenchmarkConfig
from pangu_rl.config.load import checked
from pangu_rl.data.benchmarks.load import load_benchmark
from pangu_rl.errors import ConfigError, DataError
from rewards.metrics.gold_check import benchmark_problem
from tests.unit.data.benchmarks.hub_files import asked, definition, picture, png, read, write_tsv


def test_mmmu_with_pictures_in_the_text(tmp_path: Path) -> None:
    rows = [
        {
            "id": "validation_Art_1",
            "question": "Compare <image 2> with <image 1>.",
            "options": "['<image 3>', \"it's b\"]",
            "answer": "B",
            "question_type": "multiple-choice",
            **{f"image_{number}": picture(number) for number in (1, 2, 3)},
            "image_4": None,
            "subfield": "Art",
        },
        {
            "id": "validation_Art_2",
            "question": "How many?",
            "options": "[]",
            "answer": "['4', '4.0']",
            "question_type": "open",
            "image_1": picture(1),
            **dict.fromkeys(("image_2", "image_3", "image_4")),
            "subfield": "Art",
        },
    ]
    found = read("mmmu", rows, tmp_path)
    assert not found.left_out
    choice, number = found.prompts
    assert asked(choice) == (
        "Compare <image> with <image>.\nA. <image>\nB. it's b\nPlease analyze and solve this problem step by step, and "
        "enclose the correct option letter in \\boxed{}."
    )
    assert [path.rpartition("/")[2] for path in choice.images] == ["2.png", "1.png", "3.png"]
    assert (choice.answer, choice.answer_type, choice.source) == ("B", "choice", "Art")
    assert asked(number).startswith("<image>How many?\nPlease analyze")
    assert (number.answer_type, number.extra["answers"]) == ("math", ["4", "4.0"])


def test_mathvista_by_its_kinds(tmp_path: Path) -> None:
    common = {"decoded_image": picture(), "image": "images/1.jpg", "question": "Which?", "task": "geometry"}
    rows = [
        common | {"pid": "1", "question_type": "multi_choice", "answer_type": "text", "precision": None, "unit": None,
                  "choices": ["1 {cm}", "2"], "answer": "2"},
        common | {"pid": "2", "question_type": "free_form", "answer_type": "float", "precision": 1.0, "unit": "cm",
                  "choices": None, "answer": "1.2"},
        common | {"pid": "3", "question_type": "free_form", "answer_type": "list", "precision": None, "unit": None,
                  "choices": None, "answer": "[1, 2]"},
        common | {"pid": "4", "question_type": "essay", "answer_type": "list", "precision": None, "unit": None,
                  "choices": None, "answer": "[1, 2]"},
    ]  # fmt: skip
    found = read("mathvista", rows, tmp_path)
    choice, number, numbers = found.prompts
    assert asked(choice).endswith("at the end.\nQuestion: Which?\nChoices: (A) 1 {cm}\n(B) 2\nSolution:")
    assert (choice.answer, choice.answer_type) == ("B", "choice")
    assert "one decimal place" in asked(number) and "\nQuestion: Which? (Unit: cm)\n" in asked(number)
    assert "\nQuestion: Which?\nSolution:" in asked(numbers) and numbers.answer == "[1, 2]"
    assert len(found.left_out) == 1 and "row 4: its kind is 'essay list'" in found.left_out[0]


def test_a_tsv_of_vlmevalkit(tmp_path: Path) -> None:
    """Pictures in base64, one or a list of them; a short cell names another row's picture; groups are rotations."""
    shown = [base64.b64encode(png(seed=seed)).decode() for seed in range(2)]
    path = write_tsv(
        tmp_path / "rows.tsv",
        ["index", "question", "hint", "A", "B", "C", "D", "answer", "category", "image"],
        ["5", "Which {A}?", "", "red", "blue\n2", "", "", "B", "colour", shown[0]],
        ["1000005", "Which {A}?", "Look", "blue\n2", "red", "", "", "A", "colour", "5"],
        ["6", "Two?", "", "x", "y", "", "", "x", "colour", str(shown)],
        ["7", "None?", "", "x", "y", "", "", "A", "colour", ""],
        ["8", "Gap?", "", "x", "", "z", "", "A", "colour", shown[0]],
        ["9", "Which?", "", "x", "y", "", "", "C", "colour", shown[0]],
    )
    found = load_benchmark(path, definition("mmbench"), problem=benchmark_problem)
    first, again, two = found.prompts
    assert asked(first) == (
        "<image>Question: Which {A}?\nOptions:\nA. red\nB. blue\n2\nPlease select the correct answer from the options "
        "above."
    )
    assert asked(again).startswith("<image>Hint: Look\nQuestion: Which {A}?\n")
    assert again.images == first.images and first.extra["group"] == again.extra["group"] == "5"
    assert (len(two.images), two.answer) == (2, "A")
    reasons = [line.partition(": ")[2] for line in found.left_out]
    assert reasons[0].startswith("has no picture: none of the columns image, images")
    assert reasons[1].startswith("has the options A, C: one is left out")
    assert reasons[2].startswith("answer 'C' is not one of the options: they are 2")


def test_boxes_of_several_expressions(tmp_path: Path) -> None:
    """64 x 32 pixels: (16, 8) to (48, 24) are 250 to 750 of either side."""
    rows = [
        {"question_id": "7", "answer": ["the cat", "left one"], "bbox": [16.0, 8.0, 32.0, 16.0], "image": picture()},
        {"question_id": "8", "answer": ["the dog"], "bbox": [60.0, 8.0, 32.0, 16.0], "image": picture()},
    ]
    found = read("refcoco", rows, tmp_path)
    assert [prompt.uid for prompt in found.prompts] == ["7/0", "7/1"]
    assert asked(found.prompts[1]).endswith("the region this sentence describes: left one")
    assert found.prompts[0].extra["boxes"] == [[250.0, 250.0, 750.0, 750.0]]
    assert found.prompts[0].answer == "<|box_start|>(250,250),(750,750)<|box_end|>"
    assert "has no area in a picture of 64 x 32" in found.left_out[0]


def test_objects_masks_counts_and_depths(tmp_path: Path) -> None:
    objects = {"bbox": [[16.0, 8.0, 32.0, 16.0]], "category": ["cat"]}
    (odinw,) = read(
        "odinw13", [{"id": 1, "dataset": "pets", "category_name": "cat, dog", "objects": objects, "image": picture()}],
        tmp_path,
    ).prompts  # fmt: skip
    assert asked(odinw) == "<image>Detect all cat, dog in the image."
    assert odinw.extra["objects"] == {"cat": [[250.0, 250.0, 750.0, 750.0]]} and odinw.source == "pets"
    assert odinw.extra["names"] == ["cat", "dog"]
    mask = np.zeros((32, 64), dtype=np.uint8)
    mask[8:24, 16:20] = 255
    file = io.BytesIO()
    Image.fromarray(mask).save(file, "PNG")
    rows = [{"user_input": "Point.", "category": "counting", "count": 2, "mask": {"bytes": file.getvalue()},
             "image": picture()}]  # fmt: skip
    (point,) = read("point_bench", rows, tmp_path).prompts
    assert point.answer.count("point_start") == 2 and sum(point.extra["mask"]["counts"][1::2]) == 64
    (count,) = read("countbench", [{"number": 3.0, "category_name": "cups", "image": picture()}], tmp_path).prompts
    assert (count.answer, asked(count)[:13]) == ("3", "<image>How ma")
    rows = [{"points": [[100, 200], [5, 6]], "depths": [2.5, 3.0], "image": picture()}]
    (depth,) = read("nyu_depth_v2", rows, tmp_path).prompts
    assert f"the points at {depth.answer[:37]}, <|point_start|>(005,006)<|point_end|>. Respond" in asked(depth)
    assert r"K = \begin{bmatrix} 518.86, & 0" in asked(depth)
    assert depth.answer.startswith("<|point_start|>(100,200)<|point_end|> 2.5 m, ")


def test_videos_of_the_report(tmp_path: Path) -> None:
    """Paths are made of columns; texts, indices and letters are golds; a part of a film is shown alone."""
    rows = [
        {"task_type": "Action Sequence", "prefix": "video/star/", "video": "A1.mp4", "question": "What first?",
         "candidates": ["sat", "ran"], "answer": "ran", "start": 3.5, "end": 10.0},
        {"task_type": "Action Count", "prefix": "video/star/", "video": "A2.mp4", "question": "How often?",
         "candidates": ["1", "2"], "answer": "1", "start": None, "end": None},
        {"task_type": "Action Count", "prefix": "video/star/", "video": "A2.mp4", "question": "How often?",
         "candidates": ["1", "2"], "answer": "1", "start": 5.0, "end": 4.0},
    ]  # fmt: skip
    found = read("mvbench", rows, tmp_path)
    part, whole = found.prompts
    assert (part.videos, part.video_span, part.answer) == (("video/star//A1.mp4",), (3.5, 10.0), "B")
    assert (whole.video_span, whole.time_precise, whole.source) == (None, False, "Action Count")
    assert part.messages[0]["content"][0] == {"type": "video"}
    assert part.messages[0]["content"][1]["text"].endswith(
        "Question: What first?\nOptions:\n(A) sat\n(B) ran\nOnly give the best option."
    )
    assert "row 3: a part of a video from 5 to 4 s" in found.left_out[0]
    assert part.video_fps == 3.0, "where a row names a folder of frames, as those of Episodic Reasoning do"
    rows = [{"question_id": "001-1", "videoID": "x_Y", "duration": "short", "question": "Which?",
             "options": ["A. Red.", "B. A. Blue"], "answer": "B"}]  # fmt: skip
    (mme,) = read("videomme", rows, tmp_path).prompts
    assert (mme.uid, mme.videos, mme.answer, mme.source) == ("001-1", ("x_Y.mp4",), "B", "short")
    assert mme.messages[0]["content"][1]["text"].endswith("Question: Which?\nA. Red.\nB. A. Blue\nAnswer:")
    rows = [{"video": 4010069381, "question": "why", "answer": 2, "qid": 6, "type": "CW"}
            | {f"a{number}": text for number, text in enumerate("vwxyz")}]  # fmt: skip
    (why,) = read("nextqa", rows, tmp_path).prompts
    assert (why.videos, why.answer, why.extra["choices"]) == (("4010069381.mp4",), "C", list("vwxyz"))
    rows = [{"video": "3MSZA.mp4", "caption": "person turns a light on", "timestamp": [24.3, 30.4]}]
    (when,) = read("charades_sta", rows, tmp_path).prompts
    assert (when.time_precise, when.answer, when.extra["span"]) == (True, "[24.3, 30.4]", (24.3, 30.4))


def test_a_row_says_how_fast_its_folder_of_frames_ran(tmp_path: Path) -> None:
    tree = {
        "title": "T", "split": "s", "metric": "exact", "kinds": {"any": {"prompt": "{question}"}},
        "columns": {"fields": {"clip": ["clip"]}, "folder_fps": ["fps"]}, "video": "{clip}", "folder_fps": 3,
    }  # fmt: skip
    rows = [{"question": "Q?", "answer": "x", "clip": f"c{fps}", "fps": fps} for fps in (None, "0.5", -1, "fast")]
    path = tmp_path / "rows.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    found = load_benchmark(path, checked(BenchmarkConfig, tree, "test"))
    assert [(prompt.videos, prompt.video_fps) for prompt in found.prompts] == [(("cNone",), 3.0), (("c0.5",), 0.5)]
    assert "row 3: -1 is no number of frames a second" in found.left_out[0] and "'fast'" in found.left_out[1]


def test_text_benchmarks(tmp_path: Path) -> None:
    rows = [{"question_id": 70, "question": "Which?", "options": ["a", "b", "c"], "answer": "C", "category": "law"}]
    (law,) = read("mmlu_pro", rows, tmp_path).prompts
    assert asked(law).startswith("Which?\nA. a\nB. b\nC. c\nAnswer the preceding") and law.images == ()
    rows = [{"question": "Which?", "choices": ["2", "0"], "answer": 0, "subject": "law"}]
    assert read("mmlu_redux", rows, tmp_path).prompts[0].answer == "A"
    names = ["Correct Answer", "Incorrect Answer 1", "Incorrect Answer 2", "Incorrect Answer 3"]
    rows = [{"Record ID": f"r{i}", "Question": "Which?", "High-level domain": "x"} | dict(zip(names, "wxyz"))
            for i in range(20)]  # fmt: skip
    found = read("gpqa_diamond", rows, tmp_path).prompts
    assert {prompt.answer for prompt in found} == set("ABCD"), "the right one is not always first"
    assert all(prompt.extra["choices"]["ABCD".index(prompt.answer)] == "w" for prompt in found)


def test_if_eval_has_instructions_and_no_gold(tmp_path: Path) -> None:
    """A null of Parquet is an argument that is not given; a row that nobody can check is left out."""
    arguments = [{"num_words": 30, "relation": "at least"}, {"num_words": None, "relation": None}]
    ids = ["length_constraints:number_words", "punctuation:no_comma"]
    rows = [
        {"key": 1001, "prompt": "Write, long.", "instruction_id_list": ids, "kwargs": arguments},
        {"key": 1005, "prompt": "Write.", "instruction_id_list": ["punctuation:none"], "kwargs": arguments[1:]},
    ]
    found = read("ifeval", rows, tmp_path)
    (prompt,) = found.prompts
    assert (prompt.uid, asked(prompt), prompt.answer) == ("1001", "Write, long.", "")
    assert prompt.extra["instructions"] == ids and prompt.extra["arguments"] == [arguments[0], {}]
    assert len(found.left_out) == 1 and "'punctuation:none' is none of IF-Eval's" in found.left_out[0]


@pytest.mark.parametrize(
    ("lacks", "said"),
    [("category", "has no category, which the figure"), ("image_path", "which rows are one question")],
)
def test_a_figure_is_not_counted_without_its_columns(tmp_path: Path, lacks: str, said: str) -> None:
    """MME's score is a sum over its tasks, of pictures whose two questions are both right."""
    row = {
        "question": "Is it red?",
        "answer": "Yes",
        "category": "color",
        "image_path": "color/1.png",
        "image": picture(),
    }
    assert read("mme", [row], tmp_path).prompts[0].source == "color"
    found = read("mme", [{name: cell for name, cell in row.items() if name != lacks}], tmp_path)
    assert found.prompts == [] and said in found.left_out[0]


def test_other_columns_are_named(tmp_path: Path) -> None:
    found = read("chartqa", [{"query": "Q?", "label": ["1"], "image": picture()}, {"text": "Q?"}], tmp_path)
    assert len(found.prompts) == 1 and found.prompts[0].extra["answers"] == ["1"]
    assert "row 2: has no picture" in found.left_out[0]
    path = tmp_path / "rows.jsonl"
    path.write_text(json.dumps({"id": "a", "question": "Q?", "answers": ["x"]}) + "\n" + json.dumps({"id": "a"}) + "\n")
    text = checked(
        BenchmarkConfig,
        {"title": "T", "split": "s", "metric": "anls", "columns": {"answer": ["answers"]},
         "kinds": {"any": {"prompt": "{question}"}}},
        "test",
    )  # fmt: skip
    found = load_benchmark(path, text)
    assert len(found.prompts) == 1 and "has no question, which the prompt shows" in found.left_out[0]
    with pytest.raises(DataError, match="no such"):
        load_benchmark(tmp_path / "gone.tsv", text)
    path = tmp_path / "ragged.tsv"
    path.write_text("question\tanswers\nQ\tx\ty\n")
    with pytest.raises(DataError, match="row 1: has another number of cells"):
        load_benchmark(path, text)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"kinds": {"any": {"prompt": "{qestion}"}}}, r"has \{qestion\}: known are choices, options, question"),
        ({"kinds": {"any": {"prompt": "{options}"}}}, "name their columns in columns.options"),
        ({"kinds": {"open": {"prompt": "{question}"}}}, "name the columns that tell them in columns.kind"),
        ({"left_out": {"unit": "(in {unit})"}}, "must be a field"),
        ({"min_pixels": 1000}, "set both or neither"),
        ({"video": "{name}.mp4"}, r"video has \{name\}: name its column"),
        ({"columns": {"start": ["start"], "end": ["end"]}}, "name both, and video"),
        ({"folder_fps": 3}, "folder_fps is of videos that are folders"),
        ({"folder_fps": 0}, "greater than 0"),
        ({"mean_of_categories": True}, "mean_of_categories needs columns.category"),
        ({"metric": "bleu"}, "metric"),
    ],
)
def test_a_definition_that_cannot_be(change: dict[str, Any], message: str) -> None:
    tree = {"title": "T", "split": "s", "metric": "anls", "kinds": {"any": {"prompt": "{question}"}}}
    with pytest.raises(ConfigError, match=message):
        checked(BenchmarkConfig, tree | change, "test")
