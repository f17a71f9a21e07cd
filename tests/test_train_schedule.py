"""The schedule keeps its shape whatever the length of the run."""

from dataclasses import replace

import pytest

from esc_sr.errors import UsageError
from esc_sr.train.recipes import Classic
from esc_sr.train.schedule import Budget, ema_decay, learning_rate

FULL = Budget(iterations=500_000)
SHORT = Budget(iterations=1000)
HOUR = Budget(minutes=60)


@pytest.mark.parametrize("budget", [FULL, SHORT, HOUR])
@pytest.mark.parametrize(
    ("progress", "factor"),
    [
        (0.1, 1),
        (0.499, 1),
        (0.5, 1 / 2),
        (0.8, 1 / 4),
        (0.9, 1 / 8),
        (0.95, 1 / 16),
        (0.98, 1 / 32),
        (1.0, 1 / 32),
    ],
)
def test_milestones_stand_at_fractions_of_the_run(budget: Budget, progress: float, factor: float) -> None:
    assert learning_rate(Classic(), budget, progress) == pytest.approx(5e-4 * factor)


@pytest.mark.parametrize(("budget", "end"), [(FULL, 0.04), (SHORT, 0.02), (HOUR, 0.02)])
def test_warm_up_is_a_straight_line_and_short_runs_cap_it(budget: Budget, end: float) -> None:
    assert learning_rate(Classic(), budget, 0) == 0
    assert learning_rate(Classic(), budget, end / 4) == pytest.approx(5e-4 / 4)
    assert learning_rate(Classic(), budget, end * 0.99) == pytest.approx(5e-4 * 0.99)
    assert learning_rate(Classic(), budget, end) == pytest.approx(5e-4)


def test_a_recipe_without_warm_up_starts_at_full_speed() -> None:
    assert learning_rate(replace(Classic(), warmup=0), SHORT, 0) == 5e-4


def test_progress_counts_steps_or_training_time() -> None:
    assert SHORT.progress(250, elapsed=1e9) == 0.25
    assert SHORT.progress(2000, elapsed=0) == 1
    assert HOUR.progress(10**9, elapsed=900) == 0.25
    assert HOUR.progress(0, elapsed=4000) == 1


def test_remaining_time_follows_the_speed_so_far() -> None:
    assert SHORT.remaining(250, elapsed=10) == pytest.approx(30)
    assert HOUR.remaining(5, elapsed=900) == pytest.approx(2700)


def test_a_longer_budget_only_stretches_the_schedule() -> None:
    longer = Budget(iterations=2000)
    at = [learning_rate(Classic(), SHORT, SHORT.progress(i, 0)) for i in range(0, 1000, 50)]
    later = [learning_rate(Classic(), longer, longer.progress(2 * i, 0)) for i in range(0, 1000, 50)]
    assert at == later


def test_ema_decay_rises_to_the_recipe() -> None:
    decays = [ema_decay(Classic(), i) for i in (0, 1, 90, 8_000, 10_000, 499_999)]
    assert decays == pytest.approx([1 / 10, 2 / 11, 91 / 100, 8001 / 8010, 0.999, 0.999])


@pytest.mark.parametrize(
    ("iterations", "minutes"),
    [(None, None), (10, 10.0), (0, None), (None, 0.0), (-1, None), (None, float("nan"))],
)
def test_impossible_lengths_are_refused(iterations: int | None, minutes: float | None) -> None:
    with pytest.raises(UsageError):
        Budget(iterations, minutes)
