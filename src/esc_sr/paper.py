"""What the paper prints in its tables, as data, to stand beside what is measured here.

Figures are as printed; `Row.remark` says where one cannot be right. Latency in ms and memory in MiB are of
an RTX 4090 at FP32 with a 1280x720 output (Sec. 4.2); what the paper calls FLOPs are MACs.
"""

import functools
from typing import NamedTuple

PrintedScores = dict[str, tuple[float, float | None]]
"""Of each test set, PSNR in dB and, where the table has it, SSIM."""

METHODS = {
    "esc": "ESC",
    "esc-light": "ESC-lt",
    "esc-fp": "ESC-FP",
    "swinir-light": "SwinIR-lt",
    "elan-light": "ELAN-lt",
    "srformer-light": "SRFormer-lt",
    "atd-light": "ATD-lt",
    "hit-srf": "HiT-SRF",
    "mambair-light": "MambaIR-lt",
    "mambairv2-light": "MambaIRV2-lt",
    "omnisr": "OmniSR",
    "asid-d8": "ASID-D8",
    "rcan": "RCAN",
    "rdn": "RDN",
    "esc-lte": "ESC+LTE",
    "rdn-lte": "RDN+LTE",
    "atd-lte": "ATD-lt+LTE",
    "hit-srf-lte": "HiT-SRF+LTE",
    "esc-only-attn": "Only Self-attentions",
    "esc-only-convattn": "Only ConvAttns",
    "esc-lk9": "9×9 LK",
    "esc-lk17": "17×17 LK",
    "esc-own-lk-no-dk": "w/o LK Share and DK",
    "esc-own-lk": "w/o LK Share",
    "esc-ws16": "WS16 and more layers",
    "esc-ws24": "WS24 and more layers",
}
"""What the paper's tables call our presets."""


class Row(NamedTuple):
    """A method at a scale, as a table has it; None where it has nothing.

    Latency in ms, memory in MiB, MACs in G (the column "#FLOPs"), parameters in K.
    """

    table: int
    method: str
    scale: int
    latency_ms: float | None
    memory_mib: float | None
    gmacs: float | None
    kparams: float | None
    scores: PrintedScores
    remark: str | None


class AttentionCost(NamedTuple):
    """A cell of Table 1: self-attention on features of 64 channels, latency in ms and memory in MiB."""

    window: int
    side: int
    flash: bool
    latency_ms: float
    memory_mib: float


def rows(table: int) -> tuple[Row, ...]:
    """All rows of a table, in its order.

    Args:
        table: 2 (trained on DIV2K), 3 (ablations), 4 (trained on DFLIP), 5 (arbitrary scale, RGB, DIV2K
            validation) or 6 (arbitrary scale, Y).

    Raises:
        KeyError: There are no such rows; Table 1 is `ATTENTION`.
    """
    return _rows()[table]


def row(table: int, method: str, scale: int) -> Row | None:
    """The row of a method, by the paper's name or by a preset's, or None if the table has none."""
    wanted = METHODS.get(method, method)
    return next((found for found in rows(table) if (found.method, found.scale) == (wanted, scale)), None)


def scores(table: int, method: str, scale: int) -> PrintedScores:
    """PSNR and SSIM of a method by test set, as `row`; empty if the table has none."""
    found = row(table, method, scale)
    return found.scores if found else {}


@functools.cache
def _rows() -> dict[int, tuple[Row, ...]]:
    """Tables 2 to 6, read once."""
    classic = ("Set5", "Set14", "BSD100", "Urban100", "Manga109")
    return {
        2: tuple(_measured(2, line, classic) for line in _TABLE_2.splitlines()),
        3: tuple(_measured(3, line, ("Set5", "Urban100")) for line in _TABLE_3.splitlines()),
        4: tuple(_measured(4, line, classic) for line in _TABLE_4.splitlines()),
        5: _arbitrary(5, _TABLE_5, (2, 3, 4, 6, 12, 18, 24, 30)),
        6: _arbitrary(6, _TABLE_6, (2, 3, 4, 6, 8)),
    }


