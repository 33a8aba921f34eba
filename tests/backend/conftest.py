from collections.abc import AsyncIterator

import pytest

from tests.backend.receiver import Dialler


@pytest.fixture
async def dialler() -> AsyncIterator[Dialler]:
    made = Dialler()
    yield made
    made.connections.abort_all()
    await made.until_closed()
