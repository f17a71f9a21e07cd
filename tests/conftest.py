"""What several test files share."""

import os
import signal
from pathlib import Path

import pytest

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # as `esc-sr` does, before torch is imported

if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:  # a shell has begun the suite in the background
    signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(scope="session")
def data_dir() -> Path:
    folder = os.environ.get("ESC_SR_DATA")
    if not folder:
        pytest.skip("needs the benchmark pictures: set ESC_SR_DATA to their folder")
    return Path(folder)
