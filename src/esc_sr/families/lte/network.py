"""LTE on an encoder: pictures of any size from one set of features (Sec. 4.3, Supp. 6.2; LTE, CVPR 2022)."""

from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from esc_sr import families, native
from esc_sr.families.contract import HANDED, PICTURES, Compute, Cost, Encoder, Graph, Network, Unfused
from esc_sr.families.lte.config import LTEConfig
from esc_sr.network import rows
from esc_sr.network.rows import Bands, default_bands, join

QUERIES = 2**15  # output pixels decoded at a time when no gradient is recorded
DECODED = 2**18  # output pixels of a band at most
REACH = 2  # input rows that a point depends on: one to sample, one for the convolution before
EDGE = 1e-6  # how far inside the picture a query stays, in coordinates -1..1


def pixel_centres(height: int, width: int) -> Tensor:
    """Coordinates (height * width, 2) of the pixel centres of a picture, row by row: (y, x) in -1..1."""
    return torch.stack(torch.meshgrid(_centres(height), _centres(width), indexing="ij"), -1).view(-1, 2)


def _centres(side: int) -> Tensor:
    """Coordinates of the pixel centres along an axis of some pixels, float64 on the CPU, in -1..1."""
    return (torch.arange(side, dtype=torch.float64) * 2 + 1) / side - 1


def _sample(maps: Tensor, at: Tensor, mode: str) -> Tensor:
    """Sample (B, C, H, W) at (B, Q, 2) as (y, x) in -1..1, giving (B, Q, C)."""
    found = F.grid_sample(maps, at.flip(-1)[:, None], mode=mode, padding_mode="border", align_corners=False)
    return found[:, :, 0].transpose(1, 2)


