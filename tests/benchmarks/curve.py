"""Curves as a small SVG: no library, no script, readable in light and dark."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import ceil, log10

WIDTH, HEIGHT = 720, 170
NAMESPACE = 'xmlns="http://www.w3.org/2000/svg"'
FONT = 'font-family="sans-serif" font-size="11"'
LEFT, RIGHT, TOP, BOTTOM = 60, 16, 26, 26


@dataclass(frozen=True, slots=True)
class Line:
    name: str
    colour: str
    points: Sequence[tuple[float, float]]


@dataclass(frozen=True, slots=True)
class Panel:
    """Lines over one axis, from zero."""

    title: str
    lines: Sequence[Line]


def draw(panels: Sequence[Panel]) -> str:
    """Return the panels below each other, over the same x axis."""
    last = max(x for panel in panels for line in panel.lines for x, _ in line.points)
    drawn = [panel_svg(panel, at * HEIGHT, last) for at, panel in enumerate(panels)]
    height = HEIGHT * len(panels)
    return "\n".join(
        [
            f'<svg {NAMESPACE} viewBox="0 0 {WIDTH} {height}" {FONT}>',
            f'<rect width="{WIDTH}" height="{height}" fill="#fff"/>',
            *drawn,
            "</svg>\n",
        ]
    )


def panel_svg(panel: Panel, top: float, last: float) -> str:
    most = round_up(max(y for line in panel.lines for _, y in line.points))
    low, high = top + HEIGHT - BOTTOM, top + TOP

    def place(x: float, y: float) -> str:
        across = LEFT + (WIDTH - LEFT - RIGHT) * x / last
        return f"{across:.1f},{low - (low - high) * y / most:.1f}"

    parts = [text(LEFT, top + 16, panel.title, weight="bold")]
    for share in (0, 0.5, 1):
        y = low - (low - high) * share
        parts.append(f'<path d="M{LEFT} {y:.1f}H{WIDTH - RIGHT}" stroke="#ddd"/>')
        parts.append(text(LEFT - 6, y + 4, f"{most * share:,g}", anchor="end"))
    for share in (0, 0.5, 1):
        x = LEFT + (WIDTH - LEFT - RIGHT) * share
        parts.append(text(x, low + 15, f"{last * share:,.0f}", anchor="middle"))
    across = LEFT + 130.0
    for line in panel.lines:
        if not line.points:
            continue
        points = " ".join(place(x, y) for x, y in line.points)
        parts.append(
            f'<polyline points="{points}" fill="none" stroke="{line.colour}" stroke-width="1.6"/>'
        )
        parts.append(text(across, top + 16, line.name, colour=line.colour))
        across += 7 * len(line.name) + 16
    return "\n".join(parts)


def text(
    x: float, y: float, words: str, *, anchor: str = "start", weight: str = "", colour: str = "#444"
) -> str:
    bold = f' font-weight="{weight}"' if weight else ""
    place = f'x="{x:.0f}" y="{y:.0f}" text-anchor="{anchor}"'
    return f'<text {place} fill="{colour}"{bold}>{words}</text>'


def round_up(value: float) -> float:
    """Return the next number that is easy to read."""
    unit = 10 ** (ceil(log10(value)) - 1) if value > 0 else 1
    return float(ceil(value / unit) * unit)
