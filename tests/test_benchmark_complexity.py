"""Counts: Table 2 and Table 3 to the printed digit, and against an independent counter."""

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from esc_sr.benchmark.complexity import ablations, complexity
from esc_sr.benchmark.networks import OUTPUT, build, input_for, kernels_of
from esc_sr.families.lte import EncoderLTE

PARAMETERS = {
    "esc": (946728, 955383, 967500),
    "esc-light": (603600, 612255, 624372),
    "esc-fp": (523675, 530170, 539263),
}
GMACS = {
    "esc": ("592.0", "267.6", "149.2"),
    "esc-light": ("359.4", "162.8", "91.0"),
    "esc-fp": ("239.8", "110.0", "60.8"),
}


@pytest.mark.parametrize("name", PARAMETERS)
def test_table_2(name: str) -> None:
    rows = list(complexity([(name, scale) for scale in (2, 3, 4)], OUTPUT))
    assert tuple(row["parameters"] for row in rows) == PARAMETERS[name]
    assert tuple(f"{row['macs'] / 1e9:.1f}" for row in rows) == GMACS[name]
    assert [row["input"] for row in rows] == [(640, 360), (426, 240), (320, 180)]
    truncated = [name == "esc-light" and scale == 2 for scale in (2, 3, 4)]
    assert [not row["paper"]["agrees"] for row in rows] == truncated
    blocks = 3 if name == "esc-light" else 5
    heads = 3 if name == "esc-fp" else 4
    windows = (384 // 32) * (640 // 32)  # 360 rows are padded to 384
    parts = rows[0]["parts"]
    assert parts["attention"] == blocks * windows * heads * 2 * 1024**2 * 16
    assert parts["pooling"] == blocks * 5 * 16 * 360 * 640
    assert parts["linear"] == 0
    assert sum(parts.values()) == rows[0]["macs"]


def test_table_3() -> None:
    rows = list(ablations(OUTPUT))
    found = {row["preset"]: (row["model"], row["parameters"], f"{row['macs'] / 1e9:.1f}") for row in rows}
    assert found == {
        "esc-only-attn": ("Only Self-attentions", 736564, "456.6"),
        "esc-only-convattn": ("Only ConvAttns", 1209500, "962.4"),
        "esc-lk9": ("9×9 LK", 924200, "462.2"),
        "esc-lk17": ("17×17 LK", 977448, "768.9"),
        "esc-own-lk-no-dk": ("w/o LK Share and DK", 1949264, "591.1"),
        "esc-own-lk": ("w/o LK Share", 1985064, "592.0"),
        "esc-ws16": ("WS16 and more layers", 1054328, "603.6"),
        "esc-ws24": ("WS24 and more layers", 995408, "583.5"),
        "esc": ("ESC", 946728, "592.0"),
    }
    assert [row["preset"] for row in rows if not row["paper"]["agrees"]] == ["esc-own-lk-no-dk"]
    (alone,) = complexity([("esc-only-convattn", 2)], OUTPUT)
    printed = {"latency_ms": 126.3, "memory_mib": 514, "gmacs": 962.4, "kparams": 1210}
    assert alone["paper"] == printed | {"agrees": True}


@pytest.mark.parametrize("name", ["esc-fp", "esc-lte", "esc-only-attn", "esc-own-lk-no-dk"])
def test_products_agree_with_the_counter_of_torch(name: str) -> None:
    (row,) = complexity([(name, 2)], (18, 40))
    assert row["paper"] is None
    network = build(name, 2)
    network.attention = "naive"
    lr = torch.rand(1, 3, 9, 20)
    counter = FlopCounterMode(display=False)
    with kernels_of("naive"), counter:  # with gradients, since bands do some work twice
        network(lr, (18, 40)) if isinstance(network, EncoderLTE) else network(lr)
    parts = row["parts"]
    assert parts["attention"] > 0 and parts["conv"] > 0
    assert (parts["linear"] > 0) == (name == "esc-lte")
    assert 2 * (parts["conv"] + parts["attention"] + parts["linear"]) == counter.get_total_flops()


def test_input_is_rounded_down() -> None:
    assert input_for((720, 1280), 3) == (240, 426)
