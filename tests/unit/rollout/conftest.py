"""One small Ray for all pool tests."""

import pytest
import ray


@pytest.fixture(scope="session")
def ray_session():
    started = not ray.is_initialized()
    if started:
        ray.init(address="local", num_cpus=2, include_dashboard=False, object_store_memory=80 * 2**20)
    yield
    if started:
        ray.shutdown()
