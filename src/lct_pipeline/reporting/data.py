"""The data of a run: images, splits, outliers, and what the autoencoder leaves of it."""

from __future__ import annotations

from typing import Any

from lct_pipeline.reporting import charts, tables
from lct_pipeline.reporting.results import Results, is_there
from lct_pipeline.reporting.words import MINUS, number

MAX_CHANNELS = 12
DIFFERENCE = f"f(x_t, t) {MINUS} f(x_r, r)"


def data_view(results: Results) -> dict[str, Any]:
    """Return what the template shows of the data."""
    boxes, shares, gaussian = [], {}, 0.0
    for title, table in (
        ("Pixels", results.pixel_statistics),
        ("Latents", results.latent_statistics),
    ):
        if table is None or table.empty:
            continue
        shown = table if len(table) <= MAX_CHANNELS else table.tail(1)
        labels = [str(channel) for channel in shown["channel"]]
        boxes.append(charts.box_chart(shown, labels, "channel", "value", title))
        shares[title.lower()] = float(table.iloc[-1]["share_beyond_outer"])
        gaussian = float(table.iloc[-1]["gaussian_share_beyond_outer"])
    return {
        "splits": _splits(results),
        "problems": _problems(results),
        "reconstruction": _reconstruction(results.reconstruction_quality),
        "boxes": boxes,
        "tails": tables.outlier_table(
            results.pixel_statistics, results.latent_statistics
        ),
        "tail_sentence": tables.tails_sentence(shares, gaussian),
        **_temporal_differences(results),
    }


def _temporal_differences(results: Results) -> dict[str, Any]:
    td = results.td_statistics
    if td is None or td.empty:
        return {"td_charts": [], "td_table": None, "td_sentence": ""}
    found = []
    if is_there(results.td_summary):
        found.append(charts.spread_chart(results.td_summary))
    for num_levels, rows in td.groupby("num_levels"):
        labels = [number(t, 2) for t in rows["t"]]
        title = f"Temporal differences, N = {num_levels}"
        found.append(charts.box_chart(rows, labels, "noise level t", DIFFERENCE, title))
    last = td[td["num_levels"] == td["num_levels"].max()]
    weights = last["weight"] / last["weight"].sum()
    outer = float((weights * last["share_beyond_outer"]).sum())
    gaussian = float(last["gaussian_share_beyond_outer"].iloc[0])
    shares = {"temporal differences at the end of training": outer}
    sentence = tables.tails_sentence(shares, gaussian)
    return {
        "td_charts": found,
        "td_table": tables.td_table(td),
        "td_sentence": sentence,
    }


def _splits(results: Results) -> list[tuple[str, int]]:
    found = {} if results.ingestion is None else results.ingestion["splits"]
    return sorted(found.items(), key=lambda split: -split[1])


def _problems(results: Results) -> list[tuple[str, int]]:
    """Return why images could not be used, with how many; and copies."""
    if results.ingestion is None:
        return []
    copies = results.ingestion["num_copies"]
    return [
        *results.ingestion["problems"].items(),
        *([("exact copy of another image", copies)] if copies else []),
    ]


def _reconstruction(quality: dict[str, Any] | None) -> str:
    if quality is None:
        return ""
    if quality["exact"]:
        return "The model works on the pixels: nothing is lost by an autoencoder."
    lpips = "" if quality["lpips"] is None else f", LPIPS {number(quality['lpips'])}"
    return (
        f"The autoencoder gives {quality['num_images']:,} images of the validation split back with "
        f"{number(quality['psnr_db'])} dB PSNR{lpips}: samples cannot be sharper than that."
    )
