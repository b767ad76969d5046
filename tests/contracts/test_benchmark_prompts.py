"""The shipped benchmarks ask what openPangu-VL's report prints in its appendix B, character by character.

`tests/data/openpangu_vl_appendix_b.txt` is the appendix as it was read off the report. Where that text is broken, this
is taken:

* a blank line between two lines of a prompt is the page's, and so are the line breaks within the block of MMMUPro;
* `\\\\boxed` of that block is `\\boxed`, and backticks around `\\boxed{}` are the page's;
* names of what is filled in are ours: `{Referring expression.}` is `{question}`, as is what Point-Bench provides;
* sizes are areas: `[6722,20162]` is `[672²,2016²]`; NYUDepthV2's `640 × 480` is a greatest area;
* MMBench's line of the hint and MUIRBench's layout are ours (the comments of their files say so), and what MMMU asks of
  an open question is its prompt without options.
"""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from pangu_rl.config.benchmark import BenchmarkConfig
from pangu_rl.config.evaluation import EvalConfig
from pangu_rl.config.load import load_config
from tests.contracts.source_tree import ROOT

APPENDIX = ROOT / "tests" / "data" / "openpangu_vl_appendix_b.txt"
BENCHMARKS = ROOT / "configs" / "eval" / "benchmarks"
_SIZE = re.compile(r"<image, resolution: ?(.+?)>")
ASKED = {
    # file, kind -> the words that begin its entry in the appendix
    ("mmmu_pro", "any"): "standard:",
    ("mmmu_pro_vision", "any"): "vision:",
    ("mmmu", "any"): "MMMU",
    ("mathvista", "multi_choice"): "multi_choice:",
    ("mathvista", "free_form integer"): "integer:",
    ("mathvista", "free_form float 1"): "float1:",
    ("mathvista", "free_form float 2"): "float2:",
    ("mathvista", "free_form list"): "list:",
    ("refcoco", "any"): "RefCOCO-avg",
    ("odinw13", "any"): "ODinW-13",
    ("point_bench", "any"): "Point-Bench",
    ("countbench", "any"): "CountBench",
    ("nyu_depth_v2", "any"): "NYUDepthV2",
    **{(name, "any"): "MMBench | AI2D_test" for name in ("mmbench", "mmbench_cn", "ai2d", "realworldqa", "mmstar")},
    ("ocrbench", "any"): "OCRBench",
    **{(f"charxiv_{half}", "any"): "CharXiv" for half in ("descriptive", "reasoning")},
    **{(name, "any"): "TextVQA | DocVQA_test" for name in ("textvqa", "docvqa")},
    ("chartqa", "any"): "ChartQA",
    ("blink", "any"): "BLINK",
}
ELSEWHERE = {"muirbench", "mme", "infovqa", "mmlu_pro", "mmlu_redux", "gpqa_diamond", "ceval", "ifeval"}
VIDEOS = {"mvbench", "videomme", "mlvu", "nextqa", "charades_sta"}
"""The appendix has no prompt for a video; the files say where theirs come from."""
TABLES = {
    ("openpangu_7b", "3"): "mmlu_pro mmlu_redux gpqa_diamond ifeval ceval",
    ("openpangu_7b", "4"): "mmbench ai2d realworldqa mmstar ocrbench textvqa chartqa docvqa charxiv_descriptive "
    "charxiv_reasoning mmmu mmmu_pro mmmu_pro_vision mathvista blink muirbench refcoco odinw13 point_bench countbench "
    "mvbench videomme mlvu",
    ("openpangu_7b", "6"): "ocrbench mmbench mmbench_cn textvqa docvqa chartqa mme refcoco mmmu mmmu_pro "
    "mmmu_pro_vision mathvista",
    ("mindvl_8b", "5"): "mme mmbench ocrbench docvqa chartqa infovqa",
}
"""Recipe and table of its report -> the files of its benchmarks; MMMU-Pro is the mean of its two."""
HEADS = (*dict.fromkeys(ASKED.values()), "MMMUPro", "Mathvista", "MUIRBench", "B.1", "B.2", "B.3", "B.4", "B.5")
SIDES = {"6722": 672, "20162": 2016, "672²": 672, "2016²": 2016, "224²": 224, "1344²": 1344}


