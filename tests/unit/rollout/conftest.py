"""One small Ray for all pool tests."""

import pytest

from tests.small_ray import small_ray


@pytest.fixture(scope="session")
def ray_session():
    with small_ray():
        yield
