"""A training's length from its time, on a clock that the tests turn."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch

from medgan.core import GAN, Batch, Budget, Callback, DataSpec, Trainer
from medgan.core.budget import format_duration, parse_duration
from medgan.errors import ConfigError

KEPT = 2.0  # seconds that every budget keeps for the end


class Clock:
    """Seconds that pass when told to."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


class Slow(Callback):
    """Takes some seconds every few steps."""

    def __init__(self, clock: Clock, seconds: float, every: int) -> None:
        self.clock = clock
        self.seconds = seconds
        self.every = every

    def on_step(self, trainer: Trainer[Any], metrics: Any) -> None:
        if trainer.step % self.every == 0:
            self.clock.now += self.seconds

    def on_end(self, trainer: Trainer[Any]) -> None:
        self.clock.now += self.seconds


class Rates(Callback):
    """Remembers the learning rate and the plan of each step."""

    def __init__(self) -> None:
        self.rates: list[float] = []
        self.totals: list[int | None] = []

    def on_step(self, trainer: Trainer[Any], metrics: Any) -> None:
        self.rates.append(trainer.optimizers["generator"].param_groups[0]["lr"])
        self.totals.append(trainer.total_steps)


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def timed(plain: type[GAN], data: DataSpec, clock: Clock) -> Callable[..., GAN]:
    """A function that returns a model whose steps take the seconds that a function of their number says."""

    def make(seconds: Callable[[int], float], **options: Any) -> GAN:
        gan = plain(data, **options)
        trainer = gan.make_trainer(device="cpu")

        def slow(batch: Batch) -> Any:
            clock.now += seconds(trainer.step)
            return {"generator/loss": torch.zeros(())}

        trainer.train_step = slow  # type: ignore[method-assign]
        return gan

    return make


# --------------------------------------------------------------------------------------- durations


@pytest.mark.parametrize(
    ("text", "seconds"), [("45m", 2700), ("90s", 90), ("2h", 7200), ("1h30m", 5400), ("1.5h", 5400), ("1h2m3s", 3723)]
)
def test_durations(text: str, seconds: float) -> None:
    assert parse_duration(text) == seconds
    assert parse_duration(format_duration(seconds)) == seconds


@pytest.mark.parametrize("text", ["", "45", "0s", "0h0m", "m", "45 minutes", "-5m", "30m1h", "1e3s", "nan"])
def test_what_is_no_duration(text: str) -> None:
    with pytest.raises(ConfigError, match=r"is no duration\. Type for example 45m"):
        parse_duration(text)


@pytest.mark.parametrize(("seconds", "text"), [(0.2, "0s"), (59.6, "1m"), (3599.7, "1h"), (3661, "1h1m1s")])
def test_durations_are_shown_to_a_second(seconds: float, text: str) -> None:
    assert format_duration(seconds) == text


@pytest.mark.parametrize("seconds", [0, -1, float("nan"), float("inf")])
def test_a_budget_is_some_time(seconds: float) -> None:
    with pytest.raises(ConfigError, match="must be some seconds"):
        Budget(seconds)


# ---------------------------------------------------------------------------------------- the plan


@pytest.mark.parametrize("decay", [0.0, 0.4, 1.0])
def test_the_steps_fill_the_time(timed: Callable[..., GAN], images: Any, clock: Clock, decay: float) -> None:
    """0.5 s a step; the first three take ten times as long, which nobody extrapolates."""
    gan = timed(lambda step: 5.0 if step < 3 else 0.5, lr_decay=decay)
    start = clock.now
    clock.now += 30  # reading the data
    gan.fit(images, budget=Budget(300.0, started=start, clock=clock))
    assert gan.trainer is not None
    assert gan.trainer.step == 3 + (300 - KEPT - 30 - 15) / 0.5
    assert clock.now - start == pytest.approx(300 - KEPT)


@pytest.mark.parametrize("decay", [0.0, 0.4])
def test_callbacks_count_and_their_end_is_kept(
    timed: Callable[..., GAN], images: Any, clock: Clock, decay: float
) -> None:
    gan = timed(lambda step: 0.5, lr_decay=decay)
    start = clock.now
    gan.fit(images, budget=Budget(1000.0, clock=clock), callbacks=[Slow(clock, 20.0, 50), Slow(clock, 5.0, 200)])
    assert gan.trainer is not None
    # 0.5 + 20 / 50 + 5 / 200 a step; without looking at the callbacks it would be 1,996 steps in 1,846 s.
    assert gan.trainer.step == pytest.approx((1000 - KEPT - 25) / 0.925, rel=0.03)
    assert 970 <= clock.now - start <= 1000


