"""Draw the figures of docs/analysis.md by the commands that stand there, reduced to few colours.

A command is a line of that page that ends in `-o docs/analysis/NAME.png`. What it computes is kept in
build/analyses.
"""

import re
import shlex
import subprocess
import sys
from pathlib import Path

from PIL import Image

ROOT = Path(__file__).parents[1]
PAGE = ROOT / "docs" / "analysis.md"


def main() -> None:
    """Draw all figures, or those whose names are given."""
    commands = re.findall(r"^esc-sr (.+) -o docs/analysis/(\w+)\.png$", PAGE.read_text(), re.MULTILINE)
    for words, name in commands:
        if sys.argv[1:] and name not in sys.argv[1:]:
            continue
        drawn, target = (ROOT / folder / f"{name}.png" for folder in ("build/analyses", "docs/analysis"))
        for file in (drawn, target):
            file.parent.mkdir(parents=True, exist_ok=True)
        line = [sys.executable, "-m", "esc_sr", *shlex.split(words), "-o", str(drawn)]
        subprocess.run(line, cwd=ROOT, check=True)
        whole = Image.open(drawn).convert("RGB")
        whole.quantize(256, Image.Quantize.MAXCOVERAGE, dither=Image.Dither.NONE).save(target, optimize=True)
        print(f"{target.name}: {target.stat().st_size // 1024} KiB")


if __name__ == "__main__":
    main()
