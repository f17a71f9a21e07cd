"""The plan for a picture: what it needs, what it may take, where its maps lie, and what if that fails."""

import functools
import os
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from esc_sr import families
from esc_sr.errors import DeviceError, UsageError, WeightsError
from esc_sr.families.contract import Network
from esc_sr.families.esc import ESC, ESCConfig
from esc_sr.machine import memory
from esc_sr.machine.memory import file_map, free_memory, parse_memory, show_memory
from esc_sr.upscaling import plan as plan_module
from esc_sr.upscaling.engine import Upscaler, upscale
from esc_sr.upscaling.frame import FRAME
from esc_sr.upscaling.plan import MemoryPlan, Workload, plan_memory

TINY = ESCConfig(dim=16, pdim=8, n_blocks=1, n_convattn=1, window=8, heads=2)
CPU = torch.device("cpu")
GIB = 2**30


def tiny() -> ESC:
    torch.manual_seed(0)
    return ESC(TINY).eval()


@functools.cache
def published(name: str) -> Network:
    return families.blank(families.preset(name, max(scale for scale in families.scales(name) if scale <= 4)))


def plan_for(name: str, height: int, width: int, budget: int, map_bytes: int = 4) -> MemoryPlan:
    network = published(name)
    held = 3 * height * width * 5  # an 8-bit picture and its double
    return plan_memory(network, Workload(torch.Size((1, 3, height, width)), held, map_bytes), CPU, budget)


def noise(height: int, width: int) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (height, width, 3), np.uint8)


@pytest.mark.parametrize(
    ("text", "size"),
    [
        ("512MiB", 2**29),
        ("4GiB", 4 * GIB),
        ("4G", 4 * GIB),
        ("1.5 gb", 3 * 2**29),
        ("77", 77),
        (2**33, 2**33),
    ],
)
def test_amounts_of_memory(text: str | int, size: int) -> None:
    assert parse_memory(text) == size


@pytest.mark.parametrize("text", ["", "lots", "-1G", "0", "4XiB", "G", -5, "9" * 400])
def test_what_is_no_amount_of_memory(text: str | int) -> None:
    with pytest.raises(UsageError, match="512MiB"):
        Upscaler(tiny(), max_memory=text)


def test_large_pictures_fit_the_memory_they_should() -> None:
    assert plan_for("esc-light", 1500, 2000, int(2.2 * GIB)).in_file == 0
    assert plan_for("esc-light", 4000, 6000, 15 * GIB).in_file == 0


@pytest.mark.parametrize("name", families.presets())
@pytest.mark.parametrize("budget", [6 * GIB, 64 * GIB])
@pytest.mark.parametrize(("height", "width"), [(1, 1), (20, 5000), (1080, 1920), (5000, 20)])
def test_a_plan_stays_inside_the_budget(name: str, budget: int, height: int, width: int) -> None:
    plan = plan_for(name, height, width, budget)
    assert 0 < plan.need <= budget == plan.budget
    assert plan.rows % plan.lowest == 0
    assert plan.bands(width, CPU, list[float]().append).rows >= 1


def test_less_memory_means_lower_bands_and_then_a_file() -> None:
    plans = [plan_for("esc-light", 1000, 200, budget) for budget in (4 * GIB, 280 * 2**20, 130 * 2**20)]
    assert plans[0].rows > plans[1].rows >= plans[2].rows
    assert [plan.in_file > 0 for plan in plans] == [False, False, True]
    assert plans[2].in_file == 9 * 64 * 1000 * 200  # two maps and a quarter, 4 bytes each


def test_half_precision_needs_less() -> None:
    assert plan_for("esc", 999, 999, 9 * GIB, 2).need < 0.6 * plan_for("esc", 999, 999, 9 * GIB).need


