"""No line of ours makes code of data: nothing is evaluated, unpickled or handed to a shell."""

from __future__ import annotations

import ast

import pytest

from tests.contracts.source_tree import ROOT, parse, place, sources

ALLOWED = {
    "rewards/child_main.py": {"pickle.loads"},  # what the process that started it has pickled
    "pangu_rl/config/yaml_text.py": {"yaml.load"},  # by a loader of its own, below yaml.SafeLoader
}
EVALUATE = {"eval", "exec", "compile", "__import__", "sympify", "parse_expr", "sympy.sympify"}
UNPICKLE = {"pickle.load", "pickle.loads", "pickle.Unpickler", "cloudpickle.load", "cloudpickle.loads", "marshal.loads"}
OTHER = {"yaml.load", "yaml.full_load", "yaml.unsafe_load", "os.system", "os.popen"}
INSECURE = "VLLM_ALLOW_INSECURE_SERIALIZATION"


def found(tree: ast.AST) -> list[tuple[ast.Call, str]]:
    """Calls that make code of their argument, and what they call."""
    calls = [(node, ast.unparse(node.func)) for node in ast.walk(tree) if isinstance(node, ast.Call)]
    return [(node, name) for node, name in calls if name in EVALUATE | UNPICKLE | OTHER or _is_unsafe(node, name)]


def _is_unsafe(node: ast.Call, name: str) -> bool:
    given = {keyword.arg: ast.unparse(keyword.value) for keyword in node.keywords}
    if name == "torch.load":
        return given.get("weights_only") != "True"
    return given.get("shell") == "True" or given.get("allow_pickle") == "True"


def test_nothing_of_data_becomes_code():
    wrong = []
    for path in sources():
        allowed = ALLOWED.get(path.relative_to(ROOT).as_posix(), set())
        wrong += [f"{place(path, node)} calls {name}" for node, name in found(parse(path)) if name not in allowed]
    assert not wrong


def test_pickles_of_vllm_s_workers_stay_off():
    assert not [path for path in sources() if INSECURE in path.read_text(encoding="utf-8")]


@pytest.mark.parametrize(
    ("line", "calls"),
    [
        ("eval(answer)", 1),
        ("model.eval()", 0),
        ("pickle.loads(x)", 1),
        ("torch.load(path)", 1),
        ("torch.load(path, weights_only=False)", 1),
        ("torch.load(path, weights_only=True)", 0),
        ("np.load(path, allow_pickle=True)", 1),
        ("subprocess.run(x, shell=True)", 1),
        ("yaml.load(text, Loader=Loader)", 1),
        ("re.compile(x)", 0),
    ],
)
def test_the_check_itself(line: str, calls: int):
    assert len(found(ast.parse(line))) == calls
