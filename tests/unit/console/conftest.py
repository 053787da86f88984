"""A console over made-up workstations, on a real port, for the tests in this folder."""

from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from tests.support.console import FakeMachines, Serving


@pytest.fixture
def machines(tmp_path: Path) -> FakeMachines:
    return FakeMachines(tmp_path, "lab", "pro")


@pytest.fixture
def serving(machines: FakeMachines) -> Iterator[Serving]:
    serving = Serving(machines)
    yield serving
    serving.close()


@pytest.fixture
def stranger(serving: Serving) -> Iterator[httpx.Client]:
    """A client without a session."""
    with httpx.Client(base_url=serving.origin) as client:
        yield client


@pytest.fixture
def owner(serving: Serving) -> Iterator[httpx.Client]:
    """A client with a session."""
    with httpx.Client(base_url=serving.origin) as client:
        assert client.get(serving.address()).status_code == 200
        yield client
