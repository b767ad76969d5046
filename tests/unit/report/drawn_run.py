"""A run directory as a stage leaves it: metrics, evaluations, a store with pictures, boxes and hostile completions."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw

from pangu_rl.records import (
    Completion,
    Evaluation,
    FinishReason,
    Group,
    Outcome,
    Part,
    Picture,
    Prompt,
    SamplingParams,
    Score,
    Vote,
)
from rollout.store import RolloutStore

HOSTILE = (
    "<script>document.title='pwned'</script><img src=x onerror=alert(1)></pre></article>"
    '"><svg onload=alert(1)> {{ 7 * 7 }} {% for %} \u202egnp.exe \u2066\x1b[31m\x00 javascript:alert(1) '
)


def build_run(folder: Path, steps: int = 12) -> Path:
    """Three groups a step: sums, a box in a picture of 160 x 120, and a hostile one. The learner trained on the sums
    of all steps but the first, whose shard is as an older version left it."""
    run, media = folder / "a run", folder / "media"
    run.mkdir(parents=True)
    media.mkdir()
    picture = draw_scene(media / "scene.png")
    store = RolloutStore(run, media)
    rows = []
    for step in range(1, steps + 1):
        store.append(step, [sums(step), grounding(step, picture), hostile(step)], SamplingParams(max_new_tokens=64))
        if step > 1:
            store.learned.append(step, learner_logprobs(sums(step)))
        rows.append(metrics(step))
    (run / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (run / "config.yaml").write_text(f"trainer:\n  run_dir: {run}\n  steps: {steps}\n")
    (run / "run.log").write_text("2026-01-01 WARNING a: <b>left out</b>\n2026-01-01 INFO a: quiet\n")
    evaluations = [evaluation("start", 0, 9), evaluation(f"step {steps}", steps, 14)]
    (run / "evaluations.json").write_text(json.dumps([dataclasses.asdict(one) for one in evaluations]))
    return run


def learner_logprobs(drawn: Group) -> dict[str, np.ndarray]:
    """Of all but the last completion; the sampler's are -0.5, so the first three tokens are 2, -0.25 and 0.03 apart."""
    apart = np.array([2.0, -0.25, 0.03], np.float32)
    found = {one.uid: np.full(len(one.token_ids), -0.5, np.float32) for one in drawn.completions[:-1]}
    for logprobs in found.values():
        logprobs[:3] += apart
    return found


def draw_scene(path: Path) -> Picture:
    image = Image.new("RGB", (160, 120), "#dde7f0")
    pen = ImageDraw.Draw(image)
    pen.ellipse([20, 30, 60, 70], fill="#7b3f9d")
    pen.rectangle([90, 50, 140, 100], fill="#e0b040")
    image.save(path)
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    return Picture(path=path.name, sha256=digest, grid=(1, 8, 12), patches=None)


def metrics(step: int) -> dict[str, float | None]:
    return {
        "step": step,
        "reward/mean": 0.3 + 0.03 * step,
        "reward/boxed_accuracy": 0.25 + 0.03 * step,
        "outcome/correct": 0.25 + 0.03 * step,
        "outcome/incorrect": 0.75 - 0.03 * step,
        "response/length_mean": 40.0 - step,
        "response/length_max": 64.0,
        "train/entropy": None,
        "time/rollout": 3.0,
        "time/train": 5.0,
    }


def evaluation(name: str, step: int, right: int) -> Evaluation:
    uids = [f"h{index}" for index in range(20)]
    return Evaluation(
        name=name,
        step=step,
        correct={uid: index < right for index, uid in enumerate(uids)},
        sources={uid: "sum" if index % 2 else "product" for index, uid in enumerate(uids)},
    )


def sums(step: int) -> Group:
    prompt = Prompt(uid="s", messages=({"role": "user", "content": "17 + 25 = ?"},), answer="42", source="sum")
    texts = ["17 + 25 is \\boxed{42}", "It is \\boxed{41}", "I am not sure"]
    parts = [
        Part(value=1.0, outcome=Outcome.CORRECT, detail="42 is 42"),
        Part(value=0.0, outcome=Outcome.INCORRECT, detail="41 is not 42"),
        Part(value=0.0, outcome=Outcome.NO_BOX, detail="no complete \\boxed{}"),
    ]
    return group(step, prompt, texts, parts)


def grounding(step: int, picture: Picture) -> Group:
    content = [{"type": "image"}, {"type": "text", "text": "Where is the circle? Answer with a box."}]
    prompt = Prompt(
        uid="g",
        messages=({"role": "system", "content": "Be brief."}, {"role": "user", "content": content}),
        answer="[20, 30, 60, 70]",
        answer_type="bbox",
        images=(picture.path,),
        source="grounding",
    )
    texts = ["\\boxed{[24, 28, 66, 70]}", "\\boxed{[90, 50, 140, 100]}"]
    parts = [
        Part(value=0.8, outcome=Outcome.CORRECT, votes=(Vote(scorer="a", criterion="b", score=4, reason="near"),)),
        Part(value=0.0, outcome=Outcome.INCORRECT),
    ]
    return group(step, prompt, texts, parts, (picture,))


def hostile(step: int) -> Group:
    prompt = Prompt(uid="h", messages=({"role": "user", "content": HOSTILE},), answer=HOSTILE, source="<i>s</i>")
    texts = [HOSTILE + "A" * 2**20 + "the end", HOSTILE]
    parts = [
        Part(value=-1.0, outcome=Outcome.UNPARSABLE, detail=HOSTILE),
        Part(value=None, outcome=Outcome.TIMEOUT, detail="no answer within 2 s"),
    ]
    return group(step, prompt, texts, parts)


def versions(step: int, tokens: int, went_on: bool) -> tuple[int, ...]:
    """Of each token; of an answer that `went_on` the weights were replaced after its fourth."""
    return (step - 1,) * 4 + (step,) * (tokens - 4) if went_on else (step,) * tokens


def group(step: int, prompt: Prompt, texts: list[str], parts: list[Part], pictures: tuple[Picture, ...] = ()) -> Group:
    name = f"{step}:{prompt.uid}"
    completions = [
        Completion(
            uid=f"{name}/{index}",
            group=name,
            prompt_uid=prompt.uid,
            token_ids=tuple(range(min(len(text), 64))),
            logprobs=(-0.5,) * min(len(text), 64),
            text=text,
            finish_reason=FinishReason.LENGTH if len(text) > 64 else FinishReason.STOP,
            weight_versions=versions(step, min(len(text), 64), went_on=f"{prompt.uid}/{index}" == "s/0"),
        )
        for index, text in enumerate(texts)
    ]
    scores = [
        Score(completion_uid=completion.uid, reward=part.value, parts={"boxed_accuracy": part})
        for completion, part in zip(completions, parts, strict=True)
    ]
    return Group(
        prompt=prompt,
        group=name,
        prompt_token_ids=(1, 2),
        completions=completions,
        scores=scores,
        advantages=[0.0] * len(texts),
        pictures=pictures,
    )
