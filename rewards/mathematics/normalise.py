"""One spelling for what means the same: Unicode forms, LaTeX wrappers and spacing. Nothing here looks at values."""

from __future__ import annotations

import functools
import re
import unicodedata

MAX_ANSWER_CHARS = 512

_SUPERSCRIPTS = "⁰¹²³⁴⁵⁶⁷⁸⁹⁺⁻⁽⁾ⁿ"
_SUBSCRIPTS = "₀₁₂₃₄₅₆₇₈₉₊₋₍₎"
_RAISED = re.compile(f"[{_SUPERSCRIPTS}]+")
_LOWERED = re.compile(f"[{_SUBSCRIPTS}]+")
_CIRCLED = re.compile(r"[①-⑳](?:[ ,，、]{0,2}[①-⑳])+")
_VULGAR = re.compile(r"(\d?)([¼-¾⅐-⅞↉])")
_SQUARED_UNIT = re.compile(r"([㎟㎠㎡㎢])|([㎣㎤㎥㎦])")
_SYMBOLS = {
    "\u2212": "-", "\u2010": "-", "\u2011": "-", "\u2012": "-", "\u2013": "-", "\u2044": "/", "\u2215": "/",
    "×": r"\times ", "÷": r"\div ", "·": r"\cdot ", "⋅": r"\cdot ", "π": r"\pi ", "∞": r"\infty ", "√": r"\sqrt ",
    "≤": r"\leq ", "⩽": r"\leq ", "≥": r"\geq ", "⩾": r"\geq ", "≠": r"\neq ", "±": r"\pm ", "∓": r"\mp ",
    "∪": r"\cup ", "∩": r"\cap ", "∅": r"\emptyset ", "∈": r"\in ", "∠": r"\angle ", "△": r"\triangle ",
    "≈": r"\approx ", "θ": r"\theta ", "α": r"\alpha ", "β": r"\beta ", "γ": r"\gamma ", "λ": r"\lambda ",
    "ℝ": r"\mathbb{R}", "、": ",", "。": ".", "“": '"', "”": '"', "‘": "'", "’": "'", "′": "'", "【": "[", "】": "]",
    "⟨": r"\langle ", "⟩": r"\rangle ", "µ": "μ", "⇌": "→", "∶": ":", "٫": ".", "٬": ",",
}  # fmt: skip

