"""RRDBNet as a family: the names of Real-ESRGAN, and of two versions of ESRGAN, whose older DASR has too."""

import math
from collections.abc import Iterable, Mapping

from esc_sr.families.family import Shapes, numbered
from esc_sr.families.published import PublishedFamily, Rows, expect
from esc_sr.families.rrdb.network import RRDBConfig, RRDBNet

NEW = (
    ("RRDB_trunk.*.RDB*.conv*.*", "body.*.rdb*.conv*.*"),
    ("trunk_conv.*", "conv_body.*"),
    ("upconv*.*", "conv_up*.*"),
    ("HRconv.*", "conv_hr.*"),
)
"""ESRGAN's names and ours, where they differ; BSRGAN has them too."""


def _old(blocks: int, layers: list[int]) -> Rows:
    """The names of ESRGAN before 2020 without "model." before them, and ours.

    Args:
        blocks: Of three dense blocks.
        layers: Numbers of the layers behind them: a convolution for each doubling, and two more.
    """
    ups = ((f"{layer}.*", f"conv_up{number}.*") for number, layer in enumerate(layers[:-2], 1))
    ends = zip(layers[-2:], ("conv_hr.*", "conv_last.*"), strict=False)
    return (
        ("0.*", "conv_first.*"),
        ("1.sub.*.RDB*.conv*.0.*", "body.*.rdb*.conv*.*"),
        (f"1.sub.{blocks}.*", "conv_body.*"),
        *ups,
        *((f"{layer}.*", ours) for layer, ours in ends),
    )


class RRDBFamily(PublishedFamily):
    """Told by dense blocks of which three are a block."""

    kind = "rrdb"
    name = "RRDBNet (ESRGAN, Real-ESRGAN)"
    home = (
        "github.com/xinntao/Real-ESRGAN (BSD-3-Clause); "
        "DASR of Wei et al.: github.com/ShuhangGu/DASR (no licence)"
    )
    config = RRDBConfig
    network = RRDBNet
    presets = {
        "realesrgan-x4plus": {4: RRDBConfig()},
        "realesrgan-x2plus": {2: RRDBConfig(2, unshuffle=2)},
        "realesrgan-x4plus-anime-6b": {4: RRDBConfig(blocks=6)},
    }
    mark = r"body\.\d+\.rdb1\.conv1\."

    def dialects(self, names: Iterable[str]) -> Mapping[str, Rows]:
        """As `PublishedFamily.dialects`."""
        numbers = (name.split(".")[0] for name in names if name.endswith(".weight"))
        layers = sorted(
            {int(number) for number in numbers if number.isdecimal() and len(number) < 9} - {0, 1}
        )
        return {"ESRGAN": NEW, "old ESRGAN": _old(numbered(names, r"1\.sub\.(\d+)\.RDB"), layers)}

    def infer(self, shapes: Shapes, encoder: bool = False) -> RRDBConfig:
        """As `PublishedFamily.infer`."""
        blocks = numbered(shapes, r"body\.(\d+)\.")
        expect(shapes, 30 * blocks)
        dim, channels = shapes["conv_first.weight"][:2]
        unshuffle = math.isqrt(channels // 3)
        factor = 2 ** numbered(shapes, r"conv_up(\d+)\.")
        if channels != 3 * unshuffle**2 or factor % max(unshuffle, 1):
            raise ValueError(f"no picture has {channels} channels and becomes {factor} times as large")
        return RRDBConfig(factor // unshuffle, dim, shapes["body.0.rdb1.conv1.weight"][0], blocks, unshuffle)

    def describe(self, config: RRDBConfig) -> str:
        """The name and all sizes."""
        before = f" after {config.unshuffle}x{config.unshuffle}" if config.unshuffle > 1 else ""
        return f"RRDBNet x{config.scale}{before} of {config.dim} channels, {config.blocks} blocks"


FAMILY = RRDBFamily()
