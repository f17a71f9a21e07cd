"""From paths and names to a running training: pictures, network, checkpoint; then the loop."""

import os
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from copy import deepcopy
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch

from esc_sr import families, weights
from esc_sr.data.pictures import load_pictures
from esc_sr.errors import EscError, UsageError
from esc_sr.families.contract import Config, Network
from esc_sr.machine.device import describe
from esc_sr.machine.memory import keep_freed_memory
from esc_sr.train import checkpoint, feed, loop, trial
from esc_sr.train.anneal import annealed
from esc_sr.train.monitor import RunOptions, find_board
from esc_sr.train.optimizer import build_optimizer, follow
from esc_sr.train.recipes import Recipe
from esc_sr.train.schedule import Budget
from esc_sr.train.setup import Report, Setup
from esc_sr.train.stop import stop_signals
from esc_sr.train.team import Team, own_device


@dataclass(frozen=True)
class Model:
    """The network to train.

    Attributes:
        name: one that `presets.preset` knows; for the recipe arbitrary, that of the encoder.
        scale: 2, 3 or 4; for the recipe arbitrary, that of the validation.
        blocks: fewer blocks than the model has, which another run can grow.
    """

    name: str
    scale: int
    blocks: int | None = None


@dataclass(frozen=True)
class Start:
    """What a run goes on from; by default from nothing.

    Attributes:
        resume: whether from the checkpoint in the run's folder.
        weights: those to start from; of another scale or fewer blocks, they are adapted. The recipe real-gan
            needs some.
        anneal: folder of another run, stopped or going on. A copy of it is trained with a learning rate that
            falls from where it is to 0 over the budget; that run stays as it is.
        settings: of `recipes.override`, for the recipe of `anneal`, whose settings count.

    Raises:
        UsageError: there are weights and a run.
    """

    resume: bool = False
    weights: Path | None = None
    anneal: Path | None = None
    settings: Sequence[str] = ()

    def __post_init__(self) -> None:
        """Refuse two beginnings."""
        if self.weights and (self.resume or self.anneal):
            other = "--resume" if self.resume else "--anneal"
            raise UsageError(f"{other} and --from exclude each other: such a run has its weights already")

    def checkpoint(self, out: Path, note: Callable[[str], object]) -> dict[str, Any] | None:
        """That of the run itself, or of the one to be annealed; errors and `note` as of `checkpoint.load`."""
        folder = out if self.resume else self.anneal
        return checkpoint.load(folder, note) if folder else None


@dataclass(frozen=True)
class Frozen:
    """Networks beside the one that learns.

    Attributes:
        teacher: bundled name or file of one whose pictures are the target, as `teacher_share` says.
        teacher_cache: where its pictures are kept; by default `teacher` in the run's folder, or in that of
            the run to be annealed.
        vgg: VGG19's weights, for the recipe real-gan, which needs them.
        teacher_cluster: the Ray cluster that makes the teacher's pictures, if any.
    """

    teacher: str | None = None
    teacher_cache: Path | None = None
    vgg: Path | None = None
    teacher_cluster: str | None = None