_WRAPPER = re.compile(
    r"\\(?:text|textbf|textit|textrm|textsf|texttt|textnormal|mathrm|mathbf|mathit|mathsf|mathtt|mathnormal|boldsymbol"
    r"|bm|mbox|hbox|emph|underline|operatorname|ensuremath|boxed|fbox|ce|textcolor\s*\{[^{}]*\}|color\s*\{[^{}]*\}"
    r"(?=\{)|tiny|scriptsize|footnotesize|small|normalsize|[lL]arge|LARGE|[hH]uge)\*?\s*\{"
)
_COMMAND_END = re.compile(r"\\[A-Za-z]+$")
_NEGATIVE_SPACE = re.compile(r"\\! ?")
_COLOUR = re.compile(r"\\color\s*\{[^{}]*\}")
_SIZE = re.compile(
    r"\\(?:left|right|middle|[bB]igg?[lrm]?)(?![A-Za-z])\.?|\\(?:displaystyle|textstyle|scriptstyle|limits|nolimits|rm|bf"
    r"|it|tiny|scriptsize|footnotesize|small|normalsize|[lL]arge|LARGE|[hH]uge)(?![A-Za-z])"
)
_SPACING = re.compile(
    r"(\\\\)(?: ?\[-?[\d.]+ ?(?:pt|em|ex|mm|cm)\])?"
    r"|\\[,;: ]|\\(?:quad|qquad|enspace|thinspace|medspace|thickspace)(?![A-Za-z])|\\(?:hspace|[hv]?phantom)\{[^{}]*\}"
    r"|(?<=[\w})])~(?=[\\A-Za-z])|(?<=[\d})] )~(?=[\\A-Za-z])"
)
_TIED = re.compile(r"(?:[\d})\]%°]|(?<![A-Za-z\\])[A-Za-z]|\\pi)[ ~]*$")
"""What a tie that begins a text stands behind in `5 \\mathrm{~cm}`; elsewhere it denies: `p \\land \\text{~q}`."""
_NAMES = {
    "dfrac": "frac", "tfrac": "frac", "cfrac": "frac", "le": "leq", "leqslant": "leq", "ge": "geq", "geqslant": "geq",
    "ne": "neq", "varnothing": "emptyset", "ast": "cdot", "colon": ":", "lt": "<", "gt": ">", "lbrace": "{",
    "rbrace": "}", "percent": "%", "to": "rightarrow", "degree": "circ", "vee": "lor", "wedge": "land",
    "infin": "infty", "varepsilon": "epsilon", "varphi": "phi", "vartheta": "theta",
    "AA": "Å", "nicefrac": "frac", "sfrac": "frac", "overrightarrow": "vec", "widehat": "hat",
}  # fmt: skip
_NAME = re.compile(r"\\(" + "|".join(_NAMES) + r")(?![A-Za-z])")
_DEGREE = re.compile(r"\^?\s*\{\s*\\circ\s*\}|\^?\s*\\circ(?![A-Za-z])|\^\s*\{\s*°\s*\}|\^\s*°")
_DEGREES_ABOVE = re.compile(r"\\frac ?\{ ?(-?\d+(?:\.\d+)?) ?° ?\} ?(\{ ?\d+ ?\}|\d)")
_BRACED_COMMA = re.compile(r"(?<=\d)\{,\}(?=\d{3}(?!\d))")
_THOUSANDS = re.compile(
    r"(?:^|(?<=[-+=*/ $]))[1-9]\d{0,2}(?:,\d{3})+(?= ?(?:\\(?:pi|sqrt)(?![A-Za-z])|/ ?\d))"
    r"|(?<=\\frac\{)[1-9]\d{0,2}(?:,\d{3})+(?=\})"
)
"""Groups of a number that is a part of an expression; `(1,200\\pi)` is a point."""
_GROUPS = re.compile(r"(?<=\d)\\[,; ](?=\d{3}(?!\d))")
"""What stands between the groups of `12\\,000`."""
_ESCAPED = re.compile(r"\\([%$&_#])")
_MATH_MARK = re.compile(r"(?<!\\)\\[()\[\]]")
_DOLLARS = re.compile(r"(?<!\\)\$\$")
_ALL_MATH = re.compile(r"\$((?:[^$\\]|\\.)*)\$", re.DOTALL)
# A part between dollars, which begin and end it: in `$5 and $6` and in `$5-$6` they are a currency.
_SOME_MATH = re.compile(r"(?<![\\A-Za-z0-9$])\$(?=[^\s$,;:])((?:[^$\\]|\\.)+)\$(?![0-9$])", re.DOTALL)
_GOING_ON = re.compile(r"(?<=\d) ?\\[lc]?dots(?![A-Za-z])")
_QUOTED = re.compile(r"(\*\*|`)([^*`]+)\1")
_SPACE = re.compile(r"\s+")
_SPACES = re.compile(" {2,}")


@functools.lru_cache(maxsize=4096)
def plain(answer: str) -> str:
    """`answer` without what changes its looks only: the form that every rule reads. May be empty.

    NFKC; no control or format characters; symbols as LaTeX names; no text, font, size, colour, spacing or math
    delimiter commands; one space for many; no period at the end.

    Example: `plain(r"$\\mathbf{７}.\\;$")` is `"7"`.
    """
    text = _NEGATIVE_SPACE.sub("", _drop_wrappers(clean(answer)))
    text = _THOUSANDS.sub(lambda match: match[0].replace(",", ""), _BRACED_COMMA.sub("", text))
    text = text.replace("{,}", ",").replace("\\%", "%").replace("\\$", "$").replace("\\_", "_")
    text = text.replace("\\&", "&").replace("\\#", "#").replace("\\|", "|")
    text = _SPACING.sub(lambda match: match[1] or " ", _SIZE.sub("", text))  # a row break keeps its two strokes
    text = _NAME.sub(_common_name, _GOING_ON.sub("...", text))
    text = (
        re.sub(r"° ?(?=[CF](?![A-Za-z]))", "°", _DEGREE.sub("°", text))
        .replace("<=", r"\leq ")
        .replace(">=", r"\geq ")
        .replace("!=", r"\neq ")
    )
    return tidy(_DEGREES_ABOVE.sub(r"\\frac{\1}\2°", text))


