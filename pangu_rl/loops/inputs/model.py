"""The model folder of a run's rows: what they are encoded with, and how long they may be."""

from __future__ import annotations

from pathlib import Path

from pangu_rl.checkpoint.model_folder import model_config
from pangu_rl.config.paths import resolve_path
from pangu_rl.config.sampling import QueryDataConfig
from pangu_rl.config.sections.data import DataConfig, SftDataConfig
from pangu_rl.config.sections.model import ModelConfig
from pangu_rl.config.sections.preference import DpoDataConfig
from pangu_rl.data.encoding import Encoder
from pangu_rl.data.pictures import PictureFolder
from pangu_rl.errors import ConfigError
from pangu_rl.loops.decoding import decode_bounded


def open_model(
    model: ModelConfig, data: DataConfig | SftDataConfig | DpoDataConfig | QueryDataConfig, seed: int | None
) -> tuple[Encoder, PictureFolder]:
    """What rows are encoded with, and the folder of their pictures; `seed` as in `PictureFolder`."""
    path = resolve_path(model.path)
    encoder = Encoder(path, model.chat_template, trust_remote_code=model.trust_remote_code)
    named = [getattr(data, key, None) for key in ("train", "queries")]
    rows = [resolve_path(file) for file in named if file is not None]
    return encoder, PictureFolder(data.media_root, path, encoder.family, seed=seed, rows=rows, decode=decode_bounded)


def check_length(model: Path, tokens: int, key: str) -> None:
    """Refuse sequences longer than the positions that the model was made for.

    Raises:
        DataError: no model folder. ConfigError: `tokens` exceeds `max_position_embeddings`.
    """
    config = model_config(model)
    positions = (config.get("text_config") or config).get("max_position_embeddings")
    if positions is not None and tokens > positions:
        raise ConfigError(f"{key} is {tokens}, the model in {model} has {positions} positions: lower {key} to that")
