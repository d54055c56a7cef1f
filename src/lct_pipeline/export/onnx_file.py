"""The one-step generator as one ONNX file: unit noise in, images out."""

from __future__ import annotations

import warnings
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from lct_pipeline.core.samplers import guided
from lct_pipeline.errors import DataError, ParameterError
from lct_pipeline.export.latent_pipeline import LatentPipeline

MAX_BYTES = 1_900_000_000  # of weights inside the file; ONNX files hold 2 GiB
NEEDED = ("onnx", "onnxscript")


class OneStepGenerator(nn.Module):
    """Unit noise ``(B, C, H, W)``, and classes ``(B,)`` of a conditional model, to images.

    Images are float32 in [-1, 1], ``(B, 3, H, W)``: normalisation and autoencoder are inside.
    """

    def __init__(self, pipeline: LatentPipeline) -> None:
        super().__init__()
        self.denoiser = pipeline.denoiser
        self.decoder = pipeline.vae
        self.sigma_max = pipeline.scheduler.config.sigma_max
        self.guidance = pipeline.scheduler.config.guidance

    def forward(self, noise: Tensor, labels: Tensor | None = None) -> Tensor:
        """Return images."""
        null_class = self.denoiser.config.num_classes
        t = torch.full((noise.shape[0],), self.sigma_max, dtype=torch.float64)
        if labels is None:
            x = self.denoiser(self.sigma_max * noise, t)
        else:
            model = guided(self.denoiser, self.guidance, null_class=null_class)
            x = model(self.sigma_max * noise, t, labels)
        z = self.denoiser.denormalise(x)
        images = z if self.decoder is None else self.decoder.decode(z).sample
        return images.clamp(-1, 1)


def check_onnx(model: str) -> None:
    """Refuse what cannot be exported, before anything is done.

    Args:
        model: ``consistency`` or ``diffusion``.

    Raises:
        ParameterError: It is no model of one step.
        DataError: The packages are not installed.
    """
    if model != "consistency":
        raise ParameterError(
            "export.onnx=true: generator.onnx is one evaluation from noise to image, which a "
            "diffusion model is not good at. Give export.onnx=false."
        )
    missing = [name for name in NEEDED if find_spec(name) is None]
    if missing:
        raise DataError(
            f"export.onnx=true needs {' and '.join(missing)}: pip install 'lct_pipeline[onnx]'"
        )


def write_onnx(pipeline: LatentPipeline, path: Path) -> None:
    """Write the one-step generator of a model that :func:`check_onnx` took, for any batch size.

    Weights of more than 1.9 GB go to a file beside it, ``<name>.data``, which belongs to it.
    """
    module, config = OneStepGenerator(pipeline).eval(), pipeline.denoiser.config
    inputs = {"noise": torch.zeros(2, *config.sample_shape)}
    if config.num_classes:
        inputs["labels"] = torch.zeros(2, dtype=torch.int64)
    batch = torch.export.Dim("batch", min=1)
    num_bytes = sum(t.nbytes for t in module.state_dict().values())
    with warnings.catch_warnings(), torch.no_grad():
        warnings.simplefilter("ignore")  # of the exporter, about its own parts
        program = torch.onnx.export(
            module,
            tuple(inputs.values()),
            input_names=list(inputs),
            output_names=["images"],
            dynamic_shapes=tuple({0: batch} for _ in inputs),
            dynamo=True,
            verbose=False,
        )
    assert program is not None
    _forget_source(program.model)
    program.save(path, external_data=num_bytes > MAX_BYTES)


def _forget_source(model: Any) -> None:
    """Remove what the exporter notes of the source: paths of this machine, half of a small file."""
    from onnx_ir.traversal import RecursiveGraphIterator

    graph = model.graph
    nodes = list(RecursiveGraphIterator(graph))
    values = [value for node in nodes for value in node.outputs]
    for part in (model, graph, *graph.initializers.values(), *nodes, *values):
        part.metadata_props.clear()
        part.doc_string = None
