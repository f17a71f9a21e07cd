"""`esc-sr train`: one command per recipe."""

import sys
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Annotated, Any

import typer
from typer.core import TyperGroup
from typer.main import get_command

from esc_sr import families, weights
from esc_sr.engines import warn_of_slowness
from esc_sr.errors import UsageError
from esc_sr.machine.precision import check_precision
from esc_sr.train import recipes
from esc_sr.train.feed import Data
from esc_sr.train.monitor import RunOptions
from esc_sr.train.run import Frozen, Model, Start, run
from esc_sr.train.schedule import Budget
from esc_sr.train.team import Team, own_device
from esc_sr.weights.conversion import check_suffix, check_target

_STOPS = "Ctrl-C saves; --resume goes on."

_of_data, _of_network, _of_start, _of_frozen, _of_recipe, _of_run = (
    partial(typer.Option, rich_help_panel=title)
    for title in ("Pictures", "Network", "Start", "Teacher and VGG19", "Recipe", "Run")
)


class _Recipes(TyperGroup):
    """A command for each of the paper's recipes, and one for what --recipe names."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Put the recipe of a file, wherever among the options it is named, where the command stands."""
        if args and args[0].startswith("-"):
            args = [word for arg in args for word in _halves(arg)]
            if "--recipe" in args[:-1]:
                place = args.index("--recipe")
                name = args[place + 1]
                self.add_command(_own(name), name)
                args = [name, *args[:place], *args[place + 2 :]]
        return super().parse_args(ctx, args)


def _halves(arg: str) -> list[str]:
    """--recipe=FILE.py:NAME as two words; any other as it is."""
    return arg.split("=", 1) if arg.startswith("--recipe=") else [arg]


def _own(name: str) -> Any:
    """The command that trains by a recipe of FILE.py:NAME."""
    own = typer.Typer(add_completion=False)
    own.command(help=f"Train by {name}. {_STOPS}")(_command(recipes.load_own(name), "Enlargement."))
    return get_command(own)


app = typer.Typer(cls=_Recipes, no_args_is_help=True)


@app.callback()
def main() -> None:
    """Train a network by one of the paper's recipes, or your own: --recipe FILE.py:NAME in place of COMMAND.

    On several GPUs: torchrun --nproc-per-node N -m esc_sr train ...; --batch is that of all together.
    """


