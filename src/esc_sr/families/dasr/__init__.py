"""DASR (Liang et al., ECCV 2022); that of Wei et al. (CVPR 2021) is an `rrdb`."""

from esc_sr.families.dasr.network import DASR, DASRConfig

__all__ = ["DASR", "DASRConfig"]
