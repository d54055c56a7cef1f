"""Box plots with inner and outer fences, as in figure 1 of sLCT."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from lct_pipeline.lazy import pd

if TYPE_CHECKING:
    import plotly.graph_objects as go

BLUE, GREEN, ORANGE, RED = "#4c78a8", "#54a24b", "#f58518", "#e45756"


def draw_box_plot(statistics: pd.DataFrame, title: str) -> Any:
    """Return one box per channel and one for all, with fences and extremes.

    Args:
        statistics: Rows of ``outlier_statistics``.
        title: What the values are.
    """
    import plotly.graph_objects as go

    channels = [_channel_name(name) for name in statistics["channel"]]
    figure = go.Figure()
    figure.add_trace(
        go.Box(
            x=channels,
            q1=statistics["q1"],
            median=statistics["median"],
            q3=statistics["q3"],
            lowerfence=statistics["inner_low"].clip(lower=statistics["minimum"]),
            upperfence=statistics["inner_high"].clip(upper=statistics["maximum"]),
            mean=statistics["mean"],
            name="quartiles",
            marker_color=BLUE,
        )
    )
    _add_marks(figure, channels, statistics, "inner", GREEN, "inner fence (1.5 IQR)")
    _add_marks(figure, channels, statistics, "outer", ORANGE, "outer fence (3 IQR)")
    _add_extremes(figure, channels, statistics)
    figure.update_layout(
        title=f"{title}<br><sub>{_summary(statistics.iloc[-1])}</sub>",
        xaxis_title="channel",
        yaxis_title="value",
        template="plotly_white",
        legend={"orientation": "h", "y": -0.2},
    )
    return figure


def _channel_name(name: str) -> str:
    return name if name == "all" else f"channel {name}"


def _add_marks(
    figure: go.Figure,
    channels: list[str],
    rows: pd.DataFrame,
    fence: str,
    color: str,
    label: str,
) -> None:
    marker = {
        "symbol": "line-ew-open",
        "size": 28,
        "color": color,
        "line": {"width": 2},
    }
    for side in ("low", "high"):
        figure.add_scatter(
            x=channels,
            y=rows[f"{fence}_{side}"],
            mode="markers",
            marker=marker,
            name=label,
            legendgroup=fence,
            showlegend=side == "low",
        )


def _add_extremes(figure: go.Figure, channels: list[str], rows: pd.DataFrame) -> None:
    for column in ("minimum", "maximum"):
        figure.add_scatter(
            x=channels,
            y=rows[column],
            mode="markers",
            marker={"color": RED, "size": 7},
            name="extremes",
            legendgroup="extremes",
            showlegend=column == "minimum",
        )


def _summary(row: pd.Series) -> str:
    return (
        f"{row.share_beyond_inner:.2%} beyond the inner fences "
        f"(Gaussian {row.gaussian_share_beyond_inner:.2%}), "
        f"{row.share_beyond_outer:.4%} beyond the outer "
        f"(Gaussian {row.gaussian_share_beyond_outer:.4%}), "
        f"excess kurtosis {row.excess_kurtosis:.2f}"
    )
