"""ESC for spandrel, so that programs built on it open ESC's checkpoints; the extra `spandrel` brings it.

import esc_sr.spandrel
esc_sr.spandrel.install()
spandrel.ModelLoader().load_from_file("ESC_DIV2K_X4.pth")
"""

from pathlib import Path
from typing import TYPE_CHECKING, Any

from esc_sr import families
from esc_sr.families.contract import Network
from esc_sr.families.esc.config import ESCConfig
from esc_sr.families.family import Tensors
from esc_sr.weights.checkpoint import build, recognise

if TYPE_CHECKING:
    from spandrel import Architecture, ArchSupport


def install() -> "list[ArchSupport]":
    """Add ESC to spandrel's registry, once.

    Returns:
        What was added: nothing where it was there already.
    """
    from spandrel import MAIN_REGISTRY, ArchSupport

    return MAIN_REGISTRY.add(ArchSupport.from_architecture(architecture()), ignore_duplicates=True)


def architecture() -> "Architecture[Network]":
    """ESC with all its variants of one scale, in the authors' names, neosr's, traiNNer-redux's or ours.

    Its networks are in float32 and take any sides from 1 px. Tiles are approximate, as dynamic kernels
    are of the whole picture.

    Raises, when it loads:
        WeightsError: Tensors are missing, of other shapes or not finite, or of a variant that is not known.
    """
    from spandrel import Architecture, ImageModelDescriptor

    class ESCArchitecture(Architecture[Network]):  # type: ignore[misc]  # spandrel tells no types
        def __init__(self) -> None:
            super().__init__(id="ESC", detect=_is_esc)

        def load(self, state_dict: dict[str, Any]) -> ImageModelDescriptor[Network]:
            checkpoint = recognise(state_dict, Path("ESC"))
            network, config = build(checkpoint).float(), checkpoint.config
            assert isinstance(config, ESCConfig)
            return ImageModelDescriptor(
                network,
                network.state_dict(),
                architecture=self,
                purpose="SR" if config.scale > 1 else "Restoration",
                tags=[families.variant(config) or f"{config.dim}dim"],
                supports_half=True,
                supports_bfloat16=True,
                scale=config.scale,
                input_channels=3,
                output_channels=3,
            )

    return ESCArchitecture()


def _is_esc(tensors: Tensors) -> bool:
    """Whether tensors are ESC's, perhaps damaged."""
    try:
        return families.of_kind("esc").detect(tensors) is not None
    except (KeyError, ValueError, IndexError, ArithmeticError, RuntimeError):
        return True
