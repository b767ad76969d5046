"""The vLLM engine: one in-process `LLMEngine`, stepped by its actor. Requests -> **vLLM** -> completions.

Every completion is its own request with its own seed, so that with a fixed order of admission the sampled tokens are a
function of weights, prompts and seeds. Covers vLLM 0.23 to 0.33 by their common API.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, replace
from itertools import chain

import numpy as np
import torch
from vllm import RequestOutput
from vllm import SamplingParams as VllmSamplingParams
from vllm.inputs import TokensPrompt
from vllm.lora.request import LoRARequest
from vllm.sampling_params import RequestOutputKind

from pangu_rl.checkpoint.model_folder import model_config
from pangu_rl.errors import BrokenBroadcast, DataError, RunError, first_line
from pangu_rl.records import (
    CONTENT_TAGS,
    Completion,
    FinishReason,
    Picture,
    RolloutRequest,
    SamplingParams,
    Scorable,
    WeightManifest,
)
from pretrain.families import family_of, known_kinds
from rollout.engine import UNKNOWN_VERSION, Drawn, EngineSpec, Interrupted, Link, before_stop, seed_of
from rollout.intake import Intake
from rollout.pulse import Pulse
from rollout.vllm.refusal import REFUSED
from rollout.vllm.running import Running, gone_on
from rollout.vllm.start import start_engine
from rollout.vllm.worker import ADAPTER, BROKEN
from rollout.weights import check_digests, check_names, required_names

IN_PLACE = "in place"
"""In place of an adapter's folder, which is gone when requests name it."""


