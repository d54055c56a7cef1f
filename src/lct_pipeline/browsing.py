"""A run in kedro-viz: with the parameters it was made with, and with its own record.

``kedro viz run`` shows what lies under the name that the default parameters give. Here the record
of a run says which environment and parameters name its files, and how its tasks ended.
"""

from __future__ import annotations

import inspect
import warnings
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from kedro.io import AbstractDataset, DataCatalog
from kedro.pipeline import Node, Pipeline
from kedro.utils import KedroExperimentalWarning

from lct_pipeline.datasets.atomic import ParquetDataset
from lct_pipeline.datasets.parquet_parts import ParquetPartsDataset
from lct_pipeline.errors import DataError
from lct_pipeline.runs.reading import Run, find_run, find_runs, parse_time

if TYPE_CHECKING:
    from fastapi import FastAPI
    from kedro_viz.models.flowchart.nodes import GraphNode

LAYERS = (  # in the order of the work; kedro-viz leaves open what comes first of two that are free
    "ingestion",
    "encoding",
    "training",
    "statistics",
    "cataloging",
    "references",
    "combination",
    "evaluation",
    "comparison",
    "report",
    "export",
)


def run_to_show(project: Path, name: str | None) -> Run:
    """Return the run of that name; without one, that which ran last.

    Raises:
        UserError: There is none, or it has no record: nobody knows its parameters.
    """
    if name is not None:
        run = find_run(project, name)
        if not run.records:
            raise DataError(f"{name} has no record: it did not run in this project.")
        return run
    recorded = [run for run in find_runs(project) if run.records]
    if not recorded:
        raise DataError("There is no run yet: `kedro run` makes one from nothing.")
    return recorded[0]


def load_run(run: Run) -> None:
    """Fill kedro-viz with the pipelines, and with the catalog as it was for the run."""
    from kedro_viz.data_access import data_access_manager
    from kedro_viz.integrations.kedro.data_loader import load_data
    from kedro_viz.models.metadata import NodeExtras
    from kedro_viz.server import populate_data

    catalog, pipelines, extras = load_data(
        run.project,
        env=run.last["env"],
        package_name=__package__,
        extra_params=run.last["parameters"],
    )
    for name, stats in _sizes(catalog).items():
        extras.setdefault(name, NodeExtras()).stats = stats
    told = {name: _with_descriptions(pipeline) for name, pipeline in pipelines.items()}
    populate_data(data_access_manager, catalog, told, extras)


def _sizes(catalog: DataCatalog) -> dict[str, dict[str, int]]:
    """Return bytes on disk of each dataset that is there, rows and columns of tables."""
    sizes = {}
    for name in catalog.keys():
        files = _files_of(catalog[name])
        if files:
            size = {"file_size": sum(file.stat().st_size for file in files)}
            sizes[name] = {**_shape(catalog[name], files), **size}
    return sizes


def _files_of(dataset: AbstractDataset) -> list[Path]:
    about = dataset._describe()
    where = about.get("filepath") or about.get("path")
    if where is None:
        return []
    path = Path(where)
    return (
        [path] if path.is_file() else sorted(f for f in path.rglob("*") if f.is_file())
    )


def _shape(dataset: AbstractDataset, files: list[Path]) -> dict[str, int]:
    from pyarrow.parquet import read_metadata

    if isinstance(dataset, ParquetDataset):
        files = files[-1:]  # the last version
    elif not isinstance(dataset, ParquetPartsDataset):
        return {}
    tables = [read_metadata(file) for file in files]
    return {
        "rows": sum(table.num_rows for table in tables),
        "columns": tables[-1].num_columns,
    }


