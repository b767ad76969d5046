"""What must not stand in a configuration, since that is copied, logged and shown: **keys, and what is one**."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from pangu_rl.errors import ConfigError

SECRETS = "PANGU_RL_SECRETS"
"""In the job's environment: names of the variables that must be there, never their values."""

_NAME = re.compile(
    r"(?:^|[_\W])(?:(?:api|access|secret|private|account|encryption|signing)_?key|key|(?:auth|bearer|session)?token|secrets?|"
    r"pass|passwd|pwd|(?:[a-z]+)?password|passphrase|credentials?|auth|authorization|cookie|dsn|connection_?string)(?:$|\W)"
    r"|(?:^|_)(?:key|token|secret|passw(?:or)?d|credentials?)_",
    re.IGNORECASE,
)
_HUMP = re.compile(r"(?<=[a-z0-9])(?=[A-Z])")
"""Where `apiToken` is `api_token`."""
_VALUE = re.compile(
    r"://[^/\s:@]*:[^/\s@]+@"  # a user and a password in an address
    r"|\b(?:sk|pk|rk)-[A-Za-z0-9_-]{16,}|\bhf_[A-Za-z0-9]{16,}|\bgh[pousr]_[A-Za-z0-9]{16,}|\bglpat-[A-Za-z0-9_-]{16,}"
    r"|\bAKIA[0-9A-Z]{16}\b|\bxox[abpr]-[A-Za-z0-9-]{10,}|\bBearer\s+[A-Za-z0-9._~+/-]{8,}"
    r"|\bASIA[0-9A-Z]{16}\b|\bAIza[A-Za-z0-9_-]{30,}|\bya29\.[A-Za-z0-9_-]{16,}|\bgithub_pat_[A-Za-z0-9_]{16,}"
    r"|\b(?:gsk|npm|dckr_pat|xai|nvapi|r8|pypi)[_-][A-Za-z0-9_-]{16,}|-----BEGIN [A-Z ]*PRIVATE KEY-----"
    r"|\beyJ[A-Za-z0-9_-]{10,}\.[A-Za-z0-9_-]{10,}\."
)


def is_secret(name: str, value: Any) -> bool:
    """Whether a setting is a key by its name, such as `WANDB_API_KEY`, or by what it holds.

    Names that end in `_env`, `_file` or `_path` say where a key is, and `TOKENIZERS_PARALLELISM` has none.
    """
    if isinstance(value, str) and _VALUE.search(value):
        return True
    places = name.lower().endswith(("_env", "_file", "_path", "_name"))
    return isinstance(value, str) and bool(value) and not places and bool(_NAME.search(_HUMP.sub("_", name)))


MASK = "***"


def masked(tree: Any, name: str = "") -> Any:
    """A tree of settings as it may be shown: what is a key, or holds one, is `***`."""
    if isinstance(tree, dict):
        return {key: masked(value, str(key)) for key, value in tree.items()}
    if isinstance(tree, (list, tuple)):
        return [masked(value, name) for value in tree]
    return MASK if is_secret(name, tree) else tree


def masked_text(text: str) -> str:
    """Text, such as an override, without keys that can be told by their looks or by the name before them."""
    name, found, value = text.partition("=")
    if found and is_secret(name.rpartition(".")[2], value.strip()):
        return f"{name}={MASK}"
    return _VALUE.sub(MASK, text)


def first_secret(tree: Any, name: str = "") -> str | None:
    """The dotted name of the first setting of a tree that is a key, or None."""
    if isinstance(tree, dict):
        items = [(f"{name}.{key}" if name else str(key), str(key), value) for key, value in tree.items()]
    elif isinstance(tree, (list, tuple)):
        items = [(f"{name}.{index}", "", value) for index, value in enumerate(tree)]
    else:
        return None
    for where, key, value in items:
        if is_secret(key, value):
            return where
        if (found := first_secret(value, where)) is not None:
            return found
    return None


def require_secrets(environment: Mapping[str, str]) -> None:
    """In the job: the variables that its profile names must be there.

    Raises:
        ConfigError: one is not.
    """
    names = [name for name in environment.get(SECRETS, "").split(",") if name]
    missing = [name for name in names if not environment.get(name)]
    if missing:
        raise ConfigError(
            f"the cluster's environment lacks {', '.join(missing)}, which the job's profile names as secrets: set "
            "them where `ray start` runs (on Kubernetes, from a Secret), or take them out of the profile"
        )
