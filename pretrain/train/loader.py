"""Pack orders of a rank -> rows read, pictures decoded -> **packs**, with what the global batch needs to count.

The only place of pre-training that opens a row or a picture: a row when its size is asked for or when its pack is due,
and its pictures when its pack is due. A row is encoded once, unless a restart lies between the two.
Letters: T tokens, J samples.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, fields, replace
from itertools import islice
from types import MappingProxyType

import numpy as np

from pangu_rl.config.paths import resolve_path
from pangu_rl.config.pretrain import PretrainConfig
from pangu_rl.data.conversations import Conversation
from pangu_rl.data.documents import Document
from pangu_rl.data.encoding import Encoder
from pangu_rl.data.files.row_files import RowFiles
from pangu_rl.data.media.views import View
from pangu_rl.data.mixing.seen import Seen
from pangu_rl.data.packs.batching import empty_pack, pack_conversations, root_count
from pangu_rl.data.packs.layout import TrainingRow
from pangu_rl.data.packs.micro_batches import merge_packs
from pangu_rl.data.pictures import FileSize, PictureFolder, in_threads
from pangu_rl.errors import ConfigError, DataError
from pangu_rl.learner.measure.flops import ModelFlops, Work, loaded_config
from pangu_rl.loops.decoding import decode_bounded
from pangu_rl.records import Pack, Picture
from pretrain.families.family import Family
from pretrain.families.pangu import Pangu
from pretrain.models.positions import Grid
from pretrain.packing.online import StreamSample
from pretrain.processing.media_root import named
from pretrain.processing.resize import PixelLimits
from pretrain.train.order import PackOrder
from pretrain.train.sources import Sources


@dataclass(frozen=True, slots=True)
class FoundRow:
    """A row and what it shows, without pixels."""

    row: Conversation | Document | TrainingRow
    """As it is read, or encoded with the outlines of its views."""
    views: tuple[View, ...]


NOTHING_KEPT: Mapping[int, FoundRow] = MappingProxyType({})


@dataclass(slots=True)
class Counts:
    """Of the packs of a rank; those of all ranks add up."""

    packs: int = 0
    """Of the orders, those without a usable row among them."""
    tokens: int = 0
    """Of the sequences, pictures with them."""
    targets: int = 0
    sequences: int = 0
    roots: float = 0.0
    """Sum over the sequences of the root of their targets."""
    skipped: list[str] = field(default_factory=list)
    """A line (file, row, reason) for each row left out."""
    rows: list[str] = field(default_factory=list)
    """Where each of the others stands: file and row."""
    seen: Seen = field(default_factory=Seen)
    """By source, or by what the shares name."""

    def __add__(self, other: Counts) -> Counts:
        return Counts(*(getattr(self, own.name) + getattr(other, own.name) for own in fields(self)))


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
        self.folder = PictureFolder(
            config.data.media_root, path, self.encoder.family, seed=config.trainer.seed, decode=decode_bounded
        )
        if (limits := PixelLimits.of(config.data)) is not None:
            self.folder.limits = limits
        self.context = config.learner.pack_tokens
        self.visual_tokens = config.data.visual_tokens
        self._sources = Sources(files, config.data)
        self.skips = config.data.on_bad_row == "skip"
        self._axes = () if self.encoder.family is None else self.encoder.family.axes
        shape = loaded_config(path, config.model.trust_remote_code)
        self._flops = ModelFlops.of(shape)
        self._positions = getattr(shape.get_text_config(), "max_position_embeddings", None) or self.context
        self._trained, self._adapted = config.learner.trainable, config.learner.lora is not None

    def sizes(self, index: int) -> tuple[int, tuple[Grid, ...], list[FileSize]]:
        """(tokens, grids of the pictures, sizes of their files) of a row, each header read once.

        Raises:
            DataError: the row or a picture cannot be used; names file and row.
        """
        found, files = self._outlined(index)
        return len(found.row.token_ids), tuple(picture.grid for picture in found.row.pictures), files

    def measure(self, rows: Sequence[int]) -> tuple[list[StreamSample | str], dict[int, FoundRow]]:
        """Each row as the packer sees it, or why it cannot be used; and the sound ones as `load` takes them, encoded
        and with the outlines of their pictures.

        Raises:
            ConfigError: a row needs what the configuration lacks.
        """
        samples: list[StreamSample | str] = []
        encoded: dict[int, FoundRow] = {}
        for index in rows:
            try:
                found, _ = self._outlined(index)
                samples.append(self._sample(index, found.row))
            except DataError as error:
                samples.append(str(error))
                continue
            ids, trained = np.asarray(found.row.token_ids, np.int32), np.asarray(found.row.trained, bool)
            encoded[index] = replace(found, row=replace(found.row, token_ids=ids, trained=trained))
        return samples, encoded

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

    def load_merged(
        self, shared: Sequence[Sequence[PackOrder]], kept: Mapping[int, FoundRow] = NOTHING_KEPT
    ) -> tuple[list[Pack], Counts]:
        """As `load`, the packs of each micro-batch merged; empty for one without a usable row."""
        packs, counts = self.load([order for orders in shared for order in orders], kept)
        left = iter(packs)
        full = [[pack for pack in islice(left, len(orders)) if len(pack.targets)] for orders in shared]
        return [merge_packs(own) if own else empty_pack(axes=self._axes) for own in full], counts

    def load(
        self, orders: Sequence[PackOrder], kept: Mapping[int, FoundRow] = NOTHING_KEPT
    ) -> tuple[list[Pack], Counts]:
        """A pack for every order, empty for one without a usable row; rows are read unless `measure` has `kept` them.

        Raises:
            DataError: under `refuse`, a row that cannot be used or that does not fit into its pack.
        """
        counts = Counts(packs=len(orders))
        rows = {index: kept.get(index) or self._read(index) for order in orders for index in order.rows}
        pictures = self._decoded(rows.values())
        return [self._pack(order, rows, pictures, counts) for order in orders], counts

    def _pack(
        self,
        order: PackOrder,
        read: Mapping[int, FoundRow | DataError],
        pictures: Mapping[View, Picture | DataError],
        counts: Counts,
    ) -> Pack:
        rows: list[TrainingRow] = []
        used = 0
        for index in order.rows:
            try:
                row = self._row(index, read[index], pictures)
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
            counts.rows.append(str(self.files.index.place(index)))
            counts.seen.count(self._sources.of(index), len(row.token_ids))
        packs = pack_conversations(rows, self.context, self.encoder.placeholders)
        if not packs:
            return empty_pack(axes=self._axes)
        [pack] = packs
        counts.tokens += pack.num_tokens
        counts.targets += len(pack.targets)
        counts.sequences += len(np.unique(pack.sequence_ids))
        counts.roots += root_count(packs)
        return pack

    def _read(self, index: int) -> FoundRow | DataError:
        try:
            row = self.files.read(index)
            with self._placed(index):
                return FoundRow(row, tuple(self.folder.views(row)))
        except DataError as error:
            return error

    def _decoded(self, rows: Iterable[FoundRow | DataError]) -> dict[View, Picture | DataError]:
        """Every view of the rows, each once, or what is wrong with it."""
        views = list(dict.fromkeys(view for row in rows if not isinstance(row, DataError) for view in row.views))
        return dict(zip(views, in_threads(self._picture, views), strict=True))

    def _picture(self, view: View) -> Picture | DataError:
        try:
            return self.folder.shown(view)
        except DataError as error:
            return error

    def _row(
        self,
        index: int,
        found: FoundRow | DataError,
        pictures: Mapping[View, Picture | DataError],
    ) -> TrainingRow:
        if isinstance(found, DataError):
            raise found
        row, shown = found.row, [pictures[view] for view in found.views]
        with self._placed(index):
            if problem := next((picture for picture in shown if isinstance(picture, DataError)), None):
                raise problem
            if not isinstance(row, TrainingRow):
                return self._encoded(row, shown)
            for picture, outline in zip(shown, row.pictures, strict=True):
                if picture.grid != outline.grid:
                    raise DataError(
                        f"{named(picture.path)} has {picture.grid} patches and had {outline.grid} when its row was "
                        "measured: it was changed meanwhile"
                    )
            return replace(row, pictures=tuple(shown))

    def _outlined(self, index: int) -> tuple[FoundRow, list[FileSize]]:
        """With what the headers of its pictures and videos say of them, and these; raises as `sizes`."""
        row = self.files.read(index)
        with self._placed(index):
            views = tuple(self.folder.views(row))
            sizes = [self.folder.size(view) for view in views]
            outlines = list(map(self.folder.outlined, views, sizes))
            return FoundRow(self._encoded(row, outlines), views), sizes

    @contextmanager
    def _placed(self, index: int) -> Iterator[None]:
        """What is wrong with a row is said with its place."""
        try:
            yield
        except (DataError, ConfigError) as error:
            raise type(error)(f"{self.files.where(index)}: {error}") from None

    def _sample(self, index: int, row: TrainingRow) -> StreamSample:
        """
        Raises:
            DataError: it fits into no pack.
        """
        areas = [(frames, rows * columns) for frames, rows, columns in (picture.grid for picture in row.pictures)]
        tokens, visual = len(row.token_ids), sum(picture.tokens for picture in row.pictures)
        if tokens > self.context:
            raise DataError(
                f"{self.files.where(index)}: {tokens} tokens are longer than a pack, learner.pack_tokens {self.context}"
            )
        if self.visual_tokens is not None and visual > self.visual_tokens:
            raise DataError(
                f"{self.files.where(index)}: {visual} visual tokens are more than a pack may have, data.visual_tokens "
                f"{self.visual_tokens}"
            )
        pairs, patches = (sum(frames * area**power for frames, area in areas) for power in (2, 1))
        return StreamSample(index, tokens, visual, pairs, patches)

    def _encoded(self, row: Conversation | Document, pictures: Sequence[Picture]) -> TrainingRow:
        if isinstance(row, Document):
            encoded = self.encoder.document(row.parts, pictures)
        else:
            encoded = self.encoder.conversation(row.messages, pictures, row.tools)
        if (length := len(encoded.token_ids)) > self._positions:
            raise DataError(f"{length} tokens, the model has {self._positions} positions")
        return encoded
