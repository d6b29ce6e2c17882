"""The pages in a real browser: no requests, nothing overlaps or overflows, everything is visible."""

from dataclasses import replace

import pytest

from pipelines.metrics.intervals import Score
from pipelines.report.page import render, render_comparison
from tests.fixtures import reports

pytest.importorskip("playwright", reason="Playwright is not installed (pip install playwright)")
browser_of_tests = pytest.importorskip("tests.fixtures.browser")
pytestmark = pytest.mark.skipif(
    browser_of_tests.find_chromium() is None, reason="Chromium is not installed (apt-get install chromium)"
)

HOSTILE = (
    '<img src="https://evil.example/x.png" onerror="document.title=\'broken\'"><script>document.title="broken"</script>'
)
LONG = "a-name-without-any-space-to-break-at-" * 8
WIDTHS = (375, 768, 1440)


@pytest.fixture(scope="module")
def chromium():
    with browser_of_tests.launch() as running:
        yield running


@pytest.fixture(scope="module")
def pages(tmp_path_factory):
    """Return the files of both pages, and of one of each with hostile and very long texts."""
    folder = tmp_path_factory.mktemp("pages")
    names = [HOSTILE, LONG, "c"]
    hostile = reports.evaluation(3, names=names, notes=(HOSTILE, LONG), run_id=LONG)
    hostile = replace(hostile, command=LONG, pairs=reports.index(names, source=HOSTILE + LONG))
    many = reports.comparison(3, blurs=(2, 1, 1.5, 3, 0.5), names=tuple(names))
    texts = {
        "evaluation": render(reports.evaluation()),
        "comparison": render_comparison(*reports.comparison()),
        "hostile evaluation": render(hostile),
        "hostile comparison": render_comparison(*many),
    }
    files = {name: folder / f"{name}.html" for name in texts}
    for name, text in texts.items():
        files[name].write_text(text, encoding="utf-8")
    return files


PAGES = ("evaluation", "comparison", "hostile evaluation", "hostile comparison")


@pytest.mark.parametrize("name", PAGES)
def test_a_page_makes_no_requests_and_logs_no_errors(chromium, pages, name):
    with browser_of_tests.visit(chromium, pages[name]) as seen:
        seen.page.wait_for_timeout(100)
        assert seen.requests == [pages[name].as_uri()]
        assert seen.errors == [] and "broken" not in seen.page.title().replace(HOSTILE, "")


def test_content_policy_stops_scripts_that_get_into_a_page(chromium, tmp_path, pages):
    text = pages["evaluation"].read_text(encoding="utf-8")
    file = tmp_path / "altered.html"
    file.write_text(text.replace("<main>", f"<main>{HOSTILE}"), encoding="utf-8")
    with browser_of_tests.visit(chromium, file) as seen:
        seen.page.wait_for_timeout(100)
        assert seen.requests == [file.as_uri()] and seen.page.title().startswith("Evaluation of")
        assert any("Content Security Policy" in error for error in seen.errors)


@pytest.mark.parametrize("width", WIDTHS)
@pytest.mark.parametrize("name", PAGES)
def test_page_is_never_wider_than_the_window(chromium, pages, name, width):
    with browser_of_tests.visit(chromium, pages[name], width=width) as seen:
        assert seen.page.evaluate("document.documentElement.scrollWidth") == width
        # Only the boxes around tables may scroll.
        assert seen.page.evaluate(OUTSIDE) == []


def test_every_column_is_visible_in_a_wide_window(chromium, tmp_path):
    names = ("ms_ssim", "lpips", "within_5", "within_10", "mean_iou", "road_f1", "edge_f1")
    scores = {name: Score(value=0.5051, low=0.4867, high=0.5132, n=12) for name in names}
    gains = {name: Score(value=0.0051, low=-0.0067, high=0.0132, n=12) for name in names}
    compared, *pictures = reports.comparison()
    tables = {
        "scores": {run: found | scores for run, found in compared.scores.items()},
        "gains": {run: found | gains for run, found in compared.gains.items()},
    }
    file = tmp_path / "all.html"
    file.write_text(render_comparison(compared.model_copy(update=tables), *pictures), encoding="utf-8")
    with browser_of_tests.visit(chromium, file, width=1440) as seen:
        boxes = seen.page.evaluate(
            "[...document.querySelectorAll('.scroll')].map(box => box.scrollWidth - box.clientWidth)"
        )
        assert len(boxes) == 3 and max(boxes) == 0


OUTSIDE = """() => [...document.querySelectorAll("main *")].filter(node => {
    const box = node.getBoundingClientRect();
    return box.width && !node.closest(".scroll, svg") && (box.left < 0 || box.right > innerWidth + 0.5);
}).map(node => node.outerHTML.slice(0, 80))"""

OVERLAPS = """(selector) => {
    const boxes = [...document.querySelectorAll(selector)].map(node => [node, node.getBoundingClientRect()]);
    const found = [];
    for (const [i, [a, p]] of boxes.entries()) for (const [b, q] of boxes.slice(i + 1)) {
        const wide = Math.min(p.right, q.right) - Math.max(p.left, q.left);
        const high = Math.min(p.bottom, q.bottom) - Math.max(p.top, q.top);
        if (wide > 1 && high > 1 && !a.contains(b) && !b.contains(a))
            found.push([a.outerHTML.slice(0, 60), b.outerHTML.slice(0, 60)]);
    }
    return found;
}"""


