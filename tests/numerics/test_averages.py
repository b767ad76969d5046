"""The averages of SFT and pre-training: by hand, over packs and ranks, and packed as unpacked with pictures."""

from __future__ import annotations

import dataclasses
import math
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor
from transformers import PreTrainedModel

from pangu_rl.algorithms.sft import square_averaged_loss
from pangu_rl.config.sections.algorithm import SupervisedConfig
from pangu_rl.config.sections.learner import LearnerConfig
from pangu_rl.config.sections.model import ModelConfig
from pangu_rl.data.files.row_files import open_rows
from pangu_rl.data.packs.batching import pack_conversations, pack_counts, root_count
from pangu_rl.data.packs.layout import TrainingRow
from pangu_rl.learner.model import PackedCausalLM, PackTensors, load_causal_lm
from pangu_rl.learner.objectives import build_objective
from pangu_rl.learner.packed_attention import PACKED, attend_by
from pangu_rl.learner.spec import LearnerSpec
from pangu_rl.records import MiniBatch, Pack
from pretrain.models.positions import multimodal_positions
from pretrain.train.loader import PackLoader
from pretrain.train.order import PackOrder
from tests.unit.learner.vl_builders import END, IMAGE, PLACEHOLDERS, START, TOKENS, pangu_vl, picture
from tests.unit.pretrain.train.builders import stage, write_rows

LOSSES = torch.tensor([1.0, 3.0, 0.5, 0.5, 1.0, 2.0, 4.0], dtype=torch.float64)
SAMPLES = torch.tensor([0, 0, 1, 1, 1, 1, 2])


def test_the_square_average_by_hand():
    """Samples of 2, 4 and 1 tokens, each of sum 4: (4 / sqrt 2 + 4 / 2 + 4) / (sqrt 2 + 2 + 1) = 8.8284 / 4.4142."""
    loss, _ = square_averaged_loss(LOSSES, SAMPLES, torch.ones(7, dtype=torch.bool))
    assert loss.item() == pytest.approx((4 / math.sqrt(2) + 2 + 4) / (math.sqrt(2) + 3))
    masked, _ = square_averaged_loss(LOSSES, SAMPLES, SAMPLES != 2)
    assert masked.item() == pytest.approx((4 / math.sqrt(2) + 2) / (math.sqrt(2) + 2))


def test_shares_of_the_square_average_add_up():
    whole, _ = square_averaged_loss(LOSSES, SAMPLES, torch.ones(7, dtype=torch.bool))
    roots = math.sqrt(2) + 3
    parts = [
        square_averaged_loss(LOSSES[at], SAMPLES[at], torch.ones(len(LOSSES[at]), dtype=torch.bool), denominator=roots)
        for at in (slice(0, 2), slice(2, 7), slice(0, 0))
    ]
    assert sum(loss.item() for loss, _ in parts) == pytest.approx(whole.item())
    assert sum(metrics["roots"].item() for _, metrics in parts) == pytest.approx(1)


def rows() -> list[TrainingRow]:
    """Short and long answers behind pictures and without."""
    rng = np.random.default_rng(0)
    found = []
    for shown, answer in (([(2, 3)], 3), ([], 9), ([(4, 1), (3, 2)], 1), ([(5, 5)], 14)):
        pictures = tuple(picture(f"{h}x{w}", h, w) for h, w in shown)
        prompt = rng.integers(3, 89, 4).tolist()
        for one in pictures:
            prompt += [START, *[IMAGE] * one.tokens, END]
        ids = [*prompt, *rng.integers(3, 89, answer).tolist()]
        positions = multimodal_positions(np.array(ids), [one.grid for one in pictures], TOKENS)
        trained = [False] * len(prompt) + [True] * answer
        found.append(TrainingRow(token_ids=ids, trained=trained, positions=positions, pictures=pictures))
    return found


def objective(average: str):
    spec = LearnerSpec(
        model=ModelConfig(path=""),
        learner=LearnerConfig(),
        objective="sft",
        algorithm=SupervisedConfig(average=average),
        total_steps=1,
    )
    return build_objective(spec)


def log_probs(model: PackedCausalLM, pack: Pack) -> Tensor:
    batch = PackTensors.of(pack, "cpu")
    with attend_by(batch.layout):
        return model(batch)[0]