def run(
    recipe: Recipe,
    model: Model,
    data: feed.Data,
    out: Path,
    *,
    budget: Budget | None = None,
    start: Start = Start(),
    frozen: Frozen = Frozen(),
    options: RunOptions = RunOptions(),
    report: Report = lambda record: None,
) -> bool:
    """Train a network by a recipe; checkpoints, `log.jsonl` and averaged weights are left in `out`.

    These are `ema.safetensors`, the last, and `best.safetensors`, of the validation with the highest PSNR.

    Started by torchrun, each process calls this with the same arguments and takes its share of each batch;
    the first one alone writes and reports.

    Args:
        recipe: for example `recipes.Classic()`.
        model: what is trained.
        data: what it sees.
        out: folder of the run, made if missing.
        budget: length of the run; without it that of the checkpoint, else the recipe's.
        start: what it goes on from.
        frozen: what it learns from beside pictures.
        options: what the run does beside training, and where.
        report: called with each log record; loading is reported too.

    Returns:
        True if the run reached its end, False if it was stopped by Ctrl-C or SIGTERM, of which a second one
        ends the process at once.

    Raises:
        Stopped: it was stopped so before its first step; nothing was saved.
        UsageError: `out` holds a run already that is not resumed, the checkpoint is of another run, or the
            recipe is not for this network, or lacks weights that it needs, or its batch cannot be divided
            among the processes, or TensorBoard is not installed; the numbers in `data` do not fit.
        DataError: pictures are missing, unreadable, smaller than the patch or the context, or without the LR
            that belongs to them.
        DeviceError: no such device; or another process has ended.
        WeightsError: `start`, `frozen` or the checkpoint cannot be used.
    """
    notes: list[str] = []
    content = start.checkpoint(out, notes.append)
    if start.anneal and content is not None:
        recipe, budget = annealed(recipe, content, start.settings, budget, start.resume)
    config = recipe.network(model.name, model.scale, model.blocks)
    team = Team.here()
    if start.resume and content is not None:
        recipe = _kept_parts(recipe, content, team)
    _check_shares(recipe, team)
    if options.tensorboard:
        find_board()
    device = own_device(options.device)
    if device.type == "cpu":
        keep_freed_memory()
    if budget is None:
        budget = Budget(**content["budget"]) if content else Budget(iterations=recipe.iterations)
    plan = checkpoint.Plan(recipe, budget, config.sizes(), model.scale)
    with stop_signals() as stop, _folder(out, new=not start.resume):
        with stop.at_once():
            roots, held_out = data.find()
            setup = Setup(
                scale=model.scale,
                device=device,
                share=(team.rank, team.size),
                roots=roots,
                lr=data.lr,
                cache=feed.cache_bytes(data.cache, team.local_size),
                teacher=recipe.teacher(frozen.teacher, model.scale, device) if frozen.teacher else None,
                teacher_cache=frozen.teacher_cache or (start.anneal or out) / "teacher",
                teacher_cluster=frozen.teacher_cluster,
                vgg=frozen.vgg,
                started=start.weights is not None or content is not None,
                report=report if team.leads else lambda record: None,
            )
            for text in notes:
                setup.note(text)
            state = _new_state(recipe, config, setup, start.weights)
            state.scaler = torch.amp.GradScaler(device.type, enabled=options.precision == "fp16")
            if content is not None:
                checkpoint.restore(state, content, plan)
                follow(state.optimizer, recipe)
            hardware = describe(device) if team.size == 1 else f"{team.size} x {describe(device)}"
            state.hardware = sorted({*state.hardware, hardware})

            _warn_of_small_crops(recipe, families.blank(config).window, setup)
            tried = _tried(state, plan, setup, options.precision)
            crops = feed.open_crops(recipe, setup, data.mix)
            batches = feed.stream(recipe, crops, setup, state.pool, state.iteration, data.workers)
            least = 16 * model.scale
            pictures = load_pictures(held_out, least, setup.progress("held-out")) if team.leads else []
            pairs = recipe.held_out(pictures, model.scale)

        def export(name: str) -> None:
            card = _card(state, recipe, model, data, setup)
            facts = {"blocks": config.depth, "precision": options.precision}
            assert isinstance(state.ema, Network)
            weights.save(state.ema, out / f"{name}.safetensors", card | facts)

        with team.connected(device):
            if not recipe.accumulate:
                plan = _cut_up(plan, tried, setup, team)
            return loop.train(
                state,
                batches,
                plan,
                out,
                stop=stop,
                held_out=pairs,
                options=options,
                export=export,
                report=setup.report,
                team=team,
            )


def _kept_parts(recipe: Recipe, content: dict[str, Any], team: Team) -> Recipe:
    """The recipe of a run that goes on, with the parts of a batch that it had, unless others are given.

    They are the machine's choice, not the recipe's, so they may differ; in the checkpoint, they are made
    the same.
    """
    had = content["recipe"].get("accumulate") or 1
    if not recipe.accumulate and recipe.batch % (team.size * had) == 0:
        recipe = replace(recipe, accumulate=had)
    content["recipe"]["accumulate"] = recipe.accumulate
    return recipe


def _tried(
    state: checkpoint.State, plan: checkpoint.Plan, setup: Setup, precision: str
) -> trial.Trial | None:
    """Try a crop of the first picture, before the others are read, and on a CPU say what time to expect.

    Returns:
        None where nothing hangs on it, or the picture cannot be used, which reading all of them tells.
    """
    recipe, crops = plan.recipe, plan.recipe.batch // setup.share[1]
    over = plan.budget.progress(state.iteration, state.elapsed) >= 1
    if over or (recipe.accumulate and setup.device.type != "cpu"):
        return None
    try:
        tried = trial.try_out(state, feed.first_batch(recipe, setup), precision)
    except EscError:
        return None
    if setup.device.type == "cpu":
        seconds = crops * tried.seconds
        setup.note(trial.expected_time(plan, state, seconds))
        network = state.model
        assert isinstance(network, Network)
        if not state.iteration and (advice := trial.advice(recipe, network.window, seconds)):
            setup.note(advice)
    return tried


