"""Small tables out of the package vega-datasets, each of rows that no other table has: what charts and tables show."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import groupby
from typing import Any

from data_curation.corpus.materials import Materials
from data_curation.corpus.splits import in_split
from data_curation.schema import Language
from data_curation.sources.items import Split

PACKAGE = "vega_datasets"
Named = dict[Language, str]


@dataclass(frozen=True, eq=False)
class Table:
    """Labels of rows and numbers in columns."""

    key: str
    title: Named
    corner: Named
    """What the labels are."""
    columns: tuple[Named, ...]
    labels: tuple[str, ...]
    rows: tuple[tuple[float, ...], ...]
    """One tuple per label, one number per column."""
    decimals: int

    def shown(self, value: float) -> str:
        return f"{value:.{self.decimals}f}"

    @property
    def answer_type(self) -> str:
        return "integer" if self.decimals == 0 else f"float{self.decimals}"

    def column(self, index: int) -> list[float]:
        return [row[index] for row in self.rows]


def tables(materials: Materials, split: Split) -> list[Table]:
    """All of a split, in a fixed order."""
    return [table for table in _all_tables(materials) if in_split(table.key, split)]


@lru_cache(maxsize=2)
def _all_tables(materials: Materials) -> tuple[Table, ...]:
    if PACKAGE not in materials:
        return ()
    folder = materials.folders[PACKAGE] / "_data"

    def read(name: str) -> list[dict[str, Any]]:
        text = (folder / name).read_text(encoding="utf-8")
        return json.loads(text) if name.endswith(".json") else list(csv.DictReader(text.splitlines()))

    makers: tuple[Callable[[Callable[[str], Any]], Iterator[Table]], ...] = (
        _weather, _stocks, _electricity, _employment, _barley, _cars, _crimea, _wheat, _driving, _prices, _hours,
    )  # fmt: skip
    return tuple(table for make in makers for table in make(read))


def _weather(read: Callable[[str], Any]) -> Iterator[Table]:
    columns = {
        "temp_max": ("max. temperature (°C)", "最高气温 (°C)"),
        "temp_min": ("min. temperature (°C)", "最低气温 (°C)"),
        "precipitation": ("precipitation (mm)", "降水量 (mm)"),
    }
    title = ("Weather in Seattle", "西雅图天气")
    for part in _chunks(read("seattle-weather.csv"), 9, 8):
        days = [row["date"][2:].replace("/", "-") for row in part]
        yield _table(f"weather:{days[0]}", title, ("day", "日期"), columns, days, part, 1)


def _stocks(read: Callable[[str], Any]) -> Iterator[Table]:
    for (symbol, year), group in groupby(read("stocks.csv"), lambda row: (row["symbol"], row["date"][-4:])):
        part = list(group)
        months = [row["date"].split()[0] for row in part]
        title = (f"{symbol} stock price in {year}", f"{symbol} {year} 年股价")
        yield _table(
            f"stock:{symbol}:{year}",
            title,
            ("month", "月份"),
            {"price": ("price ($)", "价格（美元）")},
            months,
            part,
            1,
        )


def _electricity(read: Callable[[str], Any]) -> Iterator[Table]:
    columns = {"net_generation": ("net generation", "净发电量")}
    for source, group in groupby(read("iowa-electricity.csv"), lambda row: row["source"]):
        title = (f"Electricity in Iowa: {source}", f"爱荷华州发电：{source}")
        for part in _chunks(list(group), 6, 5):
            years = [row["year"][:4] for row in part]
            yield _table(f"electricity:{source}:{years[0]}", title, ("year", "年份"), columns, years, part, 0)


def _employment(read: Callable[[str], Any]) -> Iterator[Table]:
    industries = {
        "construction": ("construction", "建筑业"),
        "manufacturing": ("manufacturing", "制造业"),
        "mining_and_logging": ("mining and logging", "采矿和伐木"),
    }
    title = ("Jobs in the USA, in thousands", "美国就业人数（千人）")
    for part in _chunks(read("us-employment.csv"), 6, 5):
        months = [row["month"][:7] for row in part]
        yield _table(f"jobs:{months[0]}", title, ("month", "月份"), industries, months, part, 0)


def _barley(read: Callable[[str], Any]) -> Iterator[Table]:
    rows = sorted(read("barley.json"), key=lambda row: (row["site"], row["year"]))
    for (site, year), group in groupby(rows, lambda row: (row["site"], row["year"])):
        part = list(group)
        title = (f"Barley at {site}, {year}", f"{site} 大麦产量，{year} 年")
        varieties = [row["variety"] for row in part]
        yield _table(
            f"barley:{site}:{year}", title, ("variety", "品种"), {"yield": ("yield", "产量")}, varieties, part, 1
        )


def _cars(read: Callable[[str], Any]) -> Iterator[Table]:
    columns = {
        "Horsepower": ("horsepower", "马力"),
        "Cylinders": ("cylinders", "气缸数"),
        "Weight_in_lbs": ("weight (lb)", "重量（磅）"),
        "Displacement": ("displacement", "排量"),
    }
    distinct = {row["Name"][:22]: row for row in read("cars.json") if all(row[name] is not None for name in columns)}
    for part in _chunks(list(distinct.items()), 5, 5):
        names = [name for name, _ in part]
        yield _table(f"cars:{names[0]}", ("Cars", "汽车"), ("car", "车型"), columns, names, [row for _, row in part], 0)


def _crimea(read: Callable[[str], Any]) -> Iterator[Table]:
    columns = {"wounds": ("wounds", "战伤"), "other": ("other", "其他"), "disease": ("disease", "疾病")}
    title = ("Deaths in the Crimean War", "克里米亚战争死亡人数")
    for part in _chunks(read("crimea.json"), 6, 5):
        months = [row["date"][:7] for row in part]
        yield _table(f"crimea:{months[0]}", title, ("month", "月份"), columns, months, part, 0)


def _wheat(read: Callable[[str], Any]) -> Iterator[Table]:
    rows = [row for row in read("wheat.json") if row.get("wages")]
    columns = {"wheat": ("price of wheat", "小麦价格"), "wages": ("weekly wage", "周薪")}
    for part in _chunks(rows, 6, 5):
        years = [row["year"] for row in part]
        yield _table(
            f"wheat:{years[0]}",
            ("Wheat and wages (shillings)", "小麦价格与工资（先令）"),
            ("year", "年份"),
            columns,
            years,
            part,
            1,
        )


def _driving(read: Callable[[str], Any]) -> Iterator[Table]:
    columns = {"miles": ("miles per person", "人均英里数")}
    for part in _chunks(read("driving.json"), 6, 5):
        years = [str(row["year"]) for row in part]
        yield _table(
            f"driving:{years[0]}", ("Driving in the USA", "美国驾车里程"), ("year", "年份"), columns, years, part, 0
        )


def _prices(read: Callable[[str], Any]) -> Iterator[Table]:
    columns = {
        name: (name, zh) for name, zh in (("open", "开盘"), ("high", "最高"), ("low", "最低"), ("close", "收盘"))
    }
    for part in _chunks(read("ohlc.json"), 5, 5):
        days = [row["date"][2:] for row in part]
        yield _table(f"prices:{days[0]}", ("Prices", "价格"), ("day", "日期"), columns, days, part, 2)


def _hours(read: Callable[[str], Any]) -> Iterator[Table]:
    """Every second hour of every tenth day."""
    columns = {"temp": ("temperature (°F)", "气温 (°F)")}
    for city, zh, file in (("Seattle", "西雅图", "seattle-temps.csv"), ("San Francisco", "旧金山", "sf-temps.csv")):
        for number, (day, group) in enumerate(groupby(read(file), lambda row: row["date"][:10])):
            part = list(group)[6:22:2]
            if number % 10 == 0 and len(part) == 8:
                hours = [row["date"][11:16] for row in part]
                title = (f"{city} on {day.replace('/', '-')}", f"{zh} {day.replace('/', '-')}")
                yield _table(f"hours:{city}:{day}", title, ("hour", "时间"), columns, hours, part, 1)


def _table(
    key: str,
    title: tuple[str, str],
    corner: tuple[str, str],
    columns: dict[str, tuple[str, str]],
    labels: Sequence[str],
    part: Sequence[dict[str, Any]],
    decimals: int,
) -> Table:
    return Table(
        key=f"table:{key}",
        title=_named(title),
        corner=_named(corner),
        columns=tuple(map(_named, columns.values())),
        labels=tuple(labels),
        rows=tuple(tuple(round(float(row[name]), decimals) for name in columns) for row in part),
        decimals=decimals,
    )


def _named(pair: tuple[str, str]) -> Named:
    return {"en": pair[0], "zh": pair[1]}


def _chunks(rows: Sequence[Any], size: int, least: int) -> Iterable[Sequence[Any]]:
    parts = (rows[start : start + size] for start in range(0, len(rows), size))
    return (part for part in parts if len(part) >= least)
