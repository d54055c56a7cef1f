"""A run in kedro-viz: as a static site, in a real browser, and as a live server."""

import functools
import json
import shutil
import threading
from collections.abc import Iterator
from copy import deepcopy
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from fastapi.testclient import TestClient

from lct_pipeline.browsing import LAYERS, app_of, build_site, load_run, run_to_show
from lct_pipeline.config_loader import LctConfigLoader
from lct_pipeline.errors import UserError
from lct_pipeline.parameters import check_parameters
from lct_pipeline.pipeline_registry import register_pipelines
from lct_pipeline.runs.reading import Run
from lct_pipeline.settings import CONFIG_LOADER_ARGS

# kedro-viz's server calls it
pytestmark = pytest.mark.filterwarnings("ignore:ORJSONResponse is deprecated")

CONF = Path(__file__).parents[1] / "conf"
PIPELINES = register_pipelines()
BROWSERS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
NOT_FILES = {"image_source", "given_autoencoder", "given_reference"}
NOT_MADE = {"first_stage_checkpoints"}  # by a run that names none
WITHOUT_PREVIEW = {"report"}  # a whole page, with styles of its own

# what the panel holds once a preview of a kind is drawn, and how much of it
DRAWN = {
    "TablePreview": "document.querySelectorAll('.pipeline-metadata tbody td').length",
    "PlotlyPreview": "document.querySelectorAll("
    "'.pipeline-metadata .mlayer :is(path, image)').length",
    "ImagePreview": "document.querySelector('.pipeline-metadata img')?.naturalWidth ?? 0",
    "JSONPreview": "document.querySelector("
    "'.pipeline-metadata__preview-json')?.innerText.length ?? 0",
}
FRESH = "localStorage.setItem('KedroViz', JSON.stringify({showFeatureHints: false}))"


def datasets(names: set[str]) -> set[str]:
    return {name for name in names if not name.startswith("params:")}


@pytest.fixture(scope="module")
def catalog() -> dict[str, Any]:
    return LctConfigLoader(str(CONF), env="base", **CONFIG_LOADER_ARGS)["catalog"]


def layer_of(entry: dict[str, Any]) -> str:
    return entry["metadata"]["kedro-viz"]["layer"]


def test_every_dataset_has_a_layer(catalog: dict[str, Any]) -> None:
    found = {layer_of(e) for name, e in catalog.items() if not name.startswith("_")}
    assert found == set(LAYERS)


@pytest.mark.parametrize("name", PIPELINES)
def test_work_goes_from_a_layer_to_later_ones(
    name: str, catalog: dict[str, Any]
) -> None:
    """Against the order of the layers kedro-viz draws nothing at all."""
    for node in PIPELINES[name].nodes:
        of_inputs = [layer_of(catalog[n]) for n in datasets(set(node.inputs))]
        of_outputs = [layer_of(catalog[n]) for n in node.outputs]
        latest = max((LAYERS.index(layer) for layer in of_inputs), default=0)
        for layer in of_outputs:
            assert LAYERS.index(layer) >= latest, node.name


def test_styles_are_of_what_there_is() -> None:
    styles = json.loads((CONF.parent / ".viz" / "styles.json").read_text())
    used = {n for pipeline in PIPELINES.values() for n in pipeline.datasets()}
    assert styles.keys() <= used


@pytest.fixture(scope="module")
def shown(smoke_run: Path) -> Run:
    run = run_to_show(smoke_run, None)
    load_run(run)
    return run


