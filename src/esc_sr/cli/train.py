"""`esc-sr train`: one command per recipe."""

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import torch
import typer

from esc_sr import families
from esc_sr.errors import UsageError
from esc_sr.machine.precision import check_precision
from esc_sr.train import recipes
from esc_sr.train.monitor import RunOptions
from esc_sr.train.run import run
from esc_sr.train.schedule import Budget
from esc_sr.train.team import Team, own_device

app = typer.Typer(no_args_is_help=True)


@app.callback()
def main() -> None:
    """Train a network by one of the paper's recipes.

    On several GPUs: torchrun --nproc-per-node N -m esc_sr train ...; --batch is that of all together.
    """


def _add_recipe(recipe: recipes.Recipe, network: str, scales: str, scale_default: int, text: str) -> None:
    """Add the command that trains by a recipe; `network` is the default, the texts are for its help."""

    def train(
        data: Annotated[
            list[Path] | None, typer.Option(help="Folder or .tar shard of HR pictures; may be repeated.")
        ] = None,
        mix: Annotated[
            str | None,
            typer.Option(metavar="2,1", help="How often crops come from each --data; else by its pictures."),
        ] = None,
        lr: Annotated[
            list[Path] | None,
            typer.Option(help="LR pictures of each --data, for classic; by default they are made."),
        ] = None,
        cache: Annotated[
            str | None,
            typer.Option(
                metavar="4GiB", help="Memory for decoded pictures, or 0; by default half of the free."
            ),
        ] = None,
        workers: Annotated[
            int | None, typer.Option(min=0, help="Processes that read ahead; the crops are the same.")
        ] = None,
        out: Annotated[
            Path | None, typer.Option(help="Folder of the run: checkpoints, log, ema and best.safetensors.")
        ] = None,
        model: Annotated[str, typer.Option(help="Network, for example esc-light.")] = network,
        scale: Annotated[int, typer.Option(help=scales)] = scale_default,
        blocks: Annotated[
            int | None,
            typer.Option(min=1, help="Fewer blocks, to be grown later by --from (all by default)."),
        ] = None,
        minutes: Annotated[float | None, typer.Option(help="Length of the run, schedule included.")] = None,
        iterations: Annotated[int | None, typer.Option(help="Length of the run in steps.")] = None,
        resume: Annotated[bool, typer.Option("--resume", help="Go on from the checkpoint in --out.")] = False,
        start: Annotated[
            Path | None, typer.Option("--from", help="Weights to start from, of any scale or fewer blocks.")
        ] = None,
        anneal: Annotated[
            Path | None,
            typer.Option(
                metavar="RUN", help="Copy that run, going on or not, with a learning rate that falls to 0."
            ),
        ] = None,
        teacher: Annotated[
            str | None, typer.Option(help="Bundled name or file of a network to learn from in place of HR.")
        ] = None,
        teacher_cache: Annotated[
            Path | None, typer.Option(help="Folder for the teacher's pictures; by default OUT/teacher.")
        ] = None,
        vgg: Annotated[
            Path | None, typer.Option(help="VGG19's weights, torchvision's file; real-gan needs them.")
        ] = None,
        val: Annotated[
            Path | None, typer.Option(help="Folder or .tar shard of held-out HR pictures.")
        ] = None,
        batch: Annotated[int | None, typer.Option(help="Crops per step.")] = None,
        patch: Annotated[int | None, typer.Option(help="Side of an LR crop, px.")] = None,
        seed: Annotated[int | None, typer.Option(help="Of the initial weights and the crops.")] = None,
        small: Annotated[
            bool, typer.Option("--small", help="Values for one or two CPU cores, not the paper's.")
        ] = False,
        settings: Annotated[
            list[str] | None, typer.Option("--set", help="key=value of the recipe; may be repeated.")
        ] = None,
        config: Annotated[
            Path | None, typer.Option(help="TOML file with keys of the recipe; --set wins over it.")
        ] = None,
        print_config: Annotated[
            bool, typer.Option("--print-config", help="Show the recipe as TOML for --config, and exit.")
        ] = False,
        precision: Annotated[
            str | None, typer.Option(help="fp32, bf16 or fp16; by default bf16 on CUDA only.")
        ] = None,
        tf32: Annotated[bool, typer.Option(help="Let CUDA round float32 products to TF32.")] = True,
        compile: Annotated[
            bool, typer.Option("--compile", help="Compile the network: minutes at first, faster then.")
        ] = False,
        device: Annotated[
            str | None,
            typer.Option(
                metavar="auto|cpu|cuda[:N]|xpu|mps",
                help="Where; by default cuda where there is one.",
            ),
        ] = None,
        save_minutes: Annotated[float, typer.Option(help="Time between two checkpoints.")] = 3.0,
        val_minutes: Annotated[float, typer.Option(help="Time between two validations.")] = 15.0,
        val_every: Annotated[
            int | None, typer.Option(min=1, help="Steps between two validations, not --val-minutes.")
        ] = None,
        log_every: Annotated[int, typer.Option(min=1, help="Steps per log line.")] = 50,
        tensorboard: Annotated[
            bool, typer.Option("--tensorboard", help="Draw curves in OUT/tensorboard.")
        ] = False,
    ) -> None:
        shortcuts = {"batch": batch, "patch": patch, "seed": seed}
        given = [f"{key}={value}" for key, value in shortcuts.items() if value is not None]
        given += settings or []
        if anneal and (small or config):
            raise UsageError("--anneal: the recipe is that of the run; change it with --set")
        window = families.blank(families.preset(model, scale)).window
        base = recipes.small(recipe, window) if small else recipe
        resolved = base if anneal else recipes.override(base, given, config)
        if print_config:
            print(recipes.to_toml(resolved), end="")
            return
        if not data or not out:
            raise UsageError("--data and --out are needed: the pictures, and a folder for the run")
        place = own_device(device or ("cuda" if torch.cuda.is_available() else "cpu"))
        precision = precision or ("bf16" if place.type == "cuda" else "fp32")
        check_precision(precision)
        budget = Budget(iterations, minutes) if iterations is not None or minutes is not None else None
        finished = run(
            resolved,
            model=model,
            scale=scale,
            blocks=blocks,
            data=data,
            out=out,
            mix=_numbers(mix),
            lr=lr or (),
            cache=cache,
            workers=workers,
            val=val,
            budget=budget,
            resume=resume,
            start=start,
            anneal=anneal,
            settings=given,
            teacher=teacher,
            teacher_cache=teacher_cache,
            vgg=vgg,
            device=str(place),
            options=RunOptions(
                precision, tf32, compile, save_minutes, val_minutes, val_every, log_every, tensorboard
            ),
            report=show,
        )
        if not Team.here().leads:
            return
        if finished:
            print(f"done: {out / 'ema.safetensors'}")
        else:
            print(f"stopped and saved: {out / 'last.pt'}; go on with the same command and --resume")

    app.command(recipe.name, help=f"{text} Ctrl-C saves; --resume goes on.")(train)


_add_recipe(
    recipes.classic(), "esc-light", "2, 3 or 4.", 2, "Train for bicubic LR with the L1 loss (Supp. 6.1)."
)
_add_recipe(
    recipes.arbitrary(),
    "esc",
    "Of the validation.",
    4,
    "Train LTE on an encoder for all scales at once (Supp. 6.2); --from may be an ESC of one scale.",
)
_add_recipe(
    recipes.real_mse(),
    "esc-real",
    "4; of esc-real-m also 1, 2 and 3.",
    4,
    "Train for realistic LR with the L1 loss (Supp. 6.3, stage 1).",
)
_add_recipe(
    recipes.real_gan(),
    "esc-real",
    "4; of esc-real-m also 1, 2 and 3.",
    4,
    "Go on --from weights of real-mse with perceptual and adversarial loss (Supp. 6.3, stage 2).",
)


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


def show(record: Mapping[str, Any]) -> None:
    """Print a log record as one line."""
    match record:
        case {"event": "loading", "what": what, "done": done, "total": total}:
            print(f"reading {what} pictures: {done}/{total}", end="\r" if done < total else "\n", flush=True)
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
