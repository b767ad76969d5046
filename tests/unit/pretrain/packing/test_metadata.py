"""A file of sizes is counted right, in every form a column may have, or refused in one line that names the row."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pytest

from pangu_rl.errors import DataError
from pretrain.packing.cost import OPENPANGU_VIT
from pretrain.packing.metadata import file_sha256, read_metadata
from tests.unit.pretrain.packing.builders import config, write_rows

TWO = {"id": ["a", "b"], "text_tokens": [10, 5]}


def test_costs_by_hand(tmp_path):
    """Text 10. One 224 x 224 picture: 5 + 64 + 2. Two of 4 and 576 tokens: 0 + 4 + 2 + 576 + 2. A video of 3 frames of
    256 tokens: 1 + 768 + 2 around it + 2 between each two frames."""
    path = write_rows(
        tmp_path / "m.parquet",
        id=[7, 8, 9, 10],
        text_tokens=[10, 5, 0, 1],
        width=[[], [224], [56, 672], [720]],
        height=[None, [224], [56, 672], [720]],
        frames=[None, [0], [], [3]],
        source=pa.array(["t", "v", None, "v"]).dictionary_encode(),
    )
    found = read_metadata(path, config())
    assert found.tokens.tolist() == [10, 71, 584, 775]
    assert found.visual_tokens.tolist() == [0, 64, 580, 768]
    one = OPENPANGU_VIT.flops(4 * np.array([64, 4, 576, 256]), np.array([1, 1, 1, 3]))
    assert found.visual_flops.tolist() == [0, one[0], one[1] + one[2], one[3]]
    assert [found.sources[index] for index in found.source] == ["t", "v", "", "v"]
    assert found.ids.to_pylist() == [7, 8, 9, 10]
    assert found.sha256 == file_sha256(path)


def test_numbers_and_lists_of_one_are_the_same(tmp_path):
    columns = {"id": ["a", "b", "c"], "text_tokens": [10, 5, 5]}
    plain = write_rows(tmp_path / "p", **columns, width=[0, 640.0, 320], height=[0, 480, 320], frames=[0, None, 4])
    lists = write_rows(
        tmp_path / "l", **columns, width=[[], [640], [320]], height=[[], [480], [320]], frames=[[], [], [4]]
    )
    found, other = (read_metadata(path, config()) for path in (plain, lists))
    assert found.tokens.tolist() == other.tokens.tolist()
    assert found.visual_flops.tolist() == other.visual_flops.tolist()


def test_duration_and_fps_give_the_frames(tmp_path):
    sizes = {"width": [320] * 2, "height": [320] * 2}
    timed = write_rows(tmp_path / "t", **TWO, **sizes, duration=[9.0, 4.9], fps=[1.0, 2.0])
    counted = write_rows(tmp_path / "c", **TWO, **sizes, frames=[10, 10])
    assert read_metadata(timed, config()).tokens.tolist() == read_metadata(counted, config()).tokens.tolist()
    single = write_rows(tmp_path / "s", **TWO, width=[320, 0], height=[320, 0], duration=[0.0, 0.0], fps=[2.0, 2.0])
    assert read_metadata(single, config()).visual_tokens.tolist() == [144, 0], "one frame; as a still picture 121"
    assert read_metadata(timed, config(max_frames=5)).tokens[0] < read_metadata(timed, config()).tokens[0]


def test_the_pixel_limits_are_obeyed(tmp_path):
    path = write_rows(tmp_path / "m", width=[1344], height=[1344])
    assert read_metadata(path, config(max_pixels=224**2)).visual_tokens.tolist() == [64]


BAD = [
    ({"text_tokens": [10, -5]}, "row 2: id 'b', text_tokens -5: must be a whole number"),
    ({"text_tokens": [10, None]}, "row 2: id 'b', text_tokens None: must not be null"),
    ({"text_tokens": [float("nan"), 5]}, "row 1: id 'a', text_tokens nan: must be a whole number"),
    ({"text_tokens": [10, 5.5]}, "text_tokens 5.5: must be a whole number"),
    ({"text_tokens": ["10", "5"]}, "column text_tokens holds string, not numbers"),
    ({"text_tokens": [0, 0]}, "row 1: id 'a': has neither text nor pictures (1 more rows like it)"),
    ({"id": ["a", "a"]}, "row 2: id 'a': repeats the id of an earlier row"),
    ({"id": ["a", None]}, "row 2: id None, text_tokens 5: has no id"),
    ({"id": [0.5, 1.5]}, "column id holds double"),
    ({"source": [1, 2]}, "column source holds int64, not text"),
    ({"width": [0, -3]}, "row 2: id 'b', width -3: must be whole numbers from 0 to 65535"),
    ({"width": [0, 70_000], "height": [0, 70_000]}, "width 70000: must be whole numbers from 0 to 65535"),
    ({"width": [float("inf"), 1], "height": [3.0, 1]}, "width inf: must be whole numbers"),
    ({"width": [0, 30]}, "width 30, height 0: must both be 0 or neither"),
    ({"width": [0, 4020], "height": [0, 20]}, "width 4020, height 20: differ by more than 200 times"),
    ({"width": [[], [5, 5]], "height": [[], [5]]}, "width [5, 5], height [5]: must be as many widths as heights"),
    ({"frames": [0, 4]}, "width 0, height 0: must be those of the video's frames"),
    ({"width": [0, 9], "height": [0, 9], "frames": [0, 1.5]}, "frames 1.5: must be whole numbers"),
    ({"width": [[], [9, 9]], "height": [[], [9, 9]], "frames": [0, 4]}, "frames 4: must be as many frames as widths"),
    ({"width": [0, 9], "height": [0, 9], "duration": [0, 3.0]}, "duration 3.0: needs the fps to sample at"),
    ({"width": [0, 9], "height": [0, 9], "duration": [0, 1e9], "fps": [0, 2]}, "are over 1000000 frames"),
    ({"width": [0, 9], "height": [0, 9], "duration": [0, -1.0]}, "duration -1.0: must be numbers from 0"),
]


@pytest.mark.parametrize(("columns", "message"), BAD)
def test_bad_rows_are_named(tmp_path, columns, message):
    path = write_rows(tmp_path / "m.parquet", **{**TWO, "width": [0, 0], "height": [0, 0], **columns})
    with pytest.raises(DataError) as caught:
        read_metadata(path, config())
    assert message in str(caught.value)
    assert str(path) in str(caught.value) and "\n" not in str(caught.value)


def test_files_that_are_no_metadata(tmp_path):
    with pytest.raises(DataError, match="no such file"):
        read_metadata(tmp_path / "none", config())
    (tmp_path / "text").write_text("id,text_tokens\n")
    with pytest.raises(DataError, match="no Parquet file that can be read"):
        read_metadata(tmp_path / "text", config())
    with pytest.raises(DataError, match="has no rows"):
        read_metadata(write_rows(tmp_path / "empty", id=[], text_tokens=[], width=[], height=[]), config())
    with pytest.raises(DataError, match="column height is missing; it has id, text_tokens, width, size"):
        table = pa.table({"id": ["a"], "text_tokens": [1], "width": [0], "size": [0]})
        pa.parquet.write_table(table, tmp_path / "short")
        read_metadata(tmp_path / "short", config())
