"""Names and lengths: a module, a function and a folder can be read at a sitting, and are called what they are."""

import ast
import re
from collections import Counter

import pytest

from tests.fixtures.project import PROJECT
from tests.project.modules import FILES, tree

VAGUE = {"utils", "util", "helpers", "helper", "common", "misc", "base", "manager", "tools", "shared", "core"}
PRIVATE_MODULES = {
    *("ahead", "borders", "cartography", "casting", "catching", "colours", "cores", "curve", "follow", "ground"),
    *("handover", "interrupt", "judge", "line", "logbook", "places", "pulling", "reports", "scenery", "timing"),
}
"""Former private names of modules."""
PRIVATE_WORDS = {
    *("appoint", "follower", "gracefully", "handover", "impatient", "judge", "judgement", "jury", "logbook"),
    *("noticing", "said", "tell", "tells", "told", "verdict"),
}
"""Words that no function, class, argument or variable is called by, apart from ALLOWED."""
ALLOWED = {"judgement"}
"""The key of a promotion's artifact, which readers of earlier ones know."""
BEGINNINGS = {
    ast.Module: r"(What|How|That|Who|Where|Which|When|Why)\b",
    ast.ClassDef: r"(What|How|That|Who|Where|Which|When|Why)\b",
    ast.FunctionDef: r"(What|How|That|Who|Where|Which|When|Why|Tell|Say|Let)\b",
}
"""Forbidden beginnings of docstrings: modules and classes name the thing, functions begin with an imperative."""
MAX_MODULES, MAX_FILE, MAX_FUNCTION = 14, 300, 60
TEST_FILES = sorted(str(path.relative_to(PROJECT)) for path in (PROJECT / "tests").rglob("*.py"))


def relative(path):
    return str(path.relative_to(PROJECT))


def test_module_names_are_unique_across_the_packages():
    modules = [module for module, path in FILES.items() if path.name not in ("__init__.py", "__main__.py")]
    names = [module.rpartition(".")[2] for module in modules]
    assert sorted(names) == sorted(set(names))


def test_no_name_is_vague():
    words = {module: set(module.rpartition(".")[2].split("_")) for module in FILES}
    assert not {module for module, parts in words.items() if parts & VAGUE}


def test_no_module_has_its_old_private_name():
    assert not {module for module in FILES if module.rpartition(".")[2] in PRIVATE_MODULES}


@pytest.mark.parametrize("path", [*FILES.values(), *(PROJECT / name for name in TEST_FILES)], ids=relative)
def test_no_name_is_private_language(path):
    found = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        names = [getattr(node, field, None) for field in ("name", "id", "arg", "attr", "asname")]
        found |= {name for name in names if isinstance(name, str)}
    words = {name: set(re.findall(r"[A-Z]?[a-z]+", name)) for name in found - ALLOWED if not name.startswith("test_")}
    assert {name for name, parts in words.items() if {part.lower() for part in parts} & PRIVATE_WORDS} == set()


@pytest.mark.parametrize("path", [*FILES.values(), *(PROJECT / name for name in TEST_FILES)], ids=relative)
def test_docstrings_name_the_thing_or_what_is_done(path):
    tree = ast.parse(path.read_text(encoding="utf-8"))
    wrong = {
        ast.get_docstring(node).splitlines()[0]
        for node in ast.walk(tree)
        for kind, pattern in BEGINNINGS.items()
        if isinstance(node, kind) and re.match(pattern, ast.get_docstring(node) or "")
    }
    assert wrong == set()


def test_a_folder_holds_few_modules():
    counts = Counter(str(path.parent.relative_to(PROJECT)) for path in FILES.values() if path.name != "__init__.py")
    assert {folder: count for folder, count in counts.items() if count > MAX_MODULES} == {}


@pytest.mark.parametrize("module", FILES)
def test_a_file_can_be_read_at_a_sitting(module):
    assert len(FILES[module].read_text(encoding="utf-8").splitlines()) <= MAX_FILE


@pytest.mark.parametrize("name", TEST_FILES)
def test_a_test_file_can_be_read_at_a_sitting(name):
    assert len((PROJECT / name).read_text(encoding="utf-8").splitlines()) <= MAX_FILE


@pytest.mark.parametrize("module", FILES)
def test_a_function_fits_on_a_screen(module):
    lengths = {
        node.name: node.end_lineno - node.lineno + 1
        for node in ast.walk(tree(module))
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
    }
    assert {name: length for name, length in lengths.items() if length > MAX_FUNCTION} == {}


@pytest.mark.parametrize("module", FILES)
def test_an_init_file_holds_one_sentence(module):
    if FILES[module].name == "__init__.py":
        [sentence] = tree(module).body
        assert re.fullmatch(r"[A-Z].*\.", ast.get_docstring(tree(module))) and sentence.lineno == sentence.end_lineno


@pytest.mark.parametrize("module", FILES)
def test_nothing_is_caught_unnamed(module):
    assert not [
        node.lineno for node in ast.walk(tree(module)) if isinstance(node, ast.ExceptHandler) and node.type is None
    ]


def test_the_scale_of_pixels_stands_in_one_place():
    numbers = {
        module
        for module in FILES
        for node in ast.walk(tree(module))
        if isinstance(node, ast.Constant) and node.value == 127.5
    }
    assert numbers == {"model.pixels"}