def unwrapped(answer: str) -> str:
    """`answer` without LaTeX that changes its looks only; characters stay as they are written, and so do values.

    Example: `unwrapped(r"\\text{R\\&D}")` is `"R&D"`.
    """
    text = _GROUPS.sub("", _NEGATIVE_SPACE.sub("", _drop_wrappers(answer)))
    text = _SPACING.sub(lambda match: match[1] or " ", _SIZE.sub("", text))
    return _SPACES.sub(" ", _ESCAPED.sub(r"\1", text)).strip()


def clean(answer: str) -> str:
    """NFKC with what it would lose (raised and lowered digits, vulgar fractions) written out; symbols by name."""
    if not answer.isascii():
        answer = re.sub(r"\d", lambda m: str(unicodedata.decimal(m.group())), answer)  # digits of every script
        answer = _CIRCLED.sub(_labels, answer)
        answer = _RAISED.sub(lambda m: "^{" + unicodedata.normalize("NFKC", m.group()) + "}", answer)
        answer = _LOWERED.sub(lambda m: "_{" + unicodedata.normalize("NFKC", m.group()) + "}", answer)
        answer = _VULGAR.sub(_written_out, answer)
        answer = _SQUARED_UNIT.sub(
            lambda m: unicodedata.normalize("NFKC", m.group())[:-1] + ("^2" if m[1] else "^3"), answer
        )
        answer = unicodedata.normalize("NFKC", answer)
        answer = "".join(_SYMBOLS.get(character, character) for character in answer)
    answer = _SPACE.sub(" ", answer)
    return "".join(c for c in answer if unicodedata.category(c) not in ("Cc", "Cf", "Cs", "Co")).strip()


def tidy(text: str) -> str:
    """Outer space, a final period, outer braces and stray line breaks off; one space for many."""
    before = None
    while text != before:
        before = text
        text = _SPACE.sub(" ", text).strip().removesuffix("\\\\").removesuffix("\\").rstrip(" ,;")
        if text.endswith(".") and not text.endswith(".."):
            text = text[:-1]
        if text.startswith("{") and _closing(text, 0) == len(text) - 1:
            text = text[1:-1]
    return text


def _drop_wrappers(text: str) -> str:
    text = _DOLLARS.sub("$", _MATH_MARK.sub(" ", text))
    before = None
    while text != before:  # one layer a turn; the length bounds the turns
        before = text
        text = text.strip()
        if marked := _ALL_MATH.fullmatch(text):
            text = marked[1]
        if quoted := _QUOTED.fullmatch(text):
            text = quoted[2]
        text = _unwrap_one(text)
    return _COLOUR.sub("", _SOME_MATH.sub(_between_dollars, text))


def _between_dollars(match: re.Match[str]) -> str:
    inside = match[1]
    if inside[-1] in " ,;:+-*/=<>(":
        return match[0]
    follows = match.string[match.end() : match.end() + 1]
    return inside + (" " if follows.isalpha() else "")


def _unwrap_one(text: str) -> str:
    """The first wrapper off. A space keeps its content off a digit: `5\\mathrm{m}` is five metres, `5m` a product."""
    wrapper = _WRAPPER.search(text)
    if not wrapper:
        return text
    end = _closing(text, wrapper.end() - 1)
    if end < 0:
        return text
    before = text[: wrapper.start()]
    gap = " " if before[-1:].isdigit() or before.endswith("}") or _COMMAND_END.search(before) else ""
    start = wrapper.end()
    if text[start] == "~" and _TIED.search(before[-16:]):
        before, start, gap = before.rstrip("~ "), start + 1, " "
    return before + gap + text[start:end] + text[end + 1 :]


def _common_name(match: re.Match[str]) -> str:
    name = _NAMES[match[1]]
    return ("\\" + name) if (name.isascii() and name.isalpha()) or name in "{}" else name


def _written_out(match: re.Match[str]) -> str:
    return (f"{match[1]} " if match[1] else "") + unicodedata.normalize("NFKC", match[2])


def _labels(match: re.Match[str]) -> str:
    """Circled numbers side by side: labels, in any order where some are left out, else in the order that they have."""
    labels = [int(unicodedata.numeric(character)) for character in match[0] if character not in " ,，、"]
    everything = sorted(labels) == list(range(1, len(labels) + 1))
    return ("→" if everything else ",").join(map(str, labels))


def _closing(text: str, start: int) -> int:
    """Where the brace that opens at `start` closes; -1 if it does not."""
    depth = 0
    for index in range(start, len(text)):
        if text[index] not in "{}" or text[index - 1 : index] == "\\":
            continue
        depth += 1 if text[index] == "{" else -1
        if depth == 0:
            return index
    return -1
