"""The documentation: links, commands, options, settings and paths that it shows exist."""

import re
import shlex
from itertools import pairwise

import pytest
import yaml
from typer.main import get_command, get_group

from pipelines.cli.main import app
from pipelines.config.loading import load
from pipelines.config.schema import RunConfig
from tests.fixtures.project import PROJECT
from tests.project.modules import FILES

PAGES = ["README.md", *(f"docs/{path.name}" for path in sorted((PROJECT / "docs").glob("*.md")))]
PAGES += [f"infra/benchmarks/{path.name}" for path in sorted((PROJECT / "infra/benchmarks").glob("*.md"))]
VERBS = get_group(app).commands
SETTINGS = {".".join(key.split(".")[:depth]) for key in RunConfig().flat() for depth in (1, 2, 3)}
NOT_SETTINGS = {"evaluation.loses_to", "tune.json"}
"""A tag of MLflow and a file, which look like settings."""
OF_MLFLOW = {"--env-manager"}
ALL_PAGES = pytest.mark.parametrize("page", PAGES)


def read(page):
    return (PROJECT / page).read_text(encoding="utf-8")


def prose(page):
    """Return a page without its fenced blocks."""
    return re.sub(r"^```.*?^```$", "", read(page), flags=re.MULTILINE | re.DOTALL)


def inline_code(page):
    return re.findall(r"`([^`\n]+)`", prose(page))


def shell_commands(page):
    """Return the commands in a page's shell blocks, each as a list of words."""
    found = []
    for block in re.findall(r"^```sh\n(.*?)^```$", read(page), re.MULTILINE | re.DOTALL):
        for line in block.replace("\\\n", " ").splitlines():
            words = shlex.split(line, comments=True)
            found += [list(part) for part in _split_at(words, "&&")]
    return [words for words in found if words]


def commands(page):
    """Return all shown commands: those in shell blocks, and inline ones such as `train --resume ID`."""
    found = shell_commands(page)
    for code in inline_code(page):
        words = code.split() if code.count('"') % 2 or "'" in code else shlex.split(code)
        if "sat2map" in words or "--set" in words or words[:2] == ["mlflow", "run"]:
            found.append(words)
        elif words[0] in VERBS and len(words) > 1:
            found.append(["sat2map", *words])
    return found


def sat2map_commands(page):
    """Return what follows `sat2map`, unless that is a placeholder; what `submit` sends counts as a command too."""
    calls = [words[words.index("sat2map") + 1 :] for words in commands(page) if "sat2map" in words[:-1]]
    for call in calls:
        if call[0].isupper():
            continue
        before, *after = _split_at(call, "--")
        yield from (before, *after)


def settings(words):
    """Return the values of `--set`, and of `-P set=` of `mlflow run`, without placeholders."""
    pairs = list(pairwise(words))
    found = [value for option, value in pairs if option == "--set" and not value.isupper()]
    return found + [value.removeprefix("set=") for option, value in pairs if option == "-P" and value[:4] == "set="]


def options(command):
    shown = [option for option in command.params if not option.hidden]
    return {"--help"} | {name for option in shown for name in option.opts if name.startswith("-")}


