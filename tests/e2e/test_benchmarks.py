"""`pangu-rl eval` on benchmarks as the hub has them, through the real command and a real engine: two kinds of
files, their own picture sizes, one engine, one table."""

from __future__ import annotations

import base64
import csv
import json
import shutil
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml

from tests.e2e.runs import REPO, run
from tests.unit.data.vl_folder import draw
from tests.unit.pretrain.processing.drawn_videos import draw_video, show_small_frames
from tests.unit.rewards.scorers.endpoint import Answer, serving

SMALL = {"min_pixels": 4 * 784, "max_pixels": 16 * 784}


def write_files(folder: Path) -> None:
    """ChartQA in Parquet with picture bytes; MMBench as TSV, four rows that are two questions, the last two of which
    name the pictures of the first."""
    for seed, size in enumerate([(56, 84), (112, 56)]):
        draw(folder / f"{seed}.png", *size, seed=seed)
    pictures = [(folder / f"{seed}.png").read_bytes() for seed in range(2)]
    rows = [
        {"question": f"What is {i}?", "answer": str(i), "type": "human_test", "image": {"bytes": pictures[i % 2]}}
        for i in range(4)
    ]
    pq.write_table(pa.Table.from_pylist(rows), folder / "chartqa.parquet")
    with (folder / "mmbench.tsv").open("w", newline="", encoding="utf-8") as file:
        lines = csv.writer(file, delimiter="\t", quoting=csv.QUOTE_ALL)
        lines.writerow(["index", "hint", "question", "A", "B", "C", "D", "answer", "category", "image"])
        shown = [base64.b64encode(picture).decode() for picture in pictures]
        lines.writerow(["7", "", "Which one?", "red", "blue", "", "", "A", "colour", shown[0]])
        lines.writerow(["8", "Look.", "Which, then?", "one", "two", "six", "", "B", "number", shown[1]])
        lines.writerow(["1000007", "", "Which one?", "blue", "red", "", "", "B", "colour", "7"])
        lines.writerow(["1000008", "Look.", "Which, then?", "six", "one", "two", "", "C", "number", "8"])


def write_eval(folder: Path, model: Path, **sections: dict[str, Any]) -> Path:
    tree: dict[str, Any] = {
        "model": {"path": str(model)},
        "data": {
            "benchmarks": {
                "chartqa": {
                    "definition": f"{REPO}/configs/eval/benchmarks/chartqa.yaml",
                    "file": str(folder / "chartqa.parquet"),
                    **SMALL,
                },
                "mmbench": {
                    "definition": f"{REPO}/configs/eval/benchmarks/mmbench.yaml",
                    "file": str(folder / "mmbench.tsv"),
                    "min_pixels": 4 * 784,
                    "max_pixels": 4 * 784,
                },
            },
            "max_prompt_tokens": 256,
        },
        "rollout": {"max_new_tokens": 8, "max_model_tokens": 320, "kv_cache_gib": 0.1, "max_concurrent": 16},
        "trainer": {"run_dir": str(folder / "run")},
        "monitoring": {"tensorboard": False},
        "cluster": {"object_store_gib": 0.1},
    }
    for name, section in sections.items():
        tree[name] = tree.get(name, {}) | section
    path = folder / "eval.yaml"
    path.write_text(yaml.safe_dump(tree, sort_keys=False))
    return path


def test_two_benchmarks_one_engine_one_table(tiny_vl_model: Path, tmp_path: Path) -> None:
    """What rules cannot read of MMBench a judge reads, here one that always reads A; ChartQA is not judged."""
    write_files(tmp_path)
    with serving(lambda body: Answer('{"answer": "A"}')) as endpoint:
        judge = {"scorer": {"name": "a", "model": "m", "base_url": endpoint.url}, "cache": str(tmp_path / "cache")}
        (tmp_path / "judge.yaml").write_text(yaml.safe_dump(judge | {"audit_share": 0.0}))
        judged = {"name": "judged_benchmark", "args": {"config": str(tmp_path / "judge.yaml")}}
        done = run("eval", write_eval(tmp_path, tiny_vl_model, rewards={"functions": [judged]}), "--json")
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    saved = json.loads((tmp_path / "run" / "benchmarks.json").read_text())
    assert found == saved and list(found) == ["chartqa", "mmbench"]
    assert found["chartqa"]["figure"] | {"high": 0, "unread": 0} == {
        "value": 0.0, "low": 0.0, "high": 0, "unit": "%", "items": 4, "unread": 0, "no_verdict": 0,
        "incomplete": 0, "judged": 0, "audited": 0, "agreed": 0,
    }  # fmt: skip
    assert found["mmbench"]["figure"]["items"] == 4 and set(found["mmbench"]["categories"]) == {"colour", "number"}
    assert found["chartqa"]["left_out"] == found["mmbench"]["left_out"] == 0
    assert "MMBench_V1.1" in done.stderr and "ChartQA" in done.stderr
    said = [json.loads(line) for line in (tmp_path / "run" / "answers.jsonl").read_text().splitlines()]
    assert [(row["set"], row["id"]) for row in said] == [
        *(("chartqa", str(number)) for number in range(1, 5)),
        *(("mmbench", name) for name in ("7", "8", "1000007", "1000008")),
    ]
    assert all(row["score"] is not None for row in said)
    read = [row for row in said if row.get("judge")]
    assert all(row["judge"] == {"judge": "a", "answer": "A", "agrees": None} for row in read)
    assert all(row["score"] == float(row["answer"] == "A") for row in read)
    assert found["mmbench"]["figure"]["judged"] == len(read) and found["mmbench"]["figure"]["unread"] == 0
    assert len(endpoint.bodies) == len(read) > 0


