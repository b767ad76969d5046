"""The model that GRPO starts from: `model.path` itself, or a short SFT of it, made once and cached."""

from __future__ import annotations

import hashlib
import logging
import shutil
from pathlib import Path

from pangu_rl.checkpoint.model_folder import companion_digest, model_checksum
from pangu_rl.checkpoint.run_model import with_start
from pangu_rl.checkpoint.step_folders import step_folders
from pangu_rl.checkpoint.whole_folder import whole_folder
from pangu_rl.checkpoint.whole_model import whole_model
from pangu_rl.config.load import config_digest, load_config
from pangu_rl.config.paths import cache_root, resolve_path
from pangu_rl.config.stages import GrpoConfig, SftConfig
from pangu_rl.errors import ConfigError
from pangu_rl.loops.pictures import picture_lines
from pangu_rl.loops.row_files import row_files
from pangu_rl.loops.supervised.run_sft import run_sft

log = logging.getLogger(__name__)


def start_model(config: GrpoConfig) -> Path:
    """Folder of the start. An SFT start lies in the cache under the hash of its configuration and data, whatever the
    run directory and the number of GRPO steps; an interrupted one resumes.

    Raises:
        ConfigError: the SFT starts from another model than `model.path`.
    """
    if config.start is None:
        return resolve_path(config.model.path)
    sft = load_config(SftConfig, config.start.sft_config)
    sft = with_start(sft)
    if resolve_path(sft.model.path) != resolve_path(config.model.path):
        raise ConfigError(
            f"start.sft_config {config.start.sft_config} starts from {sft.model.path}, model.path is "
            f"{config.model.path}: make them the same"
        )
    home = cache_root() / "starts" / start_identity(sft)
    model = home / "model"
    if not model.is_dir():
        log.info("no SFT start in %s yet: training it", home)
        trainer = sft.trainer.model_copy(update={"run_dir": str(home / "run")})
        run_sft(sft.model_copy(update={"trainer": trainer, "cluster": config.cluster}))
        newest = step_folders(home / "run")[-1]
        with whole_folder(model) as partial:
            shutil.copytree(whole_model(newest), partial, dirs_exist_ok=True)
    return model


def start_identity(sft: SftConfig) -> str:
    """Hash of all that decides the start's weights: configuration, base model with its tokenizer, template and
    processor, bytes of training rows and pictures."""
    anywhere = sft.model_copy(update={"trainer": sft.trainer.model_copy(update={"run_dir": ""})})
    digest = hashlib.sha256(config_digest(anywhere).encode())
    base = resolve_path(sft.model.path)
    if (base / "config.json").is_file():
        digest.update(model_checksum(base).encode())
        digest.update(companion_digest(base).encode())
    if sft.model.chat_template is not None and resolve_path(sft.model.chat_template).is_file():
        digest.update(resolve_path(sft.model.chat_template).read_bytes())
    named = [row_files(name) for name in (sft.data.train, *(file.path for file in sft.data.also))]
    for described in (file for files in named for file in files[:-1]):
        digest.update(described.read_bytes())
    for data in (files[-1] for files in named):
        for file in [data] if data.is_file() else sorted(file for file in data.rglob("*") if file.is_file()):
            with file.open("rb") as rows:
                digest.update(hashlib.file_digest(rows, "sha256").digest())
        if sft.data.media_root is not None and data.exists():
            for line in picture_lines(data, resolve_path(sft.data.media_root), sft.data.columns.items()):
                digest.update(line.encode())
    return digest.hexdigest()[:16]
