"""What must not stand in a configuration, since that is copied, logged and shown: **keys, and what is one**."""

from __future__ import annotations

import base64
import re
from collections.abc import Iterator, Mapping
from typing import Any

from pangu_rl.errors import ConfigError

SECRETS = "PANGU_RL_SECRETS"
"""In the job's environment: names of the variables that must be there, never their values."""

_KEY = re.compile(
    r"(?:^|_)(?:(?:api|access|secret|private|auth|account|encryption|signing)_?keys?"
    r"|(?:api|access|secret|private|auth|bearer|session|refresh|bot|hf|github|gitlab)_?tokens?"
    r"|secrets?|passwd|pwd|[a-z]*passwords?|passphrase|credentials?|auth|authorization|cookies?|dsn|connection_?string|jwt"
    r"|(?:db|user|admin|root|smtp|mail|redis|mysql|pg|mongo|proxy)_?pass|(?:git[a-z]*|azure)_pat"
    r"|(?:obs|sdk|cloud|huawei|hw|modelarts|volc|s3)_?(?:ak|sk))(?:_[0-9]+)?$|passwords?_"
)
"""Names of keys, whatever they hold, in small letters and with `_` between words; `ak` and `sk` are Huawei's."""
_MAYBE = re.compile(
    r"(?:^|_)(?:keys?|tokens?|secrets?|passw(?:or)?ds?|pwd|pass|credentials?|auth|jwt|pat|ak|sk|sig|signature)(?:_|$)"
)
"""Names of keys and of much else, such as `answer_key` and `eos_token`: what they hold decides."""
_NO_KEY = re.compile(r"(?:^|_)public_|_(?:env|file|path|name|column|field)$")
"""Names of what may be seen, and of where a key is."""
_JOINT = re.compile(r"(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])|[^A-Za-z0-9]+")
"""Where `apiToken`, `APIToken` and `api-token` are `api_token`."""
_LONG = r"(?:[A-Za-z0-9]+[_-])*[A-Za-z0-9]{16,}"
"""The rest of a key behind its prefix: one unbroken run is long, unlike in `sk-learn-baseline-2026`."""
_ARGUMENT = (
    r"(?:(?:api|access|account|shared[_-]?access)[_-]?key|shared[_-]?access[_-]?signature|client[_-]?secret|"
    r"(?:access|auth|hf|github)[_-]?token|secret|password|pwd)"
)
_VALUE = re.compile(
    r"://[^/\s:@]*:[^/\s@]+@"  # a user and a password in an address
    rf"|\b(?:sk|pk|rk)-{_LONG}|\b(?:sk|rk)_(?:live|test)_[A-Za-z0-9]{{8,}}"
    r"|\bhf_[A-Za-z0-9]{16,}|\bgh[pousr]_[A-Za-z0-9]{16,}|\bglpat-[A-Za-z0-9_-]{16,}|\bgithub_pat_[A-Za-z0-9_]{16,}"
    r"|\b(?:AKIA|ASIA)[0-9A-Z]{16}\b|\bxox[abeprs]-[A-Za-z0-9-]{10,}|\bAIza[A-Za-z0-9_-]{30,}|\bya29\.[A-Za-z0-9_-]{16,}"
    rf"|\b(?:gsk|npm|dckr_pat|xai|nvapi|r8|pypi)[_-]{_LONG}|-----BEGIN [A-Z ]*PRIVATE KEY-----"
    r"|\beyJ[A-Za-z0-9_-]{10,}\.[A-Za-z0-9_-]{10,}\."
    r"|\bBearer\s+[A-Za-z0-9._~+/-]{8,}|(?i:\bbearer\s+(?=\S*[0-9])[A-Za-z0-9._~+/=-]{12,}|\bauthorization:\s*\w+\s+[^\s<{$]\S+)"
    rf"|(?i:(?<![a-z0-9]){_ARGUMENT}=[^\s&;<{{$*][^\s&;]*)"
    r"|(?i:[?&#](?:token|sig|signature|x-(?:amz|goog)-(?:signature|credential|security-token))=[^\s&<{$*][^\s&]*)"
    # Whoever knows the address of a chat's hook writes into the chat.
    r"|hooks\.slack\.com/\S+/\S+|/open-apis/bot/v2/hook/\S+|discord(?:app)?\.com/api/webhooks/\S+"
    r"|/cgi-bin/webhook/send\?key=\S+"
)
_BASIC = re.compile(r"(?i)\bbasic\s+([A-Za-z0-9+/]{4,}={0,2})")
_USER = re.compile(r"https?://([^/\s:@?#]+)@")
_PIECES = re.compile(r"[A-Z]?[a-z]+|[A-Z]+|[0-9]+")
_UUID = re.compile(r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}", re.IGNORECASE)

