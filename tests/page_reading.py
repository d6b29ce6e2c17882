"""How a test reads a page: as a parser does, and whether it is well formed and asks for nothing."""

import base64
import io
from html.parser import HTMLParser

from bs4 import BeautifulSoup
from PIL import Image

VOID = {"meta", "img", "link", "br"}


def read(page):
    return BeautifulSoup(page, "html.parser")


def text(node):
    return " ".join(node.get_text(" ").split())


def rows_of(page, section):
    return read(page).find(id=section).find_parent("section").select("figure.pair")


def decoded(image):
    """Return the picture of an <img>."""
    kind, content = image["src"].split(",", 1)
    assert kind in ("data:image/png;base64", "data:image/webp;base64")
    return Image.open(io.BytesIO(base64.b64decode(content, validate=True)))


class Tags(HTMLParser):
    """Follows which elements are open."""

    def __init__(self):
        super().__init__()
        self.open = []

    def handle_starttag(self, tag, attrs):
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag


def check_page(page):
    """Make sure that a page is well formed, asks for nothing and can be read without seeing it."""
    tags = Tags()
    tags.feed(page)
    assert tags.open == []
    soup = read(page)
    policy = soup.find("meta", {"http-equiv": "Content-Security-Policy"})["content"]
    assert policy == "default-src 'none'; img-src data:; style-src 'unsafe-inline'"
    assert not soup.find_all(["script", "link", "iframe", "object", "form", "a", "base"])
    assert all(image["src"].startswith("data:image/") and image["alt"] for image in soup.find_all("img"))
    assert not [name for node in soup.find_all(True) for name in node.attrs if name.startswith("on")]
    assert "url(" not in soup.style.string and "@import" not in soup.style.string
    assert soup.html["lang"] == "en" and len(soup.find_all("h1")) == 1
    assert all(table.caption and text(table.caption) for table in soup.find_all("table"))
    assert all(head.get("scope") in ("col", "row") for head in soup.find_all("th"))
    assert all(drawing.get("aria-label") or drawing.get("aria-hidden") for drawing in soup.find_all("svg"))
    names = [node["id"] for node in soup.find_all(id=True)]
    assert len(names) == len(set(names))
    assert {node["aria-labelledby"] for node in soup.find_all(attrs={"aria-labelledby": True})} <= set(names)
