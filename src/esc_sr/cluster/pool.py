"""Workers over the nodes of a cluster: who is free gets work, and a dead worker's is done again once."""

import time
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from esc_sr.cluster.nodes import Share, Wish, share
from esc_sr.cluster.work import ClusterWork, Given, Member, Wants, known_versions
from esc_sr.errors import DeviceError, EscError, UsageError, one_line

LOOK = 5.0
"""Seconds between looks at which nodes have come or gone."""

SLOTS = 2
"""Pieces that a worker has at once, so that one is read or written while another is computed."""

STARTS = 2
"""Workers that may die on a node before they are ready, until nothing more is begun there."""

_NOT_LOADED = "node {} cannot load esc-sr ({}); install the same there as here"
_CREATION = "error raised in its creation task"  # in what Ray says, before the lines of a traceback


class Piece(NamedTuple):
    """A piece of work.

    Attributes:
        item: What the workers take.
        alone: It has a worker to itself.
        shares: Workers whose memory it takes.
        died: The node of a worker that died while it had it.
    """

    item: Any
    alone: bool = False
    shares: int = 1
    died: str = ""


class Failed(NamedTuple):
    """Why a piece is not done, in one line."""

    reason: str


class Done(NamedTuple):
    """What became of a piece: what the work gave, or `Failed`; and the node."""

    item: Any
    result: Any
    node: str


@dataclass(eq=False)
class _Worker:
    """A worker as this side sees it; `lent` to a neighbour it gets no work."""

    actor: Any
    node: str
    ready: bool = False
    pieces: int = 0
    alone: bool = False
    lent: bool = False


@dataclass
class _Node:
    """A node: where it is, how it is parted, and how many of its workers died before they were ready."""

    address: str
    share: Share
    failures: int = 0
    workers: list[_Worker] = field(default_factory=list)


