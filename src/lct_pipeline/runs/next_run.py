"""``kedro lct next-run``: what a scheduler asks before it starts a pipeline."""

from __future__ import annotations

import json
from copy import copy
from itertools import chain
from pathlib import Path
from typing import Any

import click
from kedro.framework.cli.project import run as kedro_run
from kedro.framework.project import pipelines
from kedro.framework.session import KedroSession

from lct_pipeline.errors import ParameterError, one_message
from lct_pipeline.parameters import given
from lct_pipeline.runs.reading import find_runs
from lct_pipeline.runs.record import content_digests, from_outside
from lct_pipeline.runs.schedule import Decision, Start, decide, slug, unless_unchanged

NOTHING_TO_DO = 99  # the exit code by which Airflow's BashOperator skips what follows

ORIGINAL = next(option for option in kedro_run.params if option.name == "params")


def parsed(_: click.Context, __: click.Parameter, value: Any) -> Any:
    """Return ``--params`` as typed: see ``parameters.given``."""
    with one_message():
        return given.parsed(value) if isinstance(value, str) else value


PARAMS = copy(ORIGINAL)
PARAMS.callback = parsed


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
@click.pass_context
def next_run(
    ctx: click.Context,
    pipeline: str,
    name: str,
    env: str | None,
    params: str,
    plain: bool,
) -> None:
    """Say which run a scheduled pipeline goes to, as a line of JSON.

    A run with the same parameters on the same images is continued; where it is finished, there is
    nothing to do, and the exit code is 99. Changed images or parameters make a new run.
    """
    slug(name)  # refuses an empty one
    values = given.parsed(params)
    start, decision = _decide(ctx.obj.project_path, env, values, pipeline, name)
    click.echo(decision.reason[0].upper() + decision.reason[1:], err=True)
    if not (plain and decision.nothing_to_do):
        text = _params_for(decision, params)
        click.echo(text if plain else json.dumps(_answer(start, decision, text)))
    if decision.nothing_to_do:
        raise SystemExit(NOTHING_TO_DO)


def _params_for(decision: Decision, params: str) -> str:
    """Return what ``kedro run --params`` is to be given."""
    added = [params.strip(" ,"), f"run_id={decision.run_id}"]
    if decision.continues:
        added.append(f"training.init_from.run={decision.continues}")
    return ",".join(filter(None, added))


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
    project: Path, env: str | None, params: dict[str, Any], title: str, name: str
) -> tuple[Start, Decision]:
    """Return a start of the pipeline ``title`` called ``name``, and where it goes."""

    def context(**more: Any) -> Any:
        given = {**params, **more}
        session = KedroSession.create(project, env=env, runtime_params=given)
        return session.load_context()

    if title not in pipelines:
        known = ", ".join(sorted(pipelines))
        raise ParameterError(
            f"--pipeline={title}: no such pipeline; there are: {known}."
        )
    pipeline, first = pipelines[title], context()
    images = None
    if "image_source" in pipeline.inputs():
        images = first.catalog.load("image_source").fingerprint
    start = Start(
        pipeline=title,
        nodes=frozenset(node.name for node in pipeline.nodes),
        groups=_groups(pipeline),
        parameters=first.config_loader.checked.model_dump(mode="json"),
        images=images,
        scheduled_as=name,
    )
    runs = {run.name: run for run in find_runs(Path(project))}
    for problem in chain.from_iterable(run.problems for run in runs.values()):
        click.echo(f"Left out: {problem}", err=True)
    decision = decide(start, runs.values())
    if not start.trains:
        catalog = context(run_id=decision.run_id).catalog
        digests = content_digests(catalog, from_outside(pipeline))
        decision = unless_unchanged(decision, runs[decision.run_id], start, digests)
    return start, decision


def _groups(pipeline: Any) -> tuple[str, ...]:
    """Return the groups of parameters on which a pipeline's results depend."""
    given = {name for name in pipeline.inputs() if name.startswith("params:")}
    groups = {name.removeprefix("params:").partition(".")[0] for name in given}
    return tuple(sorted(groups - {"runtime"}))
