"""On a pretended GPU, every recipe trains as on the CPU, and the host waits for little."""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from esc_sr import weights
from esc_sr.families import build
from esc_sr.families.esc.presets import PRESETS
from esc_sr.families.lte import any_size
from esc_sr.network.discriminator import UNetDiscriminator
from esc_sr.train.feed import Data
from esc_sr.train.monitor import RunOptions
from esc_sr.train.recipes import Arbitrary, Classic, RealGAN, RealMSE, Recipe
from esc_sr.train.run import Frozen, Model, Start, run
from esc_sr.train.schedule import Budget
from pretend_gpu import pretended_gpu

STEPS = 3
SMALL: dict[str, Any] = {"batch": 2, "patch": 8, "warmup": 0, "accumulate": 2}
REAL: dict[str, Any] = SMALL | {"context": 10, "pool": 4, "clean": 0.5, "flat": 0.5, "redraw": 2}
RECIPES: dict[str, tuple[Recipe, str]] = {
    "classic": (replace(Classic(), **SMALL, clip=1.0), "esc-light"),
    "classic-teacher": (replace(Classic(), **SMALL, optimizer="muon"), "esc-light"),
    "arbitrary": (replace(Arbitrary(), **SMALL, queries=50), "esc"),
    "arbitrary-teacher": (replace(Arbitrary(), **SMALL, queries=50), "esc"),
    "real-mse-teacher": (replace(RealMSE(), **REAL), "esc-real"),
    "real-gan": (replace(RealGAN(), **REAL), "esc-real"),
}
CASES = [
    ("classic", "fp32"),
    ("classic", "fp16"),
    ("classic-teacher", "fp32"),
    ("arbitrary", "bf16"),
    ("arbitrary-teacher", "fp32"),
    ("real-mse-teacher", "fp32"),
    ("real-gan", "bf16"),
]


@pytest.fixture(autouse=True)
def small_networks(monkeypatch: pytest.MonkeyPatch) -> None:
    sizes: dict[str, Any] = {"dim": 16, "pdim": 8, "n_blocks": 1, "n_convattn": 1, "window": 8, "heads": 1}
    for name in ("esc", "esc-light", "esc-real"):
        tiny = {scale: replace(config, **sizes) for scale, config in PRESETS[name].items()}
        monkeypatch.setitem(PRESETS, name, tiny)
    monkeypatch.setattr("esc_sr.train.losses.UNetDiscriminator", lambda: UNetDiscriminator(4))


@pytest.fixture
def files(tmp_path: Path) -> Path:
    """Pictures, a held-out one, weights to start from, a teacher of each kind, and VGG19's first layers."""
    rng = np.random.default_rng(0)
    for name in ("data/a", "data/b", "val/c"):
        path = tmp_path / f"{name}.png"
        path.parent.mkdir(exist_ok=True)
        Image.fromarray(rng.integers(0, 256, (64, 64, 3), dtype=np.uint8)).save(path)
    torch.manual_seed(0)
    for name, config in (
        ("esc-light", PRESETS["esc-light"][2]),
        ("esc-real", PRESETS["esc-real"][4]),
        ("esc", any_size(PRESETS["esc"][2])),
    ):
        weights.save(build(config), tmp_path / f"{name}.safetensors")
    vgg = {}
    for place, dim in ((0, 3), (2, 64)):
        vgg[f"features.{place}.weight"] = 0.1 * torch.randn(64, dim, 3, 3)
        vgg[f"features.{place}.bias"] = torch.zeros(64)
    torch.save(vgg, tmp_path / "vgg.pth")
    return tmp_path


def trained(name: str, files: Path, device: str, **options: Any) -> list[dict[str, Any]]:
    """The records of a run of some steps, saved, validated, and gone on with."""
    recipe, model = RECIPES[name]
    gan = recipe.name == "real-gan"
    teacher = str(files / f"{model}.safetensors") if name.endswith("teacher") else None
    frozen = Frozen(teacher, files / f"teacher-{device}", files / "vgg.pth" if gan else None)
    records: list[dict[str, Any]] = []

    def report(record: Mapping[str, Any]) -> None:
        records.append(dict(record))

    how: dict[str, Any] = {
        "frozen": frozen,
        "options": RunOptions(device=device, log_every=1, **options),
        "report": report,
    }
    scale = 4 if model == "esc-real" else 2
    data = Data([files / "data"], val=files / "val", workers=0)
    start = Start(weights=files / "esc-real.safetensors" if gan else None)
    out = files / device
    assert run(recipe, Model(model, scale), data, out, budget=Budget(STEPS - 1), start=start, **how)
    assert run(recipe, Model(model, scale), data, out, budget=Budget(STEPS), start=Start(resume=True), **how)
    return records


def losses(records: list[dict[str, Any]]) -> list[float]:
    return [value for record in records if record["event"] == "train" for value in record["losses"].values()]


WAITS = {
    "step.py:step": 1,
    "degrade.py:_blur_resize_noise": 4,
    "degrade.py:_resize": 3,
    "degrade.py:draw_factor": 2,
    "degrade.py:degrade": 1,
    "pool.py:<genexpr>": 2,
}
"""How often the host waits in a step: for the losses, and for what is drawn for a whole batch."""

IN_A_STEP = {
    "step.py",
    "loop.py",
    "degrade.py",
    "degraded.py",
    "kernels.py",
    "jpeg.py",
    "pool.py",
    "losses.py",
}


@pytest.mark.parametrize(("name", "precision"), CASES)
def test_recipes(name: str, precision: str, files: Path) -> None:
    expected = trained(name, files, "cpu")
    with pretended_gpu() as gpu:
        found = trained(name, files, "cuda", precision=precision)
    exact = precision == "fp32"
    assert losses(found) == pytest.approx(losses(expected), rel=1e-3 if exact else 0.1)
    waits: dict[str, float] = dict(WAITS) if name.startswith("real") else {"step.py:step": 1}
    if precision == "fp16":
        waits |= {"loop.py:train": 4 / STEPS}  # for the scale of the gradients
    seen = {place: count / STEPS for place, count in gpu.waits.items() if place.split(":")[0] in IN_A_STEP}
    assert seen == waits


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
@pytest.mark.filterwarnings("ignore")  # the compiler of flex attention has some
@pytest.mark.parametrize("name", RECIPES)
def test_recipes_on_a_gpu(name: str, files: Path) -> None:
    """What degradation draws differs from that of a CPU."""
    found, expected = losses(trained(name, files, "cuda")), losses(trained(name, files, "cpu"))
    assert len(found) == len(expected) and np.isfinite(found).all()
    if not name.startswith("real"):
        assert found == pytest.approx(expected, rel=1e-2)