def anchors(page):
    """Return the anchors that GitHub gives to a page's headings."""
    headings = re.findall(r"^#+ (.+)$", prose(page), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def _split_at(words, separator):
    parts = [[]]
    for word in words:
        if word == separator:
            parts.append([])
        else:
            parts[-1].append(word)
    return parts


@ALL_PAGES
def test_links_lead_somewhere(page):
    text = prose(page)
    targets = re.findall(r"\]\(([^)\s]+)\)", text) + re.findall(r'src="([^"]+)"', text)
    for target in targets:
        if target.startswith("https://"):
            continue
        path, _, anchor = target.partition("#")
        linked = ((PROJECT / page).parent / path).resolve() if path else PROJECT / page
        assert linked.is_relative_to(PROJECT) and linked.exists(), target
        if anchor:
            assert anchor in anchors(linked.relative_to(PROJECT)), target


@ALL_PAGES
def test_paths_exist(page):
    for path in re.findall(r"(?<![\w/-])(?:model|pipelines|serving|tests|infra|docs)/[\w./-]+", read(page)):
        assert (PROJECT / path.rstrip(".")).exists(), path


@ALL_PAGES
def test_make_targets_exist(page):
    targets = set(re.findall(r"^([a-z]+):", read("Makefile"), re.MULTILINE))
    shown = [*shell_commands(page), *(code.split() for code in inline_code(page))]
    assert {words[1] for words in shown if words[0] == "make" and len(words) > 1} <= targets


@ALL_PAGES
def test_verbs_and_their_options_exist(page):
    for verb, *words in sat2map_commands(page):
        if verb.startswith("-"):
            assert verb in options(get_command(app))
            continue
        command = VERBS[verb]
        if verb == "bench":
            command = command.commands[words.pop(0)]
        given = {word.partition("=")[0] for word in words if re.match(r"--?[a-z]", word)}
        assert given <= options(command), [verb, *words]


@ALL_PAGES
def test_options_in_the_text_exist(page):
    known = OF_MLFLOW.union(*(options(command) for command in VERBS.values()))
    known |= {name for command in VERBS["bench"].commands.values() for name in options(command)}
    assert {code.split()[0] for code in inline_code(page) if code.startswith("--")} <= known


@ALL_PAGES
def test_settings_can_be_set(page):
    for words in commands(page):
        load(words[words.index("--config") + 1] if "--config" in words[:-1] else None, settings(words))
    names = re.compile(rf"({'|'.join(RunConfig.model_fields)})\.[a-z_0-9.]+")
    shown = {code.partition("=")[0] for code in inline_code(page) if names.match(code)}
    assert shown - NOT_SETTINGS <= SETTINGS
    for code in inline_code(page):
        if names.match(code) and "=" in code:
            load(None, [code])


@ALL_PAGES
def test_entry_points_and_their_parameters_exist(page):
    entry_points = yaml.safe_load(read("MLproject"))["entry_points"]
    for words in commands(page):
        if words[:2] == ["mlflow", "run"]:
            pairs = list(pairwise(words))
            [verb] = [value for option, value in pairs if option == "-e"] or ["main"]
            given = {value.partition("=")[0] for option, value in pairs if option == "-P"}
            assert verb == "VERB" or given <= set(entry_points[verb]["parameters"]), words


def test_the_parts_that_are_checked_are_found():
    assert ["sat2map", "score", "photos", "maps"] in shell_commands("docs/drawing.md")
    assert ["promote", "4", "--force", "--reason", "..."] in list(sat2map_commands("docs/registry.md"))
    assert ["train", "--resume", "ID"] in [words[:3] for words in sat2map_commands("docs/clusters.md")]
    assert "results-on-real-imagery" in anchors("docs/scores.md")


def test_the_readme_is_short():
    assert len(read("README.md").splitlines()) < 200


def test_the_readme_shows_what_is_printed():
    [output] = re.findall(r"^```\n(  Report .*?)^```$", read("README.md"), re.MULTILINE | re.DOTALL)
    printed = read("pipelines/cli/summary.py")
    labels = re.findall(r"^  (\S.*?)  ", output, re.MULTILINE)
    assert len(labels) > 8 and [label for label in labels if f'"{label}": ' not in printed] == []
    [title] = re.findall(r"^Scores on \d+ (.*)$", output, re.MULTILINE)
    assert title in printed


@pytest.mark.parametrize("index", ["README.md", "docs/README.md"])
def test_all_pages_are_listed(index):
    folder = (PROJECT / index).parent
    linked = {(folder / target).resolve() for target in re.findall(r"\]\(([^)#\s]+\.md)", read(index))}
    assert linked >= {PROJECT / page for page in PAGES if page.startswith("docs/") and page != index}


def test_the_layout_is_that_of_the_code():
    [tree] = re.findall(r"^```\n(model/.*?)^```$", read("docs/contributing.md"), re.MULTILINE | re.DOTALL)
    shown, package = set(), ""
    for spaces, name in re.findall(r"^( *)([\w/]+)/ ", tree, re.MULTILINE):
        package = package if spaces else name
        shown.add(f"{package}/{name}" if spaces else name)
    assert {name for name in shown if not (PROJECT / name).is_dir()} == set()
    assert shown >= {str(path.parent.relative_to(PROJECT)) for path in FILES.values() if path.name == "__init__.py"}
