"""One evaluation and its page, which the tests of the page share."""

import pytest

from pipelines.report.page import render
from tests.fixtures import reports
from tests.fixtures.html_pages import read


@pytest.fixture(scope="session")
def evaluation():
    return reports.evaluation()


@pytest.fixture(scope="session")
def page(evaluation):
    return render(evaluation)


@pytest.fixture(scope="session")
def soup(page):
    return read(page)
