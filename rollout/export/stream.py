"""Selected rows with their wide columns, in the order of export. SQL over positions -> **batches**.

Only the parts of shards that hold a selected row are read, and a bounded number of rows is in memory at a time.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.dataset as ds

from rollout.export.catalogue import Catalogue, StoredShard
from rollout.schema import SCHEMA
from rollout.shards import ROW_GROUP

SELECTION_ROWS = 20_000
"""Narrow rows that are fetched from DuckDB at once."""


class _Selection:
    """A sorted result that is read up to a position, and then on from there."""

    def __init__(self, reader: pa.RecordBatchReader) -> None:
        self._reader = reader
        self._rest = reader.schema.empty_table()

    def reaches(self, stop: int) -> bool:
        """Whether a row before position `stop` is left."""
        while not self._rest.num_rows:
            try:
                self._rest = pa.Table.from_batches([self._reader.read_next_batch()])
            except StopIteration:
                return False
        return self._rest["position"][0].as_py() < stop

    def until(self, stop: int) -> pa.Table:
        """The rows before position `stop` that were not taken yet."""
        taken = []
        while self.reaches(stop):
            count = pc.sum(pc.less(self._rest["position"], stop)).as_py()
            taken.append(self._rest.slice(0, count))
            self._rest = self._rest.slice(count)
        return pa.concat_tables(taken) if taken else self._rest.schema.empty_table()


def in_order(
    catalogue: Catalogue, query: str, columns: Sequence[str]
) -> Iterator[tuple[StoredShard, pa.Table, pa.RecordBatch]]:
    """The result of `query` (a column `position`, ascending), in pieces, each beside its rows with `columns`."""
    cursor = catalogue.connection.cursor()
    selection = _Selection(cursor.sql(query).to_arrow_reader(SELECTION_ROWS))
    for stored in catalogue.shards:
        if not selection.reaches(stored.start + stored.rows):
            continue
        start = stored.start
        for batch in _touched_batches(stored, selection, list(columns)):
            if isinstance(batch, int):  # rows that nothing was selected of
                start += batch
                continue
            chosen = selection.until(start + batch.num_rows)
            if chosen.num_rows:
                yield stored, chosen, batch.take(pc.subtract(chosen["position"].combine_chunks(), start))
            start += batch.num_rows


def _touched_batches(stored: StoredShard, selection: _Selection, columns: list[str]) -> Iterator[pa.RecordBatch | int]:
    """Batches of the shard in order; of a row group without a selected row only its number of rows."""
    fragment = next(ds.dataset(str(stored.shard.path), schema=SCHEMA, format="parquet").get_fragments())
    stop = stored.start
    for group in fragment.row_groups:
        stop += group.num_rows
        if not selection.reaches(stop):
            yield group.num_rows
            continue
        part = fragment.subset(row_group_ids=[group.id])
        yield from part.to_batches(schema=SCHEMA, columns=columns, batch_size=ROW_GROUP, batch_readahead=1)
