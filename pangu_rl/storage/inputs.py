"""What a stage reads of object storage -> **local copies before it starts**; media are fetched when they are due."""

from __future__ import annotations

import os
from typing import Any

from pangu_rl.config.inputs import inputs_of
from pangu_rl.config.paths import is_address, resolve_path
from pangu_rl.errors import ConfigError
from pangu_rl.storage.copies import bring, has_folder
from pangu_rl.storage.space import BOUND


def bring_inputs(stage: str, config: Any) -> None:
    """Fetch rows, labels and plans that a stage's configuration names by address, and look for its media root.

    Raises:
        ConfigError: a model folder by address, no folder at the media root; as `bring`. DataError: as `bring`.
    """
    remote = [one for one in inputs_of(stage, config) if is_address(one.path)]
    for one in remote:
        if "model" in one.formats:
            raise ConfigError(f"{one.key} {one.path}: models are read from disk: copy the folder, and name the copy")
    if not remote:
        return
    os.environ[BOUND] = str(int(config.cluster.remote_cache_gib * 2**30))
    for one in remote:
        if one.formats == ("media",) and not has_folder(resolve_path(one.path)):
            raise ConfigError(f"{one.key} {one.path}: no folder in its storage")
    bring([resolve_path(one.path) for one in remote if one.formats != ("media",)])
