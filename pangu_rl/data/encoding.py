"""Messages and pictures -> **token ids, their positions, and which tokens are trained**: what engine and learner read.

The chat template writes one placeholder per image part; here it becomes one per token of the picture. Text that spells
a placeholder is text, for the template's guard breaks it before it is rendered.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from pangu_rl.checkpoint.model_folder import end_of_sequence, model_config
from pangu_rl.data.chat.turns import Message
from pangu_rl.data.chat_template import ChatTemplate
from pangu_rl.data.documents import Place
from pangu_rl.data.images import with_image_parts
from pangu_rl.data.packs.batching import PairRow
from pangu_rl.data.packs.layout import TrainingRow
from pangu_rl.data.pairs import Pair
from pangu_rl.errors import DataError
from pangu_rl.records import Picture
from pretrain.families import family_of


class Encoder:
    """Rows -> ids under one model's tokenizer, template and vision tokens."""

    def __init__(self, model_path: Path, template: str | None = None, *, trust_remote_code: bool = False) -> None:
        """See `ChatTemplate`.

        Raises:
            UserError: a model folder, tokenizer or template that cannot be used.
        """
        config = model_config(model_path)
        self._path = model_path
        self.family = family_of(config, model_path)
        """None for a text model."""
        self._vocabulary: int | None = (config.get("text_config") or config).get("vocab_size")
        self.template = ChatTemplate(model_path, template, trust_remote_code=trust_remote_code)

    @property
    def placeholders(self) -> frozenset[int]:
        """Ids of the tokens that pictures stand for."""
        return self.family.placeholders if self.family else frozenset()

    @property
    def end_tokens(self) -> tuple[int, ...]:
        """What ends an answer: the token that the template closes the assistant's turn with, and every end of sequence
        that the model folder and the tokenizer name."""
        named = {*end_of_sequence(self._path), self.template.tokenizer.eos_token_id, self.template.end_token}
        return tuple(sorted(index for index in named if index is not None))

    def prompt(
        self, messages: Sequence[Message], pictures: Sequence[Picture] = (), tools: Sequence[Message] = ()
    ) -> TrainingRow:
        """The conversation so far, ending where the assistant is to go on; nothing is trained.

        Only the grids of `pictures` are read.

        Raises:
            DataError: the template refuses the messages, or writes another number of placeholders than of pictures.
        """
        ids = self.template.encode_prompt(with_image_parts(messages, len(pictures)), tools)
        return self._row(ids, (False,) * len(ids), pictures)

    def conversation(
        self, messages: Sequence[Message], pictures: Sequence[Picture] = (), tools: Sequence[Message] = ()
    ) -> TrainingRow:
        """A whole conversation; what the assistant writes is trained.

        Raises:
            DataError: as `prompt`, or the template rewrites earlier turns when later ones follow.
        """
        shown = with_image_parts(messages, len(pictures))
        return self._row(*self.template.encode_conversation(shown, tools), pictures=pictures)

    def pair(self, pair: Pair, pictures: Sequence[Picture] = ()) -> PairRow:
        """A prompt with two answers to it; all that the assistant writes in them is trained, nothing of the prompt.

        Raises:
            DataError: as `prompt`, or the template writes earlier turns differently when the answer follows.
        """
        shown = with_image_parts(pair.messages, len(pictures))
        return PairRow(
            prompt=self.prompt(pair.messages, pictures, pair.tools),
            chosen=self._response(shown, pair.chosen, tools=pair.tools),
            rejected=self._response(shown, pair.rejected, ended=pair.rejected_ended, tools=pair.tools),
        )

    def document(self, parts: Sequence[str | Place], pictures: Sequence[Picture] = ()) -> TrainingRow:
        """Text without a template, pictures and videos between their marks; the text and its end are trained.

        Text that spells a special token is text.
        """
        tokenizer = self.template.tokenizer
        ids = list(tokenizer("")["input_ids"])
        trained = [False] * len(ids)
        for part in parts:
            if isinstance(part, Place):
                placeholder = self.family.modalities[part.value]
                new = [placeholder if index in self.placeholders else index for index in self.family.written]
            else:
                new = tokenizer(part, add_special_tokens=False, split_special_tokens=True)["input_ids"]
            ids += new
            trained += [isinstance(part, str)] * len(new)
        if tokenizer.eos_token_id is not None:
            ids.append(tokenizer.eos_token_id)
            trained.append(True)
        return self._row(tuple(ids), tuple(trained), pictures)

    def _response(self, shown: Sequence[Message], answer: str | Message, **how: Any) -> tuple[int, ...]:
        ids = self.template.encode_response(shown, answer, **how)
        self._require_known(ids)
        return ids

    def _require_known(self, ids: Sequence[int]) -> None:
        """
        Raises:
            DataError: an id that the model has no row for: its tokenizer has gained tokens, its embeddings have not.
        """
        if self._vocabulary is not None and ids and (largest := max(ids)) >= self._vocabulary:
            raise DataError(
                f"has id {largest} ({self.template.tokenizer.convert_ids_to_tokens(largest)!r}), the model has "
                f"{self._vocabulary} rows: take the tokenizer of the model, or one with its embeddings resized"
            )

    def _row(self, ids: tuple[int, ...], trained: tuple[bool, ...], pictures: Sequence[Picture]) -> TrainingRow:
        self._require_known(ids)
        if self.family is None:
            return TrainingRow(token_ids=ids, trained=trained)
        grids = [picture.grid for picture in pictures]
        expanded, lengths = self.family.expanded(ids, grids)
        return TrainingRow(
            token_ids=tuple(expanded.tolist()),
            trained=tuple(np.repeat(np.asarray(trained, dtype=bool), lengths).tolist()),
            positions=self.family.positions(expanded, grids),
            pictures=tuple(pictures),
        )
