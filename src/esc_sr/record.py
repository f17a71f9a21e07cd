"""Documents of measurements: what was measured, on what, as JSON."""

import json
import os
import platform
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import torch

from esc_sr import __version__, native
from esc_sr.errors import UsageError
from esc_sr.machine.device import describe


def environment(device: torch.device) -> dict[str, Any]:
    """Everything that timings depend on besides the work itself: the device, versions, threads and flags."""
    facts: dict[str, Any] = {
        "device": str(device),
        "device_name": describe(device),
        "platform": platform.platform(),
        "python": platform.python_version(),
        "torch": torch.__version__,
        "esc_sr": __version__,
        "threads": torch.get_num_threads(),
        "cpu_capability": torch.backends.cpu.get_cpu_capability(),
        "native": native.describe(),
        "tf32_matmul": torch.backends.cuda.matmul.allow_tf32,
        "tf32_cudnn": torch.backends.cudnn.allow_tf32,
        "cudnn_benchmark": torch.backends.cudnn.benchmark,
        "time": datetime.now(UTC).isoformat(timespec="seconds"),
        "load_before": round(os.getloadavg()[0], 2) if hasattr(os, "getloadavg") else None,
    }
    if device.type == "cuda":
        properties = torch.cuda.get_device_properties(device)
        facts |= {
            "cuda": torch.version.cuda,
            "cudnn": torch.backends.cudnn.version(),
            "device_memory_mib": properties.total_memory // 2**20,
        }
    return facts


def document(kind: str, rows: list[dict[str, Any]], **facts: Any) -> dict[str, Any]:
    """Put records into one document, with the name of what made it and whatever holds for all of them."""
    return {"kind": kind, **facts, "rows": rows}


def load(path: Path) -> dict[str, Any]:
    """Read a document of `esc-sr benchmark` or `esc-sr evaluate`.

    Raises:
        UsageError: The file is not there or holds something else.
    """
    try:
        found: Any = json.loads(path.read_text())
    except (OSError, ValueError) as error:
        raise UsageError(f"{path}: cannot be read as JSON: {error}") from error
    rows = found.get("rows") if isinstance(found, dict) else None
    if not isinstance(rows, list) or not all(isinstance(row, dict) for row in rows):
        raise UsageError(f"{path}: no rows; pass what esc-sr benchmark or evaluate printed with --json")
    return found
