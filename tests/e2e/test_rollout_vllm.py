"""The real engine on a two-layer model: what it samples, and that it computes with the weights it was given."""

from __future__ import annotations

import os
import signal
import threading
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM, AutoTokenizer

from pangu_rl.accelerators import get_accelerator
from pangu_rl.config.sections.model import ModelConfig
from pangu_rl.config.sections.rollout import RolloutConfig
from pangu_rl.errors import BrokenBroadcast, ConfigError, RunError, WeightSyncError
from pangu_rl.learner.weights.publish import BroadcastPublisher
from pangu_rl.records import FinishReason, RolloutRequest, SamplingParams, Scorable
from rollout.engine import EngineSpec
from rollout.pool import RolloutPool
from rollout.probe import mean_gap
from tests.e2e.published import Weights, perturbed, publish, tensor_digest, zero_in_place
from tests.small_ray import small_ray

PROBE = [Scorable(token_ids=tuple(range(100, 148))), Scorable(token_ids=tuple(range(30_000, 30_020)))]
BF16_NATS = 0.03
"""bf16 keeps 8 bits: a logit of about 4 is known to 0.016, and the two implementations round in different places."""


def spec_for(model: Path, **rollout) -> EngineSpec:
    config = {"actors": 1, "kv_cache_gib": 0.1, "max_model_tokens": 256, "max_concurrent": 16} | rollout
    return EngineSpec(
        model=ModelConfig(path=str(model)),
        rollout=RolloutConfig(**config),
        accelerator=get_accelerator("cpu"),
        model_path=model,
    )


@pytest.fixture(scope="module")
def ray_session():
    with small_ray():
        yield


@pytest.fixture(scope="module")
def pool(ray_session, tiny_model):
    pool = RolloutPool(spec_for(tiny_model, actors=2, max_concurrent=64))
    pool.start()
    yield pool
    pool.close()


@pytest.fixture(scope="module")
def weights(tiny_model) -> Weights:
    return load_file(tiny_model / "model.safetensors")


@pytest.fixture(scope="module")
def reference(tiny_model):
    return AutoModelForCausalLM.from_pretrained(tiny_model, dtype=torch.bfloat16)


@pytest.fixture(scope="module")
def versions():
    return iter(range(1, 100))


def forward_logprobs(model, ids: list[int], temperature: float = 1.0) -> list[float]:
    """Log-prob of every id but the first, from the plain forward."""
    with torch.no_grad():
        logits = model(torch.tensor([ids])).logits[0, :-1].float() / temperature
    return logits.log_softmax(-1).gather(-1, torch.tensor(ids[1:])[:, None])[:, 0].tolist()


def learner_scores(model, weights: Weights) -> list[list[float]]:
    model.load_state_dict(weights, strict=False)
    return [forward_logprobs(model, list(probe.token_ids)) for probe in PROBE]


def requests(groups: int, sampling: SamplingParams, size: int = 4, length: int = 20) -> list[RolloutRequest]:
    """Groups that differ in their names alone: same prompt of `length` tokens, same seeds."""
    return [
        RolloutRequest(
            uid=f"{group}/{index}",
            group=str(group),
            prompt_uid="p",
            prompt_token_ids=tuple(range(200, 200 + length)),
            sampling=sampling,
            seed=1000 + index,
        )
        for group in range(groups)
        for index in range(size)
    ]


def test_the_likeliest_of_the_allowed_tokens(pool: RolloutPool, reference) -> None:
    """Each by the plain forward in bfloat16; two whose logits are closer than its rounding may change places."""
    allowed = (300, 4000, 32, 17)
    greedy = SamplingParams(temperature=0.0, max_new_tokens=1, allowed_token_ids=allowed)
    (request,) = requests(1, greedy, size=1)
    (drawn,) = pool.generate([request])
    with torch.no_grad():
        logits = reference(torch.tensor([request.prompt_token_ids])).logits[0, -1].float()
    assert drawn.token_ids[0] in allowed
    assert logits[list(allowed)].max() - logits[drawn.token_ids[0]] < BF16_NATS
    assert logits.argmax() not in allowed, "else every token would have been the same"


def test_two_engines_sample_the_same_to_the_last_bit(pool):
    wanted = requests(2, SamplingParams(temperature=0.8, top_p=0.95, max_new_tokens=24))
    drawn = {completion.uid: completion for completion in pool.generate(wanted)}
    assert len(drawn) == 8
    for index in range(4):
        left, right = drawn[f"0/{index}"], drawn[f"1/{index}"]
        assert (left.token_ids, left.logprobs, left.text) == (right.token_ids, right.logprobs, right.text)
    assert len({drawn[f"0/{index}"].token_ids for index in range(4)}) == 4


def test_more_prompt_tokens_than_one_step_takes(pool):
    """56 prompts of 220 tokens are more than the 8192 of an engine's step: the last ones must wait, whole."""
    wanted = requests(2, SamplingParams(max_new_tokens=4), size=56, length=220)
    drawn = {completion.uid: completion for completion in pool.generate(wanted)}
    assert len(drawn) == 112
    assert all(drawn[f"0/{index}"].logprobs == drawn[f"1/{index}"].logprobs for index in range(56))