def _measured(table: int, line: str, sets: tuple[str, ...]) -> Row:
    """Read method, scale, latency, memory, MACs, parameters and a PSNR/SSIM per set."""
    method, scale, latency, memory, gmacs, kparams, *cells = line.rsplit(maxsplit=5 + len(sets))
    found: PrintedScores = {}
    for name, cell in zip(sets, cells, strict=True):
        if cell != "-":
            psnr, ssim = cell.split("/")
            found[name] = float(psnr), float(ssim)
    remark = _REMARKS.get((table, method, int(scale)))
    costs = float(latency), float(memory), float(gmacs), float(kparams)
    return Row(table, method, int(scale), *costs, found, remark)


def _arbitrary(table: int, text: str, scales: tuple[int, ...]) -> tuple[Row, ...]:
    """Read lines of method, set and one PSNR per scale."""
    found: dict[tuple[str, int], PrintedScores] = {}
    for line in text.splitlines():
        method, name, *cells = line.split()
        for scale, cell in zip(scales, cells, strict=True):
            found.setdefault((method, scale), {})[name] = float(cell), None
    return tuple(
        Row(table, method, scale, None, None, None, None, sets, None)
        for (method, scale), sets in found.items()
    )


_OTHER_LATENCY = "latency differs from Table {}'s of the same network"
_REMARKS = {
    (2, "ESC-FP", 3): "SSIM on Manga109 is printed as that on Urban100",
    (2, "ESC-FP", 4): "SSIM on Set5 is printed below every other method's; 0.8997 would fit",
    (2, "ESC-lt", 2): "cut off, not rounded",
    (2, "RCAN", 4): "cited as RDN",
    **{(2, "ELAN-lt", scale): "the paper's MACs are those of ELAN's own" for scale in (2, 3, 4)},
    **{(table, "HiT-SRF", 3): "the paper's MACs are those of HiT-SRF's own" for table in (2, 4)},
    **{(2, "MambaIR-lt", scale): "a scan is counted as its authors do" for scale in (2, 3)},
    **{(2, "OmniSR", scale): "the paper's parameters are those of OmniSR's own" for scale in (2, 3, 4)},
    (2, "SwinIR-lt", 2): "the paper's MACs are those of SwinIR's followers",
    (3, "w/o LK Share and DK", 2): "rounded up",
    **{
        (
            table,
            "SRFormer-lt",
            scale,
        ): f"the paper's MACs are those of SRFormer's own; {_OTHER_LATENCY.format(other)}"
        for table, other in ((2, 4), (4, 2))
        for scale in (2, 3, 4)
    },
}

ATTENTION = (
    AttentionCost(16, 64, False, 2.0, 46),
    AttentionCost(16, 64, True, 0.5, 11),
    AttentionCost(24, 64, False, 7.6, 111),
    AttentionCost(24, 64, True, 0.5, 14),
    AttentionCost(32, 64, False, 27.3, 157),
    AttentionCost(32, 64, True, 0.5, 11),
    AttentionCost(16, 288, False, 4.9, 758),
    AttentionCost(16, 288, True, 1.3, 223),
    AttentionCost(24, 288, False, 14.5, 1575),
    AttentionCost(24, 288, True, 2.0, 223),
    AttentionCost(32, 288, False, 44.7, 2717),
    AttentionCost(32, 288, True, 2.8, 223),
)
"""Table 1."""

