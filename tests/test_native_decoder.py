"""The compiled decoder of LTE agrees with its layers at every level that this processor has."""

from typing import Any

import pytest
import torch
from torch import Tensor

from esc_sr import native
from esc_sr.families.esc import ESCConfig
from esc_sr.families.lte import EncoderLTE, LTEConfig
from esc_sr.families.lte.network import LTE, pixel_centres
from native_levels import needs_library

pytestmark = pytest.mark.usefixtures("one_thread")

TINY = ESCConfig(dim=8, pdim=4, kernel=3, n_blocks=1, n_convattn=1, window=4, heads=2)


def inputs(hidden: int, mlp: tuple[int, ...], height: int, width: int) -> tuple[LTE, Tensor, Tensor, Tensor]:
    """A decoder, and the picture, amplitudes and frequencies that it is to decode."""
    torch.manual_seed(hidden + height)
    decoder = LTE(4, hidden, mlp).requires_grad_(False)
    coef, freq = torch.randn(2, 2, hidden, height, width)
    return decoder, torch.randn(2, 3, height, width), coef, freq * 5


@pytest.mark.parametrize(("hidden", "mlp"), [(256, (256, 256)), (20, (24, 7)), (2, ()), (48, (16,))])
def test_agrees_with_the_layers(level: str, hidden: int, mlp: tuple[int, ...]) -> None:
    for (h, w), (high, wide) in {(1, 1): (3, 2), (5, 9): (5, 9), (7, 6): (16, 35), (9, 5): (4, 3)}.items():
        decoder, lr, coef, freq = inputs(hidden, mlp, h, w)
        cell = torch.tensor([2 / high, 2 / wide])
        y, x = ((torch.arange(n) * 2 + 1) / n - 1 for n in (high, wide))
        coord = pixel_centres(high, wide).float().expand(2, -1, -1)
        wanted = decoder(lr, coef, freq, coord, cell.expand_as(coord)).mT.unflatten(2, (high, wide))
        found = decoder.decode_grid(lr, coef, freq, y, x, cell)
        assert (found - wanted).abs().max() <= 1e-5 * wanted.abs().max()
        last = torch.channels_last
        again = decoder.decode_grid(
            lr, coef.contiguous(memory_format=last), freq.mT.contiguous().mT, y, x, cell
        )
        assert torch.equal(again, found)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_is_computed_in_float(level: str, dtype: torch.dtype) -> None:
    decoder, lr, coef, freq = inputs(20, (24,), 7, 6)
    decoder, coef, freq = decoder.to(dtype), coef.to(dtype), freq.to(dtype)
    places = torch.tensor([[0, 2], [1, 3]]), torch.tensor([[0.2, 0.1], [-0.8, -0.9]])
    layers = [(layer.weight, layer.bias) for layer in decoder.mlp if isinstance(layer, torch.nn.Linear)]
    phase = torch.ones(10, dtype=dtype)
    found = native.decode(coef, freq, phase, layers, places, places)
    floats = [(weight.float(), bias.float()) for weight, bias in layers]
    assert torch.equal(
        found, native.decode(coef.float(), freq.float(), phase.float(), floats, places, places)
    )


@needs_library
def test_rows_of_a_picture_are_the_same_in_bands() -> None:
    torch.manual_seed(0)
    network = EncoderLTE(LTEConfig(TINY, 16, (16,))).eval()
    lr = torch.rand(1, 3, 20, 11)
    with torch.no_grad():
        whole = network(lr, (47, 30))
        features = network.encoder((lr - 0.5) / 0.5)
        part = network._rows(lr, features, (47, 30), 13, 29) * 0.5 + 0.5
    assert (whole[:, :, 13:29] - part).abs().max() <= 1e-5


@needs_library
def test_wrong_arguments_are_refused() -> None:
    decoder, _, coef, freq = inputs(8, (6,), 5, 4)
    layers = [(layer.weight, layer.bias) for layer in decoder.mlp if isinstance(layer, torch.nn.Linear)]
    places = torch.tensor([[0, 2], [1, 3]]), torch.zeros(2, 2)
    given: list[Any] = [coef, freq, torch.zeros(4), layers, places, places]
    native.decode(*given)
    wrong: dict[int, list[Any]] = {
        0: [coef[0], coef[:, :6], coef.double(), coef.to("meta")],
        1: [freq[:, :, 1:], freq.double()],
        2: [torch.zeros(5), torch.zeros(4).double()],
        3: [[], layers[1:], layers[::-1], [(layers[0][0], layers[0][1][1:]), layers[1]]],
        4: [(places[0] + 2, places[1]), (places[0] - 1, places[1]), (places[0].int(), places[1])],
        5: [(places[0] + 1, places[1]), (places[0], places[1][:, :1]), (places[0][0], places[1][0])],
    }
    for position, others in wrong.items():
        for other in others:
            with pytest.raises(ValueError, match="pass "):
                native.decode(*(*given[:position], other, *given[position + 1 :]))
    with pytest.raises(ValueError, match="no gradients"):
        native.decode(coef.requires_grad_(), *given[1:])
