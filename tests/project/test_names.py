"""Names and lengths: a module, a function and a folder can be read at a sitting, and are called what they are."""

import ast
import re
from collections import Counter

from tests.fixtures.project import PROJECT
from tests.project.modules import FILES, parsed, tree

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
EVERYTHING = [*FILES.values(), *sorted((PROJECT / "tests").rglob("*.py"))]
"""The files of the packages and the tests."""


def offenders(find, paths=EVERYTHING):
    """Return what a function finds wrong in files, by their names."""
    return {str(path.relative_to(PROJECT)): found for path in paths if (found := find(path))}


def test_module_names_are_unique_across_the_packages():
    modules = [module for module, path in FILES.items() if path.name not in ("__init__.py", "__main__.py")]
    names = [module.rpartition(".")[2] for module in modules]
    assert sorted(names) == sorted(set(names))


def test_no_name_is_vague():
    words = {module: set(module.rpartition(".")[2].split("_")) for module in FILES}
    assert not {module for module, parts in words.items() if parts & VAGUE}


def test_no_module_has_its_old_private_name():
    assert not {module for module in FILES if module.rpartition(".")[2] in PRIVATE_MODULES}


def test_no_name_is_private_language():
    def private_names(path):
        found = set()
        for node in ast.walk(parsed(path)):
            names = [getattr(node, field, None) for field in ("name", "id", "arg", "attr", "asname")]
            found |= {name for name in names if isinstance(name, str) and not name.startswith("test_")}
        words = {name: {part.lower() for part in re.findall(r"[A-Z]?[a-z]+", name)} for name in found - ALLOWED}
        return {name for name, parts in words.items() if parts & PRIVATE_WORDS}

    assert offenders(private_names) == {}


def test_docstrings_name_the_thing_or_what_is_done():
    def wrong_docstrings(path):
        documented = [node for node in ast.walk(parsed(path)) if isinstance(node, tuple(BEGINNINGS))]
        texts = [(ast.get_docstring(node) or "", BEGINNINGS[type(node)]) for node in documented]
        return {text.splitlines()[0] for text, pattern in texts if re.match(pattern, text)}

    assert offenders(wrong_docstrings) == {}


def test_a_folder_holds_few_modules():
    counts = Counter(str(path.parent.relative_to(PROJECT)) for path in FILES.values() if path.name != "__init__.py")
    assert {folder: count for folder, count in counts.items() if count > MAX_MODULES} == {}


def test_a_file_can_be_read_at_a_sitting():
    def too_long(path):
        lines = len(path.read_text(encoding="utf-8").splitlines())
        return lines if lines > MAX_FILE else None

    assert offenders(too_long) == {}


def test_a_function_fits_on_a_screen():
    def long_functions(path):
        functions = [
            node for node in ast.walk(parsed(path)) if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
        ]
        return {node.name for node in functions if node.end_lineno - node.lineno >= MAX_FUNCTION}

    assert offenders(long_functions, FILES.values()) == {}


def test_an_init_file_holds_one_sentence():
    for module, path in FILES.items():
        if path.name == "__init__.py":
            [sentence] = tree(module).body
            assert re.fullmatch(r"[A-Z].*\.", ast.get_docstring(tree(module))), module
            assert sentence.lineno == sentence.end_lineno, module


def test_nothing_is_caught_unnamed():
    def bare(path):
        return [node.lineno for node in ast.walk(parsed(path)) if isinstance(node, ast.ExceptHandler) and not node.type]

    assert offenders(bare, FILES.values()) == {}


def test_the_scale_of_pixels_stands_in_one_place():
    numbers = {
        module
        for module in FILES
        for node in ast.walk(tree(module))
        if isinstance(node, ast.Constant) and node.value == 127.5
    }
    assert numbers == {"model.pixels"}
