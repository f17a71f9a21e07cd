"""A run over a cluster: pictures listed, given to workers, reported, and written down in a manifest."""

import os
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, closing
from pathlib import Path
from typing import Any, NamedTuple

from esc_sr.cluster.address import connected
from esc_sr.cluster.enlarging import Enlarged, Enlarging, Facts, NetworkChoice, clear_after_death
from esc_sr.cluster.index import Index
from esc_sr.cluster.listing import OTHER, WINDOW, Examined, Rules, lister, windows
from esc_sr.cluster.manifest import Manifest, ManifestRow, is_done
from esc_sr.cluster.nodes import Wish
from esc_sr.cluster.pool import Done, Failed, Piece, Pool
from esc_sr.cluster.work import known_everywhere
from esc_sr.errors import UsageError
from esc_sr.remote import Address
from esc_sr.upscaling.batch import LARGE, BatchStatus, Choices
from esc_sr.upscaling.files import Job, Outcome
from esc_sr.upscaling.folders import expand
from esc_sr.upscaling.names import Names
from esc_sr.upscaling.outputs import check_format, check_output
from esc_sr.upscaling.places import Place
from esc_sr.upscaling.sizes import Size


class ClusterRun(NamedTuple):
    """What is to be done, and how.

    Attributes:
        inputs: As of `find_jobs`.
        output: A folder, apart from all inputs or inside them; none of them lies in it.
        names: The template of the outputs' names.
        format: As of `find_jobs`.
        network: What enlarges them.
        choices: How the files are treated.
        wish: What workers are to be like.
    """

    inputs: Sequence[str | Place]
    output: Path
    names: str
    format: str | None
    network: NetworkChoice
    choices: Choices = Choices()
    wish: Wish = Wish()


class Listener(NamedTuple):
    """Who is told how a run goes.

    Attributes:
        size: Of what pictures become, before the first of them.
        say: Of what became of each input, and on which device.
        progress: Of how far the run is, as far as is listed.
        stage: Of what is done before the first picture.
        note: Of what else happens, in a line.
    """

    size: Callable[[Size], object]
    say: Callable[[Outcome, str | None], object]
    progress: Callable[[BatchStatus], object] = lambda status: None
    stage: Callable[[str], object] = lambda text: None
    note: Callable[[str], object] = lambda text: None


def upscale(plan: ClusterRun, cluster: str, listener: Listener, window: int = WINDOW) -> Mapping[str, int]:
    """Upscale picture files over a cluster, whose nodes all see the folders under the same names.

    What goes wrong with a picture does not stop the others. Outputs, and what happens to existing ones, are
    as of `find_jobs`, but that a second input for an output fails by itself.

    Args:
        plan: What is to be done.
        cluster: As of `address.connected`.
        listener: Is told how it goes.
        window: As of `listing.windows`.

    Returns:
        How many files in the input folders are no pictures, by their kind.

    Raises:
        UsageError: The output cannot be what it has to be, or versions differ between nodes.
        ImageError: The output folder cannot be written to.
        DeviceError: The cluster does not answer, or no worker is left.
        EscError: The network cannot be loaded.
    """
    inputs, output = check(plan)
    with ExitStack() as run:
        listener.stage("connecting to the cluster")
        ray = run.enter_context(connected(cluster))
        listener.stage("starting workers")
        work = Enlarging(plan.network._replace(model=known_everywhere(plan.network.model)), plan.choices)
        pool = Pool(ray, work, plan.wish, listener.note)
        run.callback(lambda: clear_after_death(job.target for job in pool.unfinished()))
        run.enter_context(pool)
        facts: Facts = pool.wait()
        listener.size(facts.size)
        index = run.enter_context(Index())
        manifest = run.enter_context(Manifest(output, index, _facts(plan, facts), _sole(facts)))
        ledger = Ledger(index, manifest, facts, plan.choices, listener)
        for path, reason in expand(plan.inputs)[1]:
            ledger.settled(Outcome(path, None, "failed", reason))
        names = Names(plan.names, facts.size, Path(plan.network.model).stem)
        rules = Rules(output, names, plan.format, plan.choices.existing)
        listener.stage("looking for pictures")
        found = run.enter_context(closing(windows(ray, *lister(inputs, rules), window)))
        for done in pool.run(ledger.pieces(found)):
            ledger.done(done)
    return ledger.others


def check(plan: ClusterRun) -> tuple[list[Place], Path]:
    """Refuse what cannot work, before anything is begun.

    Returns:
        The inputs, and the output folder, by absolute paths.

    Raises:
        UsageError: No such format or name, or an input is the output folder or lies in it.
        ImageError: The output folder is missing or read-only.
    """
    check_format(plan.format)
    Names(plan.names)
    check_output(plan.output, True, plan.format)
    output = plan.output.absolute()
    inputs = [path if isinstance(path, Address) else path.absolute() for path in expand(plan.inputs)[0]]
    for path in inputs:
        if isinstance(path, Path) and _true(path).is_relative_to(_true(output)):
            raise UsageError(f"{path}: lies in the folder of the outputs; name another one with -o")
    return inputs, output


