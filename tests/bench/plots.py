"""The figures of the README."""

import statistics
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from bench.growth import Times
    from bench.peers import Rates

_WIDTH, _DPI = 8.0, 130
_BLUE, _ORANGE, _GREEN, _GREY = "#1f6fb4", "#d9730d", "#2f8f4e", "#8a8a8a"


def growth(all_times: "Sequence[Times]", file: Path) -> None:
    """What allocating, releasing and a full comparison cost, over the population."""
    figure, axes = _figure(4.6)
    x = [times.population for times in all_times]

    def line(name: str, rounds: Sequence[Sequence[float]], **style: Any) -> None:
        middle = [statistics.median(values) for values in rounds]
        axes.plot(x, middle, label=name, linewidth=1.8, markersize=6, **style)
        axes.fill_between(
            x,
            [min(values) for values in rounds],
            [max(values) for values in rounds],
            color=style["color"],
            alpha=0.15,
        )

    line("full comparison with dhcpd", [one.reconcile for one in all_times], marker="s", color=_GREEN)
    line(
        "as many bare OMAPI look-ups",
        [one.look_ups for one in all_times],
        marker="",
        color=_GREY,
        linestyle="--",
    )
    line("allocate one machine (p50)", [one.allocate for one in all_times], marker="o", color=_BLUE)
    line("release one machine (p50)", [one.release for one in all_times], marker="^", color=_ORANGE)
    axes.set_xscale("log")
    axes.set_yscale("log")
    axes.set_xticks(x, [f"{value:,}" for value in x])
    axes.minorticks_off()
    axes.yaxis.set_major_formatter(_plain)
    axes.set_xlabel("machines that exist")
    axes.set_ylabel("time (ms)")
    axes.grid(visible=True, which="major", color="#e4e4e4")
    axes.legend(frameon=False, loc="upper left")
    _save(figure, file)


def peers(rates: "Mapping[int, Mapping[str, Rates]]", file: Path) -> None:
    """How many machines per second each way adds and removes, with few and with many existing."""
    figure, axes = _figure(4.2)
    few, many = sorted(rates)
    names = list(rates[few])[::-1]
    for size, fill in ((few, "full"), (many, "none")):
        for what, marker, color, shift in (("add", "o", _BLUE, 0.12), ("remove", "^", _ORANGE, -0.12)):
            values = [statistics.median(rates[size][name].of(what)) for name in names]
            places = [index + shift for index in range(len(names))]
            axes.plot(
                values,
                places,
                linestyle="",
                marker=marker,
                markersize=7,
                color=color,
                fillstyle=fill,
                label=f"{what}, {size:,} exist",
            )
    axes.set_xscale("log")
    axes.xaxis.set_major_formatter(_plain)
    axes.xaxis.set_minor_formatter("")
    axes.set_yticks(range(len(names)), names)
    axes.set_ylim(-0.5, len(names) - 0.5)
    axes.set_xlabel("operations per second, one after the other")
    axes.grid(visible=True, axis="x", color="#e4e4e4")
    figure.legend(frameon=False, ncols=4, loc="outside upper center", columnspacing=1.2, handletextpad=0.3)
    _save(figure, file)


def _plain(value: float, _: object) -> str:
    """A tick without an exponent."""
    return f"{value:,g}"


def _figure(height: float) -> tuple[Any, Any]:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(_WIDTH, height), dpi=_DPI, layout="constrained")
    axes = figure.subplots()
    axes.spines[["top", "right"]].set_visible(False)
    axes.set_axisbelow(True)
    return figure, axes


def _save(figure: Any, file: Path) -> None:
    # Without the version of the program that drew it, the same numbers make the same file.
    figure.savefig(file, metadata={"Software": None})
