"""Published weights carry the scores that they have."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors import safe_open

from esc_sr import weights
from esc_sr.bicubic import downscale
from esc_sr.data.degraded import sharpened_hr
from esc_sr.data.sets import find_set
from esc_sr.errors import DataError, WeightsError
from esc_sr.evaluate import evaluate
from esc_sr.families.esc import ESC, ESCConfig
from esc_sr.families.lte import EncoderLTE, LTEConfig
from esc_sr.image import Picture, write_image
from esc_sr.train.publish import degraded_set, publish

TINY: dict[str, Any] = {"dim": 16, "pdim": 8, "n_blocks": 1, "n_convattn": 1, "window": 8, "heads": 2}


@pytest.fixture
def benchmarks(tmp_path: Path) -> Path:
    rng = np.random.default_rng(5)
    for hr_folder, lr_name in (
        ("Set5/HR", "Set5/LR_bicubic/X2/ax2.png"),
        ("Set14/X2/HR", "Set14/X2/LR/a.png"),
    ):
        hr = rng.integers(0, 256, (60, 52, 3), dtype=np.uint8)
        for name, pixels in ((f"{hr_folder}/a.png", hr), (lr_name, downscale(hr, 2))):
            (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
            write_image(Picture(pixels), tmp_path / name)
    return tmp_path


def saved(model: ESC | EncoderLTE, folder: Path) -> Path:
    weights.save(model, folder / "ema.safetensors", {"iterations": 7})
    return folder / "ema.safetensors"


def test_card_has_the_scores_of_what_is_stored(benchmarks: Path, tmp_path: Path) -> None:
    torch.manual_seed(0)
    out = tmp_path / "published.safetensors"
    lines: list[str] = []
    card = publish(saved(ESC(ESCConfig(**TINY)), tmp_path), out, benchmarks, "a note", lines.append)
    assert card == weights.card(out)
    assert [line.partition(":")[0] for line in lines] == ["Set5", "Set5", "Set14"]
    assert lines[1].endswith(", in float16")
    assert card["iterations"] == 7
    assert card["note"] == "a note"
    assert card["stored_as"] == "float16"
    with safe_open(out, "pt") as file:
        assert file.get_tensor("head.weight").dtype == torch.float16
    for name, scores in card["benchmarks"].items():
        found = evaluate(weights.load(out), find_set(benchmarks / name, 2).pairs(), 2)
        assert scores == {"psnr_y": round(found.psnr, 3), "ssim_y": round(found.ssim, 4)}
    assert list(card["benchmarks"]) == ["Set5", "Set14"]


def test_real_world_weights_are_measured_on_degraded_pictures_too(benchmarks: Path, tmp_path: Path) -> None:
    torch.manual_seed(0)
    source, out = tmp_path / "ema.safetensors", tmp_path / "published.safetensors"
    weights.save(ESC(ESCConfig(**TINY)), source, {"iterations": 7, "recipe": "real-mse"})
    measured = publish(source, out, benchmarks)["benchmarks"]
    assert list(measured) == ["Set5", "Set14", "Set5 degraded", "Set5 degraded, HR sharpened"]
    plain = list(degraded_set(benchmarks, "Set5", 2))
    for label, pairs in (("Set5 degraded", plain), ("Set5 degraded, HR sharpened", map(sharpened_hr, plain))):
        found = evaluate(weights.load(out), pairs, 2)
        assert measured[label] == {"psnr_y": round(found.psnr, 3), "ssim_y": round(found.ssim, 4)}
    assert len({scores["psnr_y"] for scores in measured.values()}) == 4


def test_float32_where_float16_would_hurt(benchmarks: Path, tmp_path: Path) -> None:
    model = ESC(ESCConfig(**TINY))
    with torch.no_grad():
        model.upsampler[0].bias.fill_(1e-8)  # type: ignore[operator]
        model.tail.weight.mul_(1e-8)
        model.upsampler[0].weight.mul_(1e8)  # type: ignore[operator]
    card = publish(saved(model, tmp_path), tmp_path / "published.safetensors", benchmarks)
    assert card["stored_as"] == "float32"


def test_lte_is_measured_at_three_scales(benchmarks: Path, tmp_path: Path) -> None:
    lte = saved(EncoderLTE(LTEConfig(ESCConfig(**TINY), 16, (16,))), tmp_path)
    card = publish(lte, tmp_path / "out.safetensors", benchmarks)
    assert list(card["benchmarks"]) == [
        f"{name} x{scale}" for name in ("Set5", "Set14") for scale in (2, 3, 4)
    ]


def test_benchmark_sets_are_needed(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no such folder"):
        publish(
            saved(ESC(ESCConfig(**TINY, scale=3)), tmp_path), tmp_path / "o.safetensors", tmp_path / "none"
        )


def test_a_folder_that_is_not_there_is_said_before_anything_is_measured(tmp_path: Path) -> None:
    out = tmp_path / "missing" / "published.safetensors"
    with pytest.raises(WeightsError, match="missing is no folder or closed to you"):
        publish(saved(ESC(ESCConfig(**TINY)), tmp_path), out, tmp_path / "no benchmarks")
