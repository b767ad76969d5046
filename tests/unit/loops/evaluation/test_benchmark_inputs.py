"""What is read of benchmarks before an engine starts: picture sizes of each, and rows that cannot be asked."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pangu_rl.config.benchmark import BenchmarkConfig
from pangu_rl.config.evaluation import EvalConfig
from pangu_rl.config.load import checked, dump_config, load_config
from pangu_rl.config.sections.rewards import RewardFunctionConfig, RewardsConfig
from pangu_rl.errors import ConfigError, RunError
from pangu_rl.loops.evaluate import answers, greedy
from pangu_rl.loops.evaluation.benchmark_inputs import read_benchmarks
from pangu_rl.loops.evaluation.benchmark_scores import figure
from pangu_rl.loops.evaluation.option_letters import OptionLetters
from pangu_rl.loops.pictures import RowLoader
from pangu_rl.records import Completion, FinishReason, Prompt, RolloutRequest, Score
from pretrain.processing.resize import PixelLimits
from rewards.rubric import Rubric
from tests.contracts.source_tree import ROOT
from tests.e2e.test_benchmarks import SMALL, write_files
from tests.unit.data.vl_folder import build_vl_folder, draw
from tests.unit.pretrain.processing.drawn_videos import draw_video

BENCHMARKS = ROOT / "configs" / "eval" / "benchmarks"


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PANGU_RL_CACHE", str(tmp_path / "cache"))


def config(folder: Path, model: Path, **data: Any) -> EvalConfig:
    files = {"chartqa": "chartqa.parquet", "mmbench": "mmbench.tsv"}
    benchmarks = {
        name: {"definition": str(BENCHMARKS / f"{name}.yaml"), "file": str(folder / file), **SMALL}
        for name, file in files.items()
    }
    benchmarks["mmbench"]["max_pixels"] = benchmarks["mmbench"]["min_pixels"]
    tree = {
        "model": {"path": str(model)},
        "data": {"benchmarks": benchmarks, "max_prompt_tokens": 256} | data,
        "rollout": {"max_new_tokens": 8, "max_model_tokens": 320},
        "trainer": {"run_dir": str(folder / "run")},
    }
    return checked(EvalConfig, tree, "test")


def test_each_benchmark_has_its_sizes_and_the_engine_the_largest(tiny_vl_model: Path, tmp_path: Path) -> None:
    write_files(tmp_path)
    sets, inputs = read_benchmarks(config(tmp_path, tiny_vl_model))
    assert [(one.name, one.limits, len(one.rows.prompts)) for one in sets] == [
        ("chartqa", PixelLimits(**SMALL), 4),
        ("mmbench", PixelLimits(SMALL["min_pixels"], SMALL["min_pixels"]), 4),
    ]
    assert inputs.limits == PixelLimits(**SMALL) and not inputs.skipped
    assert {name: len(prompts) for name, prompts in inputs.sets.items()} == {"chartqa": 4, "mmbench": 4}


def test_bad_rows_are_named_and_end_the_run_above_the_limit(tiny_vl_model: Path, tmp_path: Path) -> None:
    write_files(tmp_path)
    path = tmp_path / "mmbench.tsv"
    path.write_text(path.read_text().replace('"A"\t"colour"', '"E"\t"colour"'))
    sets, inputs = read_benchmarks(config(tmp_path, tiny_vl_model, max_bad_share=0.25))
    assert len(sets[1].rows.prompts) == 3 and len(inputs.skipped) == 1
    with pytest.raises(RunError, match=r"mmbench: 1 of 4 rows cannot be asked, above .* 0\.05: .*row 1: answer"):
        read_benchmarks(config(tmp_path, tiny_vl_model))


def test_pictures_that_do_not_decode_are_bad_rows(tiny_vl_model: Path, tmp_path: Path) -> None:
    write_files(tmp_path)
    (tmp_path / "media").mkdir()
    (tmp_path / "media" / "cut.png").write_bytes((tmp_path / "0.png").read_bytes()[:200])
    path = tmp_path / "mmbench.tsv"
    lines = path.read_text().splitlines(keepends=True)
    for name in ("cut.png", "gone.png"):
        fields = lines[1].rstrip("\n").split("\t")
        lines[1] = "\t".join([*fields[:-1], f'"{name}"']) + "\n"
        path.write_text("".join(lines))
        with pytest.raises(ConfigError, match=r"data\.media_root is not set"):
            read_benchmarks(config(tmp_path, tiny_vl_model))
        with pytest.raises(RunError, match=f"mmbench: 2 of 4 rows cannot be asked.*{name}"):
            read_benchmarks(config(tmp_path, tiny_vl_model, media_root=str(tmp_path / "media")))


def test_a_judge_without_a_benchmark_that_is_judged_is_refused(tiny_vl_model: Path, tmp_path: Path) -> None:
    write_files(tmp_path)
    judged = RewardFunctionConfig(name="judged_benchmark", args={"config": "judge.yaml"})
    plain = config(tmp_path, tiny_vl_model)
    only = plain.model_copy(
        update={
            "data": plain.data.model_copy(update={"benchmarks": {"chartqa": plain.data.benchmarks["chartqa"]}}),
            "rewards": RewardsConfig(functions=(judged,)),
        }
    )
    with pytest.raises(ConfigError, match="names judged_benchmark, and of the benchmarks chartqa none is judged"):
        read_benchmarks(only)


def test_the_likeliest_letter_is_of_the_rows_own_options(tiny_vl_model: Path, tmp_path: Path) -> None:
    """MMBench's questions here have two and three options; their letters are tokens of the tokenizer."""
    write_files(tmp_path)
    definition = load_config(BenchmarkConfig, BENCHMARKS / "mmbench.yaml", ["likeliest_letter=true", "judged=false"])
    (tmp_path / "letters.yaml").write_text(dump_config(definition))
    benchmarks = {
        "letters": {"definition": str(tmp_path / "letters.yaml"), "file": str(tmp_path / "mmbench.tsv"), **SMALL}
    }
    (one,), inputs = read_benchmarks(config(tmp_path, tiny_vl_model, benchmarks=benchmarks))
    tokenizer = inputs.loader.encoder.template.tokenizer
    drawn = [one.letters.sampling(prompt) for prompt in one.rows.prompts]
    assert [[tokenizer.decode([token]) for token in each.allowed_token_ids] for each in drawn] == [
        ["A", "B"], ["A", "B", "C"], ["A", "B"], ["A", "B", "C"],
    ]  # fmt: skip
    assert {(each.temperature, each.max_new_tokens) for each in drawn} == {(0.0, 1)}


