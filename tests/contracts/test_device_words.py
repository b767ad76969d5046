"""Device logic has one room: elsewhere no string names a device or its communication library."""

from __future__ import annotations

import ast
import re

import pytest

from tests.contracts.source_tree import ROOT, imports, parse, place, sources

WORDS = re.compile(r"\b(cuda|nccl|hccl|npu)\b", re.IGNORECASE)
ATTRIBUTES = {"cuda", "npu"}
EXEMPT = {"pangu_rl/config/sections/trainer.py"}
"""The schema lists the devices that a user may name."""


def device_words(tree: ast.Module) -> list[tuple[ast.AST, str]]:
    """String literals that name a device (docstrings may), and attributes such as `torch.cuda` or `tensor.npu()`."""
    prose = {
        id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)
    }
    found = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in prose:
            if WORDS.search(node.value):
                found.append((node, repr(node.value)))
        elif isinstance(node, ast.Attribute) and node.attr in ATTRIBUTES:
            found.append((node, ast.unparse(node)))
    return found


KERNELS = {"flash_attn", "liger_kernel", "xformers", "bitsandbytes", "triton", "apex"}
"""Packages of kernels that one kind of device has."""


def device_code(tree: ast.Module) -> list[tuple[ast.AST, str]]:
    """Imports of such packages, and `torch.jit.script`, which torch-npu's compatibility layer takes away."""
    found = [(node, name) for node, name in imports(tree) if name.partition(".")[0] in KERNELS]
    attributes = (node for node in ast.walk(tree) if isinstance(node, ast.Attribute))
    return found + [(node, name) for node in attributes if (name := ast.unparse(node)) == "torch.jit.script"]


def test_no_code_needs_the_kernels_of_one_kind_of_device():
    found = [f"{place(path, node)}: {name}" for path in sources() for node, name in device_code(parse(path))]
    assert not found, "\n".join(found)


@pytest.mark.parametrize(
    "code", ["from flash_attn import flash_attn_func", "import triton.language", "torch.jit.script(f)"]
)
def test_the_check_of_kernels_itself(code):
    assert len(device_code(ast.parse(code))) == 1


def test_devices_are_named_in_accelerators_only():
    complaints = []
    for path in sources():
        file = path.relative_to(ROOT).as_posix()
        if file.startswith("pangu_rl/accelerators/") or file in EXEMPT:
            continue
        for node, word in device_words(parse(path)):
            complaints.append(f"{place(path, node)}: {word}: ask the Accelerator record instead")
    assert not complaints, "\n".join(complaints)


@pytest.mark.parametrize(
    ("code", "count"),
    [
        ('"""cuda is a word in a docstring."""', 0),
        ('device = "cuda:0"', 1),
        ('backend = "cpu:gloo,npu:hccl"', 1),
        ("torch.cuda.synchronize()", 1),
        ("tensor.npu()", 1),
        ('name = "input"', 0),
    ],
)
def test_the_check_itself(code, count):
    assert len(device_words(ast.parse(code))) == count
