"""Windows of made-up programs, drawn widget by widget: where to click, what is ticked, what a field says."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from random import Random

from PIL import Image, ImageDraw, ImageFont

from data_curation.corpus.fonts import plain_font
from data_curation.corpus.labels import Box, box_tag, labelled, middle, point_tag, region
from data_curation.corpus.materials import Materials
from data_curation.corpus.splits import in_split
from data_curation.schema import Answer, Language, Picture, Sample, Turn, boxed
from data_curation.sources.items import Split

NUMBERS = range(6000)
"""Of windows: each is one source item, drawn from its own number."""

WORDS = {
    "en": {
        "titles": ("Settings", "New message", "Printer", "Network", "Account", "Backup", "Calendar", "Editor"),
        "buttons": (
            "Save",
            "Cancel",
            "OK",
            "Apply",
            "Help",
            "Delete",
            "Send",
            "Open",
            "Close",
            "Reset",
            "Next",
            "Back",
        ),
        "options": (
            "Dark theme",
            "Show hidden files",
            "Check for updates",
            "Play sounds",
            "Use proxy",
            "Auto save",
            "Show toolbar",
            "Sync photos",
            "Large icons",
            "Spell checking",
        ),
        "fields": ("Name", "Address", "Server", "Port", "Subject", "City", "Folder"),
        "values": (
            "Anna",
            "Mill Lane 4",
            "mail.local",
            "8080",
            "Report",
            "Lisbon",
            "backup",
            "Tom",
            "River Road 12",
            "2525",
            "Plan",
            "Oslo",
        ),
        "menus": ("File", "Edit", "View", "Tools", "Window", "Insert", "Format"),
    },
    "zh": {
        "titles": ("设置", "新邮件", "打印机", "网络", "账户", "备份", "日历", "编辑器"),
        "buttons": ("保存", "取消", "确定", "应用", "帮助", "删除", "发送", "打开", "关闭", "重置", "下一步", "返回"),
        "options": (
            "深色主题",
            "显示隐藏文件",
            "检查更新",
            "播放声音",
            "使用代理",
            "自动保存",
            "显示工具栏",
            "同步照片",
            "大图标",
            "拼写检查",
        ),
        "fields": ("姓名", "地址", "服务器", "端口", "主题", "城市", "文件夹"),
        "values": (
            "王芳",
            "河边路4号",
            "邮件",
            "8080",
            "报告",
            "上海",
            "备份",
            "李明",
            "山前街12号",
            "2525",
            "计划",
            "北京",
        ),
        "menus": ("文件", "编辑", "视图", "工具", "窗口", "插入", "格式"),
    },
}
ASK = {
    "en": {
        "click": 'Where do you click for "{name}"? Answer with a point.',
        "box": 'Give the box of the button "{name}".',
        "ticked": "How many options are ticked?",
        "option": 'Is "{name}" ticked?',
        "field": 'What is in the field "{name}"?',
        "title": "What is the title of the window?",
        "menu": "List the menus from left to right.",
    },
    "zh": {
        "click": "要选择“{name}”，应点击哪里？请用一个点回答。",
        "box": "请框出按钮“{name}”。",
        "ticked": "有多少个选项被勾选？",
        "option": "“{name}”被勾选了吗？",
        "field": "“{name}”一栏里填的是什么？",
        "title": "窗口的标题是什么？",
        "menu": "请从左到右列出菜单。",
    },
}
YES_NO = {"en": ("yes", "no"), "zh": ("是", "否")}
THEMES = (
    ((246, 246, 246), (58, 110, 180), (225, 225, 225), (30, 30, 30)),
    ((44, 46, 52), (24, 25, 29), (70, 73, 82), (230, 230, 230)),
    ((255, 252, 240), (120, 90, 50), (238, 228, 205), (50, 40, 30)),
    ((236, 243, 238), (38, 110, 84), (208, 226, 214), (20, 40, 30)),
)
"""Window, title bar, widget, ink."""


@dataclass
class Window:
    """A drawn window and what is where in it."""

    image: Image.Image
    title: str
    menus: list[str]
    clickable: dict[str, Box] = field(default_factory=dict)
    buttons: list[str] = field(default_factory=list)
    options: dict[str, bool] = field(default_factory=dict)
    fields: dict[str, str] = field(default_factory=dict)


def screens(materials: Materials, split: Split, rng: Random) -> Iterator[Sample]:
    """One question on each of many windows."""
    numbers = [number for number in NUMBERS if in_split(f"screen:{number}", split)]
    for number in rng.sample(numbers, len(numbers)):
        own = Random(f"screen/{number}")
        language: Language = own.choice(("en", "zh")) if materials.cjk_font else "en"
        window = _Artist(materials, language, own).window()
        question, said, answer = _question(window, language, rng)
        yield Sample(
            category="screenshot",
            origin="drawn",
            items=(f"screen:{number}",),
            language=language,
            turns=(Turn((Picture(window.image), question), boxed(said)),),
            answer=answer,
        )


def _question(window: Window, language: Language, rng: Random) -> tuple[str, str, Answer]:
    task = rng.choices(list(ASK["en"]), (4, 3, 1.5, 1, 2, 1, 1))[0]
    size = window.image.size
    name = rng.choice(
        {
            "click": list(window.clickable),
            "box": window.buttons,
            "option": list(window.options),
            "field": list(window.fields),
        }.get(task, [""])
    )
    if task == "click":
        box = window.clickable[name]
        said, answer = labelled(name, [point_tag(middle(box), size)]), Answer(region([box], size), "point")
    elif task == "box":
        said = labelled(name, [box_tag(window.clickable[name], size)])
        answer = Answer(said, "bbox")
    else:
        answer = {
            "ticked": lambda: Answer(str(sum(window.options.values())), "integer"),
            "option": lambda: Answer(YES_NO[language][0 if window.options[name] else 1]),
            "field": lambda: Answer(window.fields[name]),
            "title": lambda: Answer(window.title),
            "menu": lambda: Answer(str(window.menus).replace("'", '"'), "list"),
        }[task]()
        said = answer.text
    return ASK[language][task].format(name=name), said, answer


class _Artist:
    """Draws one window from the top to the bottom."""

    def __init__(self, materials: Materials, language: Language, rng: Random) -> None:
        self.rng, self.words = rng, WORDS[language]
        self.size = rng.randrange(13, 19)
        self.font: ImageFont.FreeTypeFont = plain_font(materials, language, self.size)
        self.back, self.bar, self.widget, self.ink = rng.choice(THEMES)
        self.row = int(self.size * rng.uniform(1.9, 2.4))

    def window(self) -> Window:
        rng, words = self.rng, self.words
        options = rng.sample(words["options"], rng.randint(2, 5))
        fields = rng.sample(words["fields"], rng.randint(1, 3))
        width = rng.randrange(400, 640)
        height = self.row * (4 + len(options) + len(fields)) + 60
        image = Image.new("RGB", (width, height), self.back)
        self.draw = ImageDraw.Draw(image)
        window = Window(image, rng.choice(words["titles"]), rng.sample(words["menus"], rng.randint(3, 5)))
        self.draw.rectangle((0, 0, width, self.row), fill=self.bar)
        self._write((12, self.row / 2), window.title, (255, 255, 255))
        self._menus(window)
        y = int(2.5 * self.row)
        values = rng.sample(words["values"], len(fields))
        for name, value in zip(fields, values, strict=True):
            self._field(window, y, name, value)
            y += self.row + 4
        for name in options:
            self._option(window, y, name)
            y += self.row
        self._buttons(window, height - self.row - 14)
        return window

    def _menus(self, window: Window) -> None:
        x = 10.0
        for name in window.menus:
            length = self.font.getlength(name)
            self._write((x + 8, 1.5 * self.row), name, self.ink)
            window.clickable[name] = (x, 1.05 * self.row, x + length + 16, 1.95 * self.row)
            x += length + 20

    def _field(self, window: Window, y: int, name: str, value: str) -> None:
        left = int(window.image.width * 0.34)
        box = (left, y + 2, window.image.width - 24, y + self.row - 2)
        self._write((24, y + self.row / 2), name, self.ink)
        self.draw.rectangle(box, fill=(255, 255, 255), outline=(130, 130, 130))
        self._write((left + 8, y + self.row / 2), value, (20, 20, 20))
        window.fields[name] = value

    def _option(self, window: Window, y: int, name: str) -> None:
        side = self.size
        box = (24, y + (self.row - side) // 2, 24 + side, y + (self.row + side) // 2)
        ticked = self.rng.random() < 0.5
        self.draw.rectangle(box, fill=(255, 255, 255), outline=(110, 110, 110))
        if ticked:
            ink = (20, 120, 60)
            self.draw.line((box[0] + 3, box[1] + side // 2, box[0] + side // 2 - 1, box[3] - 4), fill=ink, width=3)
            self.draw.line((box[0] + side // 2 - 1, box[3] - 4, box[2] - 2, box[1] + 3), fill=ink, width=3)
        self._write((box[2] + 10, y + self.row / 2), name, self.ink)
        window.clickable[name] = (box[0], box[1], box[2] + 10 + self.font.getlength(name), box[3])
        window.options[name] = ticked

    def _buttons(self, window: Window, y: int) -> None:
        right = window.image.width - 20.0
        for name in self.rng.sample(self.words["buttons"], self.rng.randint(2, 3)):
            length = self.font.getlength(name) + 28
            box = (right - length, y, right, y + self.row)
            self.draw.rounded_rectangle(box, radius=4, fill=self.widget, outline=(120, 120, 120))
            self.draw.text(middle(box), name, font=self.font, fill=self.ink, anchor="mm")
            window.clickable[name] = box
            window.buttons.append(name)
            right -= length + 12

    def _write(self, place: tuple[float, float], text: str, ink: tuple[int, int, int]) -> None:
        self.draw.text(place, text, font=self.font, fill=ink, anchor="lm")