_TABLE_2 = """\
SwinIR-lt    2 1409.8 1287  244.2   910 38.14/0.9611 33.86/0.9206 32.31/0.9012 32.76/0.9340 39.12/0.9783
ELAN-lt      2   94.5  887  203.1   621 38.17/0.9611 33.94/0.9207 32.30/0.9012 32.76/0.9340 39.11/0.9782
OmniSR       2  120.3 1031  194.5   772 38.22/0.9613 33.98/0.9210 32.36/0.9020 33.05/0.9363 39.28/0.9784
SRFormer-lt  2 1456.3 1184  236.3   853 38.23/0.9613 33.94/0.9209 32.36/0.9019 32.91/0.9353 39.28/0.9785
ATD-lt       2  733.5 2839  380.0   753 38.29/0.9616 34.10/0.9217 32.39/0.9023 33.27/0.9375 39.52/0.9789
HiT-SRF      2  268.1 1804  226.5   847 38.26/0.9615 34.01/0.9214 32.37/0.9023 33.13/0.9372 39.47/0.9787
ASID-D8      2  131.2  999  190.5   732 38.32/0.9618 34.24/0.9232 32.40/0.9028 33.35/0.9387            -
MambaIR-lt   2  277.1 1695  334.2   905 38.13/0.9610 33.95/0.9208 32.31/0.9013 32.85/0.9349 39.20/0.9782
MambaIRV2-lt 2  580.4 2824  286.3   774 38.26/0.9615 34.09/0.9221 32.36/0.9019 33.26/0.9378 39.35/0.9785
RDN          2  279.3 2058 5096.2 22123 38.24/0.9614 34.01/0.9212 32.34/0.9017 32.89/0.9353 39.18/0.9780
RCAN         2  299.3  626 3529.7 15445 38.27/0.9614 34.12/0.9216 32.41/0.9027 33.34/0.9384 39.44/0.9786
ESC-FP       2   94.3  627  239.8   524 38.27/0.9617 34.09/0.9219 32.37/0.9022 33.22/0.9375 39.40/0.9784
ESC-lt       2   73.2  830  359.4   603 38.24/0.9615 33.98/0.9211 32.35/0.9020 33.05/0.9363 39.33/0.9786
ESC          2  120.9  831  592.0   947 38.35/0.9619 34.11/0.9223 32.41/0.9027 33.46/0.9395 39.54/0.9790
SwinIR-lt    3  331.7  596  110.8   918 34.62/0.9289 30.54/0.8463 29.20/0.8082 28.66/0.8624 33.98/0.9478
ELAN-lt      3   32.5  399   90.1   629 34.61/0.9288 30.55/0.8463 29.21/0.8081 28.69/0.8624 34.00/0.9478
OmniSR       3   41.2  476   88.4   780 34.70/0.9294 30.57/0.8469 29.28/0.8094 28.84/0.8656 34.22/0.9487
SRFormer-lt  3  530.5  537  105.4   861 34.67/0.9296 30.57/0.8469 29.26/0.8099 28.81/0.8655 34.19/0.9489
ATD-lt       3  274.4 1258  168.0   760 34.74/0.9300 30.68/0.8485 29.32/0.8109 29.17/0.8709 34.60/0.9506
HiT-SRF      3  124.9 1464  101.6   855 34.75/0.9300 30.61/0.8475 29.29/0.8106 28.99/0.8687 34.53/0.9502
ASID-D8      3   61.9  460   86.4   739 34.84/0.9307 30.66/0.8491 29.32/0.8119 29.08/0.8706            -
MambaIR-lt   3  109.3  760  148.5   913 34.63/0.9288 30.54/0.8459 29.23/0.8084 28.70/0.8631 34.12/0.9479
MambaIRV2-lt 3  259.0 1250  126.7   781 34.71/0.9298 30.68/0.8483 29.26/0.8098 29.01/0.8689 34.41/0.9497
RDN          3  146.5  985 2281.2 22308 34.71/0.9296 30.57/0.8468 29.26/0.8093 28.80/0.8653 34.13/0.9484
RCAN         3   85.1  560 1586.1 15629 34.74/0.9299 30.65/0.8482 29.32/0.8111 29.09/0.8702 34.44/0.9499
ESC-FP       3   34.8  291  110.0   530 34.72/0.9300 30.67/0.8483 29.30/0.8107 29.12/0.8706 34.56/0.8706
ESC-lt       3   25.2  384  162.8   612 34.61/0.9295 30.52/0.8475 29.26/0.8102 28.93/0.8679 34.33/0.9495
ESC          3   41.4  385  267.6   955 34.84/0.9308 30.74/0.8493 29.34/0.8118 29.28/0.8739 34.66/0.9512
SwinIR-lt    4  222.9  351   63.6   930 32.44/0.8976 28.77/0.7858 27.69/0.7406 26.47/0.7980 30.92/0.9151
ELAN-lt      4   18.0  241   54.1   640 32.43/0.8975 28.78/0.7858 27.69/0.7406 26.54/0.7982 30.92/0.9150
OmniSR       4   22.5  273   50.9   792 32.49/0.8988 28.78/0.7859 27.71/0.7415 26.64/0.8018 31.02/0.9151
SRFormer-lt  4  287.2  329   62.8   873 32.51/0.8988 28.82/0.7872 27.73/0.7422 26.67/0.8032 31.17/0.9165
ATD-lt       4  189.7  753  100.1   769 32.63/0.8998 28.89/0.7886 27.79/0.7440 26.97/0.8107 31.48/0.9198
HiT-SRF      4   82.1 1331   58.0   866 32.55/0.8999 28.87/0.7880 27.75/0.7432 26.80/0.8069 31.26/0.9171
ASID-D8      4   61.8  265   49.6   748 32.57/0.8990 28.89/0.7898 27.78/0.7449 26.89/0.8096            -
MambaIR-lt   4   55.8  438   84.6   924 32.42/0.8977 28.74/0.7847 27.68/0.7400 26.52/0.7983 30.94/0.9135
MambaIRV2-lt 4  153.4  748   75.6   790 32.51/0.8992 28.84/0.7878 27.75/0.7426 26.82/0.8079 31.24/0.9182
RDN          4   66.0  791 1309.2 22271 32.47/0.8990 28.81/0.7871 27.72/0.7419 26.61/0.8028 31.00/0.9151
RCAN         4   52.2  540  917.6 15592 32.63/0.9002 28.87/0.7889 27.77/0.7436 26.82/0.8087 31.22/0.9173
ESC-FP       4   21.7  158   60.8   539 32.56/0.8897 28.87/0.7889 27.75/0.7435 26.90/0.8098 31.40/0.9192
ESC-lt       4   13.3  213   91.0   624 32.52/0.8995 28.87/0.7878 27.72/0.7423 26.76/0.8058 31.26/0.9173
ESC          4   21.9  215  149.2   968 32.68/0.9011 28.93/0.7902 27.80/0.7447 27.07/0.8144 31.54/0.9207"""

