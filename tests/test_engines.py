"""Engines compute what the network does, within any way of using one, and are refused in one line."""

import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from typer.testing import CliRunner

import esc_sr
from esc_sr import engines, export, native, runtimes, weights
from esc_sr.cli.main import app
from esc_sr.engines import store
from esc_sr.errors import DeviceError, EscError, UsageError, WeightsError
from esc_sr.families.contract import Graph
from esc_sr.families.esc import ESC
from esc_sr.families.lte import LTEConfig
from esc_sr.families.srvgg import SRVGGConfig
from esc_sr.image import Picture, write_image
from esc_sr.machine.device import pick_device
from graph_networks import TINY, built
from native_levels import needs_library

pytestmark = pytest.mark.usefixtures("traced_once")

ANY_SIZE = LTEConfig(TINY, 16, (16,))
GRAPHS = ("onnx", "openvino")


@pytest.fixture(scope="module")
def kept(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Checkpoints tiny.safetensors and any.safetensors, and where graphs of this module's networks stay."""
    folder = tmp_path_factory.mktemp("kept")
    weights.save(built(TINY), folder / "tiny.safetensors")
    weights.save(built(ANY_SIZE), folder / "any.safetensors")
    return folder


@pytest.fixture(autouse=True)
def cache(kept: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(kept))


def need(engine: str) -> None:
    if engine in GRAPHS:
        pytest.importorskip(runtimes.MODULES[engine])
        pytest.importorskip("onnxscript")
    if engine == "native" and not native.available():
        pytest.skip("no kernels")


def noise(height: int, width: int) -> np.ndarray:
    return np.random.default_rng(0).random((height, width, 3), np.float32)


@pytest.mark.parametrize("engine", engines.ENGINES)
@pytest.mark.parametrize(("name", "scale"), [("tiny", 2), ("tiny", 1.5), ("any", 2.3)])
def test_any_engine_gives_the_picture(engine: str, name: str, scale: float, kept: Path) -> None:
    need(engine)
    with native.without():
        wanted = esc_sr.upscale(noise(21, 30), kept / f"{name}.safetensors", scale)
    found = esc_sr.upscale(noise(21, 30), kept / f"{name}.safetensors", scale, engine=engine)
    assert found.shape == wanted.shape and np.abs(found - wanted).max() < 1e-5


@pytest.mark.parametrize("engine", engines.ENGINES)
def test_a_loaded_network_is_one(engine: str, kept: Path) -> None:
    need(engine)
    network = esc_sr.load(kept / "tiny.safetensors", engine=engine)
    lr = torch.rand(2, 3, 9, 13)
    with torch.no_grad():
        wanted = weights.load(kept / "tiny.safetensors")(lr)
        assert (network(lr) - wanted).abs().max() < 1e-5
        assert network.config == TINY and network.framed and network.multiple == 8


@needs_library
def test_torch_uses_no_kernels_and_native_does(kept: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    called: list[str] = []
    run = native.library.run

    def counted(kernel: str, *rest: Any) -> torch.Tensor:
        called.append(kernel)
        return run(kernel, *rest)

    for module in ("convolution", "attention"):
        monkeypatch.setattr(f"esc_sr.native.{module}.run", counted)
    upscalers = {
        name: esc_sr.Upscaler(kept / "tiny.safetensors", engine=name) for name in ("torch", "native")
    }
    upscalers["torch"].upscale(noise(9, 9))
    assert not called
    upscalers["native"].upscale(noise(9, 9))
    assert called


@pytest.mark.parametrize("engine", GRAPHS)
def test_a_graph_is_made_once_and_told(engine: str, kept: Path) -> None:
    need(engine)
    told: list[str] = []
    network = built(SRVGGConfig(2, 4, 1))
    lr = torch.rand(1, 3, 8, 8)
    paths = []
    for change in (0, 0, 1):
        network.get_parameter("body.0.bias").data += change
        paths.append(store.graph_of(network, engine, told.append))
        with torch.no_grad():
            assert (engines.equip(network, engine, tell=told.append)(lr) - network(lr)).abs().max() < 1e-5
    assert len(told) == 2 and re.search(r"a minute or two; it is kept in .*esc-sr", told[0])
    assert paths[0] == paths[1] != paths[2] and paths[0].is_relative_to(kept / "esc-sr")


@pytest.mark.parametrize("engine", GRAPHS)
def test_a_graph_file_is_a_model(engine: str, kept: Path, tmp_path: Path) -> None:
    need(engine)
    suffix = runtimes.SUFFIXES[engine]
    for name, size in (("tiny", (18, 22)), ("any", (14, 17))):
        made = store.graph_of(weights.load(kept / f"{name}.safetensors"), engine, lambda text: None)
        for file in made.parent.glob(f"{made.stem}*"):
            (tmp_path / file.name.replace(made.stem, name)).write_bytes(file.read_bytes())
        wanted = esc_sr.upscale(noise(9, 11), kept / f"{name}.safetensors", size[0] / 9)
        found = esc_sr.upscale(noise(9, 11), tmp_path / f"{name}{suffix}", size[0] / 9)
        assert found.shape[:2] == size and np.abs(found - wanted).max() < 1e-5
    query = tmp_path / f"any-query{suffix}"
    assert engines.load(query).config == ANY_SIZE
    with pytest.raises(WeightsError, match="not x3"):
        engines.load(tmp_path / f"tiny{suffix}", scale=3)
    (tmp_path / f"any-encoder{suffix}").unlink()
    with pytest.raises(WeightsError, match="any-encoder.*no such file"):
        engines.load(query)


def test_tiles_are_told(kept: Path) -> None:
    need("onnx")
    notes: list[str] = []
    told: list[str] = []
    upscaler = esc_sr.Upscaler(
        kept / "tiny.safetensors", max_memory="16MiB", notify=notes.append, report=told.append, engine="onnx"
    )
    found = upscaler.upscale(noise(90, 100))
    assert found.shape == (180, 200, 3)
    assert "blended tiles" in told[-1] and "approximately" in notes[0]
    wanted = esc_sr.upscale(noise(90, 100), kept / "tiny.safetensors")
    assert np.abs(found - wanted).mean() < 0.01


def test_command_line(kept: Path, tmp_path: Path) -> None:
    pixels = np.zeros((9, 8, 3), np.uint8)
    write_image(Picture(pixels), tmp_path / "a.png")
    result = CliRunner().invoke(
        app, ["upscale", str(tmp_path / "a.png"), "-n", str(kept / "tiny.safetensors"), "--engine", "torch"]
    )
    assert result.exit_code == 0 and (tmp_path / "a_2x.png").is_file(), result.output
    result = CliRunner().invoke(
        app, ["evaluate", str(tmp_path), "-n", str(kept / "tiny.safetensors"), "--engine", "tpu"]
    )
    assert result.exit_code == 2 and "no engine is called 'tpu'" in result.output


def test_load_takes_the_names_of_devices(kept: Path) -> None:
    tiny = kept / "tiny.safetensors"
    for name in ("auto", "cpu"):
        parameter = next(esc_sr.load(tiny, device=name).parameters())
        assert parameter.device == pick_device(name)
    with pytest.raises(UsageError, match="no device is called 'gpu'; use auto, cpu"):
        esc_sr.load(tiny, device="gpu")


def test_mistakes_are_one_line(kept: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tiny = kept / "tiny.safetensors"
    (tmp_path / "bad.onnx").write_bytes(b"no graph")
    for kind in GRAPHS:
        need(kind)
    other = tmp_path / "other.onnx"
    graph = Graph(torch.nn.Identity(), {"input": torch.rand(1, 3, 4, 4)}, {"input": {}}, ("output",))
    other.write_bytes(export._to_onnx(graph, 18, {"name": "other"}).SerializeToString())
    cases: list[tuple[dict[str, object], type[EscError], str]] = [
        ({"engine": "tpu"}, UsageError, "no engine is called 'tpu'; there are auto, torch"),
        ({"engine": "onnx", "precision": "bf16"}, UsageError, "onnx has no bf16"),
        ({"engine": "openvino", "precision": "fp16"}, UsageError, "openvino has no fp16"),
        ({"model": tmp_path / "bad.onnx"}, WeightsError, "bad.onnx: cannot be opened as a graph"),
        ({"model": tmp_path / "none.onnx"}, WeightsError, "none.onnx: no such file"),
        ({"model": other}, WeightsError, "a network that is not known"),
        ({"model": other, "engine": "openvino"}, UsageError, "is a graph for onnx"),
        ({"model": torch.nn.Identity(), "scale": 1, "engine": "onnx"}, UsageError, "of no family here"),
    ]
    for given, kind_of_error, said in cases:
        with pytest.raises(kind_of_error, match=said) as caught:
            esc_sr.Upscaler(**{"model": tiny} | given)  # type: ignore[arg-type]
        assert "\n" not in str(caught.value)
    monkeypatch.setattr(runtimes, "find_spec", lambda name: None)
    with pytest.raises(UsageError, match=r"openvino needs openvino: pip install 'esc-sr\[openvino\]'"):
        esc_sr.Upscaler(tiny, engine="openvino")
    with pytest.raises(UsageError, match="engine native computes on the CPU, not on meta"):
        engines.equip(ESC(TINY).to("meta"), "native")
    monkeypatch.setenv("ESC_SR_NATIVE", "off")
    with pytest.raises(DeviceError, match="engine native: kernels are off, by ESC_SR_NATIVE"):
        esc_sr.Upscaler(tiny, engine="native")


def test_openvino_computes_bf16_where_it_can(kept: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    need("openvino")
    openvino = pytest.importorskip("openvino")
    exact = esc_sr.upscale(noise(20, 20), kept / "tiny.safetensors")
    if "BF16" in openvino.Core().get_property("CPU", "OPTIMIZATION_CAPABILITIES"):
        rough = esc_sr.upscale(noise(20, 20), kept / "tiny.safetensors", precision="bf16", engine="openvino")
        assert 0 < np.abs(rough - exact).max() < 0.05

    class Old:
        def get_property(self, *names: str) -> list[str]:
            return ["FP32"]

    monkeypatch.setattr(runtimes, "_openvino", Old)
    with pytest.raises(DeviceError, match="openvino has no bf16 on this processor"):
        esc_sr.upscale(noise(2, 2), kept / "tiny.safetensors", precision="bf16", engine="openvino")


def test_signals_are_heard_after_openvino(kept: Path) -> None:
    """OpenVINO gives the thread a stack for signals, gone when the second of two graphs was closed."""
    openvino = pytest.importorskip("openvino")
    given = openvino.opset13.parameter([1, 3, 8, 8], np.float32)
    openvino.save_model(openvino.Model([openvino.opset13.relu(given)], [given]), kept / "relu.xml")
    script = """
import signal, sys
from pathlib import Path
from esc_sr.runtimes import open_graph

first, second = (open_graph(Path(sys.argv[1]), "openvino") for _ in range(2))
del first
del second
signal.signal(signal.SIGTERM, lambda *about: print("heard"))
signal.raise_signal(signal.SIGTERM)
"""
    command = [sys.executable, "-c", script, str(kept / "relu.xml")]
    run = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert (run.returncode, run.stdout) == (0, "heard\n")
