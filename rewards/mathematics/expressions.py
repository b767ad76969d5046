"""Which text is mathematics, and its LaTeX in one form, as the algebra parser wants it."""

from __future__ import annotations

import re

from rewards.rules.text import chemical_key

_COMMAND = re.compile(r"\\[A-Za-z]+")
_FUNCTIONS = """
    sinh cosh tanh arcsin arccos arctan sin cos tan cot sec csc log ln lg exp sqrt pi max min gcd mod det infty
"""
_FUNCTION = re.compile(r"(?<![A-Za-z\\])(" + "|".join(_FUNCTIONS.split()) + r")(?![A-Za-z])")
_LETTERS = re.compile(r"[^\W\d_]+")
_WORDS = re.compile(r"[A-Z]{2,}|[A-Za-z]{3,}")
_PRODUCT = re.compile(r"(?=[A-Z]*[a-z])(?![a-h]{3,}$)[b-df-hj-np-tv-zB-DF-HJ-NP-TV-Z]{2,}")
_OPERATOR = re.compile(r"[-+*/^=<>!|]|\\[A-Za-z]+|\d ?[A-Za-z(]|\)\(|_")
_GEOMETRY = re.compile(
    r"\\(?:angle|triangle|odot|square|parallel|perp|cong|sim|[Rr]ightarrow|[Ll]eftrightarrow|iff)(?![A-Za-z])"
)
_LETTER_DIGIT = re.compile(r"(?<![\\A-Za-z])[A-Za-z]\d")
_REPEATING = re.compile(r"\d\.\d*\([\d.]+\)", re.ASCII)

_NO_VARIABLE = re.compile(r"\\(?!alpha|beta|theta|lambda|mu)[A-Za-z]+")
_VARIABLE = re.compile(r"[A-DF-HJ-Za-df-hj-z]|\\[a-z]")

_GROUP = r"\{(?:[^{}]|\{[^{}]*\})*\}"
_NAMED = rf"\\(?!frac|sqrt|left|binom)[A-Za-z]+|\\sqrt ?(?:\[[^\]]*\])? ?{_GROUP}"
_SHORT_FRACTION = re.compile(
    rf"\\frac ?(?:(?P<top>\d|[A-Za-z](?![A-Za-z])|{_NAMED})|(?P<group>{_GROUP})) ?"
    rf"(?:(?P<bottom>\d|[A-Za-z]|{_NAMED})|(?=\{{))"
)
_ROOT_OF_FRACTION = re.compile(rf"\\sqrt ?(\[[^\]]*\])? ?(\\frac ?{_GROUP} ?{_GROUP})")
_SHORT_BINOMIAL = re.compile(r"\\binom ?(\d) ?(\d)")
_FACTOR = re.compile(r"(?<![\w.)}/^])(\d+)/(\d+)(?= [A-Za-z\\])")
"""`1/2 x` is a half of x."""
_ROOT_WORD = re.compile(r"(?<![\\A-Za-z])sqrt ?\(((?:[^()]|\([^()]*\))*)\)")
_SHORT_ROOT = re.compile(r"\\sqrt ?(\[[^\]]*\])? ?(\d+(?:\.\d+)?|[A-Za-z](?![A-Za-z])|\\pi)")
_ROUND_ROOT = re.compile(r"\\sqrt ?(\[[^\]]*\])? ?\(((?:[^()]|\([^()]*\))*)\)")
_OVER = re.compile(r"^([^{}]*)\\over([^{}A-Za-z][^{}]*)$")
_LONG_POWER = re.compile(r"\^ ?(-?\d+)")
_ROUND_POWER = re.compile(r"\^ ?\(((?:[^()]|\([^()]*\))*)\)")
_LOG_OF_DIGITS = re.compile(
    r"\\log_ ?([2-9])(\d+(?:\.\d+)?)(?= ?(?:$|[-+*/=<>,)}]|\\(?:cdot|times|div|leq|geq)(?![A-Za-z])))"
)
"""`\\log_23`: the base is the first digit where nothing else is there to take the logarithm of."""
_LOG_BASE = re.compile(r"\\log_ ?(\d+)")


_TOKEN = re.compile(
    rf"(?P<function>\\(?:(?P<angle>arc(?:sin|cos|tan)|(?:sin|cos|tan)h?|cot|sec|csc)|ln|log|lg)(?![A-Za-z])"
    rf"(?: ?_ ?(?:{_GROUP}|\w))?(?: ?\^ ?(?:{_GROUP}|\w))?(?P<own> ?(?=\())?)"
    r"|(?P<stop>\\(?:cdot|times|div|pm|mp|leq|geq|neq|approx)(?![A-Za-z])|[-*/+=<>,;])"
    r"|(?P<bar>\||\\vert(?![A-Za-z]))|(?P<open>\\\{|[(\[{]|\\l(?:vert|floor|ceil)(?![A-Za-z]))"
    r"|(?P<close>\\\}|[)\]}]|\\r(?:vert|floor|ceil)(?![A-Za-z]))|(?P<other>\\[A-Za-z]+|.)",
    re.DOTALL,
)