@pytest.fixture(scope="module")
def site(shown: Run, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("viz") / "site"
    build_site(shown, folder)
    return folder


class Site:
    """What a static site answers."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def read(self, name: str) -> Any:
        return json.loads((self.folder / "api" / name).read_text())

    def nodes(self, kind: str, pipeline: str = "__default__") -> dict[str, Any]:
        """Return nodes of a pipeline by name: ``task``, ``data`` or ``parameters``."""
        nodes = self.read(f"pipelines/{pipeline}")["nodes"]
        return {node["name"]: node for node in nodes if node["type"] == kind}

    def panel(self, node: dict[str, Any]) -> Any:
        return self.read(f"nodes/{node['id']}")


@pytest.fixture(scope="module")
def built(site: Path) -> Site:
    return Site(site)


def test_the_last_run_is_shown(shown: Run, smoke_run: Path) -> None:
    assert shown.name == "tested"
    assert run_to_show(smoke_run, "tested") == shown


def test_a_run_that_is_not_there_is_refused(smoke_run: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no run 'other'"):
        run_to_show(smoke_run, "other")
    with pytest.raises(UserError, match="no run yet"):
        run_to_show(tmp_path, None)


def test_weights_without_a_record_are_refused(tmp_path: Path) -> None:
    folder = tmp_path / "data/06_models/foreign/checkpoints"
    folder.mkdir(parents=True)
    (folder / "step-0000001-raw.safetensors").touch()
    with pytest.raises(UserError, match="foreign has no record"):
        run_to_show(tmp_path, "foreign")
    with pytest.raises(UserError, match="no run yet"):
        run_to_show(tmp_path, None)


def test_recorded_parameters_replace_all_others(shown: Run) -> None:
    """Lists whole, and nothing where a recipe or the base says something."""
    recorded = deepcopy(shown.last["parameters"])
    recorded["run_id"] = None
    recorded["evaluation"]["posthoc_widths"] = [0.15]
    loader = LctConfigLoader(
        str(CONF), env="digits_ect", runtime_params=recorded, **CONFIG_LOADER_ARGS
    )
    found = check_parameters(loader["parameters"]).model_dump(mode="json")
    assert found == recorded


def test_all_pipelines_are_there_with_their_names(built: Site) -> None:
    assert [p["name"] for p in built.read("main")["pipelines"]] == list(PIPELINES)


@pytest.mark.parametrize("name", PIPELINES)
def test_layers_are_in_the_order_of_the_work(
    name: str, built: Site, catalog: dict[str, Any]
) -> None:
    found = built.read(f"pipelines/{name}")["layers"]
    used = {layer_of(catalog[n]) for n in datasets(PIPELINES[name].datasets())}
    assert found == [layer for layer in LAYERS if layer in used]


def test_files_are_those_of_the_run(built: Site, shown: Run) -> None:
    found = built.panel(built.nodes("data")["sample_grid"])
    assert found["filepath"] == "data/08_reporting/tested/sample_grid.png"
    size = (shown.project / found["filepath"]).stat().st_size
    assert found["stats"]["file_size"] == size


def test_tables_say_their_size(built: Site) -> None:
    found = built.panel(built.nodes("data")["evaluation_table"])
    assert found["stats"]["rows"] > 10
    assert found["stats"]["columns"] == len(found["preview"]["columns"])


def test_every_task_says_what_it_does(built: Site) -> None:
    for name, node in built.nodes("task").items():
        preview = built.panel(node)["preview"]
        assert preview["kind"] == "text"
        assert preview["content"].endswith("."), name
        assert "\n" not in preview["content"], name


def test_every_dataset_that_was_made_has_a_preview(built: Site) -> None:
    for name, node in built.nodes("data").items():
        found = built.panel(node)
        if name in NOT_FILES | NOT_MADE | WITHOUT_PREVIEW:
            assert not found["preview"], name
        else:
            assert found["preview"], name
            assert found["preview_type"] in DRAWN, name


def test_what_is_not_there_yet_has_no_preview(
    built: Site, caplog: pytest.LogCaptureFixture
) -> None:
    comparison = built.nodes("data", "compare")["comparison"]
    assert built.panel(comparison)["preview"] is None
    assert "could not be previewed" not in caplog.text


def test_the_status_is_that_of_the_run(built: Site, shown: Run) -> None:
    status = built.read("run-status")
    tasks = {node["id"] for node in built.nodes("task").values()}
    assert tasks <= status["nodes"].keys()
    sizes = {found["name"]: found["size"] for found in status["datasets"].values()}
    grid = shown.reporting / "sample_grid.png"
    assert sizes["sample_grid"] == grid.stat().st_size
    assert not sizes.keys() & (NOT_FILES | NOT_MADE)
    assert status["pipeline"]["run_id"] == "tested"
    assert status["pipeline"]["status"] == "success"
    assert status["pipeline"]["duration"] == shown.seconds


def test_a_run_leaves_no_note_of_kedro_viz(smoke_run: Path) -> None:
    """A partial run would overwrite it; the record of the run says the same."""
    assert not (smoke_run / ".viz").exists()


def test_the_server_answers_as_the_site_does(built: Site, shown: Run) -> None:
    with TestClient(app_of(shown)) as client:
        for name in ("main", "version", "run-status", "pipelines/train"):
            assert client.get(f"/api/{name}").json() == built.read(name), name
        assert client.get("/api/pipelines/unknown").status_code == 404
        for node in (built.nodes("data")["images"], built.nodes("task")["train_model"]):
            path = f"nodes/{node['id']}"
            assert client.get(f"/api/{path}").json() == built.read(path)
        assert "Kedro" in client.get("/").text


@pytest.fixture(scope="module")
def address(site: Path) -> Iterator[str]:
    class Handler(SimpleHTTPRequestHandler):
        def log_message(self, *_: Any) -> None:
            """Say nothing."""

    handler = functools.partial(Handler, directory=str(site))
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}/"
        server.shutdown()


@pytest.fixture(scope="module")
def page(address: str) -> Iterator[Any]:
    """Return the site's first page, drawn, in a browser that reaches this machine alone."""
    browser = next(filter(None, map(shutil.which, BROWSERS)), None)
    if browser is None:
        pytest.skip(
            "no browser: on Debian `apt-get install chromium`, as .ci/run does where it can"
        )
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        chromium = playwright.chromium.launch(
            executable_path=browser, args=["--no-sandbox", "--disable-gpu"]
        )
        page = chromium.new_page(viewport={"width": 1600, "height": 1000})
        page.route(lambda url: not url.startswith(address), lambda route: route.abort())
        page.add_init_script(FRESH)  # no tour
        page.goto(address)
        page.wait_for_selector(".pipeline-node")
        yield page
        chromium.close()


def texts(page: Any, selector: str) -> list[str]:
    return [text.strip() for text in page.locator(selector).all_text_contents()]


def test_each_pipeline_is_drawn_when_it_is_chosen(page: Any, built: Site) -> None:
    options = ".pipeline-list .menu-option"
    assert texts(page, options) == list(PIPELINES)
    for name in [*list(PIPELINES)[1:], "__default__"]:
        page.click(".pipeline-list .dropdown__label")
        page.locator(options).get_by_text(name, exact=True).click()
        graph = built.read(f"pipelines/{name}")
        drawn = [n["id"] for n in graph["nodes"] if n["type"] != "parameters"]
        page.wait_for_function(
            "ids => { const drawn = [...document.querySelectorAll('.pipeline-node')]"
            ".map(node => node.dataset.id).sort(); return drawn.join() === ids.join() }",
            arg=sorted(drawn),
        )
        page.wait_for_function(
            "names => [...document.querySelectorAll('.pipeline-layer-name')]"
            ".map(layer => layer.textContent).join() === names.join()",
            arg=graph["layers"],
        )


def to_be_seen(built: Site) -> dict[str, Any]:
    """Return the panels of all figures and grids, and of one table and one JSON, by name."""
    panels = {name: built.panel(node) for name, node in built.nodes("data").items()}
    kinds = {name: panel["preview_type"] for name, panel in panels.items()}
    chosen = {
        n for n, kind in kinds.items() if kind in ("PlotlyPreview", "ImagePreview")
    }
    others = {"evaluation_table", "checkpoints", "combination", "training_state"}
    return {n: panels[n] for n in sorted(chosen | others) if "previous" not in n}


def test_every_figure_and_each_kind_of_preview_is_drawn(page: Any, built: Site) -> None:
    seen = to_be_seen(built)
    assert {panel["preview_type"] for panel in seen.values()} == DRAWN.keys()
    nodes = built.nodes("data")
    for name, panel in seen.items():
        node = f".pipeline-node[data-id='{nodes[name]['id']}']"
        page.locator(node).dispatch_event("click")
        page.wait_for_function(
            f"name => document.querySelector('.pipeline-metadata__title')"
            f"?.textContent === name && ({DRAWN[panel['preview_type']]}) > 0",
            arg=name,
        )


def test_a_link_opens_the_preview_of_a_dataset(
    page: Any, address: str, built: Site
) -> None:
    node = built.nodes("data", "statistics")["latent_box_plot"]
    page.goto(f"{address}?pid=statistics&sid={node['id']}")
    page.wait_for_function(f"({DRAWN['PlotlyPreview']}) > 0")
    assert texts(page, ".pipeline-list .dropdown__label") == ["statistics"]
