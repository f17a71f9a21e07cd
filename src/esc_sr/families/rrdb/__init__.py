"""RRDBNet of ESRGAN (Wang et al., ECCVW 2018), Real-ESRGAN (Wang et al. 2021) and DASR (Wei et al. 2021)."""

from esc_sr.families.rrdb.network import RRDBConfig, RRDBNet

__all__ = ["RRDBConfig", "RRDBNet"]
