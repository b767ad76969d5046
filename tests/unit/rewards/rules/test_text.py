"""What is a chemical formula and what is algebra, and which words keep their case."""

from __future__ import annotations

import pytest

from rewards.rules.text import ELEMENTS, chemical_key, text_key


def test_all_elements_are_known() -> None:
    assert len(ELEMENTS) == 118


@pytest.mark.parametrize(
    ("text", "key"),
    [
        ("H_2SO_4", "H2SO4"),
        ("C_6H_{12}O_6", "C6H12O6"),
        ("NaCl", "NaCl"),
        ("Fe^{3+}", "Fe^3+"),
        ("Fe3+", "Fe^3+"),
        ("SO_4^2-", "SO4^2-"),
        ("NH4+", "NH4^+"),
        ("H_2^+", "H2^+"),
        ("2H2 + O2 → 2H_2O", "2H2+O2=2H2O"),
        ("Ag+ + Cl- = AgCl", "Ag^++Cl^-=AgCl"),
    ],
)
def test_formulas(text: str, key: str) -> None:
    assert chemical_key(text) == key


@pytest.mark.parametrize(
    "text", ["A^2", "A_2", "N^2", "CO^2", "2N", "2Na", "N_1", "I^2R", "B_2+C_2", "F_1=F_2", "R_2", "PV", "no", "Paris"]
)
def test_algebra_and_words_are_no_formulas(text: str) -> None:
    assert chemical_key(text) == ""


def test_case_tells_one_element_from_two_but_not_words() -> None:
    assert text_key("CO") != text_key("Co")
    assert text_key("NO") == text_key("No") == text_key("no")
    assert text_key("PARIS") == text_key("Paris")
