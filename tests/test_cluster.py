"""Two nodes of a Ray cluster on this machine: workers die, a node leaves, and pictures are the same."""

import json
import os
import random
import shutil
import signal
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from esc_sr import weights
from esc_sr.cluster import upscale as cluster_upscale
from esc_sr.cluster.enlarging import Enlarging, NetworkChoice
from esc_sr.cluster.pool import Pool
from esc_sr.cluster.upscale import ClusterRun, Listener, upscale
from esc_sr.cluster.work import Given
from esc_sr.families.srvgg import SRVGGConfig, SRVGGNetCompact
from esc_sr.image import Picture, write_image
from esc_sr.upscaling import batch
from esc_sr.upscaling.engine import Upscaler
from esc_sr.upscaling.files import Outcome, find_jobs
from esc_sr.upscaling.names import Names
from pictures import noise, silent

pytest.importorskip("ray")

KINDS, EACH = 20, 100  # different pictures, and copies of each


class Deadly(Enlarging):
    """Takes its process down for one picture."""

    def do(self, job: Any, given: Given) -> Any:
        if job.source.stem == "deadly":
            os.kill(os.getpid(), signal.SIGKILL)
        return super().do(job, given)


@pytest.fixture(scope="module")
def nodes() -> Iterator[Any]:
    """A cluster of two nodes with a core each, to which this process is connected; and the second node."""
    os.environ |= {"RAY_USAGE_STATS_ENABLED": "0", "RAY_worker_niceness": "0"}
    import ray
    from ray.cluster_utils import Cluster

    ray.cloudpickle.register_pickle_by_value(sys.modules[__name__])
    facts = {"num_cpus": 1, "object_store_memory": 80 * 2**20, "include_log_monitor": False}
    cluster = Cluster(initialize_head=True, head_node_args=facts | {"include_dashboard": False})
    second = cluster.add_node(**facts)
    ray.init(cluster.address, log_to_driver=False, logging_level="ERROR")
    yield cluster, second
    ray.shutdown()
    cluster.shutdown()


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("weights") / "tiny.safetensors"
    torch.manual_seed(0)
    weights.save(SRVGGNetCompact(SRVGGConfig(2, 4, 1)), path)
    return path


def rows(out: Path) -> list[dict[str, Any]]:
    files = sorted(out.glob("manifest-*.jsonl"))
    return [json.loads(line) for path in files for line in path.read_text().splitlines()]


def fill(source: Path, alone: Path, tiny: Path) -> dict[str, bytes]:
    """Make pictures, and copies of each in other folders; what one machine makes of each, by its name."""
    for kind in range(KINDS):
        write_image(Picture(noise(8 + kind % 4, 8 + kind // 4, 3)), source / f"{kind}.png")
    write_image(Picture(noise(1, 1, 3)), source / "one.png")
    batch.run(find_jobs([source], str(alone), Names()).jobs, Upscaler(tiny, notify=silent), bool)
    for copy in range(1, EACH):
        (source / str(copy)).mkdir()
        for kind in range(KINDS):
            shutil.copy(source / f"{kind}.png", source / str(copy) / f"{kind}.png")
    write_image(Picture(noise(9, 9, 3)), source / "deadly.png")
    (source / "cut.png").write_bytes((source / "0.png").read_bytes()[:60])
    return {path.name: path.read_bytes() for path in alone.iterdir()}


class Fate:
    """Kills workers at two random moments, and then takes a node away."""

    def __init__(self, cluster: Any, second: Any) -> None:
        self.cluster, self.second = cluster, second
        self.draw = random.Random(0)
        self.kills = sorted(self.draw.sample(range(100, 1100), 2))
        self.pools: list[Pool] = []

    def pool(self, *given: Any) -> Pool:
        self.pools.append(Pool(*given))
        return self.pools[-1]

    def strike(self, done: int) -> None:
        pool = self.pools[0]
        flights = [(worker, piece) for worker, piece in pool._flights.values() if piece is not None]
        if not flights or any(piece.died for _, piece in flights) or pool._queue:
            return  # what has lost a worker is not to lose another by chance
        if self.kills and done >= self.kills[0]:
            self.kills.pop(0)
            pool._ray.kill(self.draw.choice(flights)[0].actor)
        elif done >= 1200 and self.second:
            self.cluster.remove_node(self.second, allow_graceful=False)
            self.second = None


def test_two_nodes_make_what_one_machine_makes(
    nodes: Any, tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """All in one run, since Ray takes seconds to begin."""
    source, alone, out = (tmp_path / name for name in ("in", "alone", "out"))
    for folder in (source, alone, out):
        folder.mkdir()
    made, fate = fill(source, alone, tiny), Fate(*nodes)
    monkeypatch.setattr(cluster_upscale, "Pool", fate.pool)
    monkeypatch.setattr(cluster_upscale, "Enlarging", Deadly)
    said: list[Outcome] = []
    notes: list[str] = []

    def say(outcome: Outcome, device: str | None) -> None:
        said.append(outcome)
        fate.strike(len(said))

    plan = ClusterRun([source], out, "{stem}_{size}", None, NetworkChoice(str(tiny), None))
    upscale(plan, "ray", Listener(lambda size: None, say, note=notes.append), window=500)
    assert not fate.kills and fate.second is None and len(notes) >= 3, notes
    failed = {Path(str(outcome.source)).stem: outcome.reason for outcome in said if outcome.status != "done"}
    assert set(failed) == {"cut", "deadly"}
    assert "deadly.png: its worker died, and so did that of the second try" in failed["deadly"]
    assert len({outcome.source for outcome in said}) == len(said) == KINDS * EACH + 3
    outputs = list(out.rglob("*.png"))
    assert len(outputs) == KINDS * EACH + 1
    assert [path for path in outputs if path.read_bytes() != made[path.name]] == []
    written = rows(out)
    assert len({row["source"] for row in written}) == len(written) == KINDS * EACH + 3
    assert Counter(row["status"] for row in written) == {"done": KINDS * EACH + 1, "failed": 2}
    assert len({row["sha256"] for row in written if row["status"] == "done"}) == 1
    assert list(out.rglob(".*")) == []