def _true(path: Path) -> Path:
    """A path without links."""
    return Path(os.path.realpath(path))


class Ledger:
    """What there is to know of a run: what is taken, done, and still to come.

    Attributes:
        others: Files that are no pictures, by their kind.
    """

    def __init__(
        self, index: Index, manifest: Manifest, facts: Facts, choices: Choices, listener: Listener
    ) -> None:
        self._index, self._manifest, self._listener = index, manifest, listener
        self._facts, self._existing = facts, choices.existing
        self._scale = facts.size.value if facts.size.of == "scale" else 1.0
        self._pixels: dict[Place, int] = {}  # of what is handed out
        self._count = self._place = self._done = self._total = 0
        self.others: Counter[str] = Counter()

    def pieces(self, found: Iterator[list[Examined]]) -> Iterator[Piece]:
        """What there is to do, as it is found."""
        for window in found:
            todo = [listed for listed in self._free(window) if self._open(listed)]
            self._manifest.begin([listed.job for listed in todo])
            for listed in todo:
                self._pixels[listed.job.source] = listed.pixels
                self._total += listed.pixels
                self._count += 1
            for listed in todo:
                yield Piece(listed.job, alone=listed.pixels * self._scale**2 > LARGE)

    def done(self, done: Done) -> None:
        """Take note of what became of a picture."""
        job: Job = done.item
        if isinstance(done.result, Failed):
            result = Enlarged(
                Outcome(job.source, job.target, "failed", f"{job.source}: {done.result.reason}"), ""
            )
        else:
            result = done.result
        outcome = result.outcome
        facts = {"device": result.device, "node": done.node, "sha256": result.sha256}
        self._add(outcome, facts)
        self._listener.say(outcome, result.device)
        self._place += 1
        pixels = self._pixels.pop(job.source)
        if outcome.status == "done":
            self._done += pixels
        else:
            self._total -= pixels
        status = BatchStatus(job.source, self._place, self._count, self._done, self._total)
        self._listener.progress(status)

    def settled(self, outcome: Outcome) -> None:
        """Take note of an input of which it is already known what became of it."""
        self._add(outcome, {})
        self._listener.say(outcome, None)

    def _free(self, window: Sequence[Examined]) -> list[Examined]:
        """Those whose output no other input has; one that was listed twice is taken once."""
        named = [listed for listed in window if listed.place]
        before = self._index.take([(listed.place, os.fsencode(str(listed.job.source))) for listed in named])
        free = [listed for listed in window if not listed.place]
        for listed, source in zip(named, before, strict=True):
            if source is None:
                free.append(listed)
            elif source != os.fsencode(str(listed.job.source)):
                job, first = listed.job, os.fsdecode(source)
                reason = f"{job.source}: would become {job.target}, as {first} does; do one at a time"
                self.settled(Outcome(job.source, job.target, "failed", reason))
        return free

    def _open(self, listed: Examined) -> bool:
        """Whether a picture is to be done; what is known of others is told."""
        if listed.kind == OTHER:
            self.others[listed.reason] += 1
            return False
        if not listed.status:
            return True
        outcome = listed.outcome
        if outcome.status == "skipped" and outcome.target is not None:
            known = self._index.row(self._manifest.name(outcome.target))
            if known and known.sha256 and known.sha256 not in self._facts.sha256.values():
                outcome = outcome._replace(reason=f"{outcome.reason}, made with other weights")
        self.settled(outcome)
        return False

    def _add(self, outcome: Outcome, facts: ManifestRow) -> None:
        """Write a row, but not of what another run has done and this one leaves as it is."""
        target = outcome.target and self._manifest.name(outcome.target)
        if target and outcome.status != "done" and is_done(self._index.row(target)):
            return
        row = {
            "source": str(outcome.source),
            "target": target,
            "status": outcome.status,
            "reason": outcome.reason or None,
            "size": outcome.size and outcome.size[::-1],
            "target_size": outcome.target_size and outcome.target_size[::-1],
            "seconds": round(outcome.seconds, 3),
            "notes": list(outcome.notes),
        }
        self._manifest.add([row | facts])


def _facts(plan: ClusterRun, facts: Facts) -> dict[str, Any]:
    """What is the same in all rows."""
    network = plan.network
    return {
        "model": Path(network.model).name,
        "wish": str(facts.size),
        "precision": network.precision,
        "self_ensemble": network.self_ensemble,
        "denoise": network.denoise,
        "engine": network.engine,
    }


def _sole(facts: Facts) -> str | None:
    """The digest of the weights, if there is one of all pictures."""
    return next(iter(facts.sha256.values())) if len(facts.sha256) == 1 else None