def gradients(
    average: str, packs: list[Pack], *, one_pack: bool = False, lm: PreTrainedModel | None = None
) -> tuple[float, dict[str, Tensor]]:
    """Loss and gradients of a step over `packs`; with `one_pack` the log-probs of all are one pack's to the loss."""
    lm = pangu_vl() if lm is None else lm
    lm.set_attn_implementation(PACKED)
    model = PackedCausalLM(lm, temperature=1.0, chunk=64)
    tokens, sequences = pack_counts(packs)
    step = MiniBatch(packs=tuple(packs), loss_tokens=tokens, loss_sequences=sequences, loss_roots=root_count(packs))
    loss = torch.zeros(())
    if one_pack:
        ids = np.concatenate([pack.sequence_ids for pack in packs])
        logp = torch.cat([log_probs(model, pack) for pack in packs])
        batch = dataclasses.replace(PackTensors.of(packs[0], "cpu"), sequence_ids=torch.from_numpy(ids))
        loss = objective(average).loss(logp, torch.zeros_like(logp), batch, step)[0]
    else:
        for pack in packs:
            logp = log_probs(model, pack)
            batch = PackTensors.of(pack, "cpu")
            loss = loss + objective(average).loss(logp, torch.zeros_like(logp), batch, step)[0]
    loss.backward()
    return loss.item(), {name: parameter.grad for name, parameter in lm.named_parameters()}


def apart() -> list[Pack]:
    """Each row a pack of its own, numbered as in one pack."""
    return numbered([pack_conversations([row], 500, PLACEHOLDERS)[0] for row in rows()])


def numbered(packs: list[Pack]) -> list[Pack]:
    """Packs of one row each."""
    return [dataclasses.replace(pack, sequence_ids=pack.sequence_ids + n) for n, pack in enumerate(packs)]


@pytest.mark.parametrize("average", ["balanced", "token", "sample", "square"])
def test_packed_rows_with_pictures_have_the_gradients_of_the_rows_alone(average):
    """Eq. (1) speaks of a pack, so there the rows are one pack to the loss; the plain averages need no such help."""
    together = pack_conversations(rows(), 500, PLACEHOLDERS)
    assert len(together) == 1
    loss, expected = gradients(average, apart(), one_pack=average == "balanced")
    found, packed = gradients(average, together)
    assert found == pytest.approx(loss, abs=1e-6)
    assert max(gradient.abs().max() for gradient in expected.values()) > 1e-2
    for name, gradient in expected.items():
        torch.testing.assert_close(packed[name], gradient, atol=1e-5, rtol=0, msg=name)


def test_packs_of_pretraining_have_the_gradients_of_their_rows_alone(tmp_path: Path, tiny_vl_model: Path):
    """From the file on: what the loader packs of an order, and what it makes of each row alone, by eq. (1)."""
    write_rows(tmp_path)
    config = stage(tmp_path, tiny_vl_model)
    loader = PackLoader(config, open_rows(Path(config.data.train), on_bad_row="refuse"))
    chosen = (2, 0, 1, 5)
    together, _ = loader.load([PackOrder(chosen, 0.0)])
    alone, _ = loader.load([PackOrder((row,), 0.0) for row in chosen])
    assert len(together[0].pictures) == 4
    model = ModelConfig(path=str(tiny_vl_model), dtype="float32")
    loss, expected = gradients("balanced", numbered(alone), one_pack=True, lm=load_causal_lm(model))
    found, packed = gradients("balanced", together, lm=load_causal_lm(model))
    assert found == pytest.approx(loss, abs=1e-5)
    assert max(gradient.abs().max() for gradient in expected.values()) > 1e-2
    for name, gradient in expected.items():
        torch.testing.assert_close(packed[name], gradient, atol=1e-5, rtol=0, msg=name)


def test_the_averages_are_what_they_say():
    """Of the log-probs of the rows: mean of tokens, mean of rows' means, and between them the square average."""
    lm = pangu_vl()
    lm.set_attn_implementation(PACKED)
    model = PackedCausalLM(lm, temperature=1.0, chunk=64)
    with torch.no_grad():
        losses = [-log_probs(model, pack) for pack in apart()]
    found = {
        average: gradients(average, pack_conversations(rows(), 500, PLACEHOLDERS))[0]
        for average in ("token", "sample", "square")
    }
    assert found["token"] == pytest.approx(torch.cat(losses).mean().item(), abs=1e-5)
    assert found["sample"] == pytest.approx(torch.stack([loss.mean() for loss in losses]).mean().item(), abs=1e-5)
    weighted = sum(loss.sum() / math.sqrt(len(loss)) for loss in losses) / sum(math.sqrt(len(loss)) for loss in losses)
    assert found["square"] == pytest.approx(weighted.item(), abs=1e-5)