def test_a_letter_after_an_opened_thinking_block_is_refused() -> None:
    class Thinks:
        opened = "<think>\n"

    with pytest.raises(ConfigError, match="opens every answer with '<think>"):
        OptionLetters(Thinks(), "mmbench")


class SaysTheGold:
    """A pool of engines that knows every answer, and how large the pictures are that it is shown."""

    def __init__(self, golds: dict[str, str]) -> None:
        self._golds = golds
        self.tokens: list[int] = []

    def generate(self, requests: list[RolloutRequest]) -> Iterator[Completion]:
        for request in requests:
            self.tokens.append(max(picture.tokens for picture in request.pictures))
            yield Completion(
                uid=request.uid,
                group=request.group,
                prompt_uid=request.prompt_uid,
                token_ids=(),
                logprobs=(),
                text=self._golds[request.prompt_uid],
                finish_reason=FinishReason.STOP,
                weight_versions=(),
            )


class ScoresAtOnce:
    """The reward service without its actors."""

    def __init__(self) -> None:
        self._rubric = Rubric.from_config(RewardsConfig(functions=(RewardFunctionConfig(name="benchmark"),)))
        self._scores: dict[str, Score] = {}

    def submit(self, prompt: Prompt, completion: Completion) -> None:
        self._scores[completion.uid] = asyncio.run(self._rubric.score(prompt, completion))

    def finished(self) -> dict[str, Score]:
        return {}

    def collect(self, earlier: dict[str, Score]) -> dict[str, Score]:
        return self._scores


def test_who_says_the_golds_has_all_points(tiny_vl_model: Path, tmp_path: Path) -> None:
    """Pictures of 56 x 84 and 112 x 56 pixels have 6 and 8 tokens; the second benchmark shows at most 4."""
    write_files(tmp_path)
    sets, inputs = read_benchmarks(config(tmp_path, tiny_vl_model))
    loader = RowLoader(inputs.loader.encoder, inputs.loader.folder, inputs.loader.digests, put=lambda patches: patches)
    shown = []
    for one in sets:
        pool = SaysTheGold({prompt.uid: prompt.answer for prompt in one.rows.prompts})
        loader.folder.limits = one.limits
        answered = answers(
            one.rows.prompts, loader=loader, pool=pool, rewards=ScoresAtOnce(), sampling=greedy(8)
        )  # fmt: skip
        found = figure(one.definition, answered)
        assert (found.value, found.unread, found.no_verdict) == (100.0, 0, 0)
        shown.append(sorted(set(pool.tokens)))
    assert shown[0] == [6, 8] and max(shown[1]) <= 4