@pytest.mark.parametrize(
    ("change", "code", "message"),
    [
        ({"answer": "E"}, 1, "benchmark mmbench: 2 of 4 rows cannot be asked, above data.max_bad_share 0.05: "),
        ({"image": "gone.png"}, 2, "data.media_root is not set"),
    ],
)
def test_rows_that_cannot_be_asked_end_the_run(
    tiny_vl_model: Path, tmp_path: Path, change: dict[str, str], code: int, message: str
) -> None:
    """They are named, and nothing is started for them."""
    write_files(tmp_path)
    path = tmp_path / "mmbench.tsv"
    rows = list(csv.DictReader(path.open(newline=""), delimiter="\t"))
    for row in rows[:2]:
        row.update(change)
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, rows[0], delimiter="\t", quoting=csv.QUOTE_ALL)
        writer.writeheader()
        writer.writerows(rows)
    done = run("eval", write_eval(tmp_path, tiny_vl_model))
    assert (done.returncode, "Traceback" in done.stderr) == (code, False), done.stderr
    assert message in done.stderr


@pytest.mark.slow
def test_a_judge_that_is_down_costs_no_benchmark_that_is_done(tiny_vl_model: Path, tmp_path: Path) -> None:
    """ChartQA is done when MMBench's judge refuses everything; the same command asks MMBench alone, and another seed is
    another run."""
    write_files(tmp_path)
    kept = tmp_path / "run" / "benchmarks"
    replies = [Answer("no", status=400)]
    with serving(lambda body: replies[0]) as endpoint:
        judge = {"scorer": {"name": "a", "model": "m", "base_url": endpoint.url}, "cache": str(tmp_path / "cache")}
        (tmp_path / "judge.yaml").write_text(yaml.safe_dump(judge | {"audit_share": 1.0}))
        judged = {"name": "judged_benchmark", "args": {"config": str(tmp_path / "judge.yaml")}}
        path = write_eval(tmp_path, tiny_vl_model, rewards={"functions": [judged], "max_no_verdict_share": 0.0})
        down = run("eval", path)
        assert (down.returncode, "have no verdict" in down.stderr) == (1, True), down.stderr
        assert [file.name for file in kept.iterdir()] == ["chartqa.json"]
        before = (kept / "chartqa.json").stat().st_mtime_ns
        replies[0] = Answer('{"answer": "A"}')
        done = run("eval", path, "--json")
    assert done.returncode == 0, done.stderr
    assert (kept / "chartqa.json").stat().st_mtime_ns == before
    assert [one["figure"]["items"] for one in json.loads(done.stdout).values()] == [4, 4]
    other = run("eval", path, "trainer.seed=1")
    assert other.returncode == 2 and "was begun with trainer.seed 0, now it is 1" in other.stderr


@pytest.mark.slow
def test_a_benchmark_of_videos_on_a_real_engine(tiny_vl_model: Path, tmp_path: Path) -> None:
    """MVBench's columns: all of a film, a part of it, and a film that is cut off, which is named and left out."""
    model, media = tmp_path / "model", tmp_path / "media"
    shutil.copytree(tiny_vl_model, model)
    show_small_frames(model)
    content = draw_video(media / "films" / "a.mp4", range(0, 240, 4)).read_bytes()
    (media / "films" / "cut.mp4").write_bytes(content[: len(content) // 2])
    asked = {"prefix": "films", "question": "Which?", "candidates": ["grey", "red"], "answer": "grey", "start": None}
    rows = [{"video": "a.mp4"}, {"video": "a.mp4", "start": 2.0, "end": 3.4}, {"video": "cut.mp4"}]
    table = pa.Table.from_pylist([asked | {"end": None, "task_type": "colour"} | row for row in rows])
    pq.write_table(table, tmp_path / "mvbench.parquet")
    path = write_eval(tmp_path, model)
    tree = yaml.safe_load(path.read_text())
    definition = f"{REPO}/configs/eval/benchmarks/mvbench.yaml"
    tree["data"] = {
        "benchmarks": {"mvbench": {"definition": definition, "file": str(tmp_path / "mvbench.parquet")}},
        "media_root": str(media),
        "max_prompt_tokens": 256,
        "max_bad_share": 0.4,
    }
    path.write_text(yaml.safe_dump(tree))
    done = run("eval", path, "--json")
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)["mvbench"]
    assert (found["figure"]["items"], found["figure"]["no_verdict"], found["left_out"]) == (2, 0, 1)
    assert "video 'films/cut.mp4': " in done.stderr and "MVBench" in done.stderr
