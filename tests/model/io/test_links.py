"""Files and folders written through links: the target is written, and the link stays."""

import os

import pytest

from model.errors import DataError
from model.io.files import follow, new_file, new_folder, write_text


@pytest.fixture
def link(tmp_path, monkeypatch):
    """Return a link, in the current folder, to a name that does not exist in another folder."""
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    link = tmp_path / "here" / "link"
    link.symlink_to("../there/target")
    return link


def test_a_link_to_a_file_leads_to_its_new_content(link):
    for text in ("into a missing file", "into a file"):
        write_text(link, text)
        assert link.is_symlink() and link.resolve().read_text() == text
    assert os.listdir("..") in (["here", "there"], ["there", "here"])
    assert os.listdir("../there") == ["target"]


def test_a_link_to_a_folder_leads_to_the_new_folder(link):
    for name in ("first", "second"):
        with new_folder(link) as draft:
            (draft / name).touch()
        assert link.is_symlink() and os.listdir("../there/target") == [name]
    assert os.listdir("../there") == ["target"] and os.listdir() == ["link"]


def test_a_chain_of_links_is_followed_to_its_end(link, tmp_path):
    (tmp_path / "first").symlink_to("here/link")
    assert follow(tmp_path / "first") == (tmp_path / "there" / "target").resolve()
    write_text(tmp_path / "first", "far")
    assert (tmp_path / "there" / "target").read_text() == "far"


def test_a_link_that_leads_to_itself_is_refused_and_stays(tmp_path):
    (tmp_path / "a").symlink_to("b")
    (tmp_path / "b").symlink_to("a")
    with pytest.raises(DataError, match=r"/a is a link that leads back to itself; remove it\.$"):
        write_text(tmp_path / "a", "text")
    with pytest.raises(DataError, match="leads back to itself"), new_folder(tmp_path / "b"):
        pass
    assert sorted(os.listdir(tmp_path)) == ["a", "b"]


def test_the_draft_of_a_linked_file_has_the_suffix_of_the_link(tmp_path):
    (tmp_path / "map.tif").symlink_to("latest")
    with new_file(tmp_path / "map.tif") as draft:
        assert draft.suffix == ".tif"
        draft.touch()
    assert (tmp_path / "latest").is_file()
