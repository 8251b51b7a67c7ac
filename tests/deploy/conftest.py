import pytest

from tests.deploy.host import Host, new_host


@pytest.fixture
def host(tmp_path) -> Host:
    return new_host(tmp_path)