@pytest.mark.parametrize("width", WIDTHS)
@pytest.mark.parametrize("name", PAGES)
def test_nothing_overlaps(chromium, pages, name, width):
    with browser_of_tests.visit(chromium, pages[name], width=width) as seen:
        # The row headings are sticky, and may cover cells only while a table is scrolled.
        for selector in ("section > *, header > *", "figure", ".shot", ".shot > *", "td, th", ".facts > div"):
            assert seen.page.evaluate(OVERLAPS, selector) == [], selector
        for number in range(seen.page.locator("svg[role=img]").count()):
            chart = f"(nodes => nodes[{number}].querySelectorAll('text'))(document.querySelectorAll('svg[role=img]'))"
            assert seen.page.evaluate(OVERLAPS.replace("document.querySelectorAll(selector)", chart)) == []


@pytest.mark.parametrize("name", PAGES)
def test_all_pictures_are_decoded_and_visible(chromium, pages, name):
    with browser_of_tests.visit(chromium, pages[name], width=375) as seen:
        images = seen.page.evaluate("[...document.images].map(i => [i.complete, i.naturalWidth, i.clientWidth])")
        assert len(images) >= 12 and all(complete and width > 0 and shown > 20 for complete, width, shown in images)
        assert seen.page.evaluate("getComputedStyle(document.querySelector('.shot img')).imageRendering") == "pixelated"


@pytest.mark.parametrize("width", WIDTHS)
def test_a_wide_table_scrolls_in_its_own_box(chromium, pages, width):
    with browser_of_tests.visit(chromium, pages["evaluation"], width=width) as seen:
        table = "document.querySelector('.scroll')"
        hidden = seen.page.evaluate(f"{table}.scrollWidth - {table}.clientWidth")
        assert (hidden > 0) == (width < 1440)
        seen.page.evaluate(f"{table}.scrollLeft = 10000")
        head, box = (seen.page.locator(where).first.bounding_box() for where in ("tbody th", ".scroll"))
        assert head["x"] == pytest.approx(box["x"], abs=2)
        last = seen.page.locator(".scroll").first.locator("thead th").last.bounding_box()
        assert last["x"] + last["width"] <= box["x"] + box["width"]


def test_marks_have_a_colour_and_words(chromium, pages):
    with browser_of_tests.visit(chromium, pages["evaluation"]) as seen:
        page = seen.page
        assert page.locator("header .badge").is_visible() and page.locator(".mark").first.is_visible()
        assert "not beaten" in page.locator(".mark").first.inner_text()
        colours = page.evaluate(
            "[...document.querySelectorAll('td.marked, td:not(.marked)')].map(cell => "
            "[cell.classList.contains('marked'), getComputedStyle(cell).backgroundColor])"
        )
        marked = {colour for is_marked, colour in colours if is_marked}
        assert len(marked) == 1 and not marked & {colour for is_marked, colour in colours if not is_marked}
        assert page.locator(".headline").bounding_box()["y"] < 300


def test_the_command_is_selected_with_one_click(chromium, pages):
    with browser_of_tests.visit(chromium, pages["evaluation"]) as seen:
        seen.page.locator("pre").click()
        assert seen.page.evaluate("getSelection().toString()").strip() == f"sat2map evaluate --run {reports.RUN}"


CONTRASTS = """() => {
    const linear = c => (c /= 255) <= 0.04045 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4;
    const parts = text => text.match(/[\\d.]+/g).map(Number);
    const light = ([r, g, b]) => 0.2126 * linear(r) + 0.7152 * linear(g) + 0.0722 * linear(b);
    const behind = node => {
        for (; node; node = node.parentElement) {
            const colour = parts(getComputedStyle(node).backgroundColor);
            if (colour.length < 4 || colour[3] === 1) return colour;
        }
        return null;
    };
    const found = [];
    const walker = document.createTreeWalker(document.querySelector("main"), NodeFilter.SHOW_TEXT);
    while (walker.nextNode()) {
        const node = walker.currentNode.parentElement;
        if (!walker.currentNode.data.trim() || node.closest("title")) continue;
        const style = getComputedStyle(node);
        const ink = light(parts(node.closest("svg") ? style.fill : style.color)), paper = light(behind(node));
        const contrast = (Math.max(ink, paper) + 0.05) / (Math.min(ink, paper) + 0.05);
        found.push([contrast, node.outerHTML.slice(0, 80)]);
    }
    return found;
}"""


@pytest.mark.parametrize("dark", [False, True])
@pytest.mark.parametrize("name", PAGES[:2])
def test_text_has_contrast_in_light_and_dark_mode(chromium, pages, name, dark):
    """WCAG 2.2, criterion 1.4.3: a contrast of 4.5 to 1."""
    with browser_of_tests.visit(chromium, pages[name], dark=dark) as seen:
        found = seen.page.evaluate(CONTRASTS)
        assert len(found) > 100 and [text for contrast, text in found if contrast < 4.5] == []
        paper = seen.page.evaluate("getComputedStyle(document.body).backgroundColor")
        assert (sum(map(int, paper[4:-1].split(","))) < 128) == dark


def test_a_printed_page_splits_neither_tables_nor_pairs(chromium, pages):
    with browser_of_tests.visit(chromium, pages["evaluation"], width=1000) as seen:
        seen.page.emulate_media(media="print")
        assert seen.page.evaluate("getComputedStyle(document.querySelector('.scroll')).overflowX") == "visible"
        assert seen.page.evaluate("getComputedStyle(document.querySelector('.pair')).breakInside") == "avoid"
        assert seen.page.pdf().startswith(b"%PDF")
