"""Times calls that take turns."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from timeit import Timer
from typing import NamedTuple

import numpy as np


class Effort(NamedTuple):
    repeats: int = 7  # at least so many samples of each call
    seconds: float = 0.5  # and at least so many seconds of it
    limit: float = 20.0  # unless a task takes this long in all; then three samples are enough
    sample: float = 0.01  # a sample is as many calls in a row as take this many seconds


QUICK = Effort(repeats=3, seconds=0.02, limit=2.0, sample=0.002)


@dataclass
class Clock:
    """One call, its samples in seconds per call, and their total time."""

    call: Callable[[], object]
    batch: int = 1
    samples: list[float] = field(default_factory=list)
    wall: float = 0.0
    processor: float = 0.0

    def tick(self) -> None:
        """Takes a sample.  `timeit` switches garbage collection off, and drops each result before the next call."""
        processor, wall = time.process_time(), time.perf_counter()
        self.samples.append(Timer(self.call).timeit(self.batch) / self.batch)
        self.wall += time.perf_counter() - wall
        self.processor += time.process_time() - processor

    def wants_more(self, effort: Effort) -> bool:
        return len(self.samples) < effort.repeats or self.wall < effort.seconds

    @property
    def cores_used(self) -> float:
        """Processor time divided by wall time, which shows whether one thread was really one."""
        return self.processor / self.wall

    def percentiles(self) -> tuple[float, float, float]:
        """Median, 20th and 80th percentile, in seconds a call."""
        median, low, high = np.percentile(self.samples, (50, 20, 80))
        return float(median), float(low), float(high)


def in_turns(calls: dict[str, Callable[[], object]], effort: Effort) -> dict[str, Clock]:
    """Time calls in turns, after each was called once, until all have enough samples."""
    started = time.perf_counter()
    clocks = {name: started_clock(call, effort) for name, call in calls.items()}
    while waiting := [clock for clock in clocks.values() if clock.wants_more(effort)]:
        late = time.perf_counter() - started > effort.limit
        if late and all(len(clock.samples) >= min(3, effort.repeats) for clock in waiting):
            break
        for clock in waiting:
            clock.tick()
    return clocks


def started_clock(call: Callable[[], object], effort: Effort) -> Clock:
    """A clock whose batch of calls fills a sample.  If a single call does, it is already the first sample."""
    alone = Clock(call)
    alone.tick()
    batch = math.ceil(effort.sample / alone.samples[0])
    return alone if batch == 1 else Clock(call, batch)
