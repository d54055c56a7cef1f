from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from conftest import SmokeResults
from lct_pipeline.pipelines.splits import indices_of


@pytest.mark.parametrize(
    ("table", "store", "name", "manifest"),
    [
        ("pixel_statistics", "images", "images", "image_manifest"),
        ("latent_statistics", "latents", "mean", "latent_manifest"),
    ],
)
def test_statistics_are_those_of_the_training_split(
    results: SmokeResults, table: str, store: str, name: str, manifest: str
) -> None:
    catalog = results.catalog
    indices = indices_of(catalog.load(manifest), "train")
    values = catalog.load(store).gather(name, indices).double().numpy()
    rows = catalog.load(table).set_index("channel")
    for channel in (*map(str, range(values.shape[1])), "all"):
        flat = (values if channel == "all" else values[:, int(channel)]).ravel()
        row = rows.loc[channel]
        q1, median, q3 = np.percentile(flat, [25, 50, 75], method="inverted_cdf")
        step = 2.1 * (values.max() - values.min()) / 65535
        assert row["q1"] == pytest.approx(q1, abs=step)
        assert row["median"] == pytest.approx(median, abs=step)
        assert row["inner_high"] == pytest.approx(q3 + 1.5 * (q3 - q1), abs=6 * step)
        assert row["excess_kurtosis"] == pytest.approx(stats.kurtosis(flat), abs=1e-6)
        beyond = (flat < row["inner_low"]) | (flat > row["inner_high"])
        assert row["share_beyond_inner"] == pytest.approx(beyond.mean(), abs=1e-12)


def test_box_plots_show_what_the_tables_say(results: SmokeResults) -> None:
    figure = results.catalog.load("latent_box_plot")
    table = results.catalog.load("latent_statistics")
    assert list(figure.data[0].median) == pytest.approx(table["median"].tolist())
