"""From paths and names to a running training: pictures, network, checkpoint; then the loop."""

from collections.abc import Sequence
from copy import deepcopy
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch

from esc_sr import weights
from esc_sr.data.coordinates import QuerySampler
from esc_sr.data.pairs import CropSampler, make_pairs
from esc_sr.data.tiles import Entry, Tile, find_pictures, load_tiles
from esc_sr.errors import DataError, DeviceError, UsageError
from esc_sr.network import ESC, ESCLTE, ESCConfig, LTEConfig
from esc_sr.presets import preset
from esc_sr.train import checkpoint, loop
from esc_sr.train.recipes import Recipe
from esc_sr.train.schedule import Budget
from esc_sr.upscale.device import describe


def run(
    recipe: Recipe,
    *,
    model: str,
    scale: int,
    data: Sequence[Path],
    out: Path,
    val: Path | None = None,
    budget: Budget | None = None,
    resume: bool = False,
    start: Path | None = None,
    device: str = "cpu",
    habits: loop.Habits = loop.Habits(),
    report: loop.Report = lambda record: None,
) -> bool:
    """Train a network by a recipe; checkpoints, `log.jsonl` and `ema.safetensors` are left in `out`.

    Args:
        recipe: for example `recipes.classic()`.
        model: a name that `presets.preset` knows; for the arbitrary recipe, that of the encoder.
        scale: 2, 3 or 4; for the arbitrary recipe, that of the validation.
        data: folders and .tar shards of HR pictures.
        out: folder of the run, made if missing.
        val: folder or .tar shard of held-out HR pictures.
        budget: length of the run; without it that of the checkpoint, else the recipe's.
        resume: go on from `out/last.pt`.
        start: weights to start from; those of another scale are adapted.
        device: as torch names it.
        habits: what the run does beside training.
        report: called with each log record; loading is reported too.

    Returns:
        True if the run reached its end, False if it was stopped by a signal.

    Raises:
        UsageError: `out` holds a run already and `resume` is off, the checkpoint is of another run, or the
            recipe is not for this network.
        DataError: pictures are missing, unreadable, or smaller than the patch.
        DeviceError: no such device.
        WeightsError: `start` or the checkpoint cannot be used.
    """
    config = _config(recipe, model, scale)
    place = _device(device)
    content = _open_folder(out, resume, start)
    state = _new_state(recipe, config, start, place)
    if content is not None:
        checkpoint.restore(state, content, recipe, asdict(config))
        budget = budget or Budget(**content["budget"])
    budget = budget or Budget(iterations=recipe.iterations)
    state.hardware = sorted({*state.hardware, describe(place)})

    entries = {root: find_pictures(root) for root in data}
    held_out = find_pictures(val) if val else []
    everything = [entry for listed in entries.values() for entry in listed]
    shared = set(everything) & set(held_out)
    if shared:
        raise DataError(f"{val}: {len(shared)} held-out pictures are training data too; keep them apart")
    side = round(recipe.patch * (recipe.scales[-1] if recipe.scales else scale))
    tiles = _load(everything, side, "training", report)
    pairs = list(make_pairs(_load(held_out, 16 * scale, "held-out", report), scale))
    sampler: loop.Sampler
    if isinstance(config, LTEConfig):
        sampler = QuerySampler(tiles, recipe.patch, (recipe.scales[0], recipe.scales[1]), recipe.queries)
    else:
        sampler = CropSampler(list(make_pairs(tiles, scale)), scale, recipe.patch)

    def export() -> None:
        card = {
            "recipe": recipe.name,
            "loss": recipe.loss,
            "model": model,
            "scale": list(recipe.scales) or scale,
            "data": {root.name: len(listed) for root, listed in entries.items()},
            "started_from": state.started_from,
            "iterations": state.iteration,
            "batch": recipe.batch,
            "patch": recipe.patch,
            "hours": round(state.elapsed / 3600, 3),
            "hardware": state.hardware,
            "precision": habits.precision,
            "held_out": state.scores or None,
        }
        assert isinstance(state.ema, ESC | ESCLTE)
        weights.save(state.ema, out / "ema.safetensors", card)

    return loop.train(
        state,
        sampler,
        recipe,
        budget,
        out,
        config=asdict(config),
        held_out=pairs,
        scale=scale,
        habits=habits,
        export=export,
        report=report,
    )


def _config(recipe: Recipe, model: str, scale: int) -> ESCConfig | LTEConfig:
    """The network that a recipe makes of a name."""
    if recipe.name == "arbitrary":
        return LTEConfig(preset(model, 2))
    if model == "esc-lte":
        raise UsageError("esc-lte needs training at all scales at once, by the recipe arbitrary")
    return preset(model, scale)


def _device(name: str) -> torch.device:
    """The device, tried out."""
    try:
        device = torch.device(name)
        torch.zeros(1, device=device)
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        raise DeviceError(f"device {name!r} cannot be used: {str(error).splitlines()[0]}") from error
    return device


def _open_folder(out: Path, resume: bool, start: Path | None) -> dict[str, Any] | None:
    """Make the folder of the run, or read the checkpoint in it."""
    if resume and start:
        raise UsageError("--resume and --from exclude each other: a resumed run has its weights already")
    if resume:
        return checkpoint.load(out)
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UsageError(f"{out}: cannot be made ({error.strerror}); give another --out") from error
    if (out / "last.pt").exists():
        raise UsageError(f"{out}: holds a run already; go on with --resume, or give another --out")
    return None


def _new_state(
    recipe: Recipe, config: ESCConfig | LTEConfig, start: Path | None, device: torch.device
) -> checkpoint.State:
    """A run before its first step."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(recipe.seed)
        model = ESCLTE(config) if isinstance(config, LTEConfig) else ESC(config)
    if start:
        model.load_state_dict(model.state_dict() | weights.starting_weights(start, config))
    model.to(device)
    optimizer = torch.optim.AdamW(
        model.parameters(), lr=recipe.lr, betas=recipe.betas, weight_decay=recipe.weight_decay, fused=True
    )
    ema = deepcopy(model).requires_grad_(False).eval()
    generator = torch.Generator().manual_seed(recipe.seed)
    return checkpoint.State(model, ema, optimizer, generator, started_from=start.name if start else None)


def _load(entries: Sequence[Entry], side: int, what: str, report: loop.Report) -> list[Tile]:
    """Decode pictures of at least some side, px."""
    step = max(len(entries) // 20, 1)

    def progress(done: int, total: int) -> None:
        if done % step == 0 or done == total:
            report({"event": "loading", "what": what, "done": done, "total": total})

    return load_tiles(entries, side, progress)
