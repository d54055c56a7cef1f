"""Weights that others published: files of known content, which nothing else is read for.

One of them is TorchScript, which is code, and each decides what a metric means. So a file is read
once, and its digest is of the very bytes that are loaded: whoever else may write to its folder.
"""

from __future__ import annotations

import hashlib
from pathlib import Path

import torch

from lct_pipeline.errors import DataError
from lct_pipeline.given_files import regular_file

INCEPTION_FILE = "inception-2015-12-05.pt"  # TorchScript, 95 MB
PYTORCH_FILE = "pt_inception-2015-12-05-6726825d.pth"  # state dict, 95 MB
ALEXNET_FILE = "alexnet-owt-7be5be79.pth"  # state dict, 244 MB
# SHA-256. The first is pinned by k-diffusion (k_diffusion/evaluation.py), which downloads the file
# from the address that clean-fid has; the others begin with the digits in their names, as torch hub
# names files
SHA256 = {
    INCEPTION_FILE: "f58cb9b6ec323ed63459aa4fb441fe750cfe39fafad6da5cb504a16f19e958f4",
    PYTORCH_FILE: "6726825d0af5f729cebd5821db510b11b1cfad8faad88a03f1befd49fb9129b2",
    ALEXNET_FILE: "7be5be791159472b1fbf3c69796f7cb30dca7ad8466c2df70058c37116cdee02",
}


def published_file(given: str | None, name: str) -> Path:
    """Return where a file of ``SHA256`` is to be: it need not be there.

    Args:
        given: The file or its folder; None is torch hub's folder of checkpoints, which lies in the
            user's cache.
        name: Of the file.
    """
    if given is None:
        return Path(torch.hub.get_dir(), "checkpoints", name)
    path = Path(given)
    return path / name if path.is_dir() else path


def read_published(path: Path, name: str) -> bytes:
    """Return the content of a file of ``SHA256``.

    Raises:
        DataError: It is not a regular file, or has another content.
    """
    content = regular_file(path).read_bytes()
    digest = hashlib.sha256(content).hexdigest()
    if digest != SHA256[name]:
        raise DataError(
            f"{path} is not the published {name}: its SHA-256 is {digest}, and not {SHA256[name]}. "
            "It is damaged, cut short or another file, and is not loaded: fetch it again."
        )
    return content
