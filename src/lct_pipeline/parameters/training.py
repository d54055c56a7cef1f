"""The parameters of the training stage: network, noise levels, objective, optimiser, averages."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated, Literal

from pydantic import Field, NonNegativeFloat, NonNegativeInt, PositiveFloat, PositiveInt

from lct_pipeline.parameters.types import (
    AtLeastTwo,
    Group,
    PositiveShare,
    Probability,
    Rate,
    RunName,
    Share,
    Text,
    Width,
)

Norm = Literal[
    "non_scaling_layer_norm",
    "layer_norm",
    "non_affine_layer_norm",
    "group_norm",
    "non_scaling_group_norm",
    "instance_norm",
    "non_scaling_instance_norm",
    "rms_norm",
]


class MLPSize(Group):
    """A residual MLP over the flattened latents."""

    width: int = Field(ge=16, multiple_of=4)
    """Width of the hidden layers."""
    num_blocks: PositiveInt
    """Residual blocks."""


class UNetSize(Group):
    """The paper's ADM U-Net."""

    width: int = Field(ge=16, multiple_of=16)
    """Channels of the first level."""
    multipliers: tuple[PositiveInt, ...] = Field(min_length=1)
    """Factor of the channels for each level; each level halves the side."""
    num_blocks: PositiveInt
    """Residual blocks of a level on the way down; one more on the way up."""
    attention_sizes: tuple[PositiveInt, ...]
    """Sides of the levels that have attention."""
    head_width: PositiveInt
    """Channels of an attention head."""


class DiTSize(Group):
    """The diffusion transformer; base is DiT-B/2."""

    patch_size: PositiveInt
    """Side of a patch, which is one token."""
    depth: PositiveInt
    """Number of blocks."""
    width: int = Field(ge=16, multiple_of=4)
    """Width of a token."""
    head_width: int = Field(ge=4, multiple_of=4)
    """Channels of an attention head."""
    positions: Literal["sinusoidal", "rotary"]
    """How tokens know their place. The authors' follow-up prefers rotary."""
    activation: Literal["gelu", "relu"]
    """Activation of the blocks' MLPs. The authors' follow-up prefers relu."""


class Network(Group):
    """The network that is trained, and the size of each kind."""

    kind: Literal["mlp", "unet", "dit"]
    """mlp: latents up to some hundreds of values; unet or dit: larger ones."""
    norm: Norm
    """non_scaling_layer_norm is sLCT's, without a learned scale; non_affine_layer_norm is DiT's;
    the others are of sLCT's ablation."""
    dropout: Probability
    """Share of activations set to 0; the paper's run with 0.2 collapsed."""
    conditional: bool
    """Whether the network takes class labels, which ingestion.labels finds."""
    label_dropout: Probability
    """Share of labels that training hides, for classifier-free guidance."""
    mlp: MLPSize
    unet: UNetSize
    dit: DiTSize


class ContinuousLevels(Group):
    """r = t (1 - q^-(stage + 1) (1 + k sigmoid(-b t))), with ECT's k = 8 and b = 1."""

    q: Annotated[float, Field(gt=1)]
    """How much nearer r comes to t with each stage; ECT has 2 for CIFAR-10."""
    num_stages: PositiveInt
    """Stages, of as many steps each."""


class Noise(Group):
    """The noise levels, the curriculum and the distribution of levels."""

    schedule: Literal["index", "continuous"]
    """index: iCT's grid and N(k); continuous: ECT's map from t to r."""
    sigma_min: PositiveFloat
    """Least noise level, EDM's."""
    sigma_max: PositiveFloat
    """Where sampling starts, EDM's."""
    sigma_data: PositiveFloat
    """Standard deviation to which latents are normalised."""
    rho: PositiveFloat
    """Exponent of the grid; above 1 it is finer at small levels; EDM's."""
    s0: PositiveInt
    """Intervals of the grid in the first stage: N(k) doubles from s0 to s1."""
    s1: PositiveInt
    """Intervals in the last stage, at most; paper: 640. In a run of minutes finer grids only got
    worse."""
    continuous: ContinuousLevels
    P_mean: float
    """Log-normal distribution of levels (iCT): mean of ln sigma."""
    P_std: PositiveFloat
    """Standard deviation of ln sigma."""

    def faults(self) -> Iterator[str]:
        """Levels and stages increase."""
        if self.sigma_min >= self.sigma_max:
            yield "sigma_min must be below sigma_max"
        if self.s1 < self.s0:
            yield "s1 must be at least s0"


class Truncation(Group):
    """Truncated consistency training (TCM): the second stage on t >= level."""

    level: PositiveFloat
    """t': the least noise level that is trained; 1 is TCM's."""


