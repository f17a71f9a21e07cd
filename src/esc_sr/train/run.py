"""From paths and names to a running training: pictures, network, checkpoint; then the loop."""

from collections import Counter
from collections.abc import Sequence
from copy import deepcopy
from pathlib import Path
from typing import Any

import torch

from esc_sr import families, weights
from esc_sr.data.degrade import Degradation
from esc_sr.data.degraded import degraded_pairs
from esc_sr.data.pairs import Pair, make_pairs
from esc_sr.data.pictures import Decoded, Progress, find_pictures, load_pictures
from esc_sr.data.pool import PairPool
from esc_sr.errors import DataError, UsageError
from esc_sr.families.contract import Config, Network
from esc_sr.families.lte import any_size
from esc_sr.machine.device import describe
from esc_sr.machine.memory import keep_freed_memory
from esc_sr.train import checkpoint, feed, loop
from esc_sr.train.anneal import annealed
from esc_sr.train.losses import Adversarial, Distance
from esc_sr.train.monitor import Report, RunOptions, find_board
from esc_sr.train.optimizer import build_optimizer, follow
from esc_sr.train.perceptual import SMALLEST, PerceptualLoss
from esc_sr.train.recipes import REAL, Recipe
from esc_sr.train.schedule import Budget
from esc_sr.train.teacher import Teacher
from esc_sr.train.team import Team, own_device


