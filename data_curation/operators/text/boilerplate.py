"""Text around the text: navigation, cookie notices, calls to subscribe, placeholders (C4, Raffel et al. 2020)."""

from __future__ import annotations

import re

from data_curation.pipeline.operator import row_operator
from data_curation.pipeline.record import Drop, Edit, Keep, Record, Verdict
from pangu_rl.config.curate import Share

PHRASES = (
    r"lorem ipsum",
    r"(?:please )?enable javascript",
    r"\bcookies? (?:policy|settings|notice)",
    r"\b(?:uses?|accept) cookies",
    r"privacy policy",
    r"terms (?:of (?:use|service)|and conditions)",
    r"all rights reserved",
    r"©\s*\d{4}",
    r"(?:click|tap) here",
    r"sign (?:up|in) (?:to|for|now)",
    r"log ?in / ",
    r"subscribe (?:to|now|for)",
    r"share (?:this|on) (?:\w+ )?(?:facebook|twitter|page|post|article)",
    r"follow us on",
    r"skip to (?:main )?content",
    r"add to cart",
    r"read more\s*(?:»|…|\.\.\.)",
    r"newsletter",
    r"版权所有",
    r"点击(?:这里|此处|查看)",
    r"(?:登录|注册)(?:后|即可|账号)",
    r"扫码关注",
    r"关注我们",
    r"隐私政策",
    r"上一篇",
    r"下一篇",
)
_ANY = re.compile("|".join(PHRASES), re.IGNORECASE)
LINE_CHARS = 200
"""A longer line is a paragraph, which may well speak of cookies."""


@row_operator(cost="cpu")
def boilerplate(record: Record, *, most: Share = 0.3, remove_lines: bool = True) -> Verdict:
    """Dropped if lines of boilerplate are more than `most` of a row's characters; below it they are taken out of a
    `document` that is one text. Turns of a dialogue are never cut."""
    lines = record.text().splitlines(keepends=True)
    plain = [line for line in lines if not is_boilerplate(line)]
    total = sum(map(len, lines))
    share = 1 - sum(map(len, plain)) / total if total else 0.0
    values = {"share": share}
    if share > most:
        first = next(line for line in lines if is_boilerplate(line)).strip()
        return Drop("boilerplate", f"{share:.2f} of the text, such as {first[:80]!r}", values)
    document = record.row.get("document")
    if remove_lines and len(plain) < len(lines) and isinstance(document, str):
        return Edit({**record.row, "document": "".join(plain)}, "lines of boilerplate taken out")
    return Keep(values=values)


def is_boilerplate(line: str) -> bool:
    return len(line) <= LINE_CHARS and _ANY.search(line) is not None
