"""How near a folder of small pictures comes to the network alone.

In turns: the network on decoded arrays, then the whole of reading, computing and writing. Seconds of each
round, their medians, and the ratio, which is 1 where files cost nothing.

    python scripts/bench_folder.py --count 24 --side 128 --rounds 3 --threads 1
"""

import argparse
import statistics
import tempfile
import time
from pathlib import Path

import numpy as np
import torch

from esc_sr.image import Picture, read_image, write_image
from esc_sr.upscaling.batch import Choices, run
from esc_sr.upscaling.engine import Upscaler
from esc_sr.upscaling.files import Outcome, find_jobs
from esc_sr.upscaling.names import Names


def make(folder: Path, count: int, side: int, suffix: str) -> list[Path]:
    """Smooth pictures with some noise, which compress about as photographs do."""
    rng = np.random.default_rng(0)
    for place in range(count):
        coarse = rng.integers(0, 256, (8, 8, 3)).astype(np.float32)
        pixels = np.kron(coarse, np.ones((-(-side // 8), -(-side // 8), 1)))[:side, :side]
        pixels += rng.normal(0, 4, pixels.shape)
        write_image(Picture(pixels.clip(0, 255).astype(np.uint8)), folder / f"{place:04}{suffix}")
    return sorted(folder.iterdir())


def report(outcome: Outcome) -> None:
    if outcome.status != "done":
        raise SystemExit(outcome.reason)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--count", type=int, default=24, help="pictures")
    parser.add_argument("--side", type=int, default=128, help="of each, in pixels")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--suffix", default=".png")
    parser.add_argument("--model", default="esc-light")
    parser.add_argument("--device", default="auto")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    wanted = parser.parse_args()
    torch.set_num_threads(wanted.threads)
    upscaler = Upscaler(wanted.model, 2, wanted.device)
    kinds = ("network alone", "folder, in turns", "folder, overlapped")
    seconds: dict[str, list[float]] = {kind: [] for kind in kinds}
    with tempfile.TemporaryDirectory() as name:
        source, target = Path(name, "in"), Path(name, "out")
        source.mkdir()
        arrays = [read_image(path).pixels for path in make(source, wanted.count, wanted.side, wanted.suffix)]
        upscaler.upscale(arrays[0])
        for _ in range(wanted.rounds):
            for kind in kinds:
                start = time.perf_counter()
                if kind == "network alone":
                    for pixels in arrays:
                        upscaler.upscale(pixels)
                else:
                    jobs = find_jobs([source], str(target), Names(), existing="overwrite").jobs
                    run(jobs, upscaler, report, Choices("overwrite"), overlap=kind.endswith("overlapped"))
                seconds[kind].append(time.perf_counter() - start)
    alone = statistics.median(seconds["network alone"])
    what = f"{wanted.count} x {wanted.side} x {wanted.side} {wanted.suffix}"
    print(f"{what}, {wanted.model} x2, {upscaler.device}, {wanted.threads} threads")
    for kind, taken in seconds.items():
        median, rounds = statistics.median(taken), " ".join(f"{value:.2f}" for value in taken)
        print(f"{kind:18}  median {median:.2f} s  ratio {median / alone:.3f}  rounds {rounds}")


if __name__ == "__main__":
    main()