def run(
    recipe: Recipe,
    *,
    model: str,
    scale: int,
    data: Sequence[Path],
    out: Path,
    blocks: int | None = None,
    mix: Sequence[float] | None = None,
    lr: Sequence[Path] = (),
    cache: str | int | None = None,
    workers: int | None = None,
    val: Path | None = None,
    budget: Budget | None = None,
    resume: bool = False,
    start: Path | None = None,
    anneal: Path | None = None,
    settings: Sequence[str] = (),
    teacher: str | None = None,
    teacher_cache: Path | None = None,
    vgg: Path | None = None,
    device: str = "cpu",
    options: RunOptions = RunOptions(),
    report: Report = lambda record: None,
) -> bool:
    """Train a network by a recipe; checkpoints, `log.jsonl` and averaged weights are left in `out`.

    These are `ema.safetensors`, the last, and `best.safetensors`, of the validation with the highest PSNR.

    Started by torchrun, each process calls this with the same arguments and takes its share of each batch;
    the first one alone writes and reports.

    Args:
        recipe: for example `recipes.classic()`.
        model: a name that `families.preset` knows; for the arbitrary recipe, that of the encoder.
        scale: 2, 3 or 4; for the arbitrary recipe, that of the validation.
        data: folders and .tar shards of HR pictures.
        out: folder of the run, made if missing.
        blocks: train a network of fewer blocks than the model has, which `start` can grow later.
        mix: how often a crop comes from each of `data`, relative to the others; None for every picture alike.
        lr: folders and .tar shards of LR pictures, one for each of `data`; by default LR is made.
        cache: memory for decoded pictures, as "4GiB", or "0"; by default half of what is free.
        workers: processes that read ahead; by default none where all pictures are in memory and training is
            on the CPU. The crops are the same.
        val: folder or .tar shard of held-out HR pictures.
        budget: length of the run; without it that of the checkpoint, else the recipe's.
        resume: go on from `out/last.pt`.
        start: weights to start from; those of another scale or fewer blocks are adapted. The recipe real-gan
            needs some.
        anneal: folder of another run, stopped or going on. A copy of it is trained with a learning rate that
            falls from where it is to 0 over `budget`; that run stays as it is.
        settings: of `recipes.override`, for the recipe of `anneal`, which counts in the place of `recipe`.
        teacher: bundled name or file of a network whose pictures are the target, as `teacher_share` says.
        teacher_cache: where its pictures are kept; by default `teacher` in `anneal` or `out`.
        vgg: VGG19's weights, for the recipe real-gan, which needs them.
        device: as of `machine.device.pick_device`; of several processes, "cuda" gives each a GPU of its own.
        options: what the run does beside training.
        report: called with each log record; loading is reported too.

    Returns:
        True if the run reached its end, False if it was stopped by a signal.

    Raises:
        UsageError: `out` holds a run already and `resume` is off, the checkpoint is of another run, or the
            recipe is not for this network, or lacks weights that it needs, or its batch cannot be divided
            among the processes, or TensorBoard is not installed; `mix`, `lr` or `cache` do not fit.
        DataError: pictures are missing, unreadable, smaller than the patch or the context, or without the LR
            that belongs to them.
        DeviceError: no such device; or another process has ended.
        WeightsError: `start`, `vgg` or the checkpoint cannot be used.
    """
    content = _saved(out, resume, start, anneal)
    if anneal and content is not None:
        recipe, budget = annealed(recipe.name, content, settings, budget, resume)
    config = _config(recipe, model, scale, blocks)
    team = Team.here()
    _check_shares(recipe, team)
    report = report if team.leads else lambda record: None
    if options.tensorboard:
        find_board()
    place = own_device(device)
    if place.type == "cpu":
        keep_freed_memory()
    perceptual = _perceptual(recipe, start is not None or content is not None, vgg, report)
    master = Teacher(teacher, recipe, scale, place) if teacher else None
    if not resume:
        _make_folder(out)
    state = _new_state(recipe, config, start, perceptual, master, place)
    state.scaler = torch.amp.GradScaler(place.type, enabled=options.precision == "fp16")
    if content is not None:
        checkpoint.restore(state, content, recipe, config.sizes())
        follow(state.optimizer, recipe)
        budget = budget or Budget(**content["budget"])
    budget = budget or Budget(iterations=recipe.iterations)
    hardware = describe(place) if team.size == 1 else f"{team.size} x {describe(place)}"
    state.hardware = sorted({*state.hardware, hardware})

    roots = [find_pictures(root) for root in data]
    held_out = find_pictures(val) if val else []
    everything = [entry for listed in roots for entry in listed]
    shared = set(everything) & set(held_out)
    if shared:
        raise DataError(f"{val}: {len(shared)} held-out pictures are training data too; keep them apart")
    _warn_of_small_crops(recipe, families.blank(config).window, report)
    crops = feed.open_crops(
        recipe,
        roots,
        scale=scale,
        mix=mix,
        lr=lr,
        cache=feed.cache_bytes(cache, team.local_size),
        progress=_progress(report, "training"),
    )
    if master and recipe.name == "classic":
        cache_folder = teacher_cache or (anneal or out) / "teacher"
        share = team.rank, team.size
        crops.pictures = master.targets(
            crops.pictures, cache_folder, _progress(report, "the teacher's"), share
        )
    batches = feed.stream(
        crops,
        recipe,
        scale=scale,
        pool=state.pool,
        device=place,
        start=state.iteration,
        share=(team.rank, team.size),
        workers=feed.default_workers(crops, place) if workers is None else workers,
        teacher=master,
    )
    pictures = load_pictures(held_out, 16 * scale, _progress(report, "held-out")) if team.leads else []
    pairs = _pairs(recipe, pictures, scale)

    def export(name: str) -> None:
        card = {
            "recipe": recipe.name,
            "loss": recipe.loss,
            "optimizer": recipe.optimizer,
            "teacher": master.card if master else None,
            "loss_weights": list(recipe.weights) or None,
            "clean": recipe.clean if recipe.name in REAL else None,
            "flat": recipe.flat or None,
            "perceptual_layers": list(perceptual.layers) if perceptual else None,
            "model": model,
            "scale": list(recipe.scales) or scale,
            "blocks": config.depth,
            "data": dict(zip(_labels(data), map(len, roots), strict=True)),
            "mix": list(mix) if mix else None,
            "lr": _labels(lr) or None,
            "started_from": state.started_from,
            "iterations": state.iteration,
            "batch": recipe.batch,
            "patch": recipe.patch,
            "hours": round(state.elapsed / 3600, 3),
            "hardware": state.hardware,
            "precision": options.precision,
            "held_out": state.scores or None,
        }
        assert isinstance(state.ema, Network)
        weights.save(state.ema, out / f"{name}.safetensors", card)

    with team.connected(place):
        return loop.train(
            state,
            batches,
            recipe,
            budget,
            out,
            config=config.sizes(),
            held_out=pairs,
            scale=scale,
            options=options,
            export=export,
            report=report,
            team=team,
        )


def _warn_of_small_crops(recipe: Recipe, window: int, report: Report) -> None:
    """Say what crops of less than two windows' width lead to."""
    least = 2 * window
    if recipe.patch < least and window > 1:
        text = f"patch={recipe.patch}: in crops below two windows ({least} px) nothing is learnt across the"
        report({"event": "note", "text": f"{text} edges of windows, which then show in pictures"})


def _labels(roots: Sequence[Path]) -> list[str]:
    """What a card calls roots: by their names, or where these are the same, by those of their folders too."""
    names = Counter(root.name for root in roots)
    return [root.name if names[root.name] == 1 else f"{root.parent.name}/{root.name}" for root in roots]