class Pool:
    """The workers of a run; a context, after which they are gone.

    Attributes:
        facts: What `ClusterWork.prepare` gave.
    """

    def __init__(
        self,
        ray: Any,
        work: ClusterWork,
        wish: Wish = Wish(),
        note: Callable[[str], object] = lambda text: None,
    ) -> None:
        """Begin workers on all nodes.

        Args:
            ray: The module, connected.
            work: What they do.
            wish: What they are to be like.
            note: Is told of workers and nodes that are lost, in a line.

        Raises:
            DeviceError: No node can have a worker.
        """
        self._ray, self._work, self._wish, self._note = ray, ray.put(work), wish, note
        self._nodes: dict[str, _Node] = {}
        self._flights: dict[Any, tuple[_Worker, Piece | None]] = {}
        self._queue: deque[Piece] = deque()
        self._looked = 0.0
        self.facts: Any = None
        self._look()
        if not any(node.workers for node in self._nodes.values()):
            gpu = "the GPU, " * (wish.device == "cuda")
            raise DeviceError(f"no node of the cluster has {gpu}the cores and the memory for a worker")

    def __enter__(self) -> "Pool":
        return self

    def __exit__(self, *error: object) -> None:
        for node in self._nodes.values():
            for worker in node.workers:
                self._ray.kill(worker.actor)

    def unfinished(self) -> list[Any]:
        """The items that workers have now, or had when they were ended."""
        return [piece.item for _, piece in self._flights.values() if piece is not None]

    def wait(self, patience: float = 60.0) -> Any:
        """Wait until a worker is ready.

        Args:
            patience: Seconds after which the note says that all nodes are busy.

        Returns:
            `facts`.

        Raises:
            EscError: As of `ClusterWork.prepare`, or versions differ, or all workers died.
        """
        begun: float | None = time.monotonic()
        while not any(worker.ready for worker in self._workers()):
            for _ in self._landed():
                pass
            if begun is not None and time.monotonic() - begun > patience:
                self._note("waiting for workers: what the cluster has is in use by others")
                begun = None
        return self.facts

    def run(self, pieces: Iterator[Piece]) -> Iterator[Done]:
        """Do pieces, about in their order, each as soon as a worker is free, and give them as they end.

        A piece whose worker dies is done again once, by a worker that does nothing else, on another node if
        there is one; then it has failed.

        Args:
            pieces: Of which the next is taken when there is room for it.

        Raises:
            EscError: As of `wait`.
        """
        more = True
        while more or self._queue or self._busy():
            more = self._assign(pieces) if more or self._queue else False
            yield from self._landed()

    def _workers(self) -> Iterator[_Worker]:
        """All that are not known to be dead."""
        return (worker for node in self._nodes.values() for worker in node.workers)

    def _busy(self) -> bool:
        """Whether a piece is being done."""
        return any(piece is not None for _, piece in self._flights.values())

    def _assign(self, pieces: Iterator[Piece]) -> bool:
        """Hand out what there is room for; false when there is no more to come."""
        self._look()
        more = True
        while any(worker.ready and worker.pieces < SLOTS for worker in self._workers()):
            if not self._queue:
                piece = next(pieces, None)
                if piece is None:
                    more = False
                    break
                self._queue.append(piece)
            if not self._place(self._queue[0]):
                break
            self._queue.popleft()
        return more

    def _place(self, piece: Piece) -> bool:
        """Give a piece to a worker with room for it, the least busy; what goes first waits for its room."""
        nodes = list(self._nodes.values())
        most = max(len(node.workers) for node in nodes)
        shares = min(piece.shares, most)
        if piece.died:  # with its node perhaps, which looks alive for some time yet
            others = [node for name, node in self._nodes.items() if name != piece.died]
            nodes = [node for node in others if sum(w.ready for w in node.workers) >= shares] or nodes
        found: list[tuple[int, int, _Worker, list[_Worker]]] = []
        for number, node in enumerate(nodes):
            idle = [worker for worker in node.workers if worker.ready and not worker.pieces | worker.lent]
            open_ = [w for w in node.workers if w.ready and w.pieces < SLOTS and not w.alone | w.lent]
            fit = idle if piece.alone else open_
            if fit and len(idle) >= shares * (shares > 1):
                worker = min(fit, key=lambda worker: worker.pieces)
                lenders = [other for other in idle if other is not worker][: shares - 1]
                found.append((worker.pieces, number, worker, lenders))
        if not found:
            return False
        _, _, worker, lenders = min(found, key=lambda place: place[:2])
        worker.pieces, worker.alone = worker.pieces + 1, piece.alone
        for other in lenders:
            other.lent = True
        given = Given(shares, most, piece.died != "")
        self._flights[worker.actor.do.remote(piece.item, given)] = worker, piece._replace(shares=shares)
        return True

    def _landed(self) -> Iterator[Done]:
        """Wait a moment for what ends, and take it."""
        self._look()
        if not self._flights:
            self._give_up_if_empty()
            time.sleep(0.1)
            return
        flights = list(self._flights)
        ended, _ = self._ray.wait(flights, num_returns=1, timeout=1)
        if ended:
            ended, _ = self._ray.wait(flights, num_returns=len(flights), timeout=0)
        for flight in ended:
            worker, piece = self._flights.pop(flight)
            if piece is None:
                self._begun(worker, flight)
            else:
                yield from self._ended(worker, piece, flight)

    def _begun(self, worker: _Worker, flight: Any) -> None:
        """Take note that a worker is ready, or not."""
        node = self._nodes[worker.node]
        try:
            facts = self._ray.get(flight)
        except self._ray.exceptions.RayTaskError as error:
            if isinstance(error.cause, EscError):
                raise error.cause from error
            raise UsageError(_NOT_LOADED.format(node.address, _reason(error))) from error
        except self._ray.exceptions.RayError as error:
            if _CREATION in str(error):
                raise UsageError(_NOT_LOADED.format(node.address, _reason(error))) from error
            if worker in node.workers:
                node.workers.remove(worker)
                node.failures += 1
                self._note(f"a worker on {node.address} did not begin: {_reason(error)}")
                self._looked = 0.0
            return
        self.facts = facts if self.facts is None else self.facts
        if facts != self.facts:
            raise UsageError(f"node {node.address} has other weights than the others under the same name")
        worker.ready = True

    def _ended(self, worker: _Worker, piece: Piece, flight: Any) -> Iterator[Done]:
        """Take what became of a piece."""
        node = self._nodes[worker.node]
        worker.pieces, worker.alone = worker.pieces - 1, False
        if piece.shares > 1:
            for other in [other for other in node.workers if other.lent][: piece.shares - 1]:
                other.lent = False
        try:
            result = self._ray.get(flight)
        except self._ray.exceptions.RayTaskError as error:
            result = Failed(_reason(error))
        except self._ray.exceptions.RayError as error:
            yield from self._lost(worker, piece, error)
            return
        if isinstance(result, Wants):
            self._queue.appendleft(piece._replace(alone=True, shares=result.shares))
        else:
            yield Done(piece.item, result, node.address)

    def _lost(self, worker: _Worker, piece: Piece, error: Exception) -> Iterator[Done]:
        """Have a piece done again, or give it up; and get on without its worker."""
        node = self._nodes[worker.node]
        if worker in node.workers:
            node.workers.remove(worker)
            self._ray.kill(worker.actor)
            self._note(f"a worker on {node.address} is lost: {_reason(error)}")
            self._looked = 0.0
        if piece.died:
            reason = f"its worker died, and so did that of the second try ({_reason(error)})"
            yield Done(piece.item, Failed(reason), node.address)
        else:
            self._queue.appendleft(piece._replace(alone=True, died=worker.node))

    def _look(self) -> None:
        """Begin workers where there are too few, and forget idle ones of nodes that have left."""
        if time.monotonic() - self._looked < LOOK:
            return
        self._looked = time.monotonic()
        alive = {node["NodeID"]: node for node in self._ray.nodes() if node["Alive"]}
        for name, facts in alive.items():
            if name not in self._nodes:
                self._nodes[name] = _Node(facts["NodeManagerAddress"], share(facts["Resources"], self._wish))
        for name, node in self._nodes.items():
            if name not in alive:
                node.workers = [worker for worker in node.workers if worker.pieces]
            elif node.failures < STARTS:
                for _ in range(node.share.workers - len(node.workers)):
                    self._begin(name, node)

    def _begin(self, name: str, node: _Node) -> None:
        """Begin a worker on a node."""
        from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

        part = node.share
        actor = (
            self._ray.remote(Member)
            .options(
                num_cpus=part.means.threads,
                num_gpus=part.gpus,
                memory=part.memory,
                max_concurrency=SLOTS,
                max_restarts=0,
                scheduling_strategy=NodeAffinitySchedulingStrategy(name, soft=False),
            )
            .remote(self._work, part.means, known_versions(), node.address)
        )
        worker = _Worker(actor, name)
        node.workers.append(worker)
        self._flights[actor.prepare.remote()] = worker, None

    def _give_up_if_empty(self) -> None:
        """End the run where no worker is left, and none will be."""
        if not self._flights and not any(self._workers()):
            raise DeviceError(
                "no worker is left in the cluster; what is done stays, go on with --skip-existing"
            )


def _reason(error: Exception) -> str:
    """What an error of Ray says, in one line."""
    cause = getattr(error, "cause", None)
    if isinstance(cause, EscError):
        return str(cause)
    if cause is not None:
        return one_line(f"{type(cause).__name__}: {cause}")
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    if _CREATION in str(error):
        return one_line(lines[-1])[:300]
    return one_line(f"{type(error).__name__}: {lines[0] if lines else ''}")[:300]
