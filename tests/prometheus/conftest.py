"""One daemon under load and one Prometheus for all tests of this folder."""

from collections.abc import Iterator

import pytest
from scraped import Scraped


@pytest.fixture(scope="session")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Scraped]:
    scraped = Scraped(tmp_path_factory.mktemp("scraped"))
    try:
        scraped.open()
        yield scraped
    finally:
        scraped.close()
