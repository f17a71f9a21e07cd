"""Counts: Table 2 and Table 3 to the printed digit, and against an independent counter."""

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from esc_sr.benchmark.complexity import PARTS, Count, ablations, complexity
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
    rows = {row["model"]: row for row in ablations(OUTPUT)}
    found = {
        name: (row["parameters"], f"{row['macs'] / 1e9:.1f}", row["how"])
        for name, row in rows.items()
        if row["macs"]
    }
    assert found == {
        "Only Self-attentions": (736564, "456.6", "derived"),
        "9×9 LK": (924200, "462.2", "built"),
        "17×17 LK": (977448, "768.9", "built"),
        "w/o LK Share and DK": (1949264, "591.1", "derived"),
        "w/o LK Share": (1985064, "592.0", "derived"),
        "WS16 and more layers": (1054328, "603.6", "built"),
        "WS24 and more layers": (995408, "583.5", "built"),
        "ESC": (946728, "592.0", "built"),
    }
    presets = {row["preset"] for row in rows.values() if row["how"] == "built"}
    assert presets == {"esc", "esc-lk9", "esc-lk17", "esc-ws16", "esc-ws24"}
    assert rows["Only ConvAttns"]["how"] == "not recovered"
    assert rows["Only ConvAttns"]["paper"]["gmacs"] == 962.4
    differs = [name for name, row in rows.items() if row["macs"] and not row["paper"]["agrees"]]
    assert differs == ["w/o LK Share and DK"]


@pytest.mark.parametrize("name", ["esc-fp", "esc-lte"])
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
    assert parts["attention"] > 0
    assert (parts["linear"] > 0) == (name == "esc-lte")
    assert 2 * (parts["conv"] + parts["attention"] + parts["linear"]) == counter.get_total_flops()


def test_counts_add_up() -> None:
    parts = dict.fromkeys(PARTS, 3)
    total = Count(10, parts).plus(Count(4, parts), -2)
    assert (total.parameters, total.macs) == (2, -3 * len(PARTS))


def test_input_is_rounded_down() -> None:
    assert input_for((720, 1280), 3) == (240, 426)
