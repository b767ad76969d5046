"""Pack orders of a rank -> rows read, pictures decoded -> **packs**, with what the global batch needs to count.

The only place of pre-training that opens a row or a picture, and only when its pack is due.
Letters: T tokens, J samples.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import islice

import numpy as np

from pangu_rl.config.paths import resolve_path
from pangu_rl.config.pretrain import PretrainConfig
from pangu_rl.data.batching import empty_pack, pack_conversations, root_count
from pangu_rl.data.conversations import Conversation
from pangu_rl.data.documents import Document
from pangu_rl.data.encoding import Encoder
from pangu_rl.data.layout import TrainingRow
from pangu_rl.data.micro_batches import merge_packs
from pangu_rl.data.pictures import PictureFolder, in_threads
from pangu_rl.data.row_files import RowFiles
from pangu_rl.errors import ConfigError, DataError
from pangu_rl.learner.measure.flops import ModelFlops, Work, loaded_config
from pangu_rl.records import Pack, Picture
from pretrain.families.family import Family
from pretrain.families.pangu import Pangu
from pretrain.processing.resize import PixelLimits
from pretrain.train.order import PackOrder


@dataclass(slots=True)
class Counts:
    """Of the packs of a rank; those of all ranks add up."""

    tokens: int = 0
    """Of the sequences, pictures with them."""
    targets: int = 0
    sequences: int = 0
    roots: float = 0.0
    """Sum over the sequences of the root of their targets."""
    skipped: list[str] = field(default_factory=list)
    """A line (file, row, reason) for each row left out."""
    sources: Counter[str] = field(default_factory=Counter)
    """Samples by source."""

    def __add__(self, other: Counts) -> Counts:
        return Counts(
            tokens=self.tokens + other.tokens,
            targets=self.targets + other.targets,
            sequences=self.sequences + other.sequences,
            roots=self.roots + other.roots,
            skipped=self.skipped + other.skipped,
            sources=self.sources + other.sources,
        )


def require_plannable(family: Family | None) -> None:
    """
    Raises:
        ConfigError: plans of packs are made by other sizes than the family's.
    """
    if family is not None and not isinstance(family, Pangu):
        kind = family.config["model_type"]
        raise ConfigError(f"plans know the pictures of openPangu-VL and MindVL, not those of {kind}: pack online")


class PackLoader:
    """Reads, encodes and packs what it is told to."""

    def __init__(self, config: PretrainConfig, files: RowFiles) -> None:
        """
        Raises:
            UserError: a model folder or media root that cannot be used.
        """
        path = resolve_path(config.model.path)
        self.files = files
        self.encoder = Encoder(path, config.model.chat_template, trust_remote_code=config.model.trust_remote_code)
        self.folder = PictureFolder(config.data.media_root, path, self.encoder.family)
        if config.data.min_pixels is not None and config.data.max_pixels is not None:
            self.folder.limits = PixelLimits(config.data.min_pixels, config.data.max_pixels)
        self.context = config.learner.pack_tokens
        self.skips = config.data.on_bad_row == "skip"
        self._axes = () if self.encoder.family is None else self.encoder.family.axes
        shape = loaded_config(path, config.model.trust_remote_code)
        self._flops = ModelFlops.of(shape)
        self._positions = getattr(shape.get_text_config(), "max_position_embeddings", None) or self.context
        self._trained, self._adapted = config.learner.trainable, config.learner.lora is not None

    def sizes(self, index: int) -> tuple[int, tuple[tuple[int, int, int], ...]]:
        """(tokens, grids of the pictures) of a row, from the headers of its pictures.

        Raises:
            DataError: the row or a picture cannot be used; names file and row.
        """
        row = self.files.read(index)
        try:
            pictures = [self.folder.outline(path) for path in row.images]
            length = len(self._encoded(row, pictures).token_ids)
        except DataError as error:
            raise DataError(f"{self.files.where(index)}: {error}") from None
        except ConfigError as error:
            raise ConfigError(f"{self.files.where(index)}: {error}") from None
        return length, tuple(picture.grid for picture in pictures)

    def cost(self, tokens: int, token_pairs: float, patches: int, patch_pairs: float) -> float:
        """FLOPs of training on a pack of such sizes, every token of it a target."""
        near = token_pairs if self._flops.window is None else min(token_pairs, tokens * self._flops.window)
        work = Work(
            tokens=tokens,
            targets=tokens,
            pairs=token_pairs,
            near_pairs=near,
            patches=patches,
            patch_pairs=patch_pairs,
        )
        return self._flops.of_work(work, self._trained, self._adapted)

    def load_merged(self, shared: Sequence[Sequence[PackOrder]]) -> tuple[list[Pack], Counts]:
        """As `load`, the packs of each micro-batch merged; empty for one without a usable row."""
        packs, counts = self.load([order for orders in shared for order in orders])
        left = iter(packs)
        full = [[pack for pack in islice(left, len(orders)) if len(pack.targets)] for orders in shared]
        return [merge_packs(own) if own else empty_pack(axes=self._axes) for own in full], counts

    def load(self, orders: Sequence[PackOrder]) -> tuple[list[Pack], Counts]:
        """A pack for every order, empty for one without a usable row.

        Raises:
            DataError: under `refuse`, a row that cannot be used or that does not fit into its pack.
        """
        counts = Counts()
        return [self._pack(order, counts) for order in orders], counts

    def _pack(self, order: PackOrder, counts: Counts) -> Pack:
        rows: list[TrainingRow] = []
        used = 0
        for index in order.rows:
            try:
                row = self._row(index)
                if used + len(row.token_ids) > self.context:
                    raise DataError(
                        f"{self.files.where(index)}: {len(row.token_ids)} tokens behind {used} others exceed the "
                        f"{self.context} of learner.pack_tokens: the sizes that the pack was planned by are other ones"
                    )
            except DataError as error:
                if not self.skips:
                    raise DataError(f"{error} (mend it, or set data.on_bad_row to skip)") from None
                counts.skipped.append(str(error))
                continue
            rows.append(row)
            used += len(row.token_ids)
            counts.sources[self.files.source(index)] += 1
        packs = pack_conversations(rows, self.context, self.encoder.placeholders)
        if not packs:
            return empty_pack(axes=self._axes)
        [pack] = packs
        counts.tokens += pack.num_tokens
        counts.targets += len(pack.targets)
        counts.sequences += len(np.unique(pack.sequence_ids))
        counts.roots += root_count(packs)
        return pack

    def _row(self, index: int) -> TrainingRow:
        row = self.files.read(index)
        try:
            return self._encoded(row, list(in_threads(self.folder.load, row.images)))
        except DataError as error:
            raise DataError(f"{self.files.where(index)}: {error}") from None

    def _encoded(self, row: Conversation | Document, pictures: Sequence[Picture]) -> TrainingRow:
        if isinstance(row, Document):
            encoded = self.encoder.document(row.parts, pictures)
        else:
            encoded = self.encoder.conversation(row.messages, pictures, row.tools)
        if (length := len(encoded.token_ids)) > self._positions:
            raise DataError(f"{length} tokens, the model has {self._positions} positions")
        return encoded
