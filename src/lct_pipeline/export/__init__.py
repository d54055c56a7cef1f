"""A trained model as a folder that diffusers alone can load, and as one ONNX file.

``latent_denoiser``, ``latent_scheduler`` and ``latent_pipeline`` are what such a folder runs:
:mod:`~lct_pipeline.export.single_file` makes one file of each and of all that it uses of this
project.
"""
