"""What the corpus holds, in numbers (`report.json`, written last: it vouches for the rest) and as a picture."""

from __future__ import annotations

import importlib.metadata
import json
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from data_curation.corpus.materials import DEBIAN, PYPI, Materials
from data_curation.schema import CATEGORIES, Row
from data_curation.sources.debian import RECORD

NOTE = (
    "Questions of MMLU, GSM8K, ARC and CHAMP are public benchmark items: the held-out split is apart from what is "
    "trained on here, but no score on it or on those benchmarks is a held-out benchmark score. Pictures of tuxpaint, "
    "kgeography and the Debian manuals are under the GPL: do not redistribute this folder without their terms."
)


def write_report(
    folder: Path,
    splits: Mapping[str, Sequence[Row]],
    sizes: Mapping[str, tuple[int, int]],
    tokens: Sequence[int],
    made: Mapping[str, Any],
    materials: Materials,
) -> None:
    """Write both; the same corpus gives the same bytes. `made`: by which code, samples of each family, those
    left out."""
    rows = [row for some in splits.values() for row in some]
    pixels = [width * height for width, height in sizes.values()]
    report = {
        "note": NOTE,
        "rows": {split: len(some) for split, some in splits.items()},
        "categories": {
            name: {split: sum(row["source"] == name for row in some) for split, some in splits.items()}
            for name in CATEGORIES
        },
        "languages": _counts(row["language"] for row in rows),
        "origins": _counts(row["origin"] for row in rows),
        "answer_types": _counts(row.get("answer_type", "free") for row in rows),
        "items": {split: len({item for row in some for item in row["items"]}) for split, some in splits.items()},
        "pictures": {
            "files": len(sizes),
            "distinct_sizes": len(set(sizes.values())),
            "pixels": _quantiles(pixels),
            "aspect": _quantiles([width / height for width, height in sizes.values()]),
            "per_row": _counts(str(len(row["images"])) for row in rows),
        },
        "sft_text_tokens": _quantiles(tokens),
        **made,
        "missing": materials.missing,
        "packages": _packages(materials),
    }
    _draw(folder / "report.png", report, list(sizes.values()), tokens)
    (folder / "report.json").write_text(json.dumps(report, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")


def _counts(values: Any) -> dict[str, int]:
    return dict(sorted(Counter(values).items()))


def _quantiles(values: Sequence[float]) -> dict[str, float]:
    found = np.quantile(values, (0, 0.1, 0.5, 0.9, 1)) if len(values) else [0.0] * 5
    return {
        name: round(float(value), 3) for name, value in zip(("min", "p10", "median", "p90", "max"), found, strict=True)
    }


def _packages(materials: Materials) -> dict[str, str]:
    """Name -> version, or for a Debian package its file and digest."""
    found = {package: importlib.metadata.version(package) for module, package in PYPI.items() if module in materials}
    for name in DEBIAN:
        if name in materials:
            record = json.loads((materials.folders[name] / RECORD).read_text(encoding="utf-8"))
            found[name] = f"{record['file']} sha256:{record['sha256']}"
    return found


def _draw(path: Path, report: dict[str, Any], sizes: Sequence[tuple[int, int]], tokens: Sequence[int]) -> None:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(12, 8), layout="constrained")
    (rows, shapes), (aspects, lengths) = figure.subplots(2, 2)
    names, left = list(report["categories"]), np.zeros(len(report["categories"]))
    for split in report["rows"]:
        counts = np.array([report["categories"][name][split] for name in names])
        rows.barh(names, counts, left=left, label=split)
        left += counts
    rows.invert_yaxis()
    rows.legend()
    rows.set_title(f"{sum(report['rows'].values())} samples by category and split")
    widths, heights = np.array(sizes).T
    shapes.scatter(widths, heights, s=3, alpha=0.3)
    shapes.set(
        title=f"{len(sizes)} pictures, {report['pictures']['distinct_sizes']} sizes", xlabel="width", ylabel="height"
    )
    aspects.hist(np.log2(widths / heights), bins=60)
    aspects.set(title="aspect ratio of pictures", xlabel="log2(width / height)")
    lengths.hist(tokens, bins=np.geomspace(8, max([*tokens, 16]), 60))
    lengths.set(title="tokens of text in an SFT sample", xlabel="tokens", xscale="log")
    figure.savefig(path, dpi=80)
