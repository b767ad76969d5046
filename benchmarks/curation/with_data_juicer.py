"""Rows through data-juicer's filters of repetition, then its MinHash, with its defaults, in one process.

`with_data_juicer.py ROWS OUTPUT`, by an interpreter that has py-data-juicer; prints what `against.py` reads. It works
in a child that it starts, whose processor seconds count too.
"""

from __future__ import annotations

import json
import resource
import sys
from pathlib import Path
from typing import Any


def main(source: Path) -> dict[str, Any]:
    from data_juicer.core.data import NestedDataset
    from data_juicer.ops.deduplicator.document_minhash_deduplicator import DocumentMinhashDeduplicator
    from data_juicer.ops.filter.character_repetition_filter import CharacterRepetitionFilter
    from data_juicer.ops.filter.word_repetition_filter import WordRepetitionFilter

    def measured(rows: Any, *kinds: Any) -> tuple[Any, dict[str, Any]]:
        operators = [kind(num_proc=1, auto_op_parallelism=False) for kind in kinds]
        left, started = rows, used()
        for operator in operators:
            left = operator.run(left)
        return left, {"cpu": used() - started, "gone": sorted(set(rows["id"]) - set(left["id"]))}

    def both(rows: Any) -> dict[str, Any]:
        kept, repetition = measured(rows, CharacterRepetitionFilter, WordRepetitionFilter)
        return {"repetition": repetition, "near_duplicates": measured(kept, DocumentMinhashDeduplicator)[1]}

    lines = [json.loads(line) for line in source.open(encoding="utf-8")]
    rows = NestedDataset.from_list([{"id": line["id"], "text": line["document"]} for line in lines])
    both(rows.select(range(10)))  # what is imported late is imported before anything is measured
    return both(rows)


def used() -> float:
    """Processor seconds of this process and of those that it started and that have ended."""
    own, children = (resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    return own.ru_utime + own.ru_stime + children.ru_utime + children.ru_stime


if __name__ == "__main__":
    print(json.dumps(main(Path(sys.argv[1]))))