def test_a_change_of_pace_before_the_rates_fall_is_planned_for(
    timed: Callable[..., GAN], images: Any, clock: Clock
) -> None:
    gan = timed(lambda step: 0.5 if step < 100 else 1.0, lr_decay=0.2)
    start = clock.now
    gan.fit(images, budget=Budget(1000.0, clock=clock))
    assert clock.now - start == pytest.approx(1000, rel=0.03)


def test_the_length_is_fixed_before_the_rates_fall(timed: Callable[..., GAN], images: Any, clock: Clock) -> None:
    """Slower afterwards: no step is dropped, and the rates fall in the straight line to 0 that was begun."""
    gan = timed(lambda step: 0.5 if step < 700 else 0.6, lr_decay=0.4, generator_lr=1.0)
    rates = Rates()
    start = clock.now
    gan.fit(images, budget=Budget(500.0, clock=clock), callbacks=[rates])
    assert gan.trainer is not None
    total = gan.trainer.step
    assert total == gan.trainer.total_steps == (500 - KEPT) / 0.5
    expected = [min(1.0, (total - step) / (0.4 * total)) for step in range(total)]
    assert rates.rates == pytest.approx(expected, abs=1e-9)
    first = next(number for number, known in enumerate(rates.totals) if known is not None)
    assert all(known == total for known in rates.totals[first:])
    assert max(rates.rates[first + 1 :]) < 1.0 + 1e-9
    assert set(rates.rates[:first]) == {1.0}
    assert clock.now - start == pytest.approx(500 + 0.1 * (total - 700), abs=3)


def test_rates_that_fall_from_the_start_wait_for_the_plan(timed: Callable[..., GAN], images: Any, clock: Clock) -> None:
    gan = timed(lambda step: 0.5, lr_decay=1.0, generator_lr=1.0)
    rates = Rates()
    gan.fit(images, budget=Budget(500.0, clock=clock), callbacks=[rates])
    assert rates.totals.index(996) == 50  # 5% of the time
    assert rates.rates[49] == 1.0
    assert rates.rates[50] == pytest.approx(946 / 996)


@pytest.mark.parametrize(
    ("seconds", "read"), [(5.0, 0.0), (12.0, 0.0), (30.0, 25.0), (11.99, 0.0)], ids=["5", "12", "read", "just"]
)
def test_too_short(timed: Callable[..., GAN], images: Any, clock: Clock, seconds: float, read: float) -> None:
    """20 steps of half a second are needed for a plan, and 2 s are kept."""
    gan = timed(lambda step: 0.5)
    budget = Budget(seconds, clock=clock)
    clock.now += read
    with pytest.raises(ConfigError, match=r"is too short: reading the data.*Type --budget \w+ or more"):
        gan.fit(images, budget=budget)
    assert gan.trainer is not None
    assert gan.trainer.step <= 20


def test_what_is_advised_is_enough(timed: Callable[..., GAN], images: Any, clock: Clock) -> None:
    gan = timed(lambda step: 0.5)
    with pytest.raises(ConfigError, match="too short") as error:
        gan.fit(images, budget=Budget(8.0, clock=clock))
    advised = str(error.value).split("--budget ")[1].split()[0]
    again = timed(lambda step: 0.5)
    again.fit(images, budget=Budget(parse_duration(advised), clock=clock))
    assert again.trainer is not None
    assert again.trainer.step > 20


def test_preparation_is_advised_for_once(timed: Callable[..., GAN], images: Any, clock: Clock) -> None:
    """18 s before the only step of half a second; with 19 more, and the 2 s that are kept, 30 s; half as much again."""
    budget = Budget(20.4, clock=clock)
    clock.now += 18
    with pytest.raises(ConfigError, match=r"preparing and 1 step took 18\.5 s.* Type --budget 45s or more"):
        timed(lambda step: 0.5).fit(images, budget=budget)