class LTE(nn.Module):
    """Local texture estimator: features and coordinates to colours."""

    def __init__(self, dim: int, hidden: int, mlp: tuple[int, ...]) -> None:
        super().__init__()
        self.coef = nn.Conv2d(dim, hidden, 3, padding=1)
        self.freq = nn.Conv2d(dim, hidden, 3, padding=1)
        self.phase = nn.Linear(2, hidden // 2, bias=False)
        layers: list[nn.Module] = []
        for before, after in zip((hidden, *mlp), mlp, strict=False):
            layers += [nn.Linear(before, after), nn.ReLU()]
        self.mlp = nn.Sequential(*layers, nn.Linear(mlp[-1] if mlp else hidden, 3))

    def maps(self, features: Tensor) -> tuple[Tensor, Tensor]:
        """Estimate amplitudes and frequencies, each (B, hidden, H, W), of features (B, C, H, W)."""
        return self.coef(features), self.freq(features)

    def forward(self, lr: Tensor, coef: Tensor, freq: Tensor, coord: Tensor, cell: Tensor) -> Tensor:
        """Decode colours at some points.

        Args:
            lr: Input picture (B, 3, H, W), for the long skip (bilinear, Supp. 6.2).
            coef: Amplitudes (B, hidden, H, W).
            freq: Frequencies (B, hidden, H, W).
            coord: Query points (B, Q, 2) as (y, x) in -1..1.
            cell: Height and width of an output pixel (B, Q, 2), in the same unit.

        Returns:
            Colours (B, Q, 3) in the range of `lr` and of the type of `coord`, which is that of all but the
            layers.
        """
        lr, coef, freq = (t.to(coord.dtype) for t in (lr, coef, freq))
        stored = self.phase.weight.dtype
        size = torch.stack([coord.new_full((), side) for side in coef.shape[-2:]])
        y, x = (_centres(side).to(coord.dtype).to(coord.device) for side in coef.shape[-2:])
        grid = torch.stack(torch.meshgrid(y, x, indexing="ij")).expand(coef.shape[0], -1, -1, -1)
        phase = self.phase((cell * size).to(stored))  # (B, Q, hidden / 2)
        colours, areas = [], []
        for down in (-1, 1):
            for right in (-1, 1):
                corner = coord + coord.new_tensor([down, right]) / size + EDGE
                corner = corner.clamp(-1 + EDGE, 1 - EDGE)
                distance = (coord - _sample(grid, corner, "nearest")) * size  # (B, Q, 2) in pixels
                waves = _sample(freq, corner, "nearest").unflatten(-1, (-1, 2))  # (B, Q, hidden / 2, 2)
                angle = torch.pi * ((waves * distance[:, :, None]).sum(-1) + phase)
                basis = torch.cat((angle.cos(), angle.sin()), -1)
                colours.append(self.mlp((_sample(coef, corner, "nearest") * basis).to(stored)))
                areas.append((distance.abs() + 1e-9).prod(-1, keepdim=True))  # each side apart, see _rows
        total = torch.stack(areas).sum(0)
        blend = sum(colour * (area / total) for colour, area in zip(colours, reversed(areas), strict=True))
        return blend + _sample(lr, coord, "bilinear")

    def decode_grid(
        self, lr: Tensor, coef: Tensor, freq: Tensor, y: Tensor, x: Tensor, cell: Tensor
    ) -> Tensor:
        """Decode a grid of points by compiled kernels, without gradients.

        Args:
            lr: As in `forward`.
            coef: As there.
            freq: As there.
            y: Where the rows of the grid are (h,), in -1..1.
            x: Where its columns are (w,).
            cell: Height and width of an output pixel (2,), in the same unit.

        Returns:
            (B, 3, h, w), float32.
        """
        height, width = coef.shape[-2:]
        phase = self.phase((cell * cell.new_tensor([height, width])).to(self.phase.weight.dtype))
        layers = [(layer.weight, layer.bias) for layer in self.mlp if isinstance(layer, nn.Linear)]
        colours = native.decode(coef, freq, phase, layers, _places(y, height), _places(x, width))
        grid = torch.stack(torch.meshgrid(x, y, indexing="xy"), -1).to(lr.dtype)
        skip = F.grid_sample(lr, grid.expand(len(lr), -1, -1, -1), padding_mode="border", align_corners=False)
        return colours + skip


def _places(coord: Tensor, size: int) -> native.Places:
    """The two of `size` pixels on both sides of each coordinate, and how far they are from it, in pixels."""
    corner = coord + coord.new_tensor([[-1], [1]]) / size + EDGE
    corner = corner.clamp(-1 + EDGE, 1 - EDGE)
    index = (((corner + 1) * size - 1) / 2).clamp(0, size - 1).round()
    centre = (index.double() * 2 + 1) / size - 1
    return index.long(), (coord - centre.to(coord.dtype)) * size


class _Grid(NamedTuple):
    """A grid of points of a part of a picture.

    Attributes:
        first: Row of the picture where the part begins.
        last: Row behind the part.
        y: Where the rows of the grid are in the part, (h,), in -1..1.
        x: Where its columns are, (w,).
        cell: Height and width of a pixel of the grid (2,), in the same unit.
    """

    first: int
    last: int
    y: Tensor
    x: Tensor
    cell: Tensor


class _Maps(nn.Module):
    """Pictures (B, 3, H, W) in 0..1 to the maps that `_Query` takes."""

    def __init__(self, network: "EncoderLTE") -> None:
        super().__init__()
        self.encoder, self.decoder = network.encoder, network.decoder

    def forward(self, lr: Tensor) -> tuple[Tensor, Tensor]:
        maps: tuple[Tensor, Tensor] = self.decoder.maps(self.encoder((lr - 0.5) / 0.5))
        return maps


class _Query(nn.Module):
    """Pictures in 0..1, maps, points and cells to colours in 0..1."""

    def __init__(self, decoder: LTE) -> None:
        super().__init__()
        self.decoder = decoder

    def forward(self, lr: Tensor, coef: Tensor, freq: Tensor, coord: Tensor, cell: Tensor) -> Tensor:
        colours: Tensor = self.decoder((lr - 0.5) / 0.5, coef, freq, coord, cell)
        return colours * 0.5 + 0.5


class EncoderLTE(Network):
    """An encoder with LTE as its upsampler: any target height and width.

    Tiles are those of the encoder: their features are blended, and decoded as those of one piece.

    Attributes:
        config: The sizes it was built from.
    """

    config: LTEConfig

    def __init__(self, config: LTEConfig) -> None:
        super().__init__()
        self.config = config
        self.encoder: Encoder = families.build_encoder(config.encoder)
        self.decoder = LTE(self.encoder.dim, config.hidden, config.mlp)
        self.window, self.multiple = self.encoder.window, self.encoder.multiple
        self.framed, self.measured_multiple = self.encoder.framed, self.encoder.measured_multiple
        self.has_bands, self.surveys = self.encoder.has_bands, self.encoder.surveys
        self.reach, self.blend, self.exact = self.encoder.reach, self.encoder.blend, self.encoder.exact
        self.blended = self.encoder.dim
        self.inner = tuple(f"encoder.{name}" for name in self.encoder.inner)
        self.made_of = rows.layers_of(self)

    @property
    def passes(self) -> int:
        """How many stages `bands` takes the whole picture through; the decoder counts as the encoder does."""
        return 2 * self.encoder.passes

    @property
    def unfused(self) -> Unfused:
        """As `Traits.unfused`: the encoder's, and the maps."""
        scores, others = self.encoder.unfused or (0, self.encoder.cost(1024, 1024, 1024).band // 2**22)
        return Unfused(scores, others + 4 * self.config.hidden)

    def cost(self, height: int, width: int, rows: int, number: int = 4) -> Cost:
        """As `Traits.cost`: the encoder's, the picture in -1..1, and what is alive while queries are decoded.

        Without bands, and in tiles, rows are decoded from maps of no more than `HANDED` of them.
        """
        maps = 2 * self.config.hidden * number * (HANDED + 2 * REACH) * width
        held = 12 * height * width + 32 * self.config.hidden * QUERIES + 60 * DECODED + maps
        cost = self.encoder.cost(height, width, rows, number)
        return cost._replace(held=cost.held + held)

    def graphs(self, lr: Tensor) -> dict[str, Graph]:
        """The encoder, once for a picture, and the decoder, for as many points as fit into memory.

        "encoder": `input` to `coef` and `freq` (B, hidden, H, W). "query": these three, `coord` and `cell`
        (B, Q, 2) as of `LTE.forward`, to `output` (B, Q, 3) in 0..1.
        """
        maps = _Maps(self)
        coef, freq = maps(lr)
        exact = torch.promote_types(lr.dtype, torch.float32)
        points = pixel_centres(7, 11).to(exact).expand(len(lr), -1, -1)
        given = {"input": lr, "coef": coef, "freq": freq}
        asked = {"coord": points, "cell": torch.full_like(points, 0.1)}
        axes = dict.fromkeys(given, PICTURES)
        queries = axes | dict.fromkeys(("coord", "cell", "output"), {0: "batch", 1: "points"})
        return {
            "encoder": Graph(maps, {"input": lr}, axes, ("coef", "freq")),
            "query": Graph(_Query(self.decoder), given | asked, queries, ("output",)),
        }

    def query(self, lr: Tensor, coord: Tensor, cell: Tensor) -> Tensor:
        """Colours (B, Q, 3) at points (B, Q, 2) of a picture (B, 3, H, W), all in -1..1."""
        return self.decoder(lr, *self.decoder.maps(self.encoder(lr)), coord, cell)

    def forward(self, lr: Tensor, size: tuple[int, int]) -> Tensor:
        """Enlarge pictures to any size; features are computed once, then queried in chunks.

        Args:
            lr: (B, 3, H, W), RGB in 0..1, any sides from 1.
            size: Target height and width in pixels.

        Returns:
            (B, 3, *size), RGB around 0..1, not clamped.
        """
        if rows.applies(self, self.made_of, lr):
            return join(self.bands(lr, default_bands(lr), size), size[0])
        return self._rows(lr, self.encoder((lr - 0.5) / 0.5), size, 0, size[0]) * 0.5 + 0.5

    def bands(
        self, lr: Tensor, bands: Bands | None, size: tuple[int, int] | None = None, frame: int = 0
    ) -> Iterator[tuple[int, Tensor]]:
        """As `Network.bands`; a size is needed."""
        assert size is not None
        return self.decode(lr, [(0, self._features(lr, bands))], bands, size, frame)

    def tile(self, lr: Tensor, bands: Bands) -> Iterator[tuple[int, Tensor]]:
        """As `Network.tile`: features."""
        yield 0, self._features(lr, bands)

    def _features(self, lr: Tensor, bands: Bands | None) -> Tensor:
        """Features (B, dim, H, W) of pictures in 0..1."""
        f = self.encoder.encode((lr - 0.5) / 0.5, bands)
        if bands is not None and not self.encoder.has_bands:
            bands.done(lr.shape[2] * self.encoder.passes)
        return f

    def decode(
        self,
        lr: Tensor,
        features: Iterable[tuple[int, Tensor]],
        bands: Bands | None,
        size: tuple[int, int],
        frame: int = 0,
    ) -> Iterator[tuple[int, Tensor]]:
        """As `Network.decode`, as soon as there are features for a band."""
        (height, width), all_rows = size, lr.shape[2]
        lr_height = all_rows - 2 * frame
        step = height
        if bands is not None:
            most = bands.rows if self.has_bands else HANDED
            step = max(min(most * height // lr_height, DECODED // width), 1)
        top, start, kept = 0, 0, None
        for first, band in features:
            kept = band if kept is None else torch.cat((kept, band), 2)
            seen = first + band.shape[2]
            end = min((seen - frame - REACH) * height // lr_height, height) if seen < all_rows else height
            while top < end:
                bottom = min(top + step, end)
                yield top, self._rows(lr, kept, size, top, bottom, frame, start) * 0.5 + 0.5
                if bands is not None:
                    bands.done(self.encoder.passes * (bottom - top) * all_rows / height)
                top = bottom
            if seen < all_rows:
                needed = max(top * lr_height // height + frame - REACH, start)
                start, kept = needed, kept[:, :, needed - start :].clone()

    def _rows(
        self,
        lr: Tensor,
        features: Tensor,
        size: tuple[int, int],
        top: int,
        bottom: int,
        frame: int = 0,
        start: int = 0,
    ) -> Tensor:
        """Decode rows `top` to `bottom` of the target, (B, 3, bottom - top, width), in chunks of queries.

        The rows of the input that they depend on are taken for a picture of their own, with its coordinates.
        Features begin at the row `start` of the input.
        """
        first, last, y, x, cell = self._grid(lr, size, top, bottom, frame)
        given = (lr[:, :, first:last] - 0.5) / 0.5
        maps = self.decoder.maps(features[:, :, first - start : last - start].to(given))
        seen, coef, freq = (t.to(cell.dtype) for t in (given, *maps))
        if native.takes(lr) and not torch.is_grad_enabled() and rows.applies(self, self.made_of, lr):
            return self.decoder.decode_grid(seen, coef, freq, y.float(), x.float(), cell).to(lr.dtype)
        found = _in_chunks(seen, y, x, cell, lambda coord, cell: self.decoder(seen, coef, freq, coord, cell))
        return found.to(lr.dtype)

    def _grid(self, lr: Tensor, size: tuple[int, int], top: int, bottom: int, frame: int) -> _Grid:
        """Where rows of the target are decoded; at least in float32, as halves tell few pixels apart."""
        exact = torch.promote_types(lr.dtype, torch.float32)
        (height, width), (all_rows, columns) = size, lr.shape[2:]
        lr_height, lr_width = all_rows - 2 * frame, columns - 2 * frame
        first = max(top * lr_height // height + frame - REACH, 0)
        last = min(-(-bottom * lr_height // height) + frame + REACH, all_rows)
        y = (torch.arange(top, bottom, dtype=torch.float64) + 0.5) * lr_height / height  # in pixels
        x = (torch.arange(width, dtype=torch.float64) + 0.5) * lr_width / width
        y, x = (y + frame - first) / (last - first) * 2 - 1, (x + frame) / columns * 2 - 1
        cell = lr.new_tensor([2 / height, 2 / width], dtype=exact)
        growth = cell.new_tensor([height / lr_height, width / lr_width]) / self.config.trained_scale
        cell = cell * growth.clamp(min=1) * cell.new_tensor([lr_height / (last - first), lr_width / columns])
        return _Grid(first, last, y, x, cell)

    def by_graphs(
        self, compute: Mapping[str, Compute], lr: Tensor, size: tuple[int, int] | None = None, frame: int = 0
    ) -> Iterator[tuple[int, Tensor]]:
        """As `Network.by_graphs`; a size is needed."""
        assert size is not None
        coef, freq = compute["encoder"]({"input": lr})
        step = max(QUERIES // size[1], 1)
        for top in range(0, size[0], step):
            first, last, y, x, cell = self._grid(lr, size, top, min(top + step, size[0]), frame)
            given = {"input": lr, "coef": coef, "freq": freq}
            given = {name: t[:, :, first:last] for name, t in given.items()}

            def decode(coord: Tensor, cell: Tensor, given: Mapping[str, Tensor] = given) -> Tensor:
                return compute["query"]({**given, "coord": coord, "cell": cell})[0]

            yield top, _in_chunks(lr, y, x, cell, decode)


def _in_chunks(
    lr: Tensor, y: Tensor, x: Tensor, cell: Tensor, decode: Callable[[Tensor, Tensor], Tensor]
) -> Tensor:
    """Decode the points of a grid, as of `_Grid`, to (B, 3, h, w)."""
    y, x = (t.to(cell.dtype).to(lr.device) for t in (y, x))
    chunks = []
    for chunk in torch.stack(torch.meshgrid(y, x, indexing="ij"), -1).view(-1, 2).split(QUERIES):
        coord = chunk.expand(len(lr), -1, -1)
        chunks.append(decode(coord, cell.expand_as(coord)))
    return torch.cat(chunks, 1).transpose(1, 2).unflatten(2, (len(y), len(x)))
