"""`esc-sr video`: a video file to a larger video file."""

import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NamedTuple

import typer

from esc_sr.cli.options import (
    AnyScale,
    Denoise,
    Device,
    Height,
    Longest,
    OneEngine,
    OneModel,
    OnePrecision,
    SelfEnsemble,
    Shortest,
    Threads,
    Width,
    show_denoise,
)
from esc_sr.cli.output import print_json
from esc_sr.errors import EscError, UsageError, one_line
from esc_sr.upscaling import DEFAULT_MODEL, DEFAULT_SCALE
from esc_sr.upscaling.sizes import Size, plain, wish

if TYPE_CHECKING:
    from esc_sr.cli.report import Bar
    from esc_sr.video.run import VideoPlan, VideoResult, VideoStatus
    from esc_sr.video.sample import SampleFrame


def video(
    source: Annotated[Path, typer.Argument(metavar="IN", help="A video file.")],
    output: Annotated[
        str | None,
        typer.Option("-o", "--output", help="File or folder; by default clip_2x.mp4 beside clip.mp4."),
    ] = None,
    model: OneModel = DEFAULT_MODEL,
    scale: AnyScale = None,
    width: Width = None,
    height: Height = None,
    longest: Longest = None,
    shortest: Shortest = None,
    start: Annotated[
        str | None, typer.Option(metavar="1:30", help="Begin there: seconds, or hours, minutes and seconds.")
    ] = None,
    end: Annotated[str | None, typer.Option(metavar="1:32.5", help="End before that.")] = None,
    frames: Annotated[
        str | None,
        typer.Option(metavar="12,40", help="These frames alone, as PNG, to see what a model makes of them."),
    ] = None,
    sheet: Annotated[
        bool, typer.Option("--sheet", help="Of these frames one picture, beside bicubic, where they differ.")
    ] = False,
    encoder: Annotated[
        str | None,
        typer.Option(
            metavar="NAME",
            help="As FFmpeg calls it; by default libx264 for 8 bits, libx265 for more, libvpx-vp9 in WebM.",
        ),
    ] = None,
    quality: Annotated[
        float | None,
        typer.Option(
            metavar="CRF", help="Lower is better and larger; by default 18 of libx264, 20 of libx265."
        ),
    ] = None,
    preset: Annotated[
        str | None, typer.Option(metavar="NAME", help="How much time the encoder takes; by default medium.")
    ] = None,
    encoder_option: Annotated[
        list[str] | None,
        typer.Option(metavar="KEY=VALUE", help="Another option of the encoder; may be repeated."),
    ] = None,
    device: Device = "auto",
    precision: OnePrecision = "fp32",
    engine: OneEngine = "auto",
    self_ensemble: SelfEnsemble = False,
    denoise: Denoise = None,
    max_memory: Annotated[
        str | None,
        typer.Option(metavar="4GiB", help="What a frame may take; by default a safe part of what is free."),
    ] = None,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Replace an existing output, and begin anew.")
    ] = False,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print one JSON document on stdout; all else goes to stderr.")
    ] = False,
    threads: Threads = None,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Say nothing but errors.")] = False,
) -> None:
    """Upscale a video; sound, subtitles, chapters and times stay, and a run that was broken off goes on."""
    from esc_sr.cli.report import Bar
    from esc_sr.video import require_pyav
    from esc_sr.video.clip import look_at, parse_span
    from esc_sr.video.coding import Coding
    from esc_sr.video.folder import network_facts
    from esc_sr.video.run import plan_video, upscale_video
    from esc_sr.video.sample import enlarge_frames, find_pictures, parse_numbers, write_frames
    from esc_sr.video.target import find_target

    require_pyav()
    size = wish(scale=scale, width=width, height=height, longest=longest, shortest=shortest)
    coding = Coding(encoder, quality, preset, _pairs(encoder_option or []))
    span = parse_span(start, end)
    numbers = None if frames is None else parse_numbers(frames)
    if sheet and numbers is None:
        raise UsageError("--sheet shows frames: say which, as --frames 12,40")
    if numbers is not None and span != (None, None):
        raise UsageError("--frames counts from the first frame of the video; leave out --start and --end")
    with Bar(quiet) as bar:
        bar.stage("looking at the video")
        clip = look_at(source)
        if size is None and model == DEFAULT_MODEL:
            size = Size("scale", DEFAULT_SCALE)
        if size is not None and numbers is None:  # mistakes show before the model is loaded, if they can
            find_target(source, output, size, overwrite)
        bar.stage("starting PyTorch")

        import torch

        from esc_sr.upscaling.engine import Upscaler

        if threads is not None:
            torch.set_num_threads(threads)
        bar.stage(f"loading {Path(model).name}")
        tell = (lambda text: None) if quiet else bar.note
        upscaler = Upscaler(
            model,
            size,
            device,
            precision,
            self_ensemble,
            max_memory,
            bar.note,
            tell,
            engine=engine,
            denoise=denoise,
        )
        how = _How(Path(model).name, upscaler.size, str(upscaler.device), precision, denoise)
        if numbers is not None:
            targets = find_pictures(source, output, upscaler.size, numbers, sheet, overwrite)
            part = lambda done: bar.move(done, 1.0, f"{len(numbers)} frames", source.name)  # noqa: E731
            made = enlarge_frames(clip, numbers, upscaler, part)
            seen = write_frames(made, targets, sheet, str(how), overwrite)
            _say_pictures(bar, source, targets, seen, how, as_json, quiet)
            return
        target = find_target(source, output, upscaler.size, overwrite)
        plan = plan_video(clip, target, upscaler, coding, span)
        network = network_facts(model, upscaler, engine)
        shown = _Shown(bar, plan)
        begun = time.monotonic()
        try:
            result = upscale_video(plan, upscaler, network, overwrite, shown.show, tell)
        except (KeyboardInterrupt, EscError):
            if shown.saved:
                bar.note(f"{shown.saved} frames are saved; the same command goes on with them")
            raise
        _say(bar, plan, result, how, time.monotonic() - begun, as_json, quiet)
        if result.damage:
            raise typer.Exit(1)


