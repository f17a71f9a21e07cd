"""Fit the natural statistics of NIQE to sharp photographs: fit_niqe.py OUT.safetensors FOLDER_OR_TAR ..."""

import sys
from pathlib import Path

from safetensors.torch import save_file

from esc_sr.data.pictures import find_pictures
from esc_sr.metrics import luma
from esc_sr.niqe import fit_niqe


def main(out: str, *sources: str) -> None:
    entries = [entry for source in sources for entry in find_pictures(Path(source))]
    model, patches = fit_niqe(luma(entry.read()) for entry in entries)
    facts = {"pictures": str(len(entries)), "patches": str(patches)}
    save_file({"mean": model.mean, "covariance": model.covariance}, out, facts)
    print(f"{out}: {patches} sharp patches of {len(entries)} pictures")


if __name__ == "__main__":
    main(*sys.argv[1:])