_TABLE_3 = """\
Only Self-attentions 2 128.2 830 456.6  737 38.27/0.9617 33.23/0.9378
Only ConvAttns       2 126.3 514 962.4 1210 38.18/0.9613 32.91/0.9353
9×9 LK               2 117.1 831 462.2  924 38.33/0.9618 33.42/0.9392
17×17 LK             2 126.6 832 768.9  977 38.32/0.9618 33.40/0.9390
w/o LK Share and DK  2 119.7 835 591.1 1950 38.32/0.9618 33.37/0.9389
w/o LK Share         2 120.9 835 592.0 1985 38.32/0.9619 33.43/0.9392
WS16 and more layers 2 118.0 807 603.6 1054 38.24/0.9614 33.05/0.9360
WS24 and more layers 2 116.5 801 583.5  995 38.33/0.9618 33.28/0.9383
ESC                  2 120.9 831 592.0  947 38.35/0.9619 33.46/0.9395"""

_TABLE_4 = """\
SRFormer-lt 2 1838.1 1184 236.3 853 38.24/0.9615 34.13/0.9218 32.42/0.9026 33.37/0.9386 39.36/0.9787
ATD-lt      2  733.5 2839 380.0 753 38.29/0.9616 34.30/0.9230 32.43/0.9027 33.62/0.9401 39.60/0.9791
HiT-SRF     2  268.1 1804 226.5 847 38.31/0.9616 34.31/0.9230 32.45/0.9031 33.58/0.9404 39.69/0.9793
ESC         2  120.9  831 592.0 947 38.34/0.9618 34.42/0.9235 32.50/0.9036 33.86/0.9424 39.73/0.9795
SRFormer-lt 3  668.3  537 105.4 861 34.67/0.9297 30.75/0.8484 29.30/0.8108 29.10/0.8701 34.26/0.9498
ATD-lt      3  274.4 1258 168.0 760 34.71/0.9300 30.77/0.8493 29.33/0.8116 29.42/0.8743 34.61/0.9509
HiT-SRF     3  124.9 1464 101.6 855 34.69/0.9298 30.81/0.8493 29.32/0.8115 29.28/0.8729 34.72/0.9511
ESC         3   41.4  385 267.6 955 34.85/0.9312 30.97/0.8511 29.41/0.8135 29.70/0.8799 34.94/0.9525
SRFormer-lt 4  327.8  329  62.8 873 32.49/0.8993 28.89/0.7887 27.76/0.7429 26.90/0.8086 31.25/0.9189
ATD-lt      4  189.7  753 100.1 769 32.52/0.8995 28.93/0.7896 27.79/0.7443 27.18/0.8150 31.47/0.9208
HiT-SRF     4   82.1 1331  58.0 866 32.55/0.8997 28.96/0.7897 27.77/0.7443 27.07/0.8130 31.59/0.9208
ESC         4   21.9  215 149.2 968 32.79/0.9025 29.06/0.7927 27.85/0.7466 27.45/0.8229 31.87/0.9239"""

