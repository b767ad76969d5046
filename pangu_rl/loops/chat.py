"""A model and a person: **messages and pictures -> one answer at a time**, by the engine that draws rollouts.

The engine runs in this process, without Ray and without a learner.
"""

from __future__ import annotations

import os
import warnings
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import xxhash

from pangu_rl.accelerators import Accelerator
from pangu_rl.accelerators.threads import threads_each
from pangu_rl.checkpoint.model_folder import model_config
from pangu_rl.config.sections.model import ModelConfig
from pangu_rl.config.sections.rollout import RolloutConfig
from pangu_rl.data.encoding import Encoder
from pangu_rl.data.fields.markers import IMAGE_PART
from pangu_rl.data.pictures import PictureFolder
from pangu_rl.errors import DataError
from pangu_rl.records import Completion, RolloutRequest, SamplingParams
from rollout.actors.actor import QUIET, engine_factory
from rollout.engine import Engine, EngineSpec

CONTEXT = 4096
"""Tokens of a conversation with its answer, where the model has as many positions."""
EVERYWHERE = "/"
"""Root of the pictures: the person at the terminal names them, no data row does."""


@dataclass(slots=True, kw_only=True)
class Chat:
    """A conversation that goes on until it is cleared."""

    encoder: Encoder
    pictures: PictureFolder
    engine: Engine
    context: int
    sampling: SamplingParams
    seed: int = 0
    system: str | None = None
    """What stands before the first turn; without it the chat template's own."""
    messages: list[dict] = field(default_factory=list)
    shown: list[str] = field(default_factory=list)
    """Paths of the pictures of all turns, below the root."""

    def ask(self, text: str, pictures: tuple[Path, ...] = ()) -> Completion:
        """The answer to `text`, which becomes part of the conversation; what fails does not.

        Raises:
            DataError: a picture that cannot be used, or no room is left for an answer.
        """
        parts = [*[IMAGE_PART] * len(pictures), {"type": "text", "text": text}]
        turn = {"role": "user", "content": parts if pictures or self.shown else text}
        said = [*([{"role": "system", "content": self.system}] if self.system else []), *self.messages, turn]
        shown = [*self.shown, *(str(path.resolve().relative_to(EVERYWHERE)) for path in pictures)]
        request = self._request(_in_parts(said) if shown else said, shown)
        answer = next(drawn for drawn in self.engine.generate([request]) if isinstance(drawn, Completion))
        self.messages += [turn, {"role": "assistant", "content": answer.text}]
        self.shown = shown
        return answer

    def clear(self) -> None:
        """Begin anew."""
        self.messages, self.shown = [], []

    def _request(self, messages: list[dict], shown: list[str]) -> RolloutRequest:
        row = self.encoder.prompt(messages, [self.pictures.load(path) for path in shown])
        room = self.context - len(row.token_ids)
        if room < 1:
            raise DataError(
                f"the conversation has {len(row.token_ids)} tokens and the engine {self.context}: begin anew"
            )
        turn = f"turn {len(messages)}"
        return RolloutRequest(
            uid=turn,
            group=turn,
            prompt_uid=turn,
            prompt_token_ids=tuple(row.token_ids),
            sampling=SamplingParams(
                temperature=self.sampling.temperature, max_new_tokens=min(self.sampling.max_new_tokens, room)
            ),
            seed=xxhash.xxh3_64_intdigest(f"{self.seed}/{turn}".encode()) & 0x7FFFFFFF,
            pictures=row.pictures,
        )


def open_chat(
    model: Path,
    accelerator: Accelerator,
    sampling: SamplingParams,
    *,
    system: str | None = None,
    dtype: str = "bfloat16",
    template: str | None = None,
    make: Callable[[EngineSpec], Engine] | None = None,
) -> Chat:
    """With the engine of the model folder `model` started; `make` makes another.

    Raises:
        UserError: a model folder that cannot be used, or that the engine does not take.
    """
    if make is None:  # before the engine's library is imported, and torch with it
        os.environ.update(QUIET | accelerator.rollout_env(threads_each(1)))
        warnings.filterwarnings("ignore", category=FutureWarning)
    config = model_config(model)
    positions = (config.get("text_config") or config).get("max_position_embeddings") or CONTEXT
    encoder = Encoder(model, template)
    spec = EngineSpec(
        model=ModelConfig(path=str(model), dtype=dtype),
        rollout=RolloutConfig(max_model_tokens=min(positions, CONTEXT), max_concurrent=1, prefix_caching=True),
        accelerator=accelerator,
        model_path=model,
        threads=threads_each(1),
        end_tokens=encoder.end_tokens,
    )
    return Chat(
        encoder=encoder,
        pictures=PictureFolder(EVERYWHERE, model, encoder.family, seed=None),
        engine=(make or engine_factory("vllm"))(spec),
        context=spec.rollout.max_model_tokens,
        sampling=sampling,
        system=system,
    )


def _in_parts(messages: list[dict]) -> list[dict]:
    """All contents as parts: a conversation is written one way or the other."""
    return [
        message
        if isinstance(message["content"], list)
        else {**message, "content": [{"type": "text", "text": message["content"]}]}
        for message in messages
    ]
