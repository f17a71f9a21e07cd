"""Peak memory of one picture through networks of other papers, file to file, within --max-memory.

Each network has random weights and a process of its own, as in bench_sizes.py, which measures: what is held
before, at most, and the difference. Of deep networks --blocks takes the first group alone, and the first
blocks of it; memory and plan, which are compared, stay those of the whole network, since blocks follow each
other. --part leaves off when so much of the picture has gone through.

    python scripts/bench_memory.py swinir-light rdn --blocks 2 --max-memory 6GiB --json > memory.json
"""

import argparse
import json
import subprocess
import sys
import tempfile
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from bench_sizes import measure

from esc_sr import families, record
from esc_sr.cli.output import for_people, print_json
from esc_sr.families.contract import Config, Network
from esc_sr.families.lte import LTEConfig
from esc_sr.image import Picture, read_image, write_image

EXAMPLE = Path(__file__).parents[1] / "examples" / "harbour.png"


def shortened(config: Config, blocks: int) -> Config:
    """The first blocks of the first group, and of LTE so many hidden layers; nothing else changed."""
    if isinstance(config, LTEConfig):
        return replace(config, encoder=shortened(config.encoder, blocks), mlp=config.mlp[:blocks])
    sizes: dict[str, Any] = {one.name: getattr(config, one.name) for one in fields(config)}
    if "depths" in sizes:
        return replace(config, depths=(min(blocks, sizes["depths"][0]),))  # type: ignore[call-arg]
    fewer = {"groups": 1} if "groups" in sizes else {}
    return replace(config, **fewer, blocks=min(blocks, sizes["blocks"]))


def network_of(name: str, scale: int, blocks: int | None) -> Network:
    """A preset with random weights; a shortened one is cut into the tiles of the whole one."""
    torch.manual_seed(0)
    config = families.preset(name, scale)
    if blocks is None:
        return families.build(config).eval()
    whole, network = families.blank(config), families.build(shortened(config, blocks)).eval()
    costs = [found.cost(1000, 1000, 1000) for found in (whole, network)]
    if len({cost and cost._replace(macs=0) for cost in costs}) > 1:
        raise SystemExit(f"{name}: fewer blocks take other memory")
    network.reach, network.blend, network.exact = whole.reach, whole.blend, whole.exact
    return network


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("names", nargs="+")
    parser.add_argument("--size", default="2000x1500")
    parser.add_argument("--scale", type=int, default=2)
    parser.add_argument("--max-memory", default="6GiB")
    parser.add_argument("--blocks", type=int)
    parser.add_argument("--part", type=float, default=1)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--json", action="store_true", help="one document on stdout")
    parser.add_argument("--file", type=Path, help=argparse.SUPPRESS)
    wanted = parser.parse_args()
    torch.set_num_threads(wanted.threads)
    if wanted.file:
        (name,) = wanted.names
        wanted.model, wanted.device = network_of(name, wanted.scale, wanted.blocks), "cpu"
        wanted.precision = "fp32"
        print_json(measure(wanted.file, wanted))
        return
    rows: list[dict[str, Any]] = []
    width, height = map(int, wanted.size.split("x"))
    with tempfile.TemporaryDirectory() as folder:
        source, pixels = Path(folder, "in.png"), read_image(EXAMPLE).pixels
        times = -(-height // pixels.shape[0]), -(-width // pixels.shape[1]), 1
        write_image(Picture(np.tile(pixels, times)[:height, :width]), source)
        options = [option for option in sys.argv[1:] if option not in wanted.names]
        for name in wanted.names:
            given = [sys.executable, __file__, name, *options, "--file", str(source)]
            printed = subprocess.run(given, check=True, stdout=subprocess.PIPE).stdout
            rows.append({"model": name, "blocks": wanted.blocks, "part": wanted.part} | json.loads(printed))
            with for_people(wanted.json):
                print(rows[-1], flush=True)
    if wanted.json:
        facts = {"width": width, "height": height, "scale": wanted.scale, "max_memory": wanted.max_memory}
        print_json(
            record.document("memory", rows, **facts, environment=record.environment(torch.device("cpu")))
        )


if __name__ == "__main__":
    main()
