"""A small table of units: which convert into which, exactly. Missing units are a matter for the comparison."""

from __future__ import annotations

import re
from dataclasses import dataclass
from fractions import Fraction

from rewards.mathematics.number_words import WORDS

Dimensions = tuple[tuple[str, int], ...]


@dataclass(frozen=True, slots=True)
class Unit:
    """A product of powers of base units, and how many of it one makes. Unknown words are base units of their own."""

    dimensions: Dimensions
    factor: Fraction = Fraction(1)


_TABLE: dict[str, Unit] = {}


def _add(dimension: str, rows: str) -> None:
    """`dimension`: base units in products and quotients, `mass*length/time/time`; `rows`: `factor: name name, ...`, the
    factor in units of the dimension's base."""
    powers: dict[str, int] = {}
    for sign, base in re.findall(r"([*/]?)([a-z ]+)", dimension):
        powers[base] = powers.get(base, 0) + (-1 if sign == "/" else 1)
    for row in rows.split(";"):
        factor, _, names = row.partition(":")
        unit = Unit(tuple(sorted(powers.items())), Fraction(factor.strip()))
        for name in names.split(","):
            _TABLE[name.strip()] = unit


_add(
    "length",
    "1: m,metre,metres,meter,meters,米; 1/10: dm,decimeter,decimeters,decimetre,decimetres,分米;"
    "1/100: cm,centimeter,centimeters,centimetre,centimetres,厘米,公分; 1/1000: mm,millimeter,millimeters,millimetre,"
    "millimetres,毫米; 1000: km,kilometer,kilometers,kilometre,kilometres,千米,公里; 1/1000000: μm,micrometer,"
    "micrometers,micron,microns,微米; 1/1000000000: nm,nanometer,nanometers,纳米; 0.0254: in,inch,inches,英寸;"
    "1/10000000000: Å,angstrom,angstroms,Angstrom; 1/1000000000000: pm;"
    "0.3048: ft,foot,feet,英尺; 0.9144: yd,yard,yards; 1609.344: mi,mile,miles,英里",
)
_add(
    "length*length*length",
    "1/1000: L,l,liter,liters,litre,litres,升; 1/1000000: mL,ml,milliliter,milliliters,millilitre,毫升,cc;"
    "0.003785411784: gal,gallon,gallons; 0.000946352946: qt,quart,quarts; 0.000473176473: pint,pints;"
    "0.0002365882365: cup,cups; 0.0000295735295625: fl oz,fluid ounce,fluid ounces",
)
_add("length*length", "10000: ha,hectare,hectares,公顷; 4046.8564224: acre,acres; 2000/3: 亩")
_add(
    "mass",
    "1/1000: g,gram,grams,克; 1: kg,Kg,KG,kgs,kilogram,kilograms,kilo,kilos,千克,公斤;"
    "1/1000000: mg,milligram,milligrams,毫克; 1/1000000000: μg,微克; 1000: t,ton,tons,tonne,tonnes,吨; 1/2: 斤;"
    "0.45359237: lb,lbs,pound,pounds; 0.028349523125: oz,ounce,ounces",
)
_add(
    "time",
    "1: s,sec,secs,second,seconds,秒,秒钟; 60: min,mins,minute,minutes,分钟,分; 3600: h,hr,hrs,hour,hours,小时,时;"
    "86400: day,days,d,天,日; 604800: week,weeks,周,星期; 1/1000: ms,millisecond,milliseconds,毫秒;"
    "1/1000000: μs,microsecond,microseconds,微秒; 1/1000000000: ns,nanosecond,nanoseconds",
)
_add(
    "year",
    "1: year,years,yr,yrs,年; 1/12: month,months,mo,mos,个月,月; 10: decade,decades; 100: century,centuries,世纪",
)
_add("angle", "1: °,degree,degrees,deg,度; 1/60: arcmin")
_add("radian", "1: rad,radian,radians,弧度")
_add("celsius", "1: °C,degrees Celsius,degree Celsius,Celsius,摄氏度")
_add("fahrenheit", "1: °F,degrees Fahrenheit,degree Fahrenheit,Fahrenheit,华氏度")
_add("kelvin", "1: K,kelvin,kelvins")
_add("dollar", "1: $,USD,US$,dollar,dollars,美元; 1/100: ¢,cent,cents,美分")
_add("euro", "1: €,EUR,euro,euros,欧元")
_add("sterling", "1: £,GBP,英镑; 1/100: pence,penny")
_add("yuan", "1: ¥,CNY,RMB,yuan,元,块,人民币; 1/10: 角; 10000: 万元; 100000000: 亿元")
_add("rupee", "1: ₹,INR,Rs,rupee,rupees")
_add("yen", "1: JPY,yen,日元")
_add("mass*length*length/time/time", "1: J,joule,joules,焦,焦耳; 1000: kJ,kilojoule,kilojoules,千焦; 1000000: MJ; "
     "4.184: cal,calorie,calories; 4184: kcal; 3600000: kWh,度电;"
     "1.602176634e-19: eV; 1.602176634e-16: keV; 1.602176634e-13: MeV; 1.602176634e-10: GeV")  # fmt: skip
