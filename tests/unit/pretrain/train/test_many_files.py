"""The same rows in tars, Parquet files and one JSONL are the same training data: sizes, plans, packs, resumes."""

from __future__ import annotations

import json
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pangu_rl.data.files.row_files import open_rows
from pangu_rl.errors import DataError
from pretrain.train.loader import PackLoader
from pretrain.train.measure import write_sizes
from pretrain.train.order import PackOrder
from pretrain.train.run import open_order
from tests.unit.data.files.test_webdataset import shard
from tests.unit.pretrain.train.builders import plan, stage, write_rows


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """24 rows as `rows.jsonl`, and again: 10 in two tars with their pictures, 14 in a folder of two Parquet files."""
    home = tmp_path_factory.mktemp("rows")
    rows = [json.loads(line) for line in write_rows(home).read_text().splitlines()]
    for name, part in (("0.tar", rows[:6]), ("1.tar", rows[6:10])):
        files = {}
        for row in part:
            files[f"{row['id']}.json"] = json.dumps({k: v for k, v in row.items() if k != "images"}).encode()
            for number, image in enumerate(row["images"]):
                files[f"{row['id']}.{number}.png"] = (home / "media" / image).read_bytes()
        shard(home / "media" / name, files)
    (home / "tables").mkdir()
    for name, part in (("0.parquet", rows[10:17]), ("1.parquet", rows[17:])):
        pq.write_table(pa.Table.from_pylist(part), home / "tables" / name, row_group_size=3)
    return home


def spread(folder: Path, model: Path, **data: str):
    train = [str(folder / "media" / "0.tar"), str(folder / "media" / "1.tar"), str(folder / "tables")]
    return stage(folder, model, data={"train": train, "media_root": str(folder / "media")} | data)


def test_rows_of_many_files_make_the_packs_of_one(folder, tiny_vl_model):
    one, many = (
        PackLoader(config, open_rows(config.data.row_paths(), on_bad_row="refuse"))
        for config in (stage(folder, tiny_vl_model), spread(folder, tiny_vl_model))
    )
    assert len(many.files) == len(one.files) == 24
    for index in range(len(one.files)):
        assert many.files.uid(index) == one.files.uid(index)
        assert many.files.source(index) == one.files.source(index)
        [ours], [theirs] = (loader.load([PackOrder((index,), 0.0)])[0] for loader in (many, one))
        assert ours.token_ids.tolist() == theirs.token_ids.tolist()
        assert [picture.sha256 for picture in ours.pictures] == [picture.sha256 for picture in theirs.pictures]


def test_their_plan_is_the_same_plan_and_a_resume_follows_it(folder, tiny_vl_model, tmp_path):
    one, many = stage(folder, tiny_vl_model), spread(folder, tiny_vl_model)
    for config, name in ((one, "one"), (many, "many")):
        write_sizes(config, tmp_path / f"{name}.parquet")
    assert (tmp_path / "one.parquet").read_bytes() == (tmp_path / "many.parquet").read_bytes()
    made = str(plan(many, tmp_path))

    def order(config):
        return open_order(config, PackLoader(config, open_rows(config.data.row_paths(), on_bad_row="refuse")))

    of_many, of_one = (
        order(spread(folder, tiny_vl_model, plan=made)),
        order(
            stage(
                folder,
                tiny_vl_model,
                data={"train": str(folder / "rows.jsonl"), "media_root": str(folder / "media"), "plan": made},
            )
        ),
    )
    assert of_many.next_batch() == of_one.next_batch()
    again = order(spread(folder, tiny_vl_model, plan=made))
    again.load_state_dict(json.loads(json.dumps(of_many.state_dict())))
    assert [again.next_batch() for _ in range(4)] == [of_many.next_batch() for _ in range(4)]
    with pytest.raises(DataError, match="made with data of digest"):
        of_one.load_state_dict(of_many.state_dict())