@pytest.fixture(scope="module")
def vl_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build_vl_folder(tmp_path_factory.mktemp("vl"))


def test_videos_are_shown_twice_a_second_and_bad_ones_named(vl_folder: Path, tmp_path: Path) -> None:
    """Of a film of 5.9 s: all of it, in the budget's 8 frames of 4 tokens; 2 to 3.4 s, which are 3 frames."""
    media = tmp_path / "media"
    content = draw_video(media / "films" / "a.mp4", range(0, 240, 4)).read_bytes()
    (media / "films" / "cut.mp4").write_bytes(content[: len(content) // 2])
    asked = {"prefix": "films", "question": "Which?", "candidates": ["grey", "red"], "answer": "grey"}
    rows = [{"video": "a.mp4"}, {"video": "a.mp4", "start": 2.0, "end": 3.4}, {"video": "cut.mp4"}]
    pq.write_table(
        pa.Table.from_pylist([asked | {"start": None, "end": None} | row for row in rows]), tmp_path / "v.parquet"
    )
    benchmarks = {"mvbench": {"definition": str(BENCHMARKS / "mvbench.yaml"), "file": str(tmp_path / "v.parquet")}}
    shown = {"benchmarks": benchmarks, "media_root": str(media)}
    (one,), inputs = read_benchmarks(config(tmp_path, vl_folder, **shown, max_bad_share=0.4))
    assert inputs.limits is None and "video 'films/cut.mp4': " in inputs.skipped[0]
    loader = RowLoader(inputs.loader.encoder, inputs.loader.folder, inputs.loader.digests, put=lambda patches: patches)
    pool = SaysTheGold({prompt.uid: prompt.answer for prompt in one.rows.prompts})
    answered = answers(one.rows.prompts, loader=loader, pool=pool, rewards=ScoresAtOnce(), sampling=greedy(8))
    assert pool.tokens == [8 * 4, 3 * 4] and figure(one.definition, answered).value == 100.0
    with pytest.raises(RunError, match="mvbench: 1 of 3 rows cannot be asked"):
        read_benchmarks(config(tmp_path, vl_folder, **shown))


def test_folders_of_frames_are_shown_as_videos_and_bad_ones_named(vl_folder: Path, tmp_path: Path) -> None:
    """Of 3 frames a second, from 1 to 2.5 s: 1.0, 1.5, 2.0, 2.5 s, 4 frames of 4 tokens. Paths are a video's."""
    media, asked = tmp_path / "media", {"question": "Which?", "candidates": ["grey", "red"], "answer": "grey"}
    for number in range(1, 13):
        draw(media / "frames" / "clip" / f"{number:05d}.jpg", 56, 56, number)
        draw(media / "frames" / "torn" / f"{number:05d}.jpg", 56, 56, number)
        draw(tmp_path / "outside" / f"{number:05d}.jpg", 56, 56, number)
    torn = media / "frames" / "torn" / "00006.jpg"
    torn.write_bytes(torn.read_bytes()[:200])
    (media / "frames" / "empty").mkdir()
    rows = [{"video": name, "start": 1.0, "end": 2.5} for name in ("clip", "torn", "empty", "gone", "../../outside")]
    late = {"video": "clip", "start": 4.0, "end": 9.0}
    table = pa.Table.from_pylist([asked | {"prefix": "frames"} | row for row in (*rows, late)])
    pq.write_table(table, tmp_path / "v.parquet")
    benchmarks = {"mvbench": {"definition": str(BENCHMARKS / "mvbench.yaml"), "file": str(tmp_path / "v.parquet")}}
    shown = {"benchmarks": benchmarks, "media_root": str(media)}
    (one,), inputs = read_benchmarks(config(tmp_path, vl_folder, **shown, max_bad_share=0.9))
    loader = RowLoader(inputs.loader.encoder, inputs.loader.folder, inputs.loader.digests, put=lambda patches: patches)
    pool = SaysTheGold({prompt.uid: prompt.answer for prompt in one.rows.prompts})
    answered = answers(one.rows.prompts, loader=loader, pool=pool, rewards=ScoresAtOnce(), sampling=greedy(8))
    assert pool.tokens == [4 * 4] and figure(one.definition, answered).value == 100.0
    said = "\n".join(sorted(inputs.skipped))
    assert len(inputs.skipped) == 5, said
    for reason in ("frames/torn/00006.jpg", "'frames/empty': is an empty folder", "frames/gone", "../../outside",
                   "is asked about from 4 to 9 s, of 3.67 s"):  # fmt: skip
        assert reason in said, said