def _cut_up(plan: checkpoint.Plan, tried: trial.Trial | None, setup: Setup, team: Team) -> checkpoint.Plan:
    """Choose the parts of a batch, the same in all processes, and say so; one part if nothing was tried."""
    crops, free = plan.recipe.batch // team.size, trial.free_for_a_part(setup.device, team)
    parts = team.largest(trial.parts_for(crops, tried.memory, free, setup.device) if tried else 1)
    recipe = replace(plan.recipe, accumulate=parts)
    if tried and (parts > 1 or tried.memory > free):
        setup.note(trial.chosen_parts(recipe, crops, tried.memory, free))
    return replace(plan, recipe=recipe)


def _warn_of_small_crops(recipe: Recipe, window: int, setup: Setup) -> None:
    """Say what crops of less than two windows' width lead to."""
    least = 2 * window
    if recipe.patch < least and window > 1:
        text = f"patch={recipe.patch}: in crops below two windows ({least} px) nothing is learnt across the"
        setup.note(f"{text} edges of windows, which then show in pictures")


def _card(
    state: checkpoint.State, recipe: Recipe, model: Model, data: feed.Data, setup: Setup
) -> dict[str, Any]:
    """What is told of the weights of a run."""
    facts = {
        "recipe": recipe.name,
        "loss": recipe.loss,
        "optimizer": recipe.optimizer,
        "teacher": setup.teacher.card if setup.teacher else None,
        "loss_weights": None,
        "clean": None,
        "flat": None,
        "perceptual_layers": list(setup.perceptual.layers) if setup.perceptual else None,
        "model": model.name,
        "scale": model.scale,
        "data": dict(zip(_labels(data.roots), map(len, setup.roots), strict=True)),
        "mix": list(data.mix) if data.mix else None,
        "lr": _labels(data.lr) or None,
        "started_from": state.started_from,
        "iterations": state.iteration,
        "batch": recipe.batch,
        "patch": recipe.patch,
        "places": recipe.places,
        "hours": round(state.elapsed / 3600, 3),
        "hardware": state.hardware,
        "held_out": state.scores or None,
    }
    return facts | recipe.card()


def _labels(roots: Sequence[Path]) -> list[str]:
    """What a card calls roots: by their names, with as many of the folders before as tell them apart."""
    labels = [root.name for root in roots]
    for depth in range(2, max((len(root.parts) for root in roots), default=0) + 1):
        count = Counter(labels)
        labels = [
            label if count[label] == 1 else "/".join(root.parts[-depth:])
            for label, root in zip(labels, roots, strict=True)
        ]
    return labels


def _check_shares(recipe: Recipe, team: Team) -> None:
    """Refuse a batch that cannot be divided evenly."""
    parts = team.size * max(recipe.accumulate, 1)
    if recipe.batch % parts:
        raise UsageError(
            f"batch={recipe.batch}: must be a multiple of {parts}, for {team.size} processes and "
            f"accumulate={recipe.accumulate}"
        )


@contextmanager
def _folder(out: Path, new: bool) -> Iterator[None]:
    """Make the folder of a run; where it fails or is stopped, folders that nothing was written to go again.

    Raises:
        UsageError: a new run cannot have it, or there is one in it.
    """
    if new and checkpoint.is_there(out):
        raise UsageError(f"{out}: holds a run already; go on with --resume, or give another --out")
    made = [folder for folder in (out, *out.parents) if not folder.exists()]
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UsageError(f"{out}: cannot be made ({error.strerror}); give another --out") from error
    try:
        yield
    except BaseException:
        inside = [Path(folder) for folder, _, _ in os.walk(out, topdown=False)] if made else []
        for folder in (*inside, *made):
            with suppress(OSError):  # it holds something, or is gone already
                folder.rmdir()
        raise


def _new_state(recipe: Recipe, config: Config, setup: Setup, start: Path | None) -> checkpoint.State:
    """A run before its first step."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(recipe.seed)
        model = families.build(config)
        objective = recipe.objective(setup)
    if start:
        model.load_state_dict(model.state_dict() | weights.starting_weights(start, config))
    model.to(setup.device)
    objective.to(setup.device)
    return checkpoint.State(
        model,
        deepcopy(model).requires_grad_(False).eval(),
        objective,
        build_optimizer(model, objective, recipe),
        recipe.make_pool(setup.share[1]),
        started_from=start.name if start else None,
        vgg=setup.perceptual.digest() if setup.perceptual else None,
        teacher=setup.teacher.digest if setup.teacher else None,
    )
