"""What several test files share."""

import hashlib
import os
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # as `esc-sr` does, before torch is imported
if workers := int(os.environ.get("PYTEST_XDIST_WORKER_COUNT", "0")):
    os.environ.setdefault("OMP_NUM_THREADS", str(max(1, (os.cpu_count() or 1) // workers)))

import torch  # noqa: E402

from esc_sr import export  # noqa: E402
from esc_sr.families.contract import Graph  # noqa: E402
from esc_sr.machine.memory import give_back_freed_memory  # noqa: E402
from esc_sr.native import library  # noqa: E402
from native_levels import LEVELS  # noqa: E402

if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:  # a shell has begun the suite in the background
    signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(autouse=True)
def nothing_kept() -> Iterator[None]:
    """Tests that train have the process keep what it frees: 15 GiB by the end, without this."""
    yield
    give_back_freed_memory()


@pytest.fixture(scope="session")
def data_dir() -> Path:
    folder = os.environ.get("ESC_SR_DATA")
    if not folder:
        pytest.skip("needs the benchmark pictures: set ESC_SR_DATA to their folder")
    return Path(folder)


@pytest.fixture(autouse=True)
def _threads() -> Iterator[None]:
    """Each test begins with as many threads as the suite; a command with --threads leaves its own number."""
    before = torch.get_num_threads()
    yield
    if torch.get_num_threads() != before:
        torch.set_num_threads(before)


@pytest.fixture
def one_thread(_threads: None) -> None:
    torch.set_num_threads(1)


@pytest.fixture(params=LEVELS or ["generic"])
def level(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Each level of the compiled kernels that this processor has."""
    if not LEVELS:
        pytest.skip(f"native kernels: {library.load()[1]}")
    monkeypatch.setenv("ESC_SR_NATIVE", request.param)
    return str(request.param)


@pytest.fixture(scope="module")
def traced_once(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """The graph of a network is traced once, for all tests, processes and runtimes."""
    folder = tmp_path_factory.getbasetemp()
    if "PYTEST_XDIST_WORKER" in os.environ:
        folder = folder.parent
    trace = export._to_onnx

    def traced(graph: Graph, *rest: Any) -> Any:
        onnx = pytest.importorskip("onnx")
        numbers = [float(value.double().sum()) for value in graph.module.state_dict().values()]
        key = hashlib.sha256(repr((numbers, [*graph.inputs], rest)).encode()).hexdigest()
        known = folder / f"{key}.onnx"
        if not known.exists():
            made = known.with_suffix(f".{os.getpid()}")
            made.write_bytes(trace(graph, *rest).SerializeToString())
            made.replace(known)
        return onnx.load(known)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(export, "_to_onnx", traced)
        yield
