"""The governor's work over time as one SVG: level, lag and memory below each other. Pure."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from html import escape
from itertools import pairwise
from math import ceil, log10

WIDTH = 960
LEFT, RIGHT = 124, 24
TITLE, GAP, FOOT = 72, 40, 34
LEVEL_HEIGHT, LAG_HEIGHT, MEMORY_HEIGHT = 104, 190, 150
LEVELS = ("NORMAL", "SOFT", "GRACEFUL", "AGGRESSIVE", "CIRCUIT_BREAK")
LEVEL_COLOURS = ("#3f9e6b", "#e2b33c", "#e0863a", "#d2514a", "#8f2d56")
LINE_COLOURS = ("#2b6cb0", "#c05621", "#2f855a", "#805ad5", "#b83280", "#4a5568")
INK, QUIET, GRID, OPERATOR = "#1f2933", "#7b8794", "#e4e7eb", "#6b46c1"
NAMESPACE = "http://www.w3.org/2000/svg"
FONT = "font-family=\"system-ui, 'Segoe UI', Helvetica, Arial, sans-serif\""
STEPS_S = (1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1_800, 3_600, 7_200, 21_600, 86_400)
MOST_POINTS = 1_200

Point = tuple[float, float]
Place = Callable[[float], float]


@dataclass(frozen=True, slots=True)
class Series:
    """One line: (seconds since 1970, value); None breaks it."""

    name: str
    points: Sequence[tuple[float, float | None]]


@dataclass(frozen=True, slots=True)
class Span:
    """Something that held for a time."""

    start_s: float
    end_s: float
    text: str


@dataclass(frozen=True, slots=True)
class Story:
    """All that the picture shows. `levels` are (when, level), each until the next."""

    start_s: float
    end_s: float
    levels: Sequence[tuple[float, int]]
    lag: Sequence[Series]
    memory: Sequence[Series]
    lag_thresholds: Sequence[float] = ()
    memory_thresholds: Sequence[float] = ()
    overrides: Sequence[Span] = ()
    leaders: Sequence[tuple[float, str]] = field(default_factory=tuple)


def draw(story: Story) -> str:
    """Return the picture."""
    across = scale(story.start_s, story.end_s, LEFT, WIDTH - RIGHT)
    tops = (TITLE, TITLE + LEVEL_HEIGHT + GAP, TITLE + LEVEL_HEIGHT + LAG_HEIGHT + 2 * GAP)
    bottom = tops[2] + MEMORY_HEIGHT
    height = bottom + FOOT
    parts = [
        f'<svg xmlns="{NAMESPACE}" viewBox="0 0 {WIDTH} {height}" {FONT} font-size="12">',
        f'<rect width="{WIDTH}" height="{height}" rx="10" fill="#ffffff"/>',
        text(24, 30, "What the governor saw, and what it ordered", size=17, weight=600),
        text(WIDTH - RIGHT, 30, _when(story), anchor="end", colour=QUIET),
        *_bands(story, across, tops[1], bottom),
        *_time_axis(story, across, tops[0], bottom),
        *_level_panel(story, across, tops[0]),
        *_lag_panel(story, across, tops[1]),
        *_memory_panel(story, across, tops[2]),
        *_marks(story, across, tops[0], bottom),
        "</svg>\n",
    ]
    return "\n".join(parts)


def scale(low: float, high: float, start: float, end: float) -> Place:
    """Return where values between low and high stand between start and end."""
    span = (high - low) or 1.0
    return lambda value: start + (min(max(value, low), high) - low) / span * (end - start)


def _bands(story: Story, across: Place, top: float, bottom: float) -> Iterator[str]:
    """Tint the time of each level, so that cause and level are seen together."""
    for start_s, end_s, level in _held(story):
        if level:
            left, right = across(start_s), across(end_s)
            yield rect(left, top, right - left, bottom - top, LEVEL_COLOURS[level], opacity=0.09)


def _level_panel(story: Story, across: Place, top: float) -> Iterator[str]:
    yield heading(top, "Level")
    low = top + LEVEL_HEIGHT
    up = scale(0, len(LEVELS) - 1, low - 6, top + 12)
    for level, name in enumerate(LEVELS):
        colour = LEVEL_COLOURS[level]
        yield text(LEFT - 10, up(level) + 4, name.replace("_", " "), anchor="end", colour=colour)
        yield line(LEFT, up(level), WIDTH - RIGHT, up(level), GRID)
    for start_s, end_s, level in _held(story):
        left, right, y = across(start_s), across(end_s), up(level)
        yield rect(left, y, right - left, low - y, LEVEL_COLOURS[level], opacity=0.22)
        yield line(left, y, right, y, LEVEL_COLOURS[level], width=2.5)


def _lag_panel(story: Story, across: Place, top: float) -> Iterator[str]:
    """Draw lag by powers of ten: what matters spans a few of them."""
    yield heading(top, "Lag, records not decoded yet")
    yield from legend(top, story.lag)
    low = top + LAG_HEIGHT
    seen = [v for series in story.lag for _, v in series.points if v is not None]
    most = max([*seen, *story.lag_thresholds[:1], 10.0])
    decades = ceil(log10(most + 1))
    up = scale(0, decades, low, top + 10)
    for power in range(decades + 1):
        label = "0" if power == 0 else short(10.0**power)
        yield line(LEFT, up(power), WIDTH - RIGHT, up(power), GRID)
        yield text(LEFT - 10, up(power) + 4, label, anchor="end", colour=QUIET)
    yield from thresholds(story.lag_thresholds, lambda v: up(log10(v + 1)), most)
    for at, series in enumerate(story.lag):
        yield from curve(series, across, lambda v: up(log10(v + 1)), colour_of(at))


def _memory_panel(story: Story, across: Place, top: float) -> Iterator[str]:
    yield heading(top, "Memory, share of each process's limit")
    yield from legend(top, story.memory)
    low = top + MEMORY_HEIGHT
    up = scale(0, 1, low, top + 10)
    for share in (0.0, 0.25, 0.5, 0.75, 1.0):
        yield line(LEFT, up(share), WIDTH - RIGHT, up(share), GRID)
        yield text(LEFT - 10, up(share) + 4, f"{share:.0%}", anchor="end", colour=QUIET)
    seen = [v for series in story.memory for _, v in series.points if v is not None]
    yield from thresholds(story.memory_thresholds, up, max(seen, default=0.0) + 0.3)
    for at, series in enumerate(story.memory):
        yield from curve(series, across, up, colour_of(at))


def _marks(story: Story, across: Place, top: float, bottom: float) -> Iterator[str]:
    """Show when an operator had a say, and when another governor took over."""
    for span in story.overrides:
        left, right = across(span.start_s), across(span.end_s)
        yield rect(left, top + 2, max(right - left, 1), 5, OPERATOR, opacity=0.75)
        yield text(left, top - 3, f"operator: {span.text}", colour=OPERATOR, size=11)
    for at_s, name in story.leaders:
        x = across(at_s)
        yield line(x, top, x, bottom, QUIET, dashes="2 3")
        yield text(x + 4, bottom - 6, f"{name} leads", colour=QUIET, size=11)


def _time_axis(story: Story, across: Place, top: float, bottom: float) -> Iterator[str]:
    span_s = max(story.end_s - story.start_s, 1.0)
    step_s = next((step for step in STEPS_S if span_s / step <= 8), STEPS_S[-1])
    form = "%H:%M:%S" if step_s < 60 else "%H:%M" if step_s < 86_400 else "%d %b"
    at_s = ceil(story.start_s / step_s) * step_s
    while at_s <= story.end_s:
        x = across(at_s)
        yield line(x, top, x, bottom, GRID)
        moment = datetime.fromtimestamp(at_s, UTC)
        yield text(x, bottom + 18, f"{moment:{form}}", anchor="middle", colour=QUIET)
        at_s += step_s


def _held(story: Story) -> list[tuple[float, float, int]]:
    """Return from when to when each level held."""
    steps = [*story.levels, (story.end_s, 0)]
    return [(start, end, level) for (start, level), (end, _) in pairwise(steps) if end > start]


def _when(story: Story) -> str:
    start, end = (datetime.fromtimestamp(at, UTC) for at in (story.start_s, story.end_s))
    return f"{start:%Y-%m-%d %H:%M:%S} to {end:%H:%M:%S} UTC"


def heading(top: float, words: str) -> str:
    return text(24, top - 10, words, weight=600)


def legend(top: float, lines: Sequence[Series]) -> Iterator[str]:
    """Name the lines, from the right."""
    x = float(WIDTH - RIGHT)
    for at in range(len(lines) - 1, -1, -1):
        yield text(x, top - 10, lines[at].name, anchor="end", colour=colour_of(at), size=11)
        x -= 6.4 * len(lines[at].name) + 26
        yield line(x + 8, top - 14, x + 20, top - 14, colour_of(at), width=2.5)


def thresholds(values: Sequence[float], up: Place, most: float) -> Iterator[str]:
    """Draw from where each level holds, as far as the values come near."""
    for level, value in enumerate(values, start=1):
        if value <= most * 1.5:
            y, colour = up(value), LEVEL_COLOURS[level]
            yield line(LEFT, y, WIDTH - RIGHT, y, colour, dashes="5 4", opacity=0.7)
            name = LEVELS[level].replace("_", " ").lower()
            # Side by side, for some are close to each other.
            x = LEFT + 6 + (level - 1) % 2 * 66
            yield text(x, y - 3, name, colour=colour, size=10)


def curve(series: Series, across: Place, up: Place, colour: str) -> Iterator[str]:
    """Draw a line, broken where its value was not known."""
    run: list[str] = []
    for at_s, value in [*thinned(series.points), (0.0, None)]:
        if value is not None:
            run.append(f"{across(at_s):.1f},{up(value):.1f}")
        elif run:
            yield (
                f'<polyline points="{" ".join(run)}" fill="none" stroke="{colour}"'
                ' stroke-width="2" stroke-linejoin="round" stroke-linecap="round"/>'
            )
            run = []


def thinned(
    points: Sequence[tuple[float, float | None]],
) -> Sequence[tuple[float, float | None]]:
    """Keep as many points as can be seen, and the highest among those left out."""
    stride = ceil(len(points) / MOST_POINTS)
    if stride <= 1:
        return points
    chunks = (points[at : at + stride] for at in range(0, len(points), stride))
    return [max(chunk, key=lambda point: -1 if point[1] is None else point[1]) for chunk in chunks]


def colour_of(at: int) -> str:
    return LINE_COLOURS[at % len(LINE_COLOURS)]


def short(number: float) -> str:
    """Write 5,000,000 as 5 M."""
    for unit, size in (("G", 1e9), ("M", 1e6), ("K", 1e3)):
        if number >= size:
            return f"{number / size:g} {unit}"
    return f"{number:g}"


def text(
    x: float,
    y: float,
    words: str,
    *,
    anchor: str = "start",
    colour: str = INK,
    size: int = 12,
    weight: int = 400,
) -> str:
    place = f'x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}"'
    look = f'fill="{colour}" font-size="{size}" font-weight="{weight}"'
    return f"<text {place} {look}>{escape(words)}</text>"


def line(
    x1: float,
    y1: float,
    x2: float,
    y2: float,
    colour: str,
    *,
    width: float = 1,
    dashes: str = "",
    opacity: float = 1,
) -> str:
    dashed = f' stroke-dasharray="{dashes}"' if dashes else ""
    return (
        f'<path d="M{x1:.1f} {y1:.1f}L{x2:.1f} {y2:.1f}" stroke="{colour}"'
        f' stroke-width="{width:g}" opacity="{opacity:g}"{dashed}/>'
    )


def rect(
    x: float, y: float, width: float, height: float, colour: str, *, opacity: float = 1
) -> str:
    place = f'x="{x:.1f}" y="{y:.1f}" width="{width:.1f}" height="{height:.1f}"'
    return f'<rect {place} fill="{colour}" opacity="{opacity:g}"/>'
