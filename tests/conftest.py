"""What all tests share."""

import os

import pytest

# The networks of the tests are small: a second thread quadruples their processor time, and where the cores are busy it
# makes them several times slower. Read by torch when it is first imported, here and in the processes tests start.
os.environ.setdefault("OMP_NUM_THREADS", "1")

RUNS_IN_CI = os.environ.get("CI", "").lower() in ("1", "true")


@pytest.fixture(scope="session")
def require():
    """`require(found, what)`: where `found` is false, the test skips with its reason, and fails in CI."""

    def check(found, what: str) -> None:
        if not found:
            (pytest.fail if RUNS_IN_CI else pytest.skip)(f"This machine lacks {what}.")

    return check