@pytest.mark.parametrize("temperature", [1.0, 0.6])
def test_sampler_logprobs_are_those_of_the_forward_after_temperature(pool, reference, weights, temperature):
    reference.load_state_dict(weights, strict=False)
    sampling = SamplingParams(temperature=temperature, max_new_tokens=24, ignore_eos=True)
    for completion in pool.generate(requests(1, sampling)):
        assert len(completion.token_ids) == 24 and completion.finish_reason is FinishReason.LENGTH
        ids = [*range(200, 220), *completion.token_ids]
        expected = forward_logprobs(reference, ids, temperature)[-24:]
        assert mean_gap([expected], [completion.logprobs]) < BF16_NATS / temperature


def test_sync_changes_what_is_computed_and_the_way_back_is_exact(pool, reference, weights, versions, tmp_path):
    before = pool.score(PROBE)
    assert mean_gap(before, learner_scores(reference, weights)) < BF16_NATS

    moved = perturbed(weights)
    pool.sync(publish(moved, next(versions), tmp_path / "moved"))
    # The learner's own forward, not just "different": an output head that stays behind is different too.
    assert mean_gap(pool.score(PROBE), learner_scores(reference, moved)) < BF16_NATS
    assert mean_gap(before, pool.score(PROBE)) > 0.3
    drawn = list(pool.generate(requests(2, SamplingParams(max_new_tokens=4))))
    assert {completion.weight_version for completion in drawn} == {pool.weight_version}

    pool.sync(publish(weights, next(versions), tmp_path / "back"))
    assert pool.score(PROBE) == before


def test_a_missing_tensor_is_caught_and_nobody_is_asked_before_the_next_sync(pool, weights, versions, tmp_path):
    before = pool.score(PROBE)
    gone = "model.layers.1.self_attn.k_proj.weight"
    incomplete = {name: tensor for name, tensor in perturbed(weights).items() if name != gone}
    with pytest.raises(WeightSyncError, match=rf"{gone} missing from the {len(weights) - 1} tensors"):
        pool.sync(publish(incomplete, next(versions), tmp_path / "incomplete"))
    with pytest.raises(RunError, match="no rollout actor holds weights version"):
        pool.score(PROBE)
    pool.sync(publish(weights, next(versions), tmp_path / "whole"))
    assert pool.score(PROBE) == before


def test_unknown_tensor_is_caught(pool, weights, versions, tmp_path):
    foreign = weights | {"model.layers.2.mlp.up_proj.weight": torch.zeros(2, 2)}
    with pytest.raises(WeightSyncError, match=r"model\.layers\.2\.mlp\.up_proj\.weight published"):
        pool.sync(publish(foreign, next(versions), tmp_path / "foreign"))


def test_zeroed_tensor_is_caught_by_its_digest(pool, weights, versions, tmp_path):
    manifest = publish(weights, next(versions), tmp_path / "buffer")
    victim = zero_in_place(manifest, "model.layers.0.mlp.down_proj.weight")
    zeros = tensor_digest(torch.zeros_like(weights[victim.name]))
    with pytest.raises(
        WeightSyncError, match=rf"{victim.name} has digest {victim.digest} at the learner and {zeros} at"
    ):
        pool.sync(manifest)
    pool.sync(publish(weights, next(versions), tmp_path / "whole"))


@pytest.mark.parametrize("name", ["model.layers.0.mlp.down_proj.weight", "model.embed_tokens.weight"])
def test_zeroed_tensor_with_a_matching_digest_is_caught_by_the_probe(
    pool, reference, weights, versions, tmp_path, name
):
    planted = weights | {name: torch.zeros_like(weights[name])}
    pool.sync(publish(planted, next(versions), tmp_path / "planted"))
    assert mean_gap(pool.score(PROBE), learner_scores(reference, weights)) > RolloutConfig().probe_tolerance
    pool.sync(publish(weights, next(versions), tmp_path / "whole"))


def test_completion_that_stops_keeps_its_end_of_sequence(pool, tiny_model, weights, versions, tmp_path):
    # Embeddings are zero but for the end token's, and the layers add nothing: after it, it follows surely.
    end = AutoTokenizer.from_pretrained(tiny_model).eos_token_id
    certain = {name: tensor if "norm" in name else torch.zeros_like(tensor) for name, tensor in weights.items()}
    certain["model.embed_tokens.weight"][end] = 1.0
    pool.sync(publish(certain, next(versions), tmp_path / "certain"))
    wanted = [replace(request, prompt_token_ids=(end,)) for request in requests(1, SamplingParams(max_new_tokens=8))]
    for completion in pool.generate(wanted):
        assert completion.token_ids == (end,) and completion.finish_reason is FinishReason.STOP
        assert completion.logprobs == pytest.approx([0.0], abs=1e-6) and completion.text == ""
    pool.sync(publish(weights, next(versions), tmp_path / "whole"))


