"""Shares are shares of tokens; a repetition happens only when it is asked for."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest

from pangu_rl.errors import ConfigError
from pretrain.packing.mixing import draw
from tests.unit.pretrain.packing.builders import config, drawn_metadata

ROWS = 1500


@pytest.fixture(scope="module")
def metadata(tmp_path_factory):
    return drawn_metadata(tmp_path_factory.mktemp("mixing"), ROWS)


def tokens_by_source(metadata, rows):
    return {
        name: int(metadata.tokens[rows][metadata.source[rows] == i].sum()) for i, name in enumerate(metadata.sources)
    }


@pytest.mark.parametrize("text", [0.01, 0.2, 0.5])
def test_shares_of_tokens_without_repetition(metadata, text):
    rows = draw(metadata, np.ones(ROWS, dtype=bool), config(shares={"text": text, "vl": 1 - text}))
    found = tokens_by_source(metadata, rows)
    assert found["text"] / sum(found.values()) == pytest.approx(text, rel=0.02)
    assert len(set(rows.tolist())) == len(rows)
    everything = tokens_by_source(metadata, np.arange(ROWS))
    assert any(found[name] == everything[name] for name in found), "the scarcest source is used up"


def test_shares_of_samples(metadata):
    rows = draw(metadata, np.ones(ROWS, dtype=bool), config(shares={"text": 1, "vl": 3}, shares_by="samples"))
    found = Counter(metadata.sources[source] for source in metadata.source[rows])
    everything = Counter(metadata.sources[source] for source in metadata.source)
    scale = min(everything["text"], everything["vl"] / 3)
    assert found == {"text": pytest.approx(scale, abs=1), "vl": pytest.approx(3 * scale, abs=1)}
    with pytest.raises(ValueError, match="tokens 5 with shares_by samples"):
        config(shares={"text": 1, "vl": 3}, shares_by="samples", tokens=5)


def test_a_larger_draw_repeats_whole_passes_first(metadata):
    everything = tokens_by_source(metadata, np.arange(ROWS))
    size = int(2.5 * everything["text"] / 0.5)
    rows = draw(metadata, np.ones(ROWS, dtype=bool), config(shares={"text": 1, "vl": 1}, tokens=size))
    found = tokens_by_source(metadata, rows)
    assert found["text"] / everything["text"] == pytest.approx(2.5, rel=0.02)
    assert sum(found.values()) == pytest.approx(size, rel=0.02)
    text = metadata.source == metadata.sources.index("text")
    assert set(Counter(rows[text[rows]].tolist()).values()) == {2, 3}


def test_rows_that_do_not_fit_are_not_drawn_and_seeds_differ(metadata):
    usable = np.arange(ROWS) % 2 == 0
    shares = {"text": 0.1, "vl": 0.9}
    rows = draw(metadata, usable, config(shares=shares))
    assert usable[rows].all()
    assert rows.tolist() == draw(metadata, usable, config(shares=shares)).tolist()
    assert rows.tolist() != draw(metadata, usable, config(shares=shares, seed=1)).tolist()


def test_bad_shares(metadata):
    everything = np.ones(ROWS, dtype=bool)
    with pytest.raises(ConfigError, match=r"'vl' is in metadata.parquet but has no share: name every source once"):
        draw(metadata, everything, config(shares={"text": 1}))
    with pytest.raises(ConfigError, match="'ocr' is not in metadata"):
        draw(metadata, everything, config(shares={"text": 1, "vl": 1, "ocr": 2}))
    text_only = metadata.source == metadata.sources.index("text")
    with pytest.raises(ConfigError, match="source vl has a share of 1, but no sample that fits"):
        draw(metadata, text_only, config(shares={"text": 1, "vl": 1}))
    assert text_only[draw(metadata, everything, config(shares={"text": 1, "vl": 0}))].all()
