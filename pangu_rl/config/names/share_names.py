"""Entries of `data.train` that are written anew -> **the shares that name them, under their new names**."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any


def train_entries(tree: Mapping[str, Any]) -> list[str]:
    """Files and folders of a list in `data.train`, also of a tree that is not checked yet."""
    data = tree.get("data")
    train = data.get("train") if isinstance(data, Mapping) else None
    return [entry for entry in train if isinstance(entry, str)] if isinstance(train, list) else []


def rename_shares(tree: dict[str, Any], were: Sequence[str]) -> None:
    """Let shares in `tree`, in place, that name entries of `data.train` by what these `were` name them as they are;
    shares of sources stay."""
    renamed = dict(zip(were, train_entries(tree), strict=True))
    for key in ("shares", "end_shares") if renamed else ():
        shares = tree["data"].get(key)
        if isinstance(shares, Mapping) and shares.keys() <= renamed.keys():
            tree["data"][key] = {renamed[name]: share for name, share in shares.items()}
