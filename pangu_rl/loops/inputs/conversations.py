"""The conversations of SFT, read and checked before anything is started or written."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from pangu_rl.config.paths import resolve_path
from pangu_rl.config.sections.data import SftDataConfig
from pangu_rl.config.sections.preference import DpoDataConfig
from pangu_rl.config.stages import SftConfig
from pangu_rl.data.conversations import Conversation, load_conversations, trained_conversation
from pangu_rl.data.drawn_rows import IndexedRows, ReadRows, StageRows, read_when_drawn
from pangu_rl.data.encoding import Encoder
from pangu_rl.data.files.rows import Loaded, checked
from pangu_rl.data.formats.reading import Reading
from pangu_rl.data.pictures import PictureFolder
from pangu_rl.loops.inputs.model import check_length, open_model
from pangu_rl.loops.inputs.problems import conversation_problem, with_sound_pictures
from pangu_rl.loops.mixture import mixture, shared
from pangu_rl.loops.pictures import RowLoader


@dataclass(frozen=True, slots=True, kw_only=True)
class SftInputs:
    """The conversations of a run."""

    loader: RowLoader
    train: StageRows[Conversation]


def read_sft_inputs(config: SftConfig) -> SftInputs:
    """Read the conversations.

    Raises:
        UserError: a file, a row, a picture or a model folder that cannot be used.
    """
    limit = config.data.max_tokens
    check_length(resolve_path(config.model.path), limit, "data.max_tokens")
    encoder, folder = open_model(config.model, config.data, config.trainer.seed)
    alone = not config.data.also and config.data.shares_by == "samples"
    if read_when_drawn(resolve_path(config.data.train), Reading.of(config.data), alone=alone):
        rows = indexed_conversations(config.data.train, config.data, encoder, folder).mixed(config.data.shares)
        return SftInputs(loader=RowLoader(encoder, folder, {}, notes=rows.notes()), train=rows)
    sizes: dict[str, int] = {}
    loaded = mixture(config.data, lambda path: read_conversations(path, config.data, encoder, folder, sizes))
    [train], loader = with_sound_pictures([loaded], encoder, folder)
    train = shared(train, config.data, sizes, loader)
    return SftInputs(loader=loader, train=ReadRows.of(train, loader.digests))


def indexed_conversations(
    path: str,
    data: SftDataConfig | DpoDataConfig,
    encoder: Encoder,
    folder: PictureFolder,
    passed_over: Callable[[Conversation], str | None] = lambda row: None,
) -> IndexedRows[Conversation]:
    """The rows of `path`, each read and judged when it is drawn."""
    problem, reading = conversation_problem(data, encoder, folder), Reading.of(data)

    def check(row: Conversation) -> str | None:
        return problem(row) or folder.audit([row]).problem(row)

    return IndexedRows.of(
        resolve_path(path),
        "conversation",
        on_bad_row=data.on_bad_row,
        parse=lambda row, uid: checked(trained_conversation(row, uid, reading), check),
        reading=reading,
        media_root=folder.root,
        passed_over=passed_over,
    )


def read_conversations(
    path: str,
    data: SftDataConfig | DpoDataConfig,
    encoder: Encoder,
    folder: PictureFolder,
    sizes: dict[str, int] | None = None,
) -> Loaded[Conversation]:
    """All rows of a file; `sizes` gets the tokens of each by its uid."""
    problem = conversation_problem(data, encoder, folder, sizes)
    return load_conversations(resolve_path(path), on_bad_row=data.on_bad_row, check=problem, reading=Reading.of(data))
