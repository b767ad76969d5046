"""The grammar of appendix A: what is written is read back, and what is not of it is refused by name."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pangu_rl.grounding_labels import (
    BadLabel,
    Label,
    Shape,
    box,
    label_problem,
    placed_labels,
    read_labels,
    shapes_of,
    write_label,
)
from pangu_rl.records import GROUNDING_TAGS

CAT = "<|object_ref_start|>cat<|object_ref_end|>"
BOX = "<|box_start|>(012,034),(250,999)<|box_end|>"
QUAD = "<|quad_start|>(000,000),(999,000),(999,999),(000,999)<|quad_end|>"
corner = st.tuples(st.integers(0, 999), st.integers(0, 999))
shapes = st.one_of(
    corner.map(lambda one: Shape("point", (one,))),
    st.tuples(corner, corner, corner, corner).map(lambda four: Shape("quad", four)),
    st.tuples(*[st.integers(0, 998)] * 2, *[st.integers(1, 999)] * 2).map(
        lambda n: box((n[0], n[1], max(n[0] + 1, n[2]), max(n[1] + 1, n[3])))
    ),
)


def test_a_label_is_written_as_in_the_appendix() -> None:
    label = Label((box((12, 34, 250, 999)), Shape("point", ((8, 9),))), "cat")
    assert write_label(label) == f"{CAT}{BOX}<|point_start|>(008,009)<|point_end|>"
    assert write_label(Label((), "unicorn")) == "<|object_ref_start|>unicorn<|object_ref_end|>"
    assert write_label(Label((Shape("quad", ((0, 0), (999, 0), (999, 999), (0, 999))),))) == QUAD
    assert all(tag in GROUNDING_TAGS for tag in ("<|quad_start|>", "<|point_end|>", "<|object_ref_end|>"))


@given(st.lists(st.builds(Label, st.lists(shapes, min_size=1, max_size=4).map(tuple), st.none() | st.just("a dog"))))
def test_what_is_written_is_read_back(labels: list[Label]) -> None:
    text = " and ".join(map(write_label, labels))
    assert read_labels(text) == labels
    assert label_problem(text) is None


def test_labels_stand_within_sentences() -> None:
    text = f"There is {CAT}{BOX} 2.5 m, and {BOX}{QUAD}."
    (one, said), (other, rest) = placed_labels(text)
    assert (one.name, [shape.kind for shape in one.shapes], said) == ("cat", ["box"], " 2.5 m, and ")
    assert (other.name, [shape.kind for shape in other.shapes], rest) == (None, ["box", "quad"], ".")
    assert [shape.kind for shape in shapes_of([one, other], "box")] == ["box", "box"]
    assert read_labels("nothing there") == []


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("<|box_start|>(1,2),(3,4)", "is no name, point, box or quad"),
        ("<|box_start|>(1,2)<|box_end|>", "is no name, point, box or quad"),
        ("<|box_start|>(1, 2),(3,4)<|box_end|>", "is no name, point, box or quad"),
        ("<|box_start|>(1,2),(1,4)<|box_end|>", "has no area"),
        ("<|point_start|>(1000,2)<|point_end|>", "is no name, point, box or quad"),
        ("a <|quad_end|>", "at sign 2"),
        (f"<|object_ref_start|>cat {BOX}<|object_ref_end|>", "has a tag in it"),
    ],
)
def test_what_is_no_label_is_refused(text: str, message: str) -> None:
    with pytest.raises(BadLabel, match=message):
        read_labels(text)
    assert message in str(label_problem(text))


def test_data_must_have_three_digits() -> None:
    """Graders read `(8,9)`; curation does not write it."""
    assert read_labels("<|point_start|>(8,9)<|point_end|>") == [Label((Shape("point", ((8, 9),)),))]
    assert "(008,009)" in str(label_problem("<|point_start|>(8,9)<|point_end|>"))


def test_data_has_no_space_within_a_label() -> None:
    """It would read as a name that is not there, and a box without one."""
    assert "a space stands between" in str(label_problem(f"{CAT} {BOX}"))
    assert "a space stands between" in str(label_problem(f"{BOX} {BOX}"))
    assert label_problem(f"{CAT} {CAT}{BOX}, {BOX}") is None


def test_what_cannot_be_written() -> None:
    with pytest.raises(BadLabel, match="says nothing"):
        write_label(Label(()))
    with pytest.raises(BadLabel, match="spells a tag"):
        write_label(Label((), "a<|box_end|>"))
    with pytest.raises(BadLabel, match="leaves 0 to 999"):
        Shape("point", ((5, 1000),))
