"""Graphs for other runtimes give what the network gives, at sizes that they were not made with."""

from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from typer.testing import CliRunner

from esc_sr import export, runtimes, weights
from esc_sr.cli.main import app
from esc_sr.errors import EscError, UsageError, WeightsError
from esc_sr.families.contract import Config
from esc_sr.families.esc import ESC, ESCConfig
from esc_sr.families.lte import LTEConfig
from esc_sr.families.swinir import SwinIRConfig
from graph_networks import TINY, built
from published_families import PRESETS

pytestmark = pytest.mark.usefixtures("traced_once")

FP = ESCConfig(
    dim=8, pdim=4, kernel=5, n_blocks=1, n_convattn=1, window=8, heads=2, decomposed=True, skip="bicubic"
)


@pytest.fixture
def tiny(tmp_path: Path) -> Path:
    weights.save(built(TINY), tmp_path / "tiny.safetensors")
    return tmp_path / "tiny.safetensors"


def test_onnx_of_any_size(tiny: Path) -> None:
    onnxruntime = pytest.importorskip("onnxruntime")
    out = tiny.with_name("tiny.onnx")
    result = CliRunner().invoke(app, ["export", "onnx", str(tiny), str(out)])
    assert result.exit_code == 0, result.output
    assert "from the network at most" in result.stdout
    session = onnxruntime.InferenceSession(out, providers=["CPUExecutionProvider"])
    given, made = session.get_inputs()[0], session.get_outputs()[0]
    assert (given.name, given.shape, made.name) == ("input", ["batch", 3, "height", "width"], "output")
    assert session.get_modelmeta().custom_metadata_map["scale"] == "2"
    network = weights.load(tiny)
    for sides in ((1, 1), (8, 40), (23, 9)):
        lr = torch.rand(2, 3, *sides)
        with torch.no_grad():
            wanted = network(lr).numpy()
        assert np.abs(session.run(None, {"input": lr.numpy()})[0] - wanted).max() <= 1e-5


SHIFTED = SwinIRConfig(2, 8, (2,), 2, 4, 8)


@pytest.mark.parametrize(
    ("config", "kind"), [(LTEConfig(TINY, 16, (16,)), "openvino"), (FP, "onnx"), (SHIFTED, "onnx")]
)
def test_other_networks(config: Config, kind: str, tmp_path: Path) -> None:
    pytest.importorskip("openvino" if kind == "openvino" else "onnxruntime")
    suffix = runtimes.SUFFIXES[kind]
    found = export.export(built(config), tmp_path / f"net{suffix}", kind)
    parts = ["net-encoder", "net-query"] if config.scale is None else ["net"]
    assert [path.name for path, _ in found] == [f"{part}{suffix}" for part in parts]
    assert all(0 <= difference <= 1e-4 for _, difference in found)


@pytest.mark.parametrize("name", ["mambair-light", "mambairv2-light"])
def test_scans_are_refused_at_once(name: str, tmp_path: Path) -> None:
    with pytest.raises(
        UsageError, match="MambaIR.* cannot become a graph: it takes more steps the larger"
    ) as caught:
        export.export(PRESETS[name].network(name), tmp_path / "net.onnx", "onnx")
    assert "\n" not in str(caught.value) and not list(tmp_path.iterdir())


def test_half_precision(tmp_path: Path) -> None:
    onnxruntime = pytest.importorskip("onnxruntime")
    ((path, difference),) = export.export(built(TINY), tmp_path / "half.onnx", "onnx", precision="fp16")
    assert 0 < difference < 2e-2
    assert onnxruntime.InferenceSession(path).get_inputs()[0].type == "tensor(float16)"


def test_a_graph_that_differs_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def wrong(path: Path, kind: str = "onnx") -> runtimes.Run:
        return lambda inputs: [np.zeros((*inputs["input"].shape[:2], 2, 2))]

    part = export._parts(built(TINY), torch.float32)[""]
    with pytest.raises(WeightsError, match="in the place of"):
        export._compare(wrong(tmp_path), part, 1e-4)
    off = part._replace(answers=[(given, [y + 1e-3 for y in wanted]) for given, wanted in part.answers])
    network = built(TINY)

    def run(inputs: object) -> list[np.ndarray]:
        assert isinstance(inputs, dict) and isinstance(network, ESC)
        with torch.no_grad():
            return [network(inputs["input"]).numpy()]

    assert export._compare(run, part, 1e-4) <= 1e-5
    with pytest.raises(WeightsError, match="differs from the network by 0.001"):
        export._compare(run, off, 1e-4)
    pytest.importorskip("onnxruntime")
    out = tmp_path / "kept.onnx"
    out.write_bytes(b"mine")
    monkeypatch.setattr(
        export, "_to_onnx", lambda *given: SimpleNamespace(SerializeToString=lambda: b"other")
    )
    monkeypatch.setattr(export, "_run_of", wrong)
    with pytest.raises(WeightsError, match="in the place of"):
        export.export(network, out, "onnx", overwrite=True)
    assert [path.name for path in tmp_path.iterdir()] == ["kept.onnx"] and out.read_bytes() == b"mine"


def test_mistakes_are_one_line(tiny: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    network, out = built(TINY), tiny.with_name("x.onnx")
    for kind, path, precision, said in (
        ("tflite", out, "fp32", "no kind of graph"),
        ("onnx", out, "int8", "no precision"),
        ("onnx", tiny, "fp32", "has the suffix .onnx"),
        ("onnx", Path("no/x.onnx"), "fp32", "no such folder"),
    ):
        with pytest.raises(UsageError, match=said):
            export.export(network, path, kind, precision=precision)
    out.write_bytes(b"mine")
    with pytest.raises(UsageError, match="--overwrite"):
        export.export(network, out, "onnx")
    assert out.read_bytes() == b"mine"
    monkeypatch.setattr(export, "find_spec", lambda name: None)
    with pytest.raises(EscError, match=r"onnxscript.*pip install 'esc-sr\[onnx\]'"):
        export.export(network, out, "onnx")