def _config(recipe: Recipe, model: str, scale: int, blocks: int | None) -> Config:
    """The network that a recipe makes of a name."""
    config = families.preset(model, 2 if recipe.name == "arbitrary" else scale)
    if blocks is not None:
        if config.depth is None:
            raise UsageError(f"--blocks {blocks}: {model} is trained with all of its blocks; leave it out")
        if not 1 <= blocks <= config.depth:
            raise UsageError(f"--blocks {blocks}: {model} has {config.depth}; give 1 to that many")
        config = config.at_depth(blocks)
    if recipe.name == "arbitrary":
        return any_size(config)
    if config.scale is None:
        raise UsageError(f"{model} needs training at all scales at once, by the recipe arbitrary")
    if recipe.name == "real-gan" and scale * recipe.patch < SMALLEST:
        raise UsageError(
            f"patch={recipe.patch}: real-gan compares crops of at least {SMALLEST} px; at scale {scale} the "
            f"patch must be at least {-(-SMALLEST // scale)}"
        )
    return config


def _check_shares(recipe: Recipe, team: Team) -> None:
    """Refuse a batch that cannot be divided evenly."""
    parts = team.size * recipe.accumulate
    if recipe.batch % parts:
        raise UsageError(
            f"batch={recipe.batch}: must be a multiple of {parts}, for {team.size} processes and "
            f"accumulate={recipe.accumulate}"
        )


def _saved(out: Path, resume: bool, start: Path | None, anneal: Path | None) -> dict[str, Any] | None:
    """The checkpoint to go on from: that of the run itself, or of the one to be annealed."""
    if start and (resume or anneal):
        other = "--resume" if resume else "--anneal"
        raise UsageError(f"{other} and --from exclude each other: such a run has its weights already")
    if resume:
        return checkpoint.load(out)
    return checkpoint.load(anneal) if anneal else None


def _make_folder(out: Path) -> None:
    """Make the folder of a new run."""
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UsageError(f"{out}: cannot be made ({error.strerror}); give another --out") from error
    if (out / "last.pt").exists():
        raise UsageError(f"{out}: holds a run already; go on with --resume, or give another --out")


def _perceptual(recipe: Recipe, started: bool, vgg: Path | None, report: Report) -> PerceptualLoss | None:
    """The frozen part of the objective of real-gan; refuses files that are missing, or would not be used."""
    if recipe.name != "real-gan":
        if vgg:
            raise UsageError(f"--vgg {vgg}: the recipe {recipe.name} has no perceptual loss; leave it out")
        return None
    if not started:
        raise UsageError("real-gan goes on from weights of real-mse: give them with --from")
    if not vgg:
        raise UsageError(
            "real-gan compares features of VGG19: give torchvision's file of its weights, "
            "vgg19-dcbb9e9d.pth, with --vgg"
        )
    return PerceptualLoss(vgg, lambda line: report({"event": "note", "text": line}))


def _new_state(
    recipe: Recipe,
    config: Config,
    start: Path | None,
    perceptual: PerceptualLoss | None,
    teacher: Teacher | None,
    device: torch.device,
) -> checkpoint.State:
    """A run before its first step."""
    objective: Adversarial | Distance
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(recipe.seed)
        model = families.build(config)
        if perceptual:
            objective = Adversarial(
                perceptual.to(device), weights=recipe.weights, loss=recipe.loss, sharpened=teacher is None
            )
        else:
            objective = Distance(recipe.loss, sharpened=recipe.name in REAL and teacher is None)
    if start:
        model.load_state_dict(model.state_dict() | weights.starting_weights(start, config))
    model.to(device)
    objective.to(device)
    return checkpoint.State(
        model,
        deepcopy(model).requires_grad_(False).eval(),
        objective,
        build_optimizer(model, objective, recipe),
        PairPool(recipe.pool),
        started_from=start.name if start else None,
        vgg=perceptual.digest() if perceptual else None,
        teacher=teacher.digest if teacher else None,
    )


def _pairs(recipe: Recipe, pictures: Sequence[Decoded], scale: int) -> list[Pair]:
    """What a recipe is validated on."""
    real = recipe.name in REAL
    return list(degraded_pairs(pictures, Degradation(scale=scale)) if real else make_pairs(pictures, scale))


def _progress(report: Report, what: str) -> Progress:
    """Report some twenty times how far a pass over pictures is."""

    def progress(done: int, total: int) -> None:
        if done % max(total // 20, 1) == 0 or done == total:
            report({"event": "loading", "what": what, "done": done, "total": total})

    return progress