def test_the_line_that_tells_a_plan(monkeypatch: pytest.MonkeyPatch) -> None:
    told: list[str] = []
    free = iter((3 * GIB, 2 * GIB))
    monkeypatch.setattr(plan_module, "free_memory", lambda device: next(free))
    upscaler = Upscaler(tiny(), report=told.append)
    for _ in range(2):
        upscaler.upscale(noise(20, 30))
    assert len(told) == 1  # the same plan is told once, whatever is free
    assert told[0].startswith("30 x 20 in one piece, about ") and told[0].endswith(" of 2.1 GiB")
    monkeypatch.setattr(plan_module, "BAND_BYTES", 2**12 * 6144)
    Upscaler(tiny(), max_memory="1GiB", report=told.append).upscale(noise(450, 40))
    assert told[1].startswith("40 x 450 in 2 bands of 336 rows, ") and told[1].endswith(" of 1.0 GiB")


def test_too_little_of_everything_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(DeviceError, match="allow more memory") as caught:
        upscale(noise(40, 40), tiny(), max_memory=10_000)
    assert "\n" not in str(caught.value)
    monkeypatch.setattr(plan_module, "free_disk", lambda: 1000)
    with pytest.raises(DeviceError, match="TMPDIR"):
        upscale(noise(300, 40), tiny(), max_memory="600KiB")


def test_a_module_that_tells_nothing_is_refused_with_a_limit() -> None:
    module = torch.nn.Upsample(scale_factor=2)
    assert upscale(noise(9, 7), module, scale=2).shape == (18, 14, 3)
    with pytest.raises(UsageError, match="Upsample does not tell what memory it takes") as caught:
        upscale(noise(9, 7), module, scale=2, max_memory="4GiB")
    assert "\n" not in str(caught.value)


def tight(network: ESC, lr: np.ndarray) -> int:
    """The least memory with which a picture goes through, its maps in a file."""
    with pytest.raises(DeviceError) as caught:
        upscale(lr, network, max_memory=1)
    least = str(caught.value).split(" or ")[1].split(" and ")[0]
    return parse_memory(least) + 2**20


def test_maps_in_a_file_give_the_same_and_leave_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr(tempfile, "tempdir", None)
    made: list[tuple[int, ...]] = []

    def watched(like: Tensor, shape: Any) -> Tensor:
        made.append(tuple(shape))
        assert os.listdir(tmp_path) == []  # nameless from the start: nothing is left after a kill
        return file_map(like, shape)

    monkeypatch.setattr(plan_module, "file_map", watched)
    told: list[str] = []
    lr, network = noise(600, 30), tiny()
    budget = tight(network, lr)
    for precision in ("fp32", "bf16"):
        sr = Upscaler(network, precision=precision, max_memory=budget, report=told.append).upscale(lr)
        expected = Upscaler(network, precision=precision).upscale(lr)
        assert np.abs(sr.astype(int) - expected).max() <= (1 if precision == "fp32" else 3)
    assert f"in {tmp_path}" in told[0]
    assert (1, 16, 600 + 2 * FRAME, 30 + 2 * FRAME) in made
    assert os.listdir(tmp_path) == []


def test_a_disk_that_fills_up_means_tiles(monkeypatch: pytest.MonkeyPatch) -> None:
    """The second of the maps finds no room, though there was room for all when the plan was made."""
    reserved: list[int] = []

    def fill(descriptor: int, start: int, size: int) -> None:
        reserved.append(size)
        if len(reserved) > 1:
            raise OSError(28, "No space left on device")
        os.ftruncate(descriptor, size)

    monkeypatch.setattr(os, "posix_fallocate", fill, raising=False)
    told, notices = list[str](), list[str]()
    lr, network = noise(600, 30), tiny()
    budget = tight(network, lr) + 2**20
    sr = Upscaler(network, max_memory=budget, report=told.append, notify=notices.append).upscale(lr)
    assert len(reserved) == 2
    assert " MiB in " in told[0] and "blended tiles of" in told[1] and len(told) == 2
    assert len(notices) == 1 and "too little memory and disk for the exact result" in notices[0]
    assert np.abs(sr.astype(int) - upscale(lr, network)).mean() < 1