def _command(recipe: recipes.Recipe, scales: str) -> Callable[..., None]:
    """The command that trains by a recipe; `scales` is for the help of --scale."""

    def train(
        data: Annotated[
            list[Path] | None, _of_data(help="Folder or .tar shard of HR pictures; may be repeated.")
        ] = None,
        mix: Annotated[
            str | None,
            _of_data(metavar="2,1", help="How often crops come from each --data; else by its pictures."),
        ] = None,
        lr: Annotated[
            list[Path] | None,
            _of_data(help="LR pictures of each --data, for classic; by default they are made."),
        ] = None,
        val: Annotated[Path | None, _of_data(help="Folder or .tar shard of held-out HR pictures.")] = None,
        cache: Annotated[
            str | None,
            _of_data(metavar="4GiB", help="Memory for decoded pictures, or 0; by default half of the free."),
        ] = None,
        workers: Annotated[
            int | None, _of_data(min=0, help="Processes that read ahead; the crops are the same.")
        ] = None,
        model: Annotated[str, _of_network(help="Network, for example esc-light.")] = recipe.model,
        scale: Annotated[int, _of_network(help=scales)] = recipe.scale,
        blocks: Annotated[
            int | None,
            _of_network(min=1, help="Fewer blocks, to be grown later by --from (all by default)."),
        ] = None,
        start: Annotated[
            Path | None, _of_start("--from", help="Weights to start from, of any scale or fewer blocks.")
        ] = None,
        resume: Annotated[bool, _of_start("--resume", help="Go on from the checkpoint in --out.")] = False,
        anneal: Annotated[
            Path | None,
            _of_start(
                metavar="RUN", help="Copy that run, going on or not, with a learning rate that falls to 0."
            ),
        ] = None,
        teacher: Annotated[
            str | None, _of_frozen(help="Bundled name or file of a network to learn from in place of HR.")
        ] = None,
        teacher_cache: Annotated[
            Path | None, _of_frozen(help="Folder for the teacher's pictures; by default OUT/teacher.")
        ] = None,
        teacher_cluster: Annotated[
            str | None,
            _of_frozen(metavar="ray[://HOST:PORT]", help="Have the nodes of a Ray cluster make them."),
        ] = None,
        vgg: Annotated[
            Path | None, _of_frozen(help="VGG19's weights, torchvision's file; real-gan needs them.")
        ] = None,
        small: Annotated[
            bool, _of_recipe("--small", help="Values for one or two CPU cores, not the paper's.")
        ] = False,
        released: Annotated[
            bool, _of_recipe("--released", help="Values of the released configuration, not the paper's.")
        ] = False,
        batch: Annotated[int | None, _of_recipe(help="Crops per step.")] = None,
        patch: Annotated[int | None, _of_recipe(help="Side of an LR crop, px.")] = None,
        seed: Annotated[int | None, _of_recipe(help="Of the initial weights and the crops.")] = None,
        settings: Annotated[
            list[str] | None, _of_recipe("--set", help="key=value of the recipe; may be repeated.")
        ] = None,
        config: Annotated[
            Path | None, _of_recipe(help="TOML file with keys of the recipe; --set wins over it.")
        ] = None,
        print_config: Annotated[
            bool, _of_recipe("--print-config", help="Show the recipe as TOML for --config, and exit.")
        ] = False,
        out: Annotated[
            Path | None, _of_run(help="Folder of the run: checkpoints, log, ema and best.safetensors.")
        ] = None,
        minutes: Annotated[float | None, _of_run(help="Length of the run, schedule included.")] = None,
        iterations: Annotated[int | None, _of_run(help="Length of the run in steps.")] = None,
        precision: Annotated[
            str, _of_run(help="fp32, as in the paper; bf16 or fp16 take less time and memory on GPUs.")
        ] = "fp32",
        tf32: Annotated[
            bool | None,
            _of_run(help="Round to TF32 on CUDA, or do not (by default convolutions, not other products)."),
        ] = None,
        compile: Annotated[
            bool, _of_run("--compile", help="Compile the network: minutes at first, faster then.")
        ] = False,
        device: Annotated[
            str, _of_run(metavar="auto|cpu|cuda[:N]|xpu|mps", help="Where to compute.")
        ] = "auto",
        save_minutes: Annotated[float, _of_run(help="Time between two checkpoints.")] = 3.0,
        val_minutes: Annotated[float, _of_run(help="Time between two validations.")] = 15.0,
        val_every: Annotated[
            int | None, _of_run(min=1, help="Steps between two validations, not --val-minutes.")
        ] = None,
        log_every: Annotated[int, _of_run(min=1, help="Steps per log line.")] = 50,
        tensorboard: Annotated[
            bool, _of_run("--tensorboard", help="Draw curves in OUT/tensorboard.")
        ] = False,
    ) -> None:
        shortcuts = {"batch": batch, "patch": patch, "seed": seed}
        given = [f"{key}={value}" for key, value in shortcuts.items() if value is not None]
        given += settings or []
        if small and released:
            raise UsageError("--small and --released exclude each other: both replace the paper's values")
        if anneal and (small or released or config):
            raise UsageError("--anneal: the recipe is that of the run; change it with --set")
        window = families.blank(families.preset(model, scale)).window
        base = recipe.small(window) if small else recipe.released() if released else recipe
        resolved = base if anneal else recipes.override(base, given, config)
        if print_config:
            print(recipes.to_toml(resolved), end="")
            return
        if not data or not out:
            raise UsageError("--data and --out are needed: the pictures, and a folder for the run")
        place = own_device(device)
        check_precision(precision)
        warn_of_slowness(place, precision, lambda text: show({"event": "note", "text": text}))
        budget = Budget(iterations, minutes) if iterations is not None or minutes is not None else None
        finished = run(
            resolved,
            Model(model, scale, blocks),
            Data(data, _numbers(mix), lr or (), val, cache, workers),
            out,
            budget=budget,
            start=Start(resume, start, anneal, given),
            frozen=Frozen(teacher, teacher_cache, vgg, teacher_cluster),
            options=RunOptions(
                precision,
                tf32,
                compile,
                save_minutes,
                val_minutes,
                val_every,
                log_every,
                tensorboard,
                str(place),
            ),
            report=show,
        )
        if not Team.here().leads:
            return
        if finished:
            print(f"done: {out / 'ema.safetensors'}")
        else:
            print(f"stopped and saved: {out / 'last.pt'}; go on with the same command and --resume")

    return train


