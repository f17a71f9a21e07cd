"""MambaIRv2 chooses the kinds of pixels with noise, if it is told to."""

from pathlib import Path

import torch

from esc_sr.families.mambairv2 import MambaIRv2
from published_families import loaded


def test_seeded_noise_is_that_of_the_published_network(tmp_path: Path) -> None:
    sample, network = loaded("mambairv2_light_tiny_x2", tmp_path)
    assert isinstance(network, MambaIRv2)
    network.noise_seed = 1234
    lr, expected = (sample.tensors[name] for name in ("input", "output_gumbel_seed1234"))
    with torch.inference_mode():
        for pictures in (lr, lr, lr.expand(2, -1, -1, -1)):
            torch.testing.assert_close(network(pictures)[-1:], expected, atol=1e-4, rtol=0)
        network.noise_seed = None
        torch.testing.assert_close(network(lr), sample.tensors["output"], atol=1e-4, rtol=0)
