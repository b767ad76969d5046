"""One tokenizer for all files of this room: loading it takes a second, and no test here changes it for good."""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache

import pytest

from pangu_rl.data import chat_template


@pytest.fixture(autouse=True, scope="package")
def one_tokenizer() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(chat_template, "_load_tokenizer", cache(chat_template._load_tokenizer))
        yield