for _recipe, _scales, _text in (
    (recipes.Classic(), "2, 3 or 4.", "Train for bicubic LR with the L1 loss (Supp. 6.1)."),
    (
        recipes.Arbitrary(),
        "Of the validation.",
        "Train LTE on an encoder for all scales at once (Supp. 6.2); --from may be an ESC of one scale.",
    ),
    (
        recipes.RealMSE(),
        "4; of esc-real-m also 1, 2 and 3.",
        "Train for realistic LR with the L1 loss (Supp. 6.3, stage 1).",
    ),
    (
        recipes.RealGAN(),
        "4; of esc-real-m also 1, 2 and 3.",
        "Go on --from weights of real-mse with perceptual and adversarial loss (Supp. 6.3, stage 2).",
    ),
):
    app.command(_recipe.name, help=f"{_text} {_STOPS}")(_command(_recipe, _scales))


def _numbers(mix: str | None) -> list[float] | None:
    """The numbers of --mix."""
    try:
        return None if mix is None else [float(part) for part in mix.split(",")]
    except ValueError:
        raise UsageError(f"--mix {mix}: must be numbers, written like 2,1") from None


@app.command()
def publish(
    source: Annotated[
        Path, typer.Argument(metavar="IN", help="Weights, for example runs/x2/best.safetensors.")
    ],
    out: Annotated[Path, typer.Argument(metavar="OUT", help="File to write, .safetensors.")],
    benchmarks: Annotated[Path, typer.Option(help="Folder that holds Set5 and Set14.")],
    note: Annotated[str | None, typer.Option(help="A sentence for the card.")] = None,
) -> None:
    """Measure trained weights on Set5 and Set14 and write them with the scores on their card."""
    from esc_sr.train.publish import publish

    publish(source, out, benchmarks, note, lambda line: print(line, flush=True))
    print(f"written: {out}")


@app.command()
def fit(
    source: Annotated[str, typer.Argument(metavar="IN", help="Weights of any scale, or a bundled name.")],
    out: Annotated[Path, typer.Argument(metavar="OUT", help="File to write, .safetensors.")],
    data: Annotated[list[Path], typer.Option(help="Folder or .tar shard of HR pictures; may be repeated.")],
    scale: Annotated[int | None, typer.Option(help="The new scale, 1 to 8.")] = None,
    decoder: Annotated[
        str | None, typer.Option(help="Weights with LTE, under which IN becomes the encoder, instead.")
    ] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace an existing OUT.")] = False,
) -> None:
    """Take trained weights to another scale, or under LTE, in a minute or two and without a step.

    All stays as it is but the last convolution, solved by least squares for what comes nearest to HR; or the
    two that LTE begins with, for what they made of the encoder they had. Train on --from OUT.
    """
    from esc_sr.train.fit import fit_encoder, fit_scale

    if (scale is None) == (decoder is None):
        raise UsageError("pass either --scale or --decoder")
    check_suffix(out)
    check_target(out, weights.find(source), overwrite)

    def progress(done: int, total: int) -> None:
        if done == total or sys.stdout.isatty():
            print(f"looking at crops: {done}/{total}", end="\r" if done < total else "\n", flush=True)

    if scale is not None:
        network = fit_scale(source, out, scale, data, progress)
    elif decoder is not None:
        network = fit_encoder(source, out, decoder, data, progress)
    print(f"written: {out}, {families.describe(network.config)}")


def show(record: Mapping[str, Any]) -> None:
    """Print a log record as one line."""
    match record:
        case {"event": "loading", "what": what, "done": done, "total": total}:
            if done == total or sys.stdout.isatty():  # in a log file, the last count alone
                print(
                    f"reading {what} pictures: {done}/{total}", end="\r" if done < total else "\n", flush=True
                )
            return
        case {"event": "note", "text": note}:
            text = note
        case {"event": "train", "loss": loss, "losses": losses, "it_per_s": speed, "eta": eta}:
            shown = "none finite" if loss is None else f"{loss:.5f}"
            if len(losses) > 1:
                shown += f" ({', '.join(f'{name} {value:.4f}' for name, value in losses.items())})"
            text = (
                f"step {record['iteration']:>7}  loss {shown}  lr {record['lr']:.2e}  {speed} it/s  "
                f"{_clock(record['elapsed'])} done, {_clock(eta)} left"
            )
            text += f"  {record['skipped']} skipped" if record["skipped"] else ""
        case {"event": "validation", "psnr": psnr, "ssim": ssim}:
            text = f"step {record['iteration']:>7}  held out: {psnr:.3f} dB, SSIM {ssim:.4f}"
        case _:
            return
    print(text, flush=True)


def _clock(seconds: float) -> str:
    """Seconds as h:mm:ss."""
    whole = int(seconds)
    return f"{whole // 3600}:{whole // 60 % 60:02}:{whole % 60:02}"
