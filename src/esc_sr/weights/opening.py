"""A network from a bundled name or a file."""

from hashlib import sha256
from pathlib import Path

import torch

from esc_sr import families
from esc_sr.errors import WeightsError
from esc_sr.families.contract import Network
from esc_sr.weights.bundle import files_of
from esc_sr.weights.checkpoint import UnknownNetworkError, build, read
from esc_sr.weights.mixture import mix
from esc_sr.weights.others import by_spandrel


def load(
    name_or_path: str | Path,
    device: str | torch.device = "cpu",
    dtype: torch.dtype = torch.float32,
    scale: int | None = None,
    denoise: float | None = None,
) -> Network:
    """Load a network, ready to use.

    Args:
        name_or_path: A bundled name with or without its scale ("esc-light-x3", "esc-light"), or a checkpoint
            of a network of `families.FAMILIES`, with our names or others that it knows, or of one that
            spandrel knows, if that is installed; .safetensors or .pth.
        device: Where to put it.
        dtype: Precision of the parameters, whatever they are stored in.
        scale: Enlargement to have; of a bundled name without a scale, 2 by default, or with `denoise` the
            least that there is.
        denoise: Of bundled weights that have weak ones beside them, the share of the strong ones, 0..1, in a
            mixture of both (`mix`): 1 takes away noise as the name does by itself, 0 least. None: no mixture.

    Returns:
        The network in evaluation mode, with its sizes in `.config`: (B, 3, H, W) in 0..1 to (B, 3, sH, sW).

    Raises:
        WeightsError: No such weights; or the file is damaged, of another network, or of another scale.
        UsageError: `denoise` is out of range, or there are no weak weights for that name and scale.
    """
    files = files_of(name_or_path, scale, denoise)
    network = open_file(files[0])
    if denoise is not None and len(files) == 2:
        network = mix(network, open_file(files[1]), denoise)
    config = network.config
    if scale is not None and config.scale not in (None, scale):
        raise WeightsError(
            f"{name_or_path}: is {families.describe(config)}, not x{scale}; give weights of that scale"
        )
    return network.to(device, dtype).eval()


def open_file(path: Path) -> Network:
    """Build the network of a file, with the help of spandrel where that knows it and no family does.

    Raises:
        WeightsError: As of `load`.
    """
    try:
        return build(read(path))
    except UnknownNetworkError as error:
        return by_spandrel(error)


def digest(network: Network) -> str:
    """SHA-256 of what a network is and of all its numbers, in hexadecimal digits."""
    found = sha256(families.describe(network.config).encode())
    for key, value in sorted(network.state_dict().items()):
        found.update(key.encode() + value.cpu().reshape(-1).view(torch.uint8).numpy().tobytes())
    return found.hexdigest()
