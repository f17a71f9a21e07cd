"""Picture files enlarged for the tests."""

from esc_sr.upscaling.batch import Choices, run
from esc_sr.upscaling.engine import Upscaler
from esc_sr.upscaling.files import Job, Outcome


def upscale_file(job: Job, upscaler: Upscaler, choices: Choices = Choices()) -> Outcome:
    """One picture file through the engine, as users have it."""
    outcomes: list[Outcome] = []
    run([job], upscaler, outcomes.append, choices)
    return outcomes[0]
