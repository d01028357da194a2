"""One line that says how much of a job is done. Floor 0.

    with Bar(desc="decoding", unit="sent", total=len(lines)) as bar:
        ...
        bar.update(64)

On a terminal and in a notebook the line is a bar of tqdm. Elsewhere it is repeated every half
minute, and with ``--log-json`` as JSON.
"""

import contextlib
import os
import sys
import threading
import time
import weakref
from collections.abc import Iterable, Iterator
from time import monotonic
from typing import Any

from tqdm import tqdm

from . import console

INTERVAL = 30.0  # seconds between two lines where there is no bar
TICK = 1.0  # seconds after which a bar is drawn anew although nothing has been counted

_open: list["weakref.ref[Bar]"] = []  # open jobs, each nested in the one before it


class Bar(tqdm):
    """What is done, its share, the rate, the time left, and facts such as the loss so far.

    Rate and time left are estimated without the time in which programs were compiled: it would make
    minutes look like hours. ``doing`` may name the present activity, such as validating. A nested
    job has no line of its own; the line of the outer job names it.
    """

    def __init__(
        self,
        iterable: Iterable[Any] | None = None,
        *,
        desc: str | None,
        unit: str = "step",
        total: int | None = None,
        initial: int = 0,
        wait: float = 0.0,
    ) -> None:
        """Begins a job.

        Args:
          iterable: what is iterated over, if the job is a loop.
          desc: what the job is; None to show nothing.
          unit: what is counted.
          total: how many there are; None if this is not known.
          initial: number done before this start; it counts for the share but not for the rate.
          wait: seconds after which the line first appears, for jobs that are usually short.
        """
        self.form = "none" if desc is None or _jobs() else console.progress_form()
        self.what, self.counted, self.wait, self.initial = desc or "", unit, wait, initial
        self.facts: dict[str, float] = {}
        self.doing = ""
        self._compiling: list[str] = []  # shapes of the programs that are being compiled
        self._compiled = 0.0  # seconds of finished compilations
        self._since = 0.0  # start of the running one
        self._began = self._said = self._counted_since = monotonic()
        self._over = threading.Event()
        super().__init__(
            iterable,
            desc=desc,
            unit=unit,
            total=total,
            initial=initial,
            disable=self.form != "bar",
            ncols=None if _width_is_known() else 80,
            dynamic_ncols=_width_is_known(),
            mininterval=0.5,
            miniters=1,
            smoothing=0,
            delay=wait,
        )
        if desc is None:
            return
        _open.append(weakref.ref(self))
        if self.form == "none":
            return
        if self.form == "json" and not wait:
            self._write()
        waiting = threading.Thread(
            target=_tick, args=(weakref.ref(self), self._over), name="progress", daemon=True
        )
        waiting.start()

    def __iter__(self) -> Iterator[Any]:
        with self:
            for item in self.iterable or ():
                yield item
                self.update()

    def update(self, n: float | None = 1) -> bool | None:
        """Counts ``n`` more as done."""
        if not self.disable:
            return super().update(n)
        self.n += n or 0
        return None

    def begin(self, done: int) -> None:
        """Sets how many are done; the rate is that of what this process does from now on."""
        if done != self.n:
            self.n = self.initial = done
            self._counted_since, self._compiled = monotonic(), 0.0

    def show(self, **facts: float) -> None:
        """Adds numbers to the line, such as the loss so far, or replaces them."""
        self.facts = self.facts | facts

    def close(self) -> None:
        """Ends the job; its line stays."""
        if self._over.is_set():
            return
        self._over.set()
        _open[:] = [ref for ref in _open if (bar := ref()) is not None and bar is not self]
        seen = monotonic() - self._began >= self.wait
        if self._said > self._began if self.form == "lines" else self.form == "json" and seen:
            self._write()
        super().close()

    @property
    def rate(self) -> float | None:
        """What is counted in a second, without compilation; None if that is not known yet."""
        now = monotonic()
        stopped = self._compiled + (now - self._since if self._compiling else 0.0)
        done, seconds = self.n - self.initial, now - self._counted_since - stopped
        return done / seconds if done > 0 and seconds > 0 else None

    @property
    def format_dict(self) -> Any:
        """What tqdm draws."""
        parts = dict(super().format_dict)
        status = self._status()
        told = ", ".join(filter(None, [status, self._told()]))
        parts |= {"rate": self.rate, "postfix": told}
        if self.total is None and not self.n:
            parts["bar_format"] = "{desc} [{elapsed}{postfix}]"
        elif status and self.total is not None:  # no room for a bar
            parts["bar_format"] = "{desc}: {percentage:3.0f}% [{elapsed}<{remaining}{postfix}]"
        return parts

    def tick(self) -> None:
        """Shows, from a thread of its own, that the job goes on, when it is time."""
        now = monotonic()
        if now - self._began < self.wait or self._over.is_set():
            return
        if self.form == "bar":
            self.last_print_t = time.time()  # tells tqdm that there is something to clear
            self.refresh()
        elif now - self._said >= INTERVAL:
            self._said = now
            self._write()

    def _pause(self, shapes: str) -> None:
        if not self._compiling:
            self._since = monotonic()
        self._compiling.append(shapes)

    def _resume(self, shapes: str) -> None:
        self._compiling.remove(shapes)
        if not self._compiling:
            self._compiled += monotonic() - self._since

    def _status(self) -> str:
        """Returns the present activity, if it is another than the one that is counted."""
        parts = [self.doing, *(part._brief() for part in _jobs()[1:] if self.form != "none")]
        parts += [f"compiling for {shapes}" for shapes in self._compiling[:1]]
        return ", ".join(filter(None, parts))

    def _brief(self) -> str:
        """Returns the name and the share of a nested job."""
        if monotonic() - self._began < self.wait:
            return ""
        return f"{self.what} {100 * self.n / self.total:.0f} %" if self.total else self.what

    def _told(self) -> str:
        return ", ".join(f"{name} {value:.4g}" for name, value in self.facts.items())

    def _write(self) -> None:
        """Writes a line, in words or as JSON."""
        rate, left = self.rate, None
        if rate and self.total is not None:
            left = (self.total - self.n) / rate
        seconds = monotonic() - self._began
        parts = [f"{self.n:,} {self.counted}s"] if self.n and self.total is None else []
        if self.total:
            share = f"{100 * self.n / self.total:.0f} %"
            parts = [f"{share} ({self.n:,} of {self.total:,} {self.counted}s)"]
        parts += [f"{_number(rate)} {self.counted}s/s"] if rate else []
        parts += [f"{tqdm.format_interval(left)} left"] if left else []
        parts += [f"{tqdm.format_interval(seconds)} so far", self._status(), self._told()]
        console.note(
            f"{self.what}: {', '.join(filter(None, parts))}",
            "progress",
            what=self.what,
            done=self.n,
            total=self.total,
            unit=self.counted,
            rate=rate,
            seconds=round(seconds, 1),
            seconds_left=left and round(left, 1),
            doing=self._status() or None,
            **self.facts,
        )


@contextlib.contextmanager
def compiling(shapes: str) -> Iterator[None]:
    """Says for which shapes a program is compiled, and stops the clocks of rates meanwhile."""
    began, jobs = monotonic(), _jobs()
    for bar in jobs:
        bar._pause(shapes)
    try:
        yield
    finally:
        for bar in jobs:
            bar._resume(shapes)
    if (seconds := monotonic() - began) >= 1:
        console.record("compiled", shapes=shapes, seconds=round(seconds, 1))


def _jobs() -> list[Bar]:
    """Returns the open jobs, the outermost first; jobs that were dropped unclosed are not open."""
    return [bar for ref in _open if (bar := ref()) is not None]


def _tick(ref: "weakref.ref[Bar]", over: threading.Event) -> None:
    while not over.wait(TICK):
        bar = ref()
        if bar is None:
            return
        bar.tick()
        del bar


def _width_is_known() -> bool:
    """Returns whether the terminal says how wide it is; in containers some say 0."""
    try:
        return os.get_terminal_size(sys.stderr.fileno()).columns > 0
    except (OSError, ValueError, AttributeError):
        return False


def _number(value: float) -> str:
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"