def is_expression(text: str) -> bool:
    """Whether `text` (in its plain form) is mathematics and not words: letters alone, or longer words, are words."""
    bare = _FUNCTION.sub(" ", _COMMAND.sub(" ", text))
    if any(not run.isascii() for run in _LETTERS.findall(bare)) or '"' in text or chemical_key(text):
        return False
    if _LETTER_DIGIT.search(_COMMAND.sub(" ", text)) or re.search(r"[A-Za-z]{4,}|[A-Za-z]{2,} [A-Za-z]{2,}", bare):
        return False
    if re.fullmatch(r"\d+(?: ?- ?\d+){2,}", text) or _GEOMETRY.search(text):
        return False  # a code; names of figures, where every letter has its place
    if _REPEATING.search(text):
        return False  # 2+0.(3), where algebra would see a product
    if re.fullmatch(r"[A-Za-z]", text.strip()):
        return True
    return bool(_OPERATOR.search(text)) and bool(re.search(r"[A-Za-z0-9\\]", text))


def one_form(text: str) -> str:
    """LaTeX shorthand written out: `\\frac\\pi3`, `\\sqrt17`, `sqrt(2)`, `x^10`, `x^(n+1)`, `1 \\over 2`, `**`."""
    text = _FACTOR.sub(r"\\frac{\1}{\2}", text.replace("**", "^"))
    text = _ROOT_WORD.sub(r"\\sqrt{\1}", text)
    text = _FUNCTION.sub(lambda match: "\\" + match[1], text)
    text = _OVER.sub(r"\\frac{\1}{\2}", text)
    text = _ROUND_ROOT.sub(r"\\sqrt\1{\2}", text)
    text = _SHORT_ROOT.sub(r"\\sqrt\1{\2}", text)
    text = _ROOT_OF_FRACTION.sub(r"\\sqrt\1{\2}", _SHORT_FRACTION.sub(_fraction, text))
    text = _SHORT_BINOMIAL.sub(r"\\binom{\1}{\2}", text)
    text = _LONG_POWER.sub(r"^{\1}", _ROUND_POWER.sub(r"^{\1}", text))
    text = _LOG_OF_DIGITS.sub(r"\\log_{\1}\2", text)
    return _LOG_BASE.sub(r"\\log_{\1}", text)


def with_brackets(text: str) -> str:
    """Brackets around what a function is of: `\\ln 2/2` is half of a logarithm, `\\sin x\\cos y` a product.

    An argument ends before an operator or another function; `\\sin 2\\pi/3` is of the fraction, since nobody divides 0
    by 3.
    """
    written: list[str] = []
    arguments: list[tuple[int, bool]] = []
    """The open ones: how deep they stand, and whether they are angles."""
    bars: list[int] = []
    depth, before, kind_before = 0, "", "open"

    def end_arguments() -> None:
        while arguments and arguments[-1][0] >= depth:
            arguments.pop()
            written.append(")")

    for token in _TOKEN.finditer(text):
        piece, kind = token.group(), str(token.lastgroup)
        if token["function"]:
            kind = "function" if token["own"] is None else "own"
        if kind == "bar":
            ends = bool(bars) and bars[-1] == depth and kind_before in ("close", "other")
            kind = "close" if ends else "open"
            if not ends:
                bars.append(depth + 1)
        elif kind == "close" and bars and bars[-1] == depth:
            depth -= 1  # a bar that nothing closes
            bars.pop()
        if kind == "close":
            end_arguments()
            if bars and bars[-1] == depth:
                bars.pop()
            depth = max(0, depth - 1)
        elif kind in ("stop", "function", "own") and kind_before != "function":
            of_pi = piece == "/" and before == "\\pi" and arguments and arguments[-1] == (depth, True)
            if not of_pi:
                end_arguments()
        written.append(piece.rstrip() + "(" if kind == "function" else piece)
        if kind == "function":
            arguments.append((depth, token["angle"] is not None))
        depth += kind == "open"
        if not piece.isspace():
            before, kind_before = piece, kind
    depth = 0
    end_arguments()
    return "".join(written)


def compact(text: str) -> str:
    """`one_form` without spaces and the braces of single characters: equal here is equal."""
    text = re.sub(r"\{(\w)\}", r"\1", one_form(text).replace("{ ", "{").replace(" }", "}"))
    return re.sub(r"(\\[A-Za-z]+) (?=[A-Za-z])", r"\1~", text).replace(" ", "").replace("~", " ")


def words(text: str) -> list[str]:
    """Runs of letters that name one thing (`AB`, `max`), sorted: algebra would take them for products."""
    return sorted(word for word in _WORDS.findall(_COMMAND.sub(" ", text)) if not is_product(word))


def is_product(letters: str) -> bool:
    """Whether a run of letters is a product of variables, as `mgh` is, and no word, figure or order."""
    return bool(_PRODUCT.fullmatch(letters))


def has_variables(text: str) -> bool:
    """Whether an expression has variables: letters that are no commands, e or i."""
    return bool(_VARIABLE.search(_NO_VARIABLE.sub("", text)))


def _fraction(match: re.Match[str]) -> str:
    top = match["group"] or f"{{{match['top']}}}"
    return f"\\frac{top}" + (f"{{{match['bottom']}}}" if match["bottom"] else "")