def printed(head: str) -> tuple[str, str]:
    """The size and the prompt of the entry that begins with `head`."""
    lines = APPENDIX.read_text(encoding="utf-8").splitlines()
    start = next(index for index, line in enumerate(lines) if line == head or line.startswith(f"{head} |"))
    found = []
    for line in lines[start + 1 :]:
        if line in ("-----", "```") or line.startswith(HEADS):
            break
        found += [line] if line else []
    size = _SIZE.fullmatch(found[0])
    assert size is not None, found[0]
    return size[1], "\n".join(found[1:])


def repaired(head: str, prompt: str) -> str:
    prompt = prompt.replace("`", "").replace("\\\\boxed", "\\boxed")
    if head in ("standard:", "vision:"):
        prompt = re.sub(r"(?<=[a-z])\n", " ", prompt)
    prompt = prompt.replace("{Referring expression.}", "{question}")
    return prompt.replace("{Prompts provided by Dataset.}", "{question}")


def asked(name: str, kind: str) -> str:
    definition = load_config(BenchmarkConfig, BENCHMARKS / f"{name}.yaml")
    return definition.kinds[kind].prompt.replace(definition.left_out.get("hint", "\0"), "")


@pytest.mark.parametrize(("name", "kind"), ASKED, ids=lambda part: part.replace(" ", "_"))
def test_a_prompt_is_the_appendix_s(name: str, kind: str) -> None:
    _, prompt = printed(ASKED[name, kind])
    assert asked(name, kind) == repaired(ASKED[name, kind], prompt)


@pytest.mark.parametrize(("name", "kind"), ASKED, ids=lambda part: part.replace(" ", "_"))
def test_pictures_have_the_appendix_s_sizes(name: str, kind: str) -> None:
    size, _ = printed(ASKED[name, kind])
    definition = load_config(BenchmarkConfig, BENCHMARKS / f"{name}.yaml")
    if name == "nyu_depth_v2":
        assert (size, definition.max_pixels) == ("640 × 480", 640 * 480)
        return
    least, greatest = (SIDES[side.strip()] for side in size.strip("[]").split(","))
    assert (definition.min_pixels, definition.max_pixels) == (least**2, greatest**2)


def test_every_benchmark_is_compared_or_not_in_the_appendix() -> None:
    files = {path.stem for path in BENCHMARKS.glob("*.yaml")}
    assert {name for name, _ in ASKED} | (ELSEWHERE & files) | VIDEOS == files


@pytest.mark.parametrize(("recipe", "table"), TABLES)
def test_the_shipped_evaluation_has_every_benchmark_of_a_table(recipe: str, table: str) -> None:
    config = load_config(EvalConfig, ROOT / "configs" / recipe / "eval_benchmarks.yaml")
    asked_for = {Path(one.definition).stem for one in config.data.benchmarks.values()}
    assert set(TABLES[recipe, table].split()) <= asked_for


def test_the_appendix_asks_about_no_video() -> None:
    assert "video" not in APPENDIX.read_text(encoding="utf-8").lower()
    shown = {name for name in VIDEOS if load_config(BenchmarkConfig, BENCHMARKS / f"{name}.yaml").video}
    assert shown == VIDEOS


def test_muirbench_ends_as_printed_and_has_its_size() -> None:
    """Its entry shows only where pictures and texts stand, and its last line."""
    *_, layout, last = APPENDIX.read_text(encoding="utf-8").splitlines()
    assert layout == "<image_1><text_1><image_2><text_2>...<image_n, resolution: [672², 2016²]><text_n>"
    definition = load_config(BenchmarkConfig, BENCHMARKS / "muirbench.yaml")
    assert definition.kinds["any"].prompt == "{question}\n{options}\n" + last
    assert (definition.min_pixels, definition.max_pixels) == (672**2, 2016**2)
