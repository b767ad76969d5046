"""Rows through datatrove's filter of repetition, then its MinHash, with its defaults, in one process.

`with_datatrove.py ROWS OUTPUT`, by an interpreter that has datatrove, spacy, tokenizers and orjson; prints what
`against.py` reads.
"""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path
from typing import Any


def ids(folder: Path) -> list[str]:
    return [json.loads(line)["id"] for file in sorted(folder.glob("*.jsonl")) for line in file.open()]


def main(source: Path, output: Path) -> dict[str, Any]:
    from datatrove.executor import LocalPipelineExecutor
    from datatrove.pipeline.dedup import (
        MinhashDedupBuckets,
        MinhashDedupCluster,
        MinhashDedupFilter,
        MinhashDedupSignature,
    )
    from datatrove.pipeline.dedup.minhash import MinhashConfig
    from datatrove.pipeline.filters import GopherRepetitionFilter
    from datatrove.pipeline.readers import JsonlReader
    from datatrove.pipeline.writers import JsonlWriter
    from datatrove.utils.word_tokenizers import load_word_tokenizer

    load_word_tokenizer("en").word_tokenize("Loaded before anything is measured.")

    def run(*steps: list[Any], tasks: int = 1) -> float:
        started = time.process_time()
        for number, pipeline in enumerate(steps):
            logs = str(output / f"logs{time.time_ns()}{number}")
            LocalPipelineExecutor(pipeline=pipeline, tasks=tasks, workers=1, logging_dir=logs).run()
        return time.process_time() - started

    def reader(folder: Path, key: str) -> Any:
        return JsonlReader(str(folder), text_key=key, id_key="id", glob_pattern="*.jsonl")

    def writer(folder: Path) -> Any:
        return JsonlWriter(str(folder), output_filename="${rank}.jsonl", compression=None)

    kept, left = output / "kept", output / "left"
    found = {"repetition": {"cpu": run([reader(source.parent, "document"), GopherRepetitionFilter(), writer(kept)])}}
    found["repetition"]["gone"] = sorted(set(ids(source.parent)) - set(ids(kept)))
    config = MinhashConfig()
    parts = [str(output / name) for name in ("signatures", "buckets", "removed")]
    cpu = run([reader(kept, "text"), MinhashDedupSignature(output_folder=parts[0], config=config)])
    cpu += run([MinhashDedupBuckets(parts[0], parts[1], config=config)], tasks=config.num_buckets)
    cpu += run(
        [MinhashDedupCluster(parts[1], parts[2], config=config)],
        [reader(kept, "text"), MinhashDedupFilter(parts[2]), writer(left)],
    )
    found["near_duplicates"] = {"cpu": cpu, "gone": sorted(set(ids(kept)) - set(ids(left)))}
    return found


if __name__ == "__main__":
    print(json.dumps(main(Path(sys.argv[1]), Path(sys.argv[2]))))