class VllmEngine:
    """Follows `rollout.engine.Engine`."""

    def __init__(self, spec: EngineSpec) -> None:
        self._spec = spec
        self._required = required_names(spec.model_path)
        self._family = family_of(model_config(spec.model_path), spec.model_path)
        self._version = 0
        self._adapter: LoRARequest | None = None
        self._without_cache = False
        if spec.eager:
            # vLLM compiles a few sampler functions even so, at 30 s and more of C++ compiler for a fresh cache.
            torch.compiler.set_stance("force_eager")
        self._llm = start_engine(spec)
        self._llm.collective_rpc("pangu_keep_logprobs_mode")
        if spec.accelerator.name == "cpu":
            self._llm.collective_rpc("pangu_use_cpu_sampler")
        self._tokenizer = self._llm.get_tokenizer()
        added = self._tokenizer.added_tokens_decoder.items()
        # Graders read the tags of contents, also of a tokenizer that lists them as special tokens.
        self._dropped = {i for i, token in added if token.special and token.content not in CONTENT_TAGS}

    @property
    def weight_version(self) -> int:
        return self._version

    def generate(self, requests: Sequence[RolloutRequest], intake: Intake | None = None) -> Iterator[Drawn]:
        self._need_cache()
        intake, pulse, running = intake or Intake(), Pulse(), Running(self._llm)
        if self._spec.rollout.prefix_caching:
            # What an earlier call left in the cache must not decide how this one's keys are rounded.
            self._llm.reset_prefix_cache()
        waves = self._waves(requests)
        while not intake.interrupted:
            waves += self._waves(intake.take())
            if waves:
                for request in waves.popleft():
                    self._begin(request)
                    running.add(request)
            elif not self._llm.has_unfinished_requests():
                if not intake.live:
                    break
                intake.wait()
                continue
            # One step computes a wave's prompts; the next wave finds them in the cache.
            for output in self._step():
                yield self._completion(*running.pop(output.request_id), output)
            if progress := pulse.progress(running.tokens):
                yield progress
        if intake.interrupted:
            yield from running.break_off(self._version)
            for request in [*chain.from_iterable(waves), *intake.take()]:
                yield Interrupted(uid=request.uid, begun=request.begun)
        elif running:
            raise RunError(f"vLLM ended without finishing {', '.join(running)}")

    def score(self, sequences: Sequence[Scorable]) -> list[list[float]]:
        self._need_cache()
        params = VllmSamplingParams(
            max_tokens=1, prompt_logprobs=0, detokenize=False, output_kind=RequestOutputKind.FINAL_ONLY
        )
        for index, sequence in enumerate(sequences):
            self._add(str(index), self._prompt(sequence.token_ids, sequence.pictures), params)
        outputs = {int(output.request_id): output for output in self._finished()}
        for index, sequence in enumerate(sequences):
            _check_prompt(f"sequence {index}", sequence.token_ids, outputs[index])
        return [_prompt_logprobs(outputs[index]) for index in range(len(sequences))]

    def load_weights(self, manifest: WeightManifest, link: Link | None = None) -> dict[str, str]:
        check_names(manifest, self._required)
        tensors = [asdict(tensor) for tensor in manifest.tensors]
        self._version = UNKNOWN_VERSION
        adapter = None if manifest.adapter is None else LoRARequest(ADAPTER, manifest.version, IN_PLACE)
        told = adapter and (adapter.lora_int_id, dict(manifest.adapter))
        if manifest.transport == "shm":
            call, args = "pangu_load_shm", (tensors, told, manifest.location)
        else:
            assert link is not None, "a broadcast needs the engine's ranks"
            group = (
                self._spec.accelerator.dist_backend,
                link.first_rank,
                link.world_size,
                self._spec.rollout.silence_s,
            )
            call, args = "pangu_load_broadcast", (tensors, told, manifest.location, *group)
        for digests in self._called(call, args):
            check_digests(manifest, digests)
        # The worker's reload drops none of the engine's own caches.
        self._llm.reset_prefix_cache()
        self._llm.reset_mm_cache()
        self._llm.reset_encoder_cache()
        self._version, self._adapter = manifest.version, adapter
        return digests

    def sleep(self, level: int) -> None:
        self._llm.reset_prefix_cache()
        self._llm.reset_encoder_cache()
        if level > 1:
            self._version = UNKNOWN_VERSION
        if self._spec.accelerator.sleep_args is None:
            self._llm.collective_rpc("pangu_sleep", args=(level,))
        else:
            self._llm.sleep(level)
        self._without_cache = True

    def wake(self) -> None:
        self._wake("weights")

    def _need_cache(self) -> None:
        """The last memory that a sleeper takes back, after a load of weights, which needs room of its own."""
        if self._without_cache:
            self._wake("kv_cache")
            self._without_cache = False

    def _wake(self, tag: str) -> None:
        if self._spec.accelerator.sleep_args is None:
            self._llm.collective_rpc("pangu_wake", args=(tag,))
        else:
            self._llm.wake_up([tag])

    def _called(self, call: str, args: tuple) -> list[dict[str, str]]:
        """The digests of every worker.

        Raises:
            BrokenBroadcast: a worker's own. Of one in another process vLLM gives the text alone, as a RuntimeError, and
                as a bare Exception where the engine's core is a process of its own, as is the rule on devices.
        """
        try:
            return self._llm.collective_rpc(call, args=args)
        except Exception as error:
            if BROKEN in str(error):
                raise BrokenBroadcast(first_line(error)) from error
            raise

    def _add(self, uid: str, prompt: TokensPrompt, params: VllmSamplingParams) -> None:
        try:
            self._llm.add_request(uid, prompt, params, lora_request=self._adapter)
        except REFUSED as error:
            raise RunError(f"{uid}: vLLM does not admit it: {error}") from error

    def _prompt(self, token_ids: Sequence[int], pictures: Sequence[Picture]) -> TokensPrompt:
        if not pictures:
            return TokensPrompt(prompt_token_ids=list(token_ids))
        if self._family is None:
            raise DataError(
                f"{pictures[0].path}: {self._spec.model_path} sees no pictures; those of {known_kinds()} are known"
            )
        data: dict[str, list[Picture]] = {}
        for picture, modality in zip(pictures, modalities(token_ids, pictures, self._family.modalities), strict=True):
            data.setdefault(modality, []).append(picture)
        return TokensPrompt(prompt_token_ids=list(token_ids), multi_modal_data=data)

    def _waves(self, requests: Sequence[RolloutRequest]) -> deque[list[RolloutRequest]]:
        """With prefix caching, the first request of every group before all others."""
        waves = deque([list(requests)])
        if self._spec.rollout.prefix_caching:
            leaders = {request.group: request.uid for request in reversed(requests)}
            waves = deque([[r for r in requests if (leaders[r.group] == r.uid) is leads] for leads in (True, False)])
        return deque(wave for wave in waves if wave)

    def _step(self) -> list[RequestOutput]:
        return [output for output in self._llm.step() if output.finished]

    def _finished(self) -> Iterator[RequestOutput]:
        while self._llm.has_unfinished_requests():
            yield from self._step()

    def _begin(self, request: RolloutRequest) -> None:
        prompt = self._prompt(_read(request), request.pictures)
        begun = len(request.begun.token_ids) if request.begun else 0
        sampling = replace(request.sampling, max_new_tokens=request.sampling.max_new_tokens - begun)
        self._add(request.uid, prompt, _sampling(sampling, seed_of(request), self._spec.end_tokens))

    def _completion(self, request: RolloutRequest, since: float, output: RequestOutput) -> Completion:
        _check_prompt(request.uid, _read(request), output)
        drawn = output.outputs[0]
        answer = gone_on(request, drawn.token_ids, drawn.logprobs, self._version)
        return Completion(
            uid=request.uid,
            group=request.group,
            prompt_uid=request.prompt_uid,
            token_ids=answer.token_ids,
            logprobs=answer.logprobs,
            text=before_stop(
                self._tokenizer.decode([index for index in answer.token_ids if index not in self._dropped]),
                request.sampling.stop,
            ),
            finish_reason=FinishReason(drawn.finish_reason),
            weight_versions=answer.weight_versions,
            seconds=time.monotonic() - since,
        )


