"""``kedro lct next-run``: what a scheduler asks before it starts a pipeline."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from kedro.framework.project import pipelines
from kedro.framework.session import KedroSession

from lct_pipeline.datasets.run_records import read_records
from lct_pipeline.errors import ParameterError
from lct_pipeline.parameters import check_parameters
from lct_pipeline.runs.commands.options import parsed
from lct_pipeline.runs.record import content_digests, from_outside
from lct_pipeline.runs.schedule import PastRun, Start, decide, slug, unless_unchanged

if TYPE_CHECKING:
    from lct_pipeline.runs.schedule import Decision

NOTHING_TO_DO = 99  # the exit code by which Airflow's BashOperator skips what follows


@click.command("next-run")
@click.option("--pipeline", default="__default__", help="The pipeline that is to run.")
@click.option(
    "--run-id", "name", required=True, help="Name of this start: a new run gets it."
)
@click.option("--env", "-e", default=None, help="The recipe: a folder of conf/.")
@click.option(
    "--params", default="", help="As of kedro run; run_id there names the run."
)
@click.option(
    "--plain", is_flag=True, help="Print --params for kedro run alone, no JSON."
)
@click.pass_obj
def next_run(
    metadata: Any, pipeline: str, name: str, env: str | None, params: str, plain: bool
) -> None:
    """Say which run a scheduled pipeline goes to, as a line of JSON.

    A run with the same parameters on the same images is continued; where it is finished, there is
    nothing to do, and the exit code is 99. Changed images or parameters make a new run.
    """
    start, decision = _decide(Path(metadata.project_path), pipeline, name, env, params)
    click.echo(decision.reason[0].upper() + decision.reason[1:], err=True)
    if not (plain and decision.nothing_to_do):
        given = _params_for(decision, params)
        click.echo(given if plain else json.dumps(_answer(start, decision, given)))
    if decision.nothing_to_do:
        raise SystemExit(NOTHING_TO_DO)


def _params_for(decision: Decision, params: str) -> str:
    """Return what ``kedro run --params`` is to be given."""
    first = decision.continues
    added = [f"run_id={decision.run_id}"]
    if first:
        added.append(f"training.init_from.run={first}")
    return ",".join([*filter(None, [params.strip(" ,")]), *added])


def _answer(start: Start, decision: Decision, params: str) -> dict[str, Any]:
    return {
        "run_id": decision.run_id,
        "params": params,
        "schedule": {  # goes into the records of the run
            "scheduled_as": start.scheduled_as,
            "images": start.images,
            "continues": decision.continues,
            "reason": decision.reason,
        },
    }


def _decide(
    project: Path, pipeline: str, name: str, env: str | None, params: str
) -> tuple[Start, Decision]:
    slug(name)  # refuses an empty one
    values = parsed(params)
    context = _context(project, env, values)
    chosen = _pipeline(pipeline)
    start = Start(
        pipeline=pipeline,
        nodes=frozenset(node.name for node in chosen.nodes),
        groups=_groups(chosen),
        parameters=_parameters(context),
        images=_fingerprint(context, chosen),
        scheduled_as=name,
    )
    runs = {run.name: run for run in read_past_runs(project)}
    decision = decide(start, runs.values())
    if not start.trains:
        catalog = _context(project, env, {**values, "run_id": decision.run_id}).catalog
        digests = content_digests(catalog, from_outside(chosen))
        decision = unless_unchanged(decision, runs[decision.run_id], start, digests)
    return start, decision


def _context(project: Path, env: str | None, values: dict[str, Any]) -> Any:
    session = KedroSession.create(project_path=project, env=env, runtime_params=values)
    return session.load_context()


def _pipeline(name: str) -> Any:

    if name not in pipelines:
        known = ", ".join(sorted(pipelines))
        raise ParameterError(
            f"--pipeline={name}: no such pipeline; there are: {known}."
        )
    return pipelines[name]


def _fingerprint(context: Any, pipeline: Any) -> str | None:
    """Return that of the images; None for a pipeline that reads none from outside."""
    if "image_source" not in pipeline.inputs():
        return None
    return context.catalog.load("image_source").fingerprint


def _groups(pipeline: Any) -> tuple[str, ...]:
    """Return the groups of parameters on which a pipeline's results depend."""
    given = (
        n.removeprefix("params:") for n in pipeline.inputs() if n.startswith("params:")
    )
    return tuple(sorted({key.partition(".")[0] for key in given} - {"runtime"}))


def _parameters(context: Any) -> dict[str, Any]:
    checked = check_parameters(context.config_loader["parameters"])
    return checked.model_dump(mode="json")


def read_past_runs(project: Path) -> list[PastRun]:
    """Return all runs of a project that have a record."""
    runs = []
    for folder in sorted((project / "data" / "08_reporting").glob("*/records")):
        name = folder.parent.name
        models = project / "data" / "06_models" / name
        records = tuple(read_records(folder))
        if records:
            runs.append(
                PastRun(
                    name=name,
                    records=records,
                    has_weights=any((models / "checkpoints").glob("*.safetensors")),
                    is_indexed=(models / "checkpoint_index.parquet").exists(),
                )
            )
    return runs