_add(
    "mass*length*length/time/time/time",
    "1: W,watt,watts,瓦,瓦特; 1000: kW,kilowatt,kilowatts,千瓦; 1000000: MW; 1000000000: GW; 1/1000: mW; 1/1000000: μW",
)
_add("mass*length/time/time", "1: N,newton,newtons,牛,牛顿; 1000: kN; 1/1000: mN")
_add(
    "mass/length/time/time",
    "1: Pa,pascal,pascals,帕,帕斯卡; 100: hPa; 1000: kPa,千帕; 1000000: MPa,兆帕; 1000000000: GPa; 100000: bar;"
    "101325: atm",
)
_add(
    "mass*length*length/time/time/time/current",
    "1: V,volt,volts,伏,伏特; 1000: kV; 1000000: MV; 1/1000: mV; 1/1000000: μV",
)
_add("current", "1: A,amp,amps,ampere,amperes,安,安培; 1/1000: mA,毫安; 1/1000000: μA")
_add(
    "mass*length*length/time/time/time/current/current", r"1: Ω,ohm,ohms,\Omega,欧,欧姆; 1000: kΩ,k\Omega; 1000000: MΩ"
)
_add("/time", "1: Hz,hertz,赫兹; 1000: kHz; 1000000: MHz; 1000000000: GHz")
_add("current*time", "1: C,coulomb,coulombs,库仑; 1/1000: mC; 1/1000000: μC; 1/1000000000: nC; 1/1000000000000: pC")
_add("amount", "1: mol,mole,moles,摩尔; 1/1000: mmol")
_add("amount/length/length/length", "1000: M,molar; 1: mM")
_add("mass/time/time/current", "1: T,tesla; 1/1000: mT")
_add("mass*length*length/time/time/current", "1: Wb,weber,webers; 1/1000: mWb")
_add(
    "current*current*time*time*time*time/mass/length/length",
    "1: F,farad,farads; 1/1000: mF; 1/1000000: μF; 1/1000000000: nF; 1/1000000000000: pF",
)
_add("mass*length*length/time/time/current/current", "1: H,henry,henries,henrys; 1/1000: mH; 1/1000000: μH")
_add("activity", "1: Bq,becquerel,becquerels; 1000: kBq; 1000000: MBq")
_add("length*length/time/time", "1: Gy,gray,grays; 1/1000: mGy")
_add("equivalent dose", "1: Sv,sievert,sieverts; 1/1000: mSv; 1/1000000: μSv")
_add("light", "1: lm,lumen,lumens")
_add("light/length/length", "1: lx,lux,勒克斯")
_add("luminous intensity", "1: cd,candela,candelas")
_add("level", "1: dB,decibel,decibels,分贝")
for _counted in ("rpm", "bpm", "fps", "ppm", "pcs", "pts", "psi", "mmHg"):
    _add(_counted, f"1: {_counted}")
_add("data", "1: B,byte,bytes; 1000: KB,kB; 1000000: MB; 1000000000: GB; 1000000000000: TB; 1/8: bit,bits")
_add("length/time", "1: mps; 0.44704: mph; 5/18: kph,kmh,kmph")

