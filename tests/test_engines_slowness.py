"""What is said of precisions that cost time."""

import platform
from collections.abc import Iterator
from typing import Any

import pytest
import torch

from esc_sr import Upscaler
from esc_sr.engines import warn_of_slowness
from esc_sr.families.esc import ESC, ESCConfig
from esc_sr.native import multiplies


@pytest.fixture
def processor(monkeypatch: pytest.MonkeyPatch) -> Iterator[dict[str, Any]]:
    """What torch finds of an x86 processor: at first nothing."""
    can: dict[str, Any] = {}
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: can, raising=False)
    monkeypatch.setattr(platform, "machine", lambda: "x86_64")
    multiplies.cache_clear()
    yield can
    multiplies.cache_clear()


def told(precision: str, device: str = "cpu") -> list[str]:
    said: list[str] = []
    warn_of_slowness(torch.device(device), precision, said.append)
    return said


def test_a_precision_that_the_processor_lacks_is_told(processor: dict[str, Any]) -> None:
    for precision in ("bf16", "fp16"):
        (text,) = told(precision)
        assert f"does not multiply {precision}" in text
    assert told("fp32") == told("bf16", "cuda") == []


@pytest.mark.parametrize("unit", ["avx512", "amx"])
def test_one_that_it_has_is_not(processor: dict[str, Any], unit: str) -> None:
    processor |= {f"{unit}_bf16": True, f"{unit}_fp16": False}
    assert told("bf16") == []
    assert len(told("fp16")) == 1


def test_other_machines_are_not_judged(processor: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(platform, "machine", lambda: "aarch64")
    assert told("bf16") == []


def test_an_upscaler_reports_it_once(processor: dict[str, Any]) -> None:
    model = ESC(ESCConfig(dim=16, pdim=8, n_blocks=1, n_convattn=1, window=8, heads=2))
    said: list[str] = []
    for precision in ("bf16", "fp32"):
        Upscaler(model, device="cpu", precision=precision, report=said.append)
    assert said == told("bf16")
