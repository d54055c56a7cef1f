"""``kedro lct next-run``: what a scheduler asks before it starts a pipeline."""

from __future__ import annotations

import json
from copy import copy
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click
from kedro.framework.cli.project import run as kedro_run
from kedro.framework.project import pipelines, settings
from kedro.framework.session import KedroSession

from lct_pipeline.errors import ParameterError, one_message
from lct_pipeline.parameters import Parameters, check_parameters, given, outside_values
from lct_pipeline.plain_text import printable
from lct_pipeline.runs.reading import find_runs, tell_problems
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
    "--always",
    default="",
    help="Parameters of every start, of conf/airflow/airflow.yml: files and code that these name "
    "are as good as named in the recipe.",
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
    always: str,
    plain: bool,
) -> None:
    """Say which run a scheduled pipeline goes to, as a line of JSON.

    A run with the same parameters on the same images is continued; where it is finished, there is
    nothing to do, and the exit code is 99. Changed images or parameters make a new run. Who may
    start a schedule may not choose files and code: --params takes those that conf/ names alone.
    """
    slug(name)  # refuses an empty one
    settled = Settled(Path(ctx.obj.project_path), env, given.parsed(always))
    params = ",".join(filter(None, (text.strip(" ,") for text in (always, params))))
    start, decision = _decide(settled, given.parsed(params), pipeline, name)
    reason = decision.reason[0].upper() + decision.reason[1:]
    click.echo(printable(reason), err=True)
    if not (plain and decision.nothing_to_do):
        text = params_for(decision, params)
        click.echo(text if plain else json.dumps(_answer(start, decision, text)))
    if decision.nothing_to_do:
        raise SystemExit(NOTHING_TO_DO)


def params_for(decision: Decision, params: str) -> str:
    """Return what ``kedro run --params`` is to be given."""
    added = [params, f"run_id={decision.run_id}"]
    if decision.continues:
        added.append(f"training.init_from.run={decision.continues}")
    text = ",".join(filter(None, added))
    if given.parsed(text).get("run_id") != decision.run_id:
        raise ParameterError(f"--params={params!r}: a bracket in it is left open.")
    return text


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


@dataclass(frozen=True)
class Settled:
    """What a schedule settles for all of its starts: project, recipe and parameters."""

    project: Path
    env: str | None
    params: dict[str, Any]

    def context(self, params: dict[str, Any]) -> Any:
        """Return Kedro's context with the parameters of a start."""
        session = KedroSession.create(self.project, env=self.env, runtime_params=params)
        return session.load_context()

    def check(self, parameters: Parameters) -> None:
        """Refuse files and code that neither ``conf/`` nor the schedule names.

        Raises:
            ParameterError: A start names another.
        """
        source, options = settings.CONF_SOURCE, settings.CONFIG_LOADER_ARGS
        conf = settings.CONFIG_LOADER_CLASS(
            str(self.project / source), self.env, runtime_params=self.params, **options
        )
        named = check_parameters(conf["parameters"] | {"run_id": "any"})
        allowed = outside_values(named).values()
        for key, value in outside_values(parameters).items():
            if value not in allowed:
                raise ParameterError(
                    f"{key}={value!r}: a start may not choose a file, or code to run. Name it in "
                    "conf/<recipe>/parameters.yml, or for all starts in conf/airflow/airflow.yml."
                )


def _decide(
    settled: Settled, params: dict[str, Any], title: str, name: str
) -> tuple[Start, Decision]:
    """Return a start of the pipeline ``title`` called ``name``, and where it goes."""
    if title not in pipelines:
        known = ", ".join(sorted(pipelines))
        raise ParameterError(
            f"--pipeline={title}: no such pipeline; there are: {known}."
        )
    pipeline, first = pipelines[title], settled.context(params)
    parameters = first.config_loader.checked
    settled.check(parameters)
    images = None
    if "image_source" in pipeline.inputs():
        images = first.catalog.load("image_source").fingerprint
    start = Start(
        pipeline=title,
        nodes=frozenset(node.name for node in pipeline.nodes),
        groups=_groups(pipeline),
        parameters=parameters.model_dump(mode="json"),
        images=images,
        scheduled_as=name,
    )
    runs = {run.name: run for run in find_runs(settled.project)}
    tell_problems(runs.values())
    decision = decide(start, runs.values())
    if not start.trains:
        catalog = settled.context(params | {"run_id": decision.run_id}).catalog
        digests = content_digests(catalog, from_outside(pipeline))
        decision = unless_unchanged(decision, runs[decision.run_id], start, digests)
    return start, decision


def _groups(pipeline: Any) -> tuple[str, ...]:
    """Return the groups of parameters on which a pipeline's results depend."""
    given = {name for name in pipeline.inputs() if name.startswith("params:")}
    groups = {name.removeprefix("params:").partition(".")[0] for name in given}
    return tuple(sorted(groups - {"runtime"}))