class _How(NamedTuple):
    """By which network, to which size, where and with what arithmetic."""

    model: str
    size: Size
    device: str
    precision: str
    denoise: float | None

    def __str__(self) -> str:
        """Network and size."""
        return f"{self.model} {self.size}{show_denoise(self.denoise)}"

    @property
    def facts(self) -> dict[str, Any]:
        """As JSON has them; no scale for a wished side."""
        scale = plain(self.size.value) if self.size.of == "scale" else None
        return {
            "model": self.model,
            "scale": scale,
            "device": self.device,
            "precision": self.precision,
            "denoise": self.denoise,
        }


class _Shown:
    """The bar of a run: frames, frames a second, time left."""

    def __init__(self, bar: "Bar", plan: "VideoPlan") -> None:
        self.saved = 0
        self._bar, self._clip = bar, plan.clip
        self._total = plan.clip.count if plan.span == (None, None) else 0

    def show(self, status: "VideoStatus") -> None:
        """Show how far it is."""
        self.saved = status.saved
        if status.rate is None:
            self._bar.stage(f"going past {status.frames} frames that are done")
            return
        counted = f"{status.frames}/{self._total}" if self._total else f"{status.frames}"
        words = f"{status.rate:.3g} frames/s {self._clip.path.name}"
        self._bar.move(status.done or 0.0, 0.0 if status.done is None else 1.0, counted, words)


def _pairs(options: list[str]) -> tuple[tuple[str, str], ...]:
    """Options of an encoder."""
    for option in options:
        if not all(option.partition("=")):
            raise UsageError(f"--encoder-option {option!r}: write KEY=VALUE, such as tune=film")
    return tuple((option.partition("=")[0], option.partition("=")[2]) for option in options)


def _say_pictures(
    bar: "Bar",
    source: Path,
    targets: "list[Path]",
    frames: "list[SampleFrame]",
    how: "_How",
    as_json: bool,
    quiet: bool,
) -> None:
    """Say which pictures were made."""
    if as_json:
        shown = [{"frame": frame.number, "time": round(float(frame.time), 6)} for frame in frames]
        print_json({"source": str(source), "targets": list(map(str, targets)), "frames": shown, **how.facts})
    if not quiet:
        numbers = ", ".join(str(frame.number) for frame in frames)
        line = f"{source} frames {numbers} -> {', '.join(map(str, targets))}, {how}, {how.device}"
        bar.line(one_line(line), err=as_json)


def _say(
    bar: "Bar",
    plan: "VideoPlan",
    result: "VideoResult",
    how: "_How",
    seconds: float,
    as_json: bool,
    quiet: bool,
) -> None:
    """Say what was done."""
    clip, look, status = plan.clip, plan.settings.look, result.status
    damage = result.damage
    notes = list(result.notes)
    if damage.untimed:
        notes.append(f"left out: {damage.untimed} frames that have the time of the one before")
    if not quiet:
        for note in notes:
            bar.note(note)
    if damage:
        bar.note(f"{clip.path}: damaged: {damage}")
    if as_json:
        print_json(
            {
                "source": str(clip.path),
                "target": str(plan.target),
                "size": (clip.look.width, clip.look.height),
                "target_size": (look.width, look.height),
                "frames": status.frames,
                "computed": status.computed,
                "repeated": status.repeated,
                "taken": status.taken,
                "damage": str(damage) or None,
                "encoder": plan.settings.encoder,
                "format": look.format,
                "seconds": round(seconds, 3),
                **how.facts,
                "notes": notes,
            }
        )
    if not quiet:
        bar.line(one_line(_line(plan, status, how, seconds)), err=as_json)


def _line(plan: "VideoPlan", status: "VideoStatus", how: "_How", seconds: float) -> str:
    """What was done, for people."""
    before, after = plan.clip.look, plan.settings.look
    counts: dict[str, Any] = {"equal to the one before": status.repeated, "done earlier": status.taken}
    extra = ", ".join(f"{count} {what}" for what, count in counts.items() if count)
    return (
        f"{plan.clip.path} {before.width}x{before.height} -> {plan.target} {after.width}x{after.height}, "
        f"{status.frames} frames{f' ({extra})' if extra else ''}, {how}, "
        f"{how.device}, {how.precision}, {plan.settings.encoder} {after.format}, {seconds:.1f} s"
    )
