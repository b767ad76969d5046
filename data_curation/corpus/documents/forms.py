"""Invoices and letters drawn from real names and numbers: documents for machines without the manuals' packages too."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from random import Random

from PIL import Image, ImageDraw

from data_curation.corpus.fonts import plain_font
from data_curation.corpus.labels import Box, box_tag, labelled
from data_curation.corpus.materials import Materials
from data_curation.corpus.splits import in_split
from data_curation.schema import Answer, Language, Picture, Sample, Turn, boxed
from data_curation.sources.items import Split

NUMBERS = range(1000, 4000)
"""Of invoices: each is one source item, drawn from its own number."""
GOODS = {
    "en": (
        "paper",
        "ink",
        "desk lamp",
        "chair",
        "cable",
        "keyboard",
        "mouse",
        "folder",
        "stapler",
        "screen",
        "pencils",
        "tape",
    ),
    "zh": ("纸张", "墨水", "台灯", "椅子", "电缆", "键盘", "鼠标", "文件夹", "订书机", "显示器", "铅笔", "胶带"),
}
BUYERS = {
    "en": ("Oak Street School", "Harbour Clinic", "Miller & Sons", "City Library", "Blue Hill Farm", "North Lab"),
    "zh": ("橡树街学校", "海港诊所", "米勒公司", "市图书馆", "蓝山农场", "北方实验室"),
}
WORDS = {
    "en": {
        "title": "INVOICE",
        "number": "Number",
        "date": "Date",
        "buyer": "Buyer",
        "total": "Total",
        "head": ("Item", "Quantity", "Price", "Amount"),
    },
    "zh": {
        "title": "发票",
        "number": "编号",
        "date": "日期",
        "buyer": "买方",
        "total": "合计",
        "head": ("项目", "数量", "单价", "金额"),
    },
}
ASK = {
    "en": {
        "number": "What is the number of the invoice?",
        "date": "What is the date of the invoice? Answer as year-month-day.",
        "buyer": "Who is the buyer?",
        "total": "What is the total?",
        "quantity": "How many were bought of this item: {good}?",
        "amount": "What is the amount for {good}?",
        "items": "How many different items are on the invoice?",
        "box": "Give the box of the total.",
    },
    "zh": {
        "number": "发票的编号是多少？",
        "date": "发票的日期是哪一天？请按 年-月-日 回答。",
        "buyer": "买方是谁？",
        "total": "合计金额是多少？",
        "quantity": "“{good}”买了多少？",
        "amount": "“{good}”的金额是多少？",
        "items": "发票上有多少种不同的项目？",
        "box": "请框出合计金额。",
    },
}


@dataclass
class Invoice:
    """What one invoice says."""

    number: int
    language: Language
    date: str
    buyer: str
    lines: list[tuple[str, int, int]]
    """Good, quantity, price in cents."""
    total_box: Box = field(default=(0, 0, 1, 1))

    @property
    def total(self) -> int:
        return sum(quantity * price for _, quantity, price in self.lines)


def forms(materials: Materials, split: Split, rng: Random) -> Iterator[Sample]:
    """One question on an invoice."""
    numbers = [number for number in NUMBERS if in_split(f"invoice:{number}", split)]
    for number in rng.sample(numbers, len(numbers)):
        language: Language = rng.choices(("en", "zh"), (5, 5))[0] if materials.cjk_font else "en"
        own = Random(f"invoice/{number}")
        goods = own.sample(GOODS[language], own.randint(2, 6))
        invoice = Invoice(
            number=number,
            language=language,
            date=f"{own.randint(2019, 2025)}-{own.randint(1, 12):02d}-{own.randint(1, 28):02d}",
            buyer=own.choice(BUYERS[language]),
            lines=[(good, own.randint(1, 40), own.randint(50, 9000)) for good in goods],
        )
        image = _drawn(materials, invoice, own)
        task = rng.choice(list(ASK["en"]))
        good, quantity, price = rng.choice(invoice.lines)
        answers = {
            "number": Answer(str(number), "integer"),
            "date": Answer(invoice.date, "date"),
            "buyer": Answer(invoice.buyer),
            "total": Answer(_money(invoice.total), "float2"),
            "quantity": Answer(str(quantity), "integer"),
            "amount": Answer(_money(quantity * price), "float2"),
            "items": Answer(str(len(goods)), "integer"),
            "box": Answer(labelled(WORDS[language]["total"], [box_tag(invoice.total_box, image.size)]), "bbox"),
        }
        question = ASK[language][task].format(good=good)
        yield Sample(
            category="document",
            origin="drawn",
            items=(f"invoice:{number}",),
            language=language,
            turns=(Turn((Picture(image), question), boxed(answers[task].text)),),
            answer=answers[task],
        )


def _drawn(materials: Materials, invoice: Invoice, rng: Random) -> Image.Image:
    """The page; sets the invoice's `total_box`."""
    words, width = WORDS[invoice.language], rng.randrange(380, 620)
    size = rng.randrange(13, 18)
    font, large = (plain_font(materials, invoice.language, points) for points in (size, 2 * size))
    step = int(size * rng.uniform(1.6, 2.2))
    height = 3 * size + step * (len(invoice.lines) + 7) + 60
    paper = tuple(rng.randrange(244, 256) for _ in range(3))
    image = Image.new("RGB", (width, height), paper)
    draw, y = ImageDraw.Draw(image), 20
    draw.text((24, y), words["title"], font=large, fill=rng.choice(((20, 20, 20), (20, 60, 120), (120, 30, 30))))
    y += 3 * size
    for name, value in (("number", invoice.number), ("date", invoice.date), ("buyer", invoice.buyer)):
        draw.text((24, y), f"{words[name]}: {value}", font=font, fill=(30, 30, 30))
        y += step
    y += step // 2
    columns = [24, int(width * 0.46), int(width * 0.64), int(width * 0.82)]
    rows = [(good, str(quantity), _money(price), _money(quantity * price)) for good, quantity, price in invoice.lines]
    for texts in (words["head"], *rows):
        for x, text in zip(columns, texts, strict=True):
            draw.text((x, y), text, font=font, fill=(30, 30, 30))
        y += step
        draw.line((24, y - step // 4, width - 20, y - step // 4), fill=(170, 170, 170))
    total = _money(invoice.total)
    draw.text((columns[2], y), words["total"], font=font, fill=(0, 0, 0))
    draw.text((columns[3], y), total, font=font, fill=(0, 0, 0))
    invoice.total_box = draw.textbbox((columns[3], y), total, font=font)
    return image


def _money(cents: int) -> str:
    return f"{cents // 100}.{cents % 100:02d}"
