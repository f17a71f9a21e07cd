"""ESC+LTE: pictures of any size from one set of features (Sec. 4.5, Supp. 6.2; decoder: LTE, CVPR 2022)."""

from collections.abc import Iterator
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from esc_sr.families.esc import banded
from esc_sr.families.esc.network import ESCConfig, ESCEncoder
from esc_sr.network.rows import Bands, default_bands, join

QUERIES = 2**15  # output pixels decoded at a time when no gradient is recorded
EDGE = 1e-6  # how far inside the picture a query stays, in coordinates -1..1


@dataclass(frozen=True)
class LTEConfig:
    """Sizes of ESC+LTE.

    Attributes:
        encoder: Sizes of the encoder; its scale, skip and upsampler have no meaning here.
        hidden: Channels of amplitudes and of frequencies, even.
        mlp: Widths of the hidden layers of the decoder.
        trained_scale: Largest enlargement seen in training; beyond it cells keep the size they have there.
    """

    encoder: ESCConfig = ESCConfig()
    hidden: int = 256
    mlp: tuple[int, ...] = (256, 256, 256)
    trained_scale: float = 4.0


def encoder_config(config: ESCConfig | LTEConfig) -> ESCConfig:
    """Sizes of the part of a network that makes the features."""
    return config.encoder if isinstance(config, LTEConfig) else config


def pixel_centres(height: int, width: int) -> Tensor:
    """Coordinates (height * width, 2) of the pixel centres of a picture, row by row: (y, x) in -1..1."""
    y = (torch.arange(height, dtype=torch.float64) * 2 + 1) / height - 1
    x = (torch.arange(width, dtype=torch.float64) * 2 + 1) / width - 1
    return torch.stack(torch.meshgrid(y, x, indexing="ij"), -1).view(-1, 2)


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
            Colours (B, Q, 3) in the range of `lr`.
        """
        size = coord.new_tensor(coef.shape[-2:])
        centres = pixel_centres(*coef.shape[-2:]).to(coord.dtype).to(coord.device)
        grid = centres.T.reshape(1, 2, *coef.shape[-2:]).expand(len(coef), -1, -1, -1)
        phase = self.phase(cell * size)  # (B, Q, hidden / 2)
        colours, areas = [], []
        for down in (-1, 1):
            for right in (-1, 1):
                corner = coord + coord.new_tensor([down, right]) / size + EDGE
                corner = corner.clamp(-1 + EDGE, 1 - EDGE)
                distance = (coord - _sample(grid, corner, "nearest")) * size  # (B, Q, 2) in pixels
                waves = _sample(freq, corner, "nearest").unflatten(-1, (-1, 2))  # (B, Q, hidden / 2, 2)
                angle = torch.pi * ((waves * distance[:, :, None]).sum(-1) + phase)
                basis = torch.cat((angle.cos(), angle.sin()), -1)
                colours.append(self.mlp(_sample(coef, corner, "nearest") * basis))
                areas.append((distance.abs() + 1e-9).prod(-1, keepdim=True))  # each side apart, see _rows
        total = torch.stack(areas).sum(0)
        blend = sum(colour * (area / total) for colour, area in zip(colours, reversed(areas), strict=True))
        return blend + _sample(lr, coord, "bilinear")


class ESCLTE(nn.Module):
    """ESC with LTE as its upsampler: any target height and width.

    Attributes:
        config: The sizes it was built from.
    """

    reach = 2  # input rows that a point depends on: one to sample, one for the convolution before

    def __init__(self, config: LTEConfig) -> None:
        super().__init__()
        self.config = config
        self.encoder = ESCEncoder(config.encoder)
        self.decoder = LTE(config.encoder.dim, config.hidden, config.mlp)

    @property
    def passes(self) -> int:
        """How many stages `bands` takes the whole picture through; the decoder counts as the encoder does."""
        return 2 * self.encoder.passes

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
        if banded.applies(self, lr):
            return join(self.bands(lr, size, default_bands(lr)), size[0])
        x = (lr - 0.5) / 0.5
        return self._rows(x, self.encoder(x), size, 0, size[0]) * 0.5 + 0.5

    def bands(
        self, lr: Tensor, size: tuple[int, int], bands: Bands | None, frame: int = 0
    ) -> Iterator[tuple[int, Tensor]]:
        """Enlarge pictures to any size, band by band; arguments as in `forward`, and two more.

        Args:
            lr: As there.
            size: As there.
            bands: How, if no gradient is recorded; None makes it one band.
            frame: Pixels on each side of the pictures that are seen but not enlarged.

        Yields:
            The first row of a band of the result, and the band (B, 3, h, target width), from top to bottom.
        """
        x = (lr - 0.5) / 0.5
        f = banded.features(self.encoder, x, bands)
        height = size[0]
        rows = height if bands is None else max(bands.rows * height // lr.shape[2], 1)
        for top in range(0, height, rows):
            bottom = min(top + rows, height)
            band = self._rows(x, f, size, top, bottom, frame) * 0.5 + 0.5
            if bands is not None:
                bands.done(self.encoder.passes * (bottom - top) * lr.shape[2] / height)
            yield top, band

    def _rows(
        self, lr: Tensor, features: Tensor, size: tuple[int, int], top: int, bottom: int, frame: int = 0
    ) -> Tensor:
        """Decode rows `top` to `bottom` of the target, (B, 3, bottom - top, width), in chunks of queries.

        The rows of the input that they depend on are taken for a picture of their own, with its coordinates.
        """
        (height, width), (all_rows, columns) = size, lr.shape[2:]
        lr_height, lr_width = all_rows - 2 * frame, columns - 2 * frame
        first = max(top * lr_height // height + frame - self.reach, 0)
        last = min(-(-bottom * lr_height // height) + frame + self.reach, all_rows)
        lr = lr[:, :, first:last]
        maps = self.decoder.maps(features[:, :, first:last].to(lr.device))
        y = (torch.arange(top, bottom, dtype=torch.float64) + 0.5) * lr_height / height  # in pixels
        x = (torch.arange(width, dtype=torch.float64) + 0.5) * lr_width / width
        y, x = (y + frame - first) / (last - first), (x + frame) / columns
        points = torch.stack(torch.meshgrid(y * 2 - 1, x * 2 - 1, indexing="ij"), -1)
        cell = lr.new_tensor([2 / height, 2 / width])
        growth = lr.new_tensor([height / lr_height, width / lr_width]) / self.config.trained_scale
        cell = cell * growth.clamp(min=1) * lr.new_tensor([lr_height / (last - first), lr_width / columns])
        chunks = []
        for chunk in points.view(-1, 2).to(lr.dtype).to(lr.device).split(QUERIES):
            coord = chunk.expand(len(lr), -1, -1)
            chunks.append(self.decoder(lr, *maps, coord, cell.expand_as(coord)))
        return torch.cat(chunks, 1).transpose(1, 2).unflatten(2, (bottom - top, width))
