"""What follows the body of a trained network, by least squares: for another scale, or on another body."""

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from esc_sr import families, weights
from esc_sr.data.pairs import cut_pair, make_pairs
from esc_sr.data.pictures import Decoded, Progress, find_pictures, no_progress
from esc_sr.errors import DataError, UsageError
from esc_sr.families.contract import Network
from esc_sr.families.lte import EncoderLTE
from esc_sr.weights.checkpoint import build, read
from esc_sr.weights.conversion import rescale, starting_weights

CROPS = 64
"""How many crops are looked at."""

SIDE = 96
"""Their LR side at most, px."""

PLACES = 4
"""As `places` of a recipe."""

FLAT = 0.2
"""As `flat` of a recipe: without it tints are free."""

RIDGE = 1e-6
"""What a change of a weight costs, in parts of the mean square of all that the layer takes."""

Example = tuple[Tensor, Tensor]
"""What convolutions take (1, C, H, W), and what their results lack, one after the other (1, N, H, W)."""


def fit_scale(
    source: str | Path, out: Path, scale: int, data: Sequence[Path], progress: Progress = no_progress
) -> Network:
    """Take a network to another scale: its last convolution makes what comes nearest to HR, all else stays.

    Only the last convolution depends on the scale, where a pixel shuffle follows it. It begins as `rescale`
    makes it, and is changed by the solution of least squares.

    Args:
        source: File of any dialect, or bundled name.
        out: File to write, .safetensors.
        scale: The new scale.
        data: Folders and .tar shards of HR pictures, which `CROPS` crops are taken of, the same every time.
        progress: Called with crops done and in all.

    Returns:
        The network that was written.

    Raises:
        WeightsError: The source cannot be read, or has another end; or `out` cannot be written.
        DataError: There are no pictures, or all are too small; ImageError: one cannot be read.
    """
    path = weights.find(source)
    old = read(path)
    network = build(rescale(old, scale, path)).float().eval()
    last = network.get_submodule(families.family_of(network.config).shuffled(network.config) or "")
    taken: list[Tensor] = []

    def examples(unit: Tensor) -> Iterator[Example]:
        for lr, hr in _crops(data, scale, network.multiple, progress):
            sr = network(lr)
            yield taken.pop(), F.pixel_unshuffle(hr - sr, scale) / unit

    with torch.inference_mode():
        unit = _unit(network, last)
        with last.register_forward_pre_hook(lambda _, given: taken.append(given[0])):
            _solve([last], examples(unit))
    _save(network, out, {"started_from": path.name, "fitted_from_scale": old.config.scale})
    return network


def fit_encoder(
    source: str | Path, out: Path, decoder: str | Path, data: Sequence[Path], progress: Progress = no_progress
) -> Network:
    """Put another encoder under LTE: its amplitudes and frequencies come nearest to those that it had.

    Args:
        source: The encoder, or a network to take it from, of the sizes of the one that is there: file of any
            dialect, or bundled name.
        out: File to write, .safetensors.
        decoder: The network with LTE: file, or bundled name.
        data: As of `fit_scale`.
        progress: As there.

    Returns:
        The network that was written.

    Raises:
        UsageError: `decoder` has no LTE.
        WeightsError: A file cannot be read, or the encoder is another; or `out` cannot be written.
        DataError: As of `fit_scale`, and ImageError.
    """
    old = weights.load(decoder)
    if not isinstance(old, EncoderLTE):
        raise UsageError(f"--decoder {decoder}: is {families.describe(old.config)} and has no LTE")
    path = weights.find(source)
    network = EncoderLTE(old.config).eval()
    encoder = {
        name: value
        for name, value in starting_weights(path, old.config).items()
        if name.startswith("encoder.")
    }
    network.load_state_dict(old.state_dict() | encoder)

    def examples() -> Iterator[Example]:
        for lr, _ in _crops(data, 2, network.multiple, progress):
            picture = (lr - 0.5) / 0.5
            features = network.encoder(picture)
            wanted, made = old.decoder.maps(old.encoder(picture)), network.decoder.maps(features)
            yield features, torch.cat(wanted, 1) - torch.cat(made, 1)

    with torch.inference_mode():
        _solve([network.decoder.coef, network.decoder.freq], examples())
    _save(network, out, {"started_from": path.name, "decoder_from": weights.find(decoder).name})
    return network


def _unit(network: Network, last: nn.Module) -> Tensor:
    """By how much a picture rises where the last convolution gives one more; ELAN's counts in 255 parts."""
    lr = torch.zeros(1, 3, network.multiple, network.multiple)
    with last.register_forward_hook(lambda layer, given, result: result + 1):
        more = network(lr)
    with last.register_forward_hook(lambda layer, given, result: result):
        return (more - network(lr)).mean()


def _crops(
    data: Sequence[Path], scale: int, multiple: int, progress: Progress
) -> Iterator[tuple[Tensor, Tensor]]:
    """LR (1, 3, h, w) and HR (1, 3, scale h, scale w) in 0..1, spread over the pictures."""
    entries = [entry for root in data for entry in find_pictures(root)]
    chosen = Counter(entries[number * len(entries) // CROPS] for number in range(CROPS))
    generator, looked_at, taken = np.random.default_rng(0), 0, 0
    for entry, times in chosen.items():
        (pair,) = make_pairs([Decoded(entry.name, entry.read())], scale)
        both = Decoded(pair.name, pair.lr), Decoded(pair.name, pair.hr)
        patch = min(SIDE, *pair.lr.shape[:2]) // multiple * multiple
        for _ in range(times if patch else 0):
            lr, hr = cut_pair(both, generator, scale=scale, patch=patch, flat=FLAT, places=PLACES)
            yield lr[None], hr[None]
            taken += 1
        looked_at += times
        progress(looked_at, CROPS)
    if not taken:
        raise DataError(f"no picture has the {multiple * scale} px on each side that a crop needs")


def _solve(convolutions: Sequence[nn.Module], examples: Iterable[Example]) -> None:
    """Change convolutions of 3x3, which take the same, by the solution of the normal equations."""
    layers = [layer for layer in convolutions if isinstance(layer, nn.Conv2d)]
    widths = [layer.out_channels for layer in layers]
    unknown = 9 * layers[0].in_channels + 1
    gram = torch.zeros(unknown, unknown, dtype=torch.float64)
    moment = torch.zeros(unknown, sum(widths), dtype=torch.float64)
    for features, lacking in examples:
        taken = F.unfold(features.double(), 3, padding=1)[0]
        taken = torch.cat((taken, taken.new_ones(1, taken.shape[1])))  # (9C + 1, HW), the bias last
        gram += taken @ taken.T
        moment += taken @ lacking.double()[0].flatten(1).T
    gram.diagonal().add_(RIDGE * gram.diagonal().mean())
    changes = torch.linalg.solve(gram, moment).float().split(widths, 1)
    for layer, change in zip(layers, changes, strict=True):
        layer.weight += change[:-1].T.reshape(layer.weight.shape)
        if layer.bias is not None:
            layer.bias += change[-1]


def _save(network: Network, out: Path, card: dict[str, Any]) -> None:
    """Write a network that was fitted."""
    weights.save(network, out, card | {"fitted_to_crops": CROPS, "iterations": 0})
