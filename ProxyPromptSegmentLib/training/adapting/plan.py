"""How many steps and variants the time allows: decided once, from the first steps on this machine."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence

from ProxyPromptSegmentLib.training.adapting.settings import AdaptSettings
from ProxyPromptSegmentLib.training.adapting.stage import Stage
from ProxyPromptSegmentLib.training.adapting.state import Found, Plan
from ProxyPromptSegmentLib.wording import duration

LEAST_STEPS, MOST_STEPS = 10, 600
VARIANT_SHARE, LEAST_VARIANTS, MOST_VARIANTS = 0.15, 2, 8  # share of the time for embedding variants
RESERVE = 0.08  # of the time, for reading, writing and what else the machine does
TIMED = 3  # steps of each kind that are timed
TIMING_SHARE = 0.05  # of the time, after which no further step is timed
TOLERANCE = 0.3  # share by which a time that was given or reported may be exceeded without a word
NOTABLE_SECONDS = 60.0  # by which it takes longer than reported, below which nobody is disturbed
SEEN = 0.1  # share of what was planned, after which its pace is compared with the plan
STEP_EMBEDDINGS, TEST_EMBEDDINGS = 50, 5
"""A step and a test of a case in embeddings of a slice, where the image encoder of a compact model learns too: 53 and 5
on one core, with four fundus images and one object. They serve for a first estimate alone."""


def time_steps(stage: Stage, clock: Callable[[], float] = time.monotonic) -> float:
    """Return the seconds of a step on average; the stage is used up.

    Steps that take minutes, on official weights without a graphics card, are not timed at the cost of the training.

    Args:
        stage: A training of a copy of the model.
        clock: Returns the time in seconds.
    """
    every, begin = stage.settings.others_every, clock()
    end = begin + TIMING_SHARE * 60 * stage.settings.minutes

    def timed(number: int) -> float:
        stage.step, before = number, clock()
        stage.advance()
        return clock() - before

    first = timed(every)  # with the other losses, which are dearer; it includes the warm-up of the machine
    if clock() >= end:
        return first
    with_others = timed(every)
    without: list[float] = []
    while len(without) < TIMED and clock() < end:
        without.append(timed(every + 1 + len(without)))
    mean = sum(without) / len(without) if without else with_others
    return (with_others + (every - 1) * mean) / every


class Promise:
    """The time that was given, or that the user was informed of last."""

    def __init__(self, settings: AdaptSettings) -> None:
        """Begin with the time that was given; a number of steps promises none."""
        self._settings, self._informed = settings, False
        self._begin = (0.0, 0.0)
        self.seconds = 60 * settings.minutes if settings.steps is None else float("inf")

    def at_once(self, embed: float, trainings: int, tests: int, spent: float) -> str:
        """Return a sentence if not even the fewest steps fit into the time, by the first embeddings; "" otherwise.

        Args:
            embed: Seconds of embedding a slice.
            trainings: Number of trainings.
            tests: How often a case is tested, before and after.
            spent: Seconds so far.
        """
        needed = spent + embed * (trainings * LEAST_STEPS * STEP_EMBEDDINGS + tests * TEST_EMBEDDINGS)
        if not self._broken_by(needed):
            return ""
        return (
            f"{_not_enough(self._settings)} as fast as this machine is now: the fewest steps that are "
            f"made, {LEAST_STEPS} of each training, take about {duration(needed)}. A better estimate follows."
        )

    def planned(self, plan: Plan, spent: float, left: float) -> str:
        """Return a sentence if what was planned takes longer than the time, see `too_long`; "" if that is known.

        Args:
            plan: The plan.
            spent: Seconds so far.
            left: Seconds that the rest takes by the plan.
        """
        self._begin, needed = (spent, left), spent + left
        known = self._informed and needed <= (1 + TOLERANCE) * self.seconds
        said = "" if known else too_long(self._settings, plan, needed)
        self._informed |= bool(said)
        if self._settings.steps is None:
            self.seconds = max(60 * self._settings.minutes, needed)
        return said

    def later(self, spent: float, left: float) -> str:
        """Return a sentence if what was done since the plan shows that it takes clearly longer; "" otherwise.

        Args:
            spent: Seconds so far.
            left: Seconds that the rest takes by the plan, which knows nothing of what slows the machine down since.
        """
        then, planned = self._begin
        done = planned - left
        if done < SEEN * planned:
            return ""
        needed = spent + left * max(1.0, (spent - then) / max(1e-9, done))
        if needed <= self.seconds + NOTABLE_SECONDS:
            return ""
        if not self._broken_by(needed):
            return ""
        return f"It takes longer than estimated, since this machine is slower now: {duration(needed)} in all."

    def _broken_by(self, needed: float) -> bool:
        if needed <= (1 + TOLERANCE) * self.seconds:
            return False
        self.seconds, self._informed = needed, True
        return True


def _not_enough(settings: AdaptSettings) -> str:
    return f"{settings.minutes:g} min {'is' if settings.minutes == 1 else 'are'} not enough"


def too_long(settings: AdaptSettings, plan: Plan, needed: float) -> str:
    """Return a sentence for the user if the least that is trained takes longer than the time given; "" otherwise.

    Args:
        settings: The settings.
        plan: The plan.
        needed: Estimated seconds of everything.
    """
    if settings.steps is not None or needed <= 60 * settings.minutes:
        return ""
    variants = f" and {plan.variants} variants of each slice" if plan.variants else ""
    return (
        f"{_not_enough(settings)}: with {plan.steps} steps of each training{variants}, the fewest that "
        f"are made, it takes about {duration(needed)}."
    )


def make_plan(
    settings: AdaptSettings,
    spent: float,
    sheets: int,
    most_variants: int,
    mirror: bool,
    trainings: int,
    tests: int,
    seconds: tuple[float, float, float],
) -> Plan:
    """Decide on steps and variants; the fewest are made even if the time is too short for them, see `too_long`.

    Args:
        settings: The settings, which may have decided already.
        spent: Seconds that were used so far.
        sheets: Number of sheets.
        most_variants: Variants of each sheet that fit into memory.
        mirror: Whether variants may be mirrored.
        trainings: Number of trainings, folds and the last one.
        tests: How often a case is tested after the trainings.
        seconds: Of a step, of embedding a variant, of testing a case.
    """
    step, embed, test = seconds
    left = max(0.0, 60 * settings.minutes * (1 - RESERVE) - spent - tests * test)
    variants = settings.variants
    if variants is None:
        wanted = int(VARIANT_SHARE * left / max(1e-9, embed * sheets))
        variants = min(max(wanted, LEAST_VARIANTS), MOST_VARIANTS, most_variants)
    left -= variants * sheets * embed
    steps = settings.steps
    if steps is None:
        steps = min(max(int(left / trainings / max(1e-9, step)), LEAST_STEPS), MOST_STEPS)
    return Plan(
        steps=steps,
        variants=variants,
        mirror=mirror,
        step_seconds=step,
        embed_seconds=embed,
        score_seconds=test,
    )


def seconds_left(
    found: Found,
    folds: Sequence[Sequence[int]],
    shares: int,
    where: tuple[str, int, int],
    training: bool,
    pace: float,
) -> float | None:
    """Estimate the seconds that an adaptation still takes; None before its plan.

    Args:
        found: What was found so far.
        folds: The cases of each fold.
        shares: Number of shares of the way that each case is tested with.
        where: The stage, and how much of it is done of how much.
        training: Whether the stage is a training.
        pace: Seconds of the latest steps; 0 if there are none.
    """
    plan, (stage, done, total) = found.plan, where
    if plan is None:
        return None
    untested = sum(str(case) not in found.after for fold in folds for case in fold)
    seconds = untested * shares * plan.score_seconds
    trained = sum(all(str(case) in found.after for case in fold) for fold in folds)
    steps = (len(folds) + 1 - trained) * plan.steps
    if training:
        steps -= done
    elif stage.startswith("testing fold"):
        steps -= plan.steps
    if stage == "embedding variants":
        seconds += (total - done) * plan.embed_seconds
    return seconds + steps * (pace or plan.step_seconds)