def test_time_that_is_over_before_the_first_step(gan: GAN, images: Any, clock: Clock) -> None:
    budget = Budget(10.0, clock=clock)
    clock.now += 11
    with pytest.raises(ConfigError, match=r"and 0 steps took 11\.0 s"):
        gan.fit(images, budget=budget)


def test_one_length_is_given(gan: GAN, images: Any) -> None:
    with pytest.raises(ConfigError, match="Say how long to train"):
        gan.fit(images)
    with pytest.raises(ConfigError, match="Say how long to train"):
        gan.fit(images, steps=3, budget=Budget(10.0))
    with pytest.raises(ConfigError, match="a number of steps, or use_budget"):
        gan.make_trainer(device="cpu").fit([])


# ------------------------------------------------------------------------------------------ resume


def stop_at(step: int) -> Callback:
    class Stop(Callback):
        def on_step(self, trainer: Trainer[Any], metrics: Any) -> None:
            if trainer.step == step:
                raise KeyboardInterrupt

    return Stop()


def stopped(gan: GAN, images: Any, budget: Budget, step: int) -> dict[str, Any]:
    """Return the state of a training that was ended at a step."""
    with pytest.raises(KeyboardInterrupt):
        gan.fit(images, budget=budget, callbacks=[stop_at(step)])
    assert gan.trainer is not None
    return gan.trainer.state_dict()


def test_resume_counts_the_time_before(timed: Callable[..., GAN], images: Any, clock: Clock) -> None:
    state = stopped(timed(lambda step: 0.5), images, Budget(300.0, clock=clock), 200)
    assert state["budget"] == {"seconds": 300.0, "spent": 100.0}
    clock.now += 10_000  # nothing runs
    gan = timed(lambda step: 0.5)
    assert gan.trainer is not None
    gan.trainer.load_state_dict(state)
    budget = Budget(300.0, clock=clock)
    clock.now += 20  # reading the data again
    gan.fit(images, budget=budget)
    assert gan.trainer.step == 200 + (300 - KEPT - 100 - 20) / 0.5
    assert budget.spent == pytest.approx(298)


def test_resume_keeps_a_fixed_length(timed: Callable[..., GAN], images: Any, clock: Clock) -> None:
    state = stopped(timed(lambda step: 0.5, lr_decay=0.4), images, Budget(300.0, clock=clock), 400)
    assert state["total_steps"] == 596
    gan = timed(lambda step: 2.0, lr_decay=0.4)
    assert gan.trainer is not None
    gan.trainer.load_state_dict(state)
    gan.fit(images, budget=Budget(300.0, clock=clock))
    assert gan.trainer.step == 596

    gan = timed(lambda step: 0.5, lr_decay=0.4)
    assert gan.trainer is not None
    gan.trainer.load_state_dict(state)
    with pytest.raises(ConfigError, match="596 steps, was fixed before, by a budget of 5m"):
        gan.fit(images, budget=Budget(600.0, clock=clock))


def test_a_longer_budget_for_what_was_not_fixed(timed: Callable[..., GAN], images: Any, clock: Clock) -> None:
    first = timed(lambda step: 0.5)
    first.fit(images, budget=Budget(100.0, clock=clock))
    assert first.trainer is not None
    state = first.trainer.state_dict()
    assert state["step"] == state["total_steps"] == 196
    gan = timed(lambda step: 0.5)
    assert gan.trainer is not None
    gan.trainer.load_state_dict(state)
    gan.fit(images, budget=Budget(200.0, clock=clock))
    assert gan.trainer.step == 396


def test_a_spent_budget(timed: Callable[..., GAN], images: Any, clock: Clock) -> None:
    state = stopped(timed(lambda step: 0.5), images, Budget(300.0, clock=clock), 200)
    gan = timed(lambda step: 0.5)
    assert gan.trainer is not None
    gan.trainer.load_state_dict(state)
    with pytest.raises(ConfigError, match="budget of 1m is spent: the training before took 1m40s"):
        gan.fit(images, budget=Budget(60.0, clock=clock))


def test_no_budget_for_what_was_begun_by_steps(timed: Callable[..., GAN], images: Any, clock: Clock) -> None:
    gan = timed(lambda step: 0.5, lr_decay=0.5)
    gan.fit(images, steps=3, total_steps=10)
    with pytest.raises(ConfigError, match="10 steps, was fixed before, by steps"):
        gan.fit(images, budget=Budget(60.0, clock=clock))