MASK = "***"
COLUMNS = ("columns", "sets")
"""Sections whose names are those of a file's columns, or of data: an `answerKey` in them is no key."""


def is_secret(name: str, value: Any) -> bool:
    """Whether a setting is a key by its name, such as `WANDB_API_KEY`, or by what it holds.

    `key` and `token` alone are ordinary words: under them only what looks drawn at random is a key.
    """
    name = _JOINT.sub("_", name).lower()
    if isinstance(value, int | float) and not isinstance(value, bool):
        return bool(_KEY.search(name)) and len(str(value)) > 3 and not name.endswith("s")
    if not isinstance(value, str) or not value:
        return False
    if masked_text(value) != value:
        return True
    if _NO_KEY.search(name) or _is_path(value):
        return False
    return bool(_KEY.search(name) or (_MAYBE.search(name) and _is_random(value)))


def masked(tree: Any, name: str = "") -> Any:
    """A tree of settings as it may be shown: what is a key, or holds one, is `***`."""
    if isinstance(tree, dict):
        data = name.rpartition(".")[2] in COLUMNS
        return {key: masked(value, "" if data else called) for key, called, value in _named(tree)}
    if isinstance(tree, (list, tuple)):
        return [masked(value, name) for value in tree]
    return MASK if is_secret(name, tree) else tree


def masked_text(text: str) -> str:
    """Text, such as a complaint, without keys that can be told by their looks."""
    text = _VALUE.sub(MASK, text)
    text = _BASIC.sub(lambda found: MASK if _is_user_and_password(found[1]) else found[0], text)
    return _USER.sub(lambda found: MASK if _is_random(found[1]) else found[0], text)


def first_secret(tree: Any, place: str = "", name: str = "") -> str | None:
    """The dotted name of the first setting of a tree, which is at `place`, that is a key, or None."""
    if isinstance(tree, dict):
        items = list(_named(tree))
    elif isinstance(tree, (list, tuple)):
        items = [(index, name, value) for index, value in enumerate(tree)]
    else:
        return place if is_secret(name, tree) else None
    found = (first_secret(value, f"{place}.{key}" if place else str(key), called) for key, called, value in items)
    return next((where for where in found if where is not None), None)


def _named(tree: dict[Any, Any]) -> Iterator[tuple[Any, str, Any]]:
    """Key, name and value of each entry; in `{name: HF_TOKEN, value: ...}` the value is called HF_TOKEN."""
    label = tree.get("name", tree.get("key"))
    for key, value in tree.items():
        yield key, label if key == "value" and isinstance(label, str) else str(key), value


def _is_user_and_password(text: str) -> bool:
    """HTTP's `Basic` sends both in base64; in `basic arithmetic` nothing is sent."""
    try:
        return ":" in base64.b64decode(text, validate=True).decode("ascii")
    except ValueError:
        return False


def _is_path(value: str) -> bool:
    """Also of one that says where a key is; in base64 a `/` stands between what looks drawn."""
    return value.startswith(("/", "~/", "./", "../")) and not any(map(_is_random, value.rstrip("=").split("/")))


def _is_random(value: str) -> bool:
    """Whether it looks drawn: 16 signs or more, neither a path nor `<|im_end|>`, and in one run of them small letters,
    capitals and digits take turns more often than in words."""
    if _UUID.fullmatch(value):
        return True
    if not re.fullmatch(r"[\w.~+=-]{16,}", value):
        return False
    runs = (run for run in re.findall(r"[A-Za-z0-9]{12,}", value) if not run.isdigit())
    return any(len(run) < 3.5 * len(_PIECES.findall(run)) for run in runs)


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