_TABLE_5 = """\
RDN+LTE     DIV2K 35.04 31.32 29.33 27.04 23.95 22.40 21.36 20.64
ATD-lt+LTE  DIV2K 34.98 31.25 29.27 27.01 23.94 22.38 21.37 20.64
HiT-SRF+LTE DIV2K 35.10 31.35 29.35 27.05 23.94 22.39 21.36 20.64
ESC+LTE     DIV2K 35.13 31.38 29.37 27.08 23.97 22.40 21.38 20.64"""

_TABLE_6 = """\
RDN+LTE         Set5 38.23 34.72 32.61 29.32 27.26
ATD-lt+LTE      Set5 38.28 34.73 32.57 29.21 27.22
HiT-SRF+LTE     Set5 38.27 34.74 32.59 29.25 27.21
ESC+LTE         Set5 38.29 34.79 32.72 29.18 27.24
RDN+LTE        Set14 34.09 30.58 28.88 26.71 25.16
ATD-lt+LTE     Set14 34.14 30.64 28.91 26.67 25.21
HiT-SRF+LTE    Set14 34.03 30.64 28.91 26.68 25.21
ESC+LTE        Set14 34.05 30.69 28.94 26.70 25.24
RDN+LTE       BSD100 32.36 29.30 27.77 26.01 24.95
ATD-lt+LTE    BSD100 32.35 29.30 27.77 26.01 24.95
HiT-SRF+LTE   BSD100 32.37 29.30 27.76 26.00 24.94
ESC+LTE       BSD100 32.38 29.32 27.77 26.00 24.96
RDN+LTE     Urban100 33.04 28.97 26.81 24.28 22.88
ATD-lt+LTE  Urban100 33.12 29.06 26.95 24.41 23.00
HiT-SRF+LTE Urban100 33.18 29.05 26.89 24.34 22.94
ESC+LTE     Urban100 33.30 29.21 27.04 24.44 23.03"""