def modalities(token_ids: Sequence[int], pictures: Sequence[Picture], known: Mapping[str, int]) -> list[str]:
    """`image` or `video` for each picture, by the placeholder that its run in the prompt [T] begins with; `known` has
    the placeholder of each.

    Raises:
        DataError: the prompt has fewer placeholders than the pictures have tokens; names both numbers.
    """
    ids, names = np.asarray(token_ids), {token: modality for modality, token in known.items()}
    placeholders = ids[np.isin(ids, list(names))]
    ends = np.cumsum([picture.tokens for picture in pictures])
    if ends[-1] > len(placeholders):
        raise DataError(
            f"{', '.join(picture.path for picture in pictures)}: {ends[-1]} tokens for the {len(placeholders)} "
            "placeholders of the prompt"
        )
    starts = [0, *ends[:-1]]
    return [names[int(placeholders[start])] for start in starts]


def _read(request: RolloutRequest) -> tuple[int, ...]:
    """What the engine reads before it draws: the prompt, and what is drawn already."""
    return request.prompt_token_ids + (request.begun.token_ids if request.begun else ())


def _check_prompt(name: str, token_ids: Sequence[int], output: RequestOutput) -> None:
    """What the engine saw must be what the learner will train on."""
    if list(token_ids) != list(output.prompt_token_ids):
        raise RunError(
            f"{name}: the engine read another prompt of {len(output.prompt_token_ids)} tokens than the "
            f"{len(token_ids)} that were sent: its placeholders do not match its pictures"
        )


def _sampling(params: SamplingParams, seed: int, end_tokens: Sequence[int]) -> VllmSamplingParams:
    return VllmSamplingParams(
        temperature=params.temperature,
        top_p=params.top_p,
        top_k=params.top_k,
        max_tokens=params.max_new_tokens,
        ignore_eos=params.ignore_eos,
        allowed_token_ids=list(params.allowed_token_ids) or None,
        # A template may close turns with another token than the model folder's end of sequence.
        stop_token_ids=[] if params.ignore_eos else list(end_tokens),
        stop=list(params.stop),
        seed=seed,
        # The sampled token's own log-prob and no others.
        logprobs=0,
        flat_logprobs=True,
        # Text is decoded once at the end, but where it is looked at on the way for strings that end it.
        detokenize=bool(params.stop),
        output_kind=RequestOutputKind.FINAL_ONLY,
    )


def _prompt_logprobs(output: RequestOutput) -> list[float]:
    ids, logprobs = output.prompt_token_ids, output.prompt_logprobs
    return [position[token].logprob for position, token in zip(logprobs[1:], ids[1:], strict=True)]
