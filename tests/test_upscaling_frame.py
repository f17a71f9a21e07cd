"""The frame of mirrored pixels that networks see around a picture."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import Tensor

from esc_sr.families.esc import ESC, ESCConfig
from esc_sr.upscaling.engine import Upscaler, upscale
from esc_sr.upscaling.frame import FRAME, framed, unframed

TINY = ESCConfig(dim=16, pdim=8, n_blocks=1, n_convattn=1, window=8, heads=2)


@pytest.mark.parametrize("sides", [(1, 1), (1, 7), (2, 3), (5, 9)])
def test_a_frame_is_the_mirror_image_edge_included(sides: tuple[int, int]) -> None:
    x = torch.rand(2, 3, *sides)
    expected = np.pad(x.numpy(), ((0, 0), (0, 0), (FRAME, FRAME), (FRAME, FRAME)), mode="symmetric")
    np.testing.assert_array_equal(framed(x).numpy(), expected)


@pytest.mark.parametrize("rows", [1, 3, 5, 8, 100])
def test_bands_lose_their_frame(rows: int) -> None:
    whole = torch.rand(1, 3, 30, 20)
    found = torch.zeros(1, 3, 14, 4)
    written: list[int] = []

    def write(top: int, band: Tensor) -> None:
        found[:, :, top : top + band.shape[2]] = band
        written.extend(range(top, top + band.shape[2]))

    cut = unframed(write, (14, 4), 8)
    for top in range(0, 30, rows):
        cut(top, whole[:, :, top : top + rows])
    assert torch.equal(found, whole[:, :, 8:-8, 8:-8])
    assert written == list(range(14))


@pytest.mark.parametrize("unshuffle", [1, 2, 4])
def test_the_edges_are_those_of_a_larger_picture(unshuffle: int) -> None:
    torch.manual_seed(0)
    upsampler = "pixelshuffledirect" if unshuffle == 1 else "pixelshuffle"
    config = replace(TINY, scale=4 // unshuffle, unshuffle=unshuffle, upsampler=upsampler)
    network = ESC(config).eval()
    lr = torch.rand(1, 3, 24, 16)
    border = FRAME * config.scale
    larger = Upscaler(network, frame=0).upscale(framed(lr))
    assert torch.equal(upscale(lr, network), larger[:, :, border:-border, border:-border])
    assert not torch.allclose(upscale(lr, network), Upscaler(network, frame=0).upscale(lr), atol=1e-3)