def test_too_little_kv_cache_is_one_line_with_the_way_out(ray_session, tiny_model):
    pool = RolloutPool(spec_for(tiny_model, kv_cache_gib=1e-5))
    with pytest.raises(ConfigError, match=r"rollout\.kv_cache_gib is 1e-05.*max_model_tokens 256.*; raise") as error:
        pool.start()
    assert "\n" not in str(error.value)
    pool.close()


def test_broadcast_carries_the_weights_to_every_engine_bucket_by_bucket(pool, reference, weights, versions):
    publisher = BroadcastPublisher(backend="gloo", host="127.0.0.1", receivers=2, device="cpu", bucket_bytes=2**14)
    for named in (perturbed(weights), weights):
        manifest = publisher.publish(next(versions), named.items())
        assert len({tensor.bucket for tensor in manifest.tensors}) > 3
        sender = threading.Thread(target=publisher.send, args=(named.items(),))
        sender.start()
        pool.sync(manifest)
        sender.join()
        assert mean_gap(pool.score(PROBE), learner_scores(reference, named)) < BF16_NATS


class Sender:
    """A learner's side of a broadcast: each publication to a group of its own; `cut_after` buckets it breaks off."""

    def __init__(self, named: Weights, version: int) -> None:
        self._named, self._version = named, version
        self.threads: list[threading.Thread] = []
        self.asked: list[int] = []

    def publish(self, members: tuple[str, ...], cut: bool = False):
        self.asked.append(len(members))
        publisher = BroadcastPublisher(
            backend="gloo", host="127.0.0.1", receivers=len(members), device="cpu", bucket_bytes=2**14
        )
        manifest = publisher.publish(self._version, self._named.items())
        self.threads.append(threading.Thread(target=self._send, args=(publisher, cut)))
        self.threads[-1].start()
        return manifest, []

    def _send(self, publisher: BroadcastPublisher, cut: bool) -> None:
        def until_half():
            yield from list(self._named.items())[: len(self._named) // 2]
            raise OSError("the learner's half of the cable was pulled")

        try:
            publisher.send(until_half() if cut else self._named.items())
        except BrokenBroadcast:
            assert cut

    def wait(self) -> None:
        for thread in self.threads:
            thread.join(60)
            assert not thread.is_alive()


@pytest.mark.slow
def test_engines_lost_under_broadcast_are_replaced(ray_session, tiny_model, reference, weights):
    """Killed between syncs: a member of the next group. The only one killed in mid-phase: sent the same weights
    again, as the probe shows. A broadcast that breaks half-way: the same engines take the next."""
    pool = RolloutPool(spec_for(tiny_model, actors=2, max_concurrent=64, max_restarts=1))
    pool.start()
    try:
        wanted = requests(8, SamplingParams(max_new_tokens=60, ignore_eos=True))
        sender = Sender(perturbed(weights), 1)
        manifest, _ = sender.publish(pool.members())
        pool.sync(manifest)
        os.kill(pool.processes()[0].pid, signal.SIGKILL)
        assert each_once(pool.generate(wanted), wanted)

        broken = Sender(weights, 2)
        manifest, _ = broken.publish(pool.members(), cut=True)
        processes = pool.processes()
        with pytest.raises(BrokenBroadcast, match="are without weights version 2"):
            pool.sync(manifest)
        assert pool.processes() == processes
        again = Sender(weights, 3)
        manifest, _ = again.publish(pool.members())
        pool.sync(manifest)
        assert mean_gap(pool.score(PROBE), learner_scores(reference, weights)) < BF16_NATS
        again.wait(), broken.wait(), sender.wait()
        assert (sender.asked, again.asked, pool.restarts) == ([2], [2], 1)
    finally:
        pool.close()


@pytest.mark.slow
def test_only_engine_lost_in_mid_phase_is_sent_its_weights_again(ray_session, tiny_model, reference, weights):
    pool = RolloutPool(spec_for(tiny_model, max_concurrent=64))
    pool.start()
    try:
        sender = Sender(perturbed(weights), 1)
        manifest, _ = sender.publish(pool.members())
        pool.sync(manifest, resend=sender.publish)
        wanted = requests(8, SamplingParams(max_new_tokens=60, ignore_eos=True))
        stream = pool.generate(wanted)
        first = next(stream)
        os.kill(pool.processes()[0].pid, signal.SIGKILL)
        assert each_once([first, *stream], wanted)
        assert mean_gap(pool.score(PROBE), learner_scores(reference, perturbed(weights))) < BF16_NATS
        assert (sender.asked, pool.restarts) == ([1, 1], 1)
        sender.wait()
    finally:
        pool.close()


def each_once(completions, wanted) -> bool:
    found = list(completions)
    return sorted(c.uid for c in found) == sorted(r.uid for r in wanted) and {c.weight_version for c in found} == {1}