CURRENCY_SIGNS = "$€£¥₹¢"
_CLASSIFIERS = "个只本人条张辆朵棵次种位件片双对头匹艘把支枝颗粒间座台盒箱袋瓶杯倍名岁页题道步层排组"
KNOWN_CHINESE = frozenset((*_CLASSIFIERS, *(name for name in _TABLE if not name.isascii())))
"""Units that may stand behind a Chinese numeral; other words there are no units (三角形)."""
_SELDOM_GLUED = frozenset(("cd", "lm", "lx", "mF", "mH", "nF", "MV"))
_NOTHING = re.compile(r"units?(?:\^(?:[23]|\{[23]\}))?|个?单位", re.IGNORECASE)
_ORDINALS = """
    third fourth fifth sixth seventh eighth ninth tenth eleventh twelfth thirteenth fourteenth fifteenth sixteenth
    seventeenth eighteenth nineteenth twentieth thirtieth fortieth fiftieth sixtieth seventieth eightieth ninetieth
    hundredth thousandth millionth billionth trillionth quarter
"""
_DENYING_WORDS = """
    not no never none neither nor without cannot wrong incorrect incorrectly false untrue less more minus plus negative
    twice double doubled triple tripled half halves squared cubed factorial root reciprocal inverse opposite dozen
    dozens far but except infinity infinities infinite undefined unknown
"""
DENYING_WORDS = frozenset(_DENYING_WORDS.split())
"""Words that deny what they stand beside, or make another number of it."""
_CHANGING_WORDS = """
    or and fewer than over under above below before after to between about of is are was
    be the an if for from with at on as mod modulo base am pm power hundreds
    thousands millions billions trillions percent only each all every either tens score gross
    both most least approximately approx roughly estimated exactly that which remainder solution solutions sin cos tan
    cot sec csc log exp sqrt max min gcd lcm lim det also maybe probably true yes lakh lakhs crore crores myriad
    myriads million billion trillion quadrillion quintillion googol grand thrice quadruple ish impossible nothing
    something anything conjugate transposed fold
"""
CHANGING_WORDS = frozenset(
    (*_CHANGING_WORDS.split(), *_ORDINALS.split(), *(f"{name}s" for name in _ORDINALS.split()), *DENYING_WORDS, *WORDS)
)
"""Words behind a number that change or deny it."""
_POWER = r"(?:\^?\{?(?P<power>-?[1-9])\}?)?"
_ATOM = re.compile(r"(?P<name>\\Omega|k\\Omega|[^\W\d_]+|°[CF]?|[$€£¥₹¢%])" + _POWER)
_MICRO = re.compile(r"\\mu ?(?=[A-Za-z])")
_PREFIXES = (
    ("square ", 2), ("sq. ", 2), ("sq ", 2), ("平方", 2), ("cubic ", 3), ("cu ", 3), ("cu. ", 3), ("立方", 3)
)  # fmt: skip
_CHINESE = re.compile(r"[\u4e00-\u9fff]{1,4}")
_VARIABLES = re.compile(
    r"(?<![A-Za-z])(?:[b-df-hj-np-tv-xzB-DF-HJ-NP-TV-XZ]+|[A-Za-z]?[a-z]+[A-Z]+[A-Za-z]*)(?![A-Za-z])"
)
"""Runs of letters that are no words: without vowels, or with capitals behind small letters."""
_NO_CHINESE_UNIT = re.compile(
    r"[上下左右多余成折万亿千百十半方乘幂不非没无未否或到至少大小对错负几打]|分之|以[内外]|根号|倒数|相反|^的"
)
MAX_UNIT_CHARS = 48
_PRICE = re.compile(
    rf"(?P<amount>-? ?(?:[A-Z]{{2}})?[{CURRENCY_SIGNS}] ?[\d.,]+"
    r"|-?[\d.,]+ ?(?:dollars?|cents?|euros?|yuan|元|USD|EUR|[€¢]))"
    r"(?:(?: ?/ ?| per | every | an? )(?P<bought>[^\W\d_]+(?: [^\W\d_]+)?)| (?:each|apiece))"
)


