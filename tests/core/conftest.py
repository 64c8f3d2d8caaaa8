"""What tests of the core share."""

import pytest

from scripts import small_weights


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    """A folder with small random weights of the released layout."""
    folder = tmp_path_factory.mktemp("models")
    small_weights.write(folder)
    return folder
