"""Numbers and names as people write them: the same in log, report, model card and lists of runs."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from statistics import fmean, stdev
from typing import Any

MINUS, TIMES, NONE = "\N{MINUS SIGN}", "\N{MULTIPLICATION SIGN}", "\N{EN DASH}"
MODELS = {
    "last": "Last checkpoint",
    "best_ema": "Best EMA",
    "combined": "Combination",
    "real_validation_images": "Real images",
    "reconstructed_test_images": "Autoencoder alone",
    "gaussian_latents": "No model",
    "real_test_images": "Real images",
}
METHODS = {
    "gradient": "gradient",
    "evolution": "evolutionary",
    "cma": "CMA-ES",
    "random": "random",
    "baseline": "baseline",
}
NETWORKS = {"mlp": "MLP", "unet": "U-Net", "dit": "DiT"}
EXTRACTORS = {
    "classifier": "a small classifier fitted to the training images",
    "check_rotation_classifier": "a second small classifier, of rotations, never searched on",
    "inception": "clean-fid's Inception",
    "inception_pytorch": "pytorch-fid's Inception",
    "dinov2": "DINOv2",
}
METRICS = {  # that an extractor's name may precede; only FID is called FID
    "fid": "FID",
    "kid": "KID",
    "inception_score": "Inception score",
    "frechet_distance": "Frechet distance",
    "kernel_distance": "Kernel distance",
    "score": "Class score",
}
INFINITY = "_infinity"
UNITS = {"d": 86_400, "h": 3600, "min": 60, "s": 1}


def number(value: float | None, digits: int = 3) -> str:
    """Return a number with so many significant digits; a dash for none."""
    if value is None or not math.isfinite(value):
        return NONE
    if value == 0:
        return "0"
    magnitude = math.floor(math.log10(abs(value)))
    if magnitude < -5:
        return f"{value:.1e}".replace("-", MINUS)
    return f"{value:,.{max(0, digits - 1 - magnitude)}f}".replace("-", MINUS)


def value_text(value: float | None, std: float | None = None) -> str:
    """Return a mean ± its standard deviation, of one digit, or two if it begins with 1."""
    if value is None or std is None or not 0 <= std < math.inf:
        return number(value)
    if std == 0:
        return f"{number(value)} ± 0"
    magnitude = math.floor(math.log10(std))
    begins_with_1 = std < 1.95 * 10**magnitude
    decimals = min(6, max(0, begins_with_1 - magnitude))
    return f"{value:,.{decimals}f} ± {std:,.{decimals}f}".replace("-", MINUS)


def mean_text(values: Sequence[float]) -> str:
    """Return the mean of values of several seeds ± their standard deviation."""
    return value_text(fmean(values), stdev(values) if len(values) > 1 else None)


def row_text(row: Any) -> str:
    """Return the value of an ``EvaluationRow``, or of a row of such a table.

    With it stands the standard deviation over seeds, or of one seed the standard error.
    """
    errors = [e for e in (row.std, row.standard_error) if e is not None and e >= 0]
    return value_text(row.value, *errors[:1])


def value_table(rows: Iterable[Any]) -> dict[str, dict[str, str]]:
    """Return the values of rows by model, and of a model by metric, both by their names."""
    texts: dict[str, dict[str, str]] = {}
    for row in rows:
        of_model = texts.setdefault(model_name(row.model, row.nfe), {})
        of_model[metric_name(row.metric)] = row_text(row)
    return texts


def model_name(model: str, nfe: int) -> str:
    """Return the name of a model with its number of evaluations; a control has none."""
    name = MODELS.get(model, model)
    return f"{name}, {steps(nfe)}" if nfe else name


def metric_name(metric: str) -> str:
    """Return the name of a metric where the extractor is known."""
    return _metric(metric)[0]


def metric_title(metric: str) -> str:
    """Return the name of a metric with that of its extractor."""
    name, extractor = _metric(metric)
    return f"{name} ({extractor})" if extractor else name


def _metric(metric: str) -> tuple[str, str]:
    """Return the names of a metric and of its extractor, which may be none."""
    base = metric.removesuffix(INFINITY)
    ends = (end for end in METRICS if f"_{base}".endswith(f"_{end}"))
    end = next(ends, base)
    name = METRICS.get(end, end.replace("_", " ").capitalize())
    if base != metric:
        name += ", infinitely many images"
    return name, base.removesuffix(end).replace("_", " ").strip()


def extractor_name(extractor: str) -> str:
    """Return what made the features."""
    return EXTRACTORS.get(extractor, extractor)


def share(value: float) -> str:
    """Return a share in percent."""
    percent = 100 * value
    return f"{number(percent, 2) if percent < 10 else f'{percent:.0f}'}%"


def in_sentence(title: str) -> str:
    """Return a title as it stands within a sentence."""
    return title[0].lower() + title[1:]


def duration(seconds: float) -> str:
    """Return a time in the two largest of days, hours, minutes and seconds."""
    if seconds < 10:
        return f"{number(seconds, 2)} s"
    left, parts = round(seconds), []
    for unit, size in UNITS.items():
        count, left = divmod(left, size)
        parts.append(f"{count} {unit}" if count else "")
    first = next(i for i, part in enumerate(parts) if part)
    return " ".join(filter(None, parts[first : first + 2]))


def steps(nfe: int) -> str:
    """Return a number of evaluations of the network in words."""
    return "1 step" if nfe == 1 else f"{nfe} steps"