class Objective(Group):
    """The training objective, and the techniques of sLCT that act on it, each with its switch."""

    kind: Literal["consistency", "diffusion", "distillation", "truncated"]
    """consistency (sLCT, iCT), diffusion (EDM), distillation, truncated (TCM)."""
    loss: Literal["cauchy", "pseudo_huber", "geman_mcclure", "l2"]
    """Robust loss of the temporal difference: cauchy is sLCT's, pseudo_huber iCT's."""
    c_schedule: Literal["paper", "fitted", "constant"]
    """Scale of the loss. paper: the authors' law; fitted: the same law, measured; constant:
    iCT's."""
    residual: Literal["mean", "sum"]
    """How the temporal difference of a sample is reduced. mean: the mean of squares over a sample
    (sLCT's code); sum: as iCT derived its c."""
    diffusion_weight: NonNegativeFloat
    """Weight of the diffusion loss at small noise; 0 switches it off."""
    diffusion_threshold: Share
    """Share of the grid, from sigma_max down, without the diffusion loss: with 0.75 it acts on
    levels below 0.17."""
    coupling: Literal["independent", "batch", "process"]
    """Coupling of latents and noise. batch: optimal transport over the batch; process: over each
    process's part; independent: none."""
    truncation: Truncation


class Optimizer(Group):
    """How weights follow gradients."""

    name: Literal["radam", "adamw"]
    """Optimiser; radam is iCT's and sLCT's."""
    learning_rate: PositiveFloat
    """Learning rate, constant; paper: 1e-4 for 158 M parameters; small networks learn faster with
    more."""
    weight_decay: NonNegativeFloat
    """Pull of all weights towards 0; paper: 1e-4."""
    warmup_steps: NonNegativeInt
    """Steps in which the learning rate grows linearly from 0."""
    clip_norm: PositiveFloat | None
    """Largest norm of a gradient; the paper's code does not clip."""


class InitFrom(Group):
    """A finished run whose weights are the start, the teacher or the frozen first stage."""

    run: RunName | None
    """Name of the run, a folder of data/06_models; distillation and truncated need one."""
    checkpoint: Text | None
    """Checkpoint of that run; null: the last average of the first EMA."""


class EMA(Group):
    """The averages of the weights that are kept beside them."""

    rates: tuple[Rate, ...]
    """Decay of each average by step; paper: 0.99993 at 294,000 steps."""
    sigma_rels: tuple[Width, ...]
    """Relative widths of power-function averages (EDM2), from which any other can be made
    afterwards."""
    snapshot_interval: PositiveInt
    """Steps between stored power-function averages."""

    def faults(self) -> Iterator[str]:
        """Later stages need an average."""
        if not self.rates and not self.sigma_rels:
            yield "give at least one rate or width"


class Training(Group):
    """Training of one model. The paper's values, where they differ, stand behind each text."""

    num_steps: PositiveInt
    """Steps of the optimiser; paper: 294,000 for CelebA-HQ."""
    batch_size: AtLeastTwo
    """Samples of a step, over all processes; paper: 128, LSUN Church 256."""
    precision: Literal["float32", "bfloat16"]
    """Precision of the network. bfloat16: of matrix products; norms, levels and losses stay
    float32."""
    resample_posterior: bool
    """Whether a latent is drawn from its posterior anew each time; paper: one fixed sample per
    image."""
    init_from: InitFrom
    network: Network
    noise: Noise
    objective: Objective
    optimizer: Optimizer
    ema: EMA
    checkpoint_interval: PositiveInt
    """Steps between raw checkpoints."""
    checkpoint_window: PositiveShare
    """Share of the steps, at the end, whose raw checkpoints are kept; those at the end of a stage
    always are."""
    metrics_interval: PositiveInt
    """Steps between rows of training_metrics."""
    seed: NonNegativeInt
    """Seed of weights, order of samples, noise, levels and dropout."""

    def faults(self) -> Iterator[str]:
        """Each objective has its needs."""
        kind, noise = self.objective.kind, self.noise
        if kind in ("distillation", "truncated") and self.init_from.run is None:
            yield (
                f"objective.kind={kind} starts from a finished run: give its name as "
                "training.init_from.run (a folder of data/06_models)"
            )
        if kind == "diffusion" and self.objective.coupling != "independent":
            yield (
                "objective.kind=diffusion needs objective.coupling=independent: with coupled noise "
                "the network would not learn the mean of what was noised"
            )
        if kind == "distillation" and noise.schedule == "continuous":
            yield "objective.kind=distillation steps along the grid: noise.schedule=index"
        if kind == "truncated" and self.batch_size < 4:
            yield "objective.kind=truncated has a quarter of a batch at t': batch_size of 4 or more"
        level = self.objective.truncation.level
        if kind == "truncated" and not noise.sigma_min < level < noise.sigma_max:
            yield "objective.truncation.level must be between sigma_min and sigma_max"
