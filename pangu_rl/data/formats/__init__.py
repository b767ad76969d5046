"""Rows of other systems -> **rows of our own columns**: one file per format, each a pure function of a row."""

from pangu_rl.data.formats import alpaca, easyr1, ms_swift, openai, sharegpt, trl, verl
from pangu_rl.data.formats.format import Format

FORMATS: tuple[Format, ...] = (
    sharegpt.FORMAT,
    alpaca.FORMAT,
    verl.FORMAT,
    easyr1.FORMAT,
    openai.FORMAT,
    ms_swift.FORMAT,
    trl.FORMAT,
)
"""In the order in which a row is asked whether it is one of them."""
