"""Networks of other families for the tests: tiny ones with random weights, and published files where told."""

import os
from pathlib import Path

import pytest
import torch

from esc_sr.families.bsrn import BSRN, BSRNConfig
from esc_sr.families.contract import Network
from esc_sr.families.srvgg import SRVGGConfig, SRVGGNetCompact


def bsrn(scale: int = 2, dim: int = 16, blocks: int = 2) -> BSRN:
    torch.manual_seed(0)
    return BSRN(BSRNConfig(scale, dim, blocks)).eval()


def srvgg(scale: int = 2, dim: int = 8, convs: int = 3) -> SRVGGNetCompact:
    torch.manual_seed(0)
    return SRVGGNetCompact(SRVGGConfig(scale, dim, convs)).eval()


TINY: dict[str, Network] = {"bsrn": bsrn(), "srvgg": srvgg()}


def published(name: str) -> Path:
    """A published file, in the folder that we are told."""
    path = Path(os.environ.get("ESC_SR_PEERS") or ".") / name
    if not path.is_file():
        pytest.skip(f"needs {name}: set ESC_SR_PEERS to the folder of published weights of other networks")
    return path