def _with_descriptions(pipeline: Pipeline) -> Pipeline:
    """Return a pipeline to be drawn, whose tasks show the first sentence of their docstring."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", KedroExperimentalWarning)  # preview_fn
        return Pipeline([_with_description(node) for node in pipeline.nodes])


def _with_description(node: Node) -> Node:
    from kedro.pipeline.preview_contract import TextPreview

    summary = " ".join(
        (inspect.getdoc(node.func) or node.name).split("\n\n")[0].split()
    )
    return Node(
        node.func,
        node.inputs,
        node.outputs,
        name=node.name,
        tags=node.tags,
        preview_fn=lambda: TextPreview(summary),
    )


def graph(pipeline: str | None = None) -> Any:
    """Return what kedro-viz draws of a pipeline, its layers in the order of the work."""
    from kedro_viz.api.rest.responses.pipelines import (
        GraphAPIResponse,
        get_pipeline_response,
    )

    response = get_pipeline_response(pipeline)
    # no layers: kedro-viz found them to be in a circle
    if isinstance(response, GraphAPIResponse) and response.layers:
        drawn = {getattr(node, "layer", None) for node in response.nodes}
        response.layers = [layer for layer in LAYERS if layer in drawn]
    return response


def panel(run: Run, node: str) -> Any:
    """Return what kedro-viz tells of a node, paths relative to the project."""
    from kedro_viz.api.rest.responses.nodes import get_node_metadata_response

    response = get_node_metadata_response(node)
    path = Path(getattr(response, "filepath", None) or "")
    if path.is_relative_to(run.project):
        response.filepath = str(path.relative_to(run.project))
    return response


def run_status(run: Run) -> dict[str, Any]:
    """Return how the tasks of a run ended, as kedro-viz asks for it.

    Tasks are those of all sessions on the run; status and times those of the last.
    """
    from kedro_viz.data_access import data_access_manager
    from kedro_viz.models.flowchart.nodes import DataNode, TaskNode

    drawn = data_access_manager.nodes.as_list()
    seconds = {
        task["node"]: task["seconds"] for r in run.records for task in r["nodes"]
    }
    failed = run.last["status"] == "failed"
    return {
        "nodes": {
            node.id: {"duration": seconds[node.full_name], "status": "success"}
            for node in drawn
            if isinstance(node, TaskNode) and node.full_name in seconds
        },
        "datasets": {
            node.id: {"name": node.name, "size": _bytes(node), "status": "success"}
            for node in drawn
            if isinstance(node, DataNode) and _bytes(node)
        },
        "pipeline": {
            "run_id": run.name,
            "start_time": _iso(run.last["started"]),
            "end_time": _iso(run.last["ended"]),
            "duration": run.seconds,
            "status": "failed" if failed else "success",
            "error": {"message": run.last["error"]} if failed else None,
        },
    }


def _bytes(node: GraphNode) -> int:
    stats = node.node_extras and node.node_extras.stats
    return stats["file_size"] if stats else 0


def _iso(time: str | None) -> str | None:
    return parse_time(time).isoformat() if time else None


def app_of(run: Run) -> FastAPI:
    """Return the web application that shows a run; it asks no other machine for anything."""
    from fastapi import FastAPI
    from kedro_viz.api.apps import create_api_app_from_project
    from kedro_viz.api.rest.responses.version import get_static_version_response

    app = FastAPI(openapi_url=None)
    # kedro-viz would ask a package index for its newest version, with a timeout of 30 s
    app.get("/api/version")(get_static_version_response)
    app.get("/api/main")(graph)
    app.get("/api/pipelines/{pipeline}")(graph)
    app.get("/api/nodes/{node}")(lambda node: panel(run, node))
    app.get("/api/run-status")(lambda: run_status(Run(run.name, run.project)))
    app.mount("/", create_api_app_from_project(run.project))
    return app


def build_site(run: Run, folder: Path) -> None:
    """Write a static site of a run that was loaded, with its previews."""
    import fsspec
    from kedro_viz.integrations.deployment.base_deployer import BaseDeployer

    class FolderDeployer(BaseDeployer):
        def __init__(self) -> None:
            super().__init__()
            self._path, self._fs = folder, fsspec.filesystem("file")

        def _upload_api_responses(self, is_all_previews_enabled: bool) -> None:
            _write_responses(run, folder / "api")

    FolderDeployer().deploy(is_all_previews_enabled=True)


def _write_responses(run: Run, folder: Path) -> None:
    """Write what :func:`app_of` would answer, a file for each question."""
    from kedro_viz.api.rest.responses.utils import get_encoded_response
    from kedro_viz.api.rest.responses.version import get_static_version_response
    from kedro_viz.data_access import data_access_manager

    answers = {
        "main": graph,
        "version": get_static_version_response,
        "metadata": _metadata,
        "run-status": partial(run_status, run),
    }
    for name in data_access_manager.registered_pipelines.get_pipeline_ids():
        answers[f"pipelines/{name}"] = partial(graph, name)
    for name in data_access_manager.nodes.get_node_ids():
        answers[f"nodes/{name}"] = partial(panel, run, name)
    for name, answer in answers.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(get_encoded_response(answer()))


def _metadata() -> Any:
    from kedro_viz.api.rest.responses.metadata import MetadataAPIResponse
    from kedro_viz.api.rest.utils import get_package_compatibilities

    return MetadataAPIResponse(package_compatibilities=get_package_compatibilities())