def read_unit(text: str) -> Unit | None:
    """The unit that `text` (in its plain form) names: `cm^2`, `km/h`, `m s^{-1}`, `平方厘米`, or a plain word.

    `units` and `square units` are the unit of a bare number. A word that the table lacks (`apples`) is a unit of its
    own; words that change a number's meaning (`or more`, `million`) are none.
    """
    text = _MICRO.sub("μ", text.strip())
    if not text or len(text) > MAX_UNIT_CHARS:
        return None
    if text in _TABLE:
        return _TABLE[text]
    for prefix, power in _PREFIXES:
        if text.startswith(prefix):
            inner = read_unit(text.removeprefix(prefix))
            if not prefix.isascii() and text.removeprefix(prefix) not in _TABLE:
                return None  # 立方根
            return _raised(inner, power) if inner else None
    if _NOTHING.fullmatch(text):
        return Unit(())
    return _compound(text) or _words(text)


def split_price(text: str) -> tuple[str, str]:
    """An amount of money and the unit it buys: `$18 per hour` as `$18` and `hour`, `$6 each` as `$6` and nothing."""
    price = _PRICE.fullmatch(text)
    if price is None or not CHANGING_WORDS.isdisjoint((price["bought"] or "").casefold().split()):
        return text, ""
    return price["amount"], price["bought"] or ""


def reads_as_product(body: str, rest: str) -> bool:
    """Whether letters that follow `body` without a space are variables: `5m`, `12abc`, `\\frac12mg`, `\\sqrt{3}m`.

    Units of two letters and more may stand there, as may those that are no Latin letters, and words.
    """
    letters = re.match(r"[A-Za-z]+", rest)
    if letters is None:
        return not body[-1:].isdigit() and rest.startswith("\\") and not rest.startswith("\\Omega")
    name = letters[0]
    if len(name) == 1 and len(rest) > 1 and body[-1:].isdigit():
        return False  # 5m/s, 3m^2
    weight = name == "mg" and not re.fullmatch(r"-?[\d.,]+", body)
    return len(name) == 1 or name in _SELDOM_GLUED or weight or (len(name) == 3 and name not in _TABLE)


def _compound(text: str) -> Unit | None:
    """Known units in products, powers and quotients. All after the first slash divides."""
    text = re.sub(r"\\(?:cdot|times) ?|\*", " ", re.sub(r" per |每", "/", text))
    text = re.sub(r"\\frac ?\{([^{}]*)\}\{([^{}]*)\}", r"\1/\2", text)
    total: dict[str, int] = {}
    factor, sign = Fraction(1), 1
    for index, part in enumerate(text.split("/")):
        sign = 1 if index == 0 else -1
        part = part.strip().removeprefix("(").removesuffix(")").strip()
        if not part:
            return None
        for word in _glued(part):
            atom = _ATOM.fullmatch(word)
            unit = _known(atom["name"]) if atom else None
            if atom is None or unit is None:
                return None
            power = sign * int(atom["power"] or 1)
            factor *= unit.factor**power
            for dimension, times in unit.dimensions:
                total[dimension] = total.get(dimension, 0) + times * power
    return Unit(tuple(sorted((name, power) for name, power in total.items() if power)), factor)


def _glued(part: str) -> list[str]:
    return [part] if part in _TABLE else part.split()


def _known(name: str) -> Unit | None:
    if name in _TABLE:
        return _TABLE[name]
    return _TABLE.get(name.casefold()) if len(name) > 3 else None


def _words(text: str) -> Unit | None:
    if _CHINESE.fullmatch(text):
        return None if _NO_CHINESE_UNIT.search(text) else Unit(((text, 1),))
    if _VARIABLES.search(text):
        return None
    words = text.casefold().replace("-", " ").split()
    if len(words) > 3 or any(not word.isalpha() or len(word) < 3 or word in CHANGING_WORDS for word in words):
        return None
    return Unit(((" ".join([*words[:-1], words[-1].removesuffix("s")]), 1),))


def divided(unit: Unit, by: Unit) -> Unit:
    """`unit` for one of `by`."""
    powers = dict(unit.dimensions)
    for name, times in by.dimensions:
        powers[name] = powers.get(name, 0) - times
    return Unit(tuple(sorted((name, power) for name, power in powers.items() if power)), unit.factor / by.factor)


def _raised(unit: Unit, power: int) -> Unit:
    return Unit(tuple((name, times * power) for name, times in unit.dimensions), unit.factor**power)
