"""Order of the ingestion stage."""

from kedro.pipeline import Node, Pipeline

from lct_pipeline.pipelines.ingestion.nodes import build_image_manifest, ingest_images

PARAMETERS = ["params:ingestion", "params:runtime"]


def create_pipeline() -> Pipeline:
    """Return the nodes from a source to images and their manifest."""
    return Pipeline(
        [
            Node(
                ingest_images,
                inputs=["image_source", "previous_images", *PARAMETERS],
                outputs="images",
                name="ingest_images",
            ),
            Node(
                build_image_manifest,
                inputs=["images", "params:ingestion"],
                outputs=["image_manifest", "ingestion_record"],
                name="build_image_manifest",
            ),
        ]
    )
