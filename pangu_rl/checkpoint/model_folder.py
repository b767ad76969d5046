"""A Hugging Face model folder as the user names it: is it one at all, before anything heavy looks into it?"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from pangu_rl.errors import DataError


def model_config(path: Path) -> dict[str, Any]:
    """`config.json` of the model folder `path`, which also holds weights.

    Raises:
        DataError: no such folder, no configuration that can be read, or no weights in it.
    """
    if not path.is_dir():
        raise DataError(f"model.path {path}: no such folder; `make setup` prepares the cache:// models")
    try:
        config = json.loads((path / "config.json").read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise DataError(f"model.path {path}: no config.json in it; give a Hugging Face model folder") from None
    except ValueError as error:
        raise DataError(f"model.path {path}: its config.json is not JSON: {error}") from None
    if not any(path.glob("*.safetensors")):
        raise DataError(f"model.path {path}: no weights, the folder has no .safetensors file")
    return config
