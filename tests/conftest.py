"""What several test files share."""

import os
from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def data_dir() -> Path:
    folder = os.environ.get("ESC_SR_DATA")
    if not folder:
        pytest.skip("needs the benchmark pictures: set ESC_SR_DATA to their folder")
    return Path(folder)
