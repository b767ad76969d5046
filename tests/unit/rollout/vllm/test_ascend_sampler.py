"""Log-probs of vllm-ascend's own sampler, of its wheel and run on a CPU: wrong as its runner builds it, right as our
extension does. What it asks of the device and of its own package are stand-ins; the mathematics is all its own."""

from __future__ import annotations

import contextlib
import importlib.util
import sys
from types import ModuleType, SimpleNamespace

import pytest
import torch

from tests.contracts.vllm_wheels import unpack

pytest.importorskip("vllm")

pytestmark = pytest.mark.slow  # the import alone takes longer than a quick test may, and the wheel is downloaded

VOCABULARY = 6
LOGITS = torch.tensor([[2.0, 1.0, 0.5, 0.0, -1.0, -2.0]]).repeat(64, 1)


@pytest.fixture(scope="module")
def ascend_sampler(tmp_path_factory):
    """The class, of the file `vllm_ascend/sample/sampler.py`."""
    # Before the stand-ins: what imports much asks whether torch_npu is installed.
    import vllm.v1.sample.sampler  # noqa: F401

    import rollout.vllm.worker  # noqa: F401

    root = unpack("vllm-ascend 0.23.0", tmp_path_factory.mktemp("wheel"))
    stream = SimpleNamespace(wait_stream=lambda other: None)
    stand_ins = {
        "torch_npu": {},
        "vllm_ascend": {},
        "vllm_ascend.ascend_config": {
            "get_ascend_config": lambda: SimpleNamespace(enable_reduce_sample=False, enable_async_exponential=False)
        },
        "vllm_ascend.sample": {},
        "vllm_ascend.sample.penalties": {"apply_all_penalties": None},
        "vllm_ascend.utils": {
            # On a processor without the operator of the A2 it filters with torch's.
            "AscendDeviceType": SimpleNamespace(A2=2, A3=3),
            "get_ascend_device_type": lambda: 0,
            "global_stream": lambda: stream,
            "npu_stream_switch": lambda target: contextlib.nullcontext(),
        },
    }
    with pytest.MonkeyPatch.context() as lasting, pytest.MonkeyPatch.context() as importing:
        npu = SimpleNamespace(Event=object, current_stream=lambda: stream)
        lasting.setattr(torch, "npu", npu, raising=False)
        for name, members in stand_ins.items():
            module = ModuleType(name)
            module.__dict__.update(members)
            importing.setitem(sys.modules, name, module)
        spec = importlib.util.spec_from_file_location("ascend_sampler", root / "vllm_ascend/sample/sampler.py")
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        importing.undo()
        yield module.AscendSampler


def asked(temperature: float, top_k: int | None = None, top_p: float | None = None):
    """Metadata of a step in which every request has a generator of its own and wants the log-prob of its token."""
    from vllm.v1.sample.logits_processor import LogitsProcessors
    from vllm.v1.sample.metadata import SamplingMetadata

    rows = len(LOGITS)

    def each(value, dtype):
        return None if value is None else torch.full((rows,), value, dtype=dtype)

    fields = {
        "temperature": each(temperature, torch.float32),
        "all_greedy": False,
        "all_random": True,
        "top_p": each(top_p, torch.float32),
        "top_k": each(top_k, torch.int64),
        "generators": {row: torch.Generator().manual_seed(row) for row in range(rows)},
        "max_num_logprobs": 0,
        "no_penalties": True,
        "prompt_token_ids": None,
        "frequency_penalties": torch.zeros(rows),
        "presence_penalties": torch.zeros(rows),
        "repetition_penalties": torch.ones(rows),
        "output_token_ids": [[] for _ in range(rows)],
        "allowed_token_ids_mask": None,
        "bad_words_token_ids": {},
        "logitsprocs": LogitsProcessors(),
    }
    return SamplingMetadata(**fields)


def reported(sampler, metadata) -> tuple[torch.Tensor, torch.Tensor]:
    """Tokens [B] and their log-probs [B]."""
    output = sampler(logits=LOGITS.clone(), sampling_metadata=metadata)
    return output.sampled_token_ids[:, 0].long(), output.logprobs_tensors.logprobs[:, 0]


def worker_of(sampler) -> SimpleNamespace:
    config = SimpleNamespace(model_config=SimpleNamespace(logprobs_mode="processed_logprobs"))
    return SimpleNamespace(model_runner=SimpleNamespace(sampler=sampler), vllm_config=config)


@pytest.mark.parametrize(
    ("settings", "kept"),
    [
        ({"temperature": 0.5}, VOCABULARY),
        ({"temperature": 1.0, "top_k": 3}, 3),
        # Shares are e^2, e, ... over 13.26: the first two have 0.557 + 0.205 = 0.762.
        ({"temperature": 1.0, "top_p": 0.7}, 2),
        ({"temperature": 2.0, "top_k": 4, "top_p": 0.999}, 4),
    ],
)
def test_log_probs_are_those_that_tokens_were_drawn_by(ascend_sampler, settings, kept):
    from rollout.vllm.worker import WeightSyncExtension

    worker = worker_of(ascend_sampler())
    before, raw = reported(worker.model_runner.sampler, asked(**settings))
    WeightSyncExtension.pangu_keep_logprobs_mode(worker)
    tokens, logprobs = reported(worker.model_runner.sampler, asked(**settings))

    scaled = LOGITS[0, :kept] / settings["temperature"]
    expected = torch.log_softmax(scaled, dim=0)
    assert len(tokens.unique()) > 1 and tokens.max() < kept
    torch.testing.assert_close(logprobs, expected[tokens], rtol=1e-6, atol=1e-6)
    # The same tokens as before, whose reported log-probs were those of the whole vocabulary at temperature 1.
    torch.testing.assert_close(tokens, before, rtol=0, atol=0)
    torch.testing.assert_close(raw, torch.log_softmax(LOGITS[0], dim=0)[tokens], rtol=1e-6, atol=1e-6)
    assert (raw - logprobs).abs().max() > 0.05


def test_a_sampler_that_has_the_mode_stays(ascend_sampler):
    from rollout.vllm.worker import WeightSyncExtension

    sampler = ascend_sampler(logprobs_mode="processed_logprobs")
    worker = worker_of(sampler)
    WeightSyncExtension.pangu_keep_logprobs_mode(worker)
    assert worker.model_runner.sampler is sampler