def test_self_ensemble_in_bands_is_that_in_one_piece() -> None:
    lr = torch.rand(2, 3, 90, 34, generator=torch.Generator().manual_seed(0))
    network = tiny()
    whole = Upscaler(network, self_ensemble=True, frame=0).upscale(lr)
    runner = Upscaler(network, self_ensemble=True, frame=0)._networks.runner(2)
    banded, told = torch.empty_like(whole), list[float]()
    plan = replace(runner._plan(lr, (180, 68), 0, "fp32") or pytest.fail(), rows=8)

    def write(top: int, band: Tensor) -> None:
        banded[:, :, top : top + band.shape[2]] = band

    with torch.inference_mode():
        runner._attempt(lr, (180, 68), plan, "fp32", write, told.append)
    torch.testing.assert_close(banded, whole, atol=1e-6, rtol=0)
    assert told == sorted(told) and len(told) > 100
    assert told[-1] == pytest.approx(1)


class Crowded(ESC):
    """Runs out of memory when its bands are higher than some rows."""

    def __init__(self, most: int) -> None:
        super().__init__(TINY)
        self.most = most
        self.tried: list[int] = []

    def bands(self, lr: Tensor, bands: Any, size: Any = None, frame: int = 0) -> Any:
        self.tried.append(bands.rows)
        for band in super().bands(lr, bands):
            yield band
            if bands.rows > self.most:
                raise torch.OutOfMemoryError("CUDA out of memory")


def test_out_of_memory_halves_the_bands(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(plan_module, "BAND_BYTES", 2**12 * 6144)
    lr, network = noise(450, 40), Crowded(200).eval()
    told: list[str] = []
    sr = Upscaler(network, report=told.append).upscale(lr)
    assert network.tried == [336, 168]
    assert ["one piece" in line or "bands of" in line for line in told] == [True] * 2
    plain = tiny()
    plain.load_state_dict(network.state_dict())
    assert np.abs(sr.astype(int) - upscale(lr, plain)).max() <= 1


def test_out_of_memory_to_the_end_is_one_line() -> None:
    network = Crowded(0).eval()
    with pytest.raises(DeviceError, match="not enough memory"):
        upscale(noise(60, 31), network)
    assert network.tried == [72, 36, 18, 9, 8]


def test_other_errors_are_not_tried_again() -> None:
    network = Crowded(10**9).eval()
    torch.nn.init.constant_(network.tail.weight, float("nan"))
    with pytest.raises(WeightsError):
        upscale(noise(50, 31), network)
    assert len(network.tried) == 1


@pytest.mark.parametrize("own", ["", "jobs/17", "not/here"])
def test_free_memory_is_below_the_limits_of_control_groups(
    own: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of containers, where the process may be elsewhere than it thinks, and of jobs on a cluster."""
    assert free_memory(CPU) > 2**20
    (tmp_path / "own").write_text(f"4:memory:/{own}\n0::/other\n")
    for folder, limit in (("", 2**20 + 77), ("jobs", 2**20 + 7), ("jobs/17", "max")):
        (tmp_path / folder).mkdir(exist_ok=True)
        (tmp_path / folder / "most").write_text(f"{limit}\n")
        (tmp_path / folder / "used").write_text(f"{2**20 + 5}\n")
        (tmp_path / folder / "memory.stat").write_text("cache 50\ninactive_file 5\n")
    monkeypatch.setattr(memory, "_GROUP_OF_PROCESS", str(tmp_path / "own"))
    monkeypatch.setattr(memory, "_CGROUPS", (("memory", str(tmp_path), "most", "used", "inactive_file"),))
    assert free_memory(CPU) == (7 if own == "jobs/17" else 77)
    (tmp_path / "most").write_text("max\n")
    assert own == "jobs/17" or free_memory(CPU) > 2**20


def test_free_memory_is_below_the_limit_of_addresses(monkeypatch: pytest.MonkeyPatch) -> None:
    resource = pytest.importorskip("resource")
    statm = Path("/proc/self/statm")
    if not statm.exists():
        pytest.skip("this system does not tell how much a process has")
    limit = int(statm.read_text().split()[0]) * resource.getpagesize() + 2**28
    monkeypatch.setattr(resource, "getrlimit", lambda which: (limit, resource.RLIM_INFINITY))
    assert 2**27 < free_memory(CPU) <= 2**28


def test_amounts_are_shown_in_a_unit_that_fits() -> None:
    assert [show_memory(n) for n in (1.26 * GIB, GIB / 2, 9)] == ["1.3 GiB", "512 MiB", "1 MiB"]
