"""Numbers and names as people write them."""

from __future__ import annotations

import math
from collections.abc import Sequence
from statistics import fmean, stdev

from lct_pipeline.core.metrics.paired import PairedGain

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
SHORT = {"fid": "FID", "kid": "KID", "inception_score": "Inception score"}


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


def with_spread(value: float | None, spread: float | None) -> str:
    """Return a mean with its spread: one significant digit of that, or two where the first is 1."""
    if value is None or spread is None or not 0 <= spread < math.inf:
        return number(value)
    if spread == 0:
        return f"{number(value)} ± 0"
    magnitude = math.floor(math.log10(spread))
    begins_with_1 = spread < 1.95 * 10**magnitude
    decimals = min(6, max(0, begins_with_1 - magnitude))
    return f"{value:,.{decimals}f} ± {spread:,.{decimals}f}".replace("-", MINUS)


def closer(gain: float) -> str:
    """Return a share by which a distance is smaller in words; a negative one is larger."""
    percent = 100 * abs(gain)
    size = f"{percent:.0f}%" if percent >= 1 else f"{percent:.1g}%"
    return (
        f"{size} closer to real images"
        if gain >= 0
        else f"{size} further from real images"
    )


def gain_headline(gain: PairedGain) -> str:
    """Return what may be said of a combination that is compared with a baseline."""
    size = closer(gain.share)
    return {
        "one seed": f"By one seed of noise the combination is {size}.",
        "none": "Combining checkpoints made no difference that can be told from none.",
        "loss": f"Combining checkpoints made it worse: {size}.",
        "gain": f"Combining checkpoints helped: {size}.",
    }[gain.outcome]


def gain_text(gain: PairedGain) -> str:
    """Return a paired difference in percent, with its standard error where that is known."""
    return with_spread(100 * gain.share, 100 * gain.standard_error) + " %"


def mean_text(values: Sequence[float]) -> str:
    """Return the mean of values of several seeds with their standard deviation."""
    return with_spread(fmean(values), stdev(values) if len(values) > 1 else None)


def share(value: float) -> str:
    """Return a share in percent."""
    percent = 100 * value
    return f"{number(percent, 2) if percent < 10 else f'{percent:.0f}'}%"


def in_sentence(title: str) -> str:
    """Return a title as it stands within a sentence."""
    return title[0].lower() + title[1:]


def large(count: int) -> str:
    """Return a count in words: 1.9 million, 0.84 million, 45,000."""
    if count < 100_000:
        return f"{count:,}"
    size, word = (1e9, "billion") if count >= 1e9 else (1e6, "million")
    return f"{number(count / size, 3 if count >= 10 * size else 2)} {word}"


def duration(seconds: float) -> str:
    """Return a time in the two largest of days, hours, minutes and seconds."""
    if seconds < 10:
        return f"{number(seconds, 2)} s"
    whole = round(seconds)
    parts = [
        (whole // 86_400, "d"),
        (whole // 3600 % 24, "h"),
        (whole // 60 % 60, "min"),
        (whole % 60, "s"),
    ]
    first = next(i for i, (count, _) in enumerate(parts) if count)
    return " ".join(f"{n} {unit}" for n, unit in parts[first : first + 2] if n)


def steps(nfe: int) -> str:
    """Return a number of evaluations of the network in words."""
    return "1 step" if nfe == 1 else f"{nfe} steps"


def metric_name(metric: str) -> str:
    """Return the name of a figure without its extractor; only FID is called FID."""
    if metric in SHORT:
        return SHORT[metric]
    base, infinity, _ = metric.partition("_infinity")
    for part, name in (
        ("frechet_distance", "Frechet distance"),
        ("kernel_distance", "Kernel distance"),
    ):
        if base.endswith(part):
            return f"{name}, infinitely many images" if infinity else name
    if infinity:
        return f"{metric_name(base)}, infinitely many images"
    if base.endswith("_score"):
        return "Class score"
    return metric.replace("_", " ").capitalize()


def extractor_name(extractor: str) -> str:
    """Return what made the features."""
    return EXTRACTORS.get(extractor, extractor)
