"""An Airflow of its own: its folder, its commands, and its scheduler on a free port."""

from __future__ import annotations

import json
import os
import secrets
import signal
import socket
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import Any

from conftest import ROOT

Answer = dict[str, Any]


class AirflowInstance:
    """Airflow with SQLite in a folder, for the DAGs of a project.

    Args:
        home: Its folder.
        dags: The exported DAGs.
    """

    def __init__(self, home: Path, dags: Path) -> None:
        self._bin = ROOT / ".venv-airflow" / "bin"
        self._home = home
        self._url = f"http://127.0.0.1:{free_port()}"
        self._token = ""
        self._processes: list[subprocess.Popen[bytes]] = []
        self._env = {**os.environ, **_settings(home, dags, self._url)}
        self.command("db", "migrate")

    def command(self, *words: str) -> str:
        """Run a command of Airflow and return all that it said."""
        done = subprocess.run(
            [str(self._bin / "airflow"), *words],
            env=self._env,
            cwd=self._home,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stdout[-6000:]
        return done.stdout

    def start(self) -> None:
        """Start the scheduler and what it needs, and wait until they answer."""
        for name in ("api-server", "dag-processor", "scheduler"):
            with (self._home / f"{name}.log").open("wb") as log:
                self._processes.append(
                    subprocess.Popen(
                        [str(self._bin / "airflow"), name],
                        env=self._env,
                        cwd=self._home,
                        stdout=log,
                        stderr=subprocess.STDOUT,
                        start_new_session=True,
                    )
                )
        wait_for(self._answers, "the API server", 180)
        self._token = self.ask("/auth/token")["access_token"]

    def _answers(self) -> bool:
        try:
            return bool(self.ask("/api/v2/monitor/health"))
        except urllib.error.URLError:
            return False

    def stop(self) -> None:
        """End all processes that were started."""
        for process in self._processes:
            os.killpg(process.pid, signal.SIGTERM)
        for process in self._processes:
            try:
                process.wait(30)
            except subprocess.TimeoutExpired:
                os.killpg(process.pid, signal.SIGKILL)
                process.wait()

    def ask(self, path: str, body: Answer | None = None, method: str = "GET") -> Answer:
        """Return what the API answers."""
        data = None if body is None else json.dumps(body).encode()
        headers = {"Content-Type": "application/json", "Accept": "application/json"}
        if self._token:
            headers["Authorization"] = f"Bearer {self._token}"
        request = urllib.request.Request(
            self._url + path, data=data, headers=headers, method=method
        )
        try:
            with urllib.request.urlopen(request, timeout=60) as response:
                return json.load(response)
        except urllib.error.HTTPError as error:
            raise AssertionError(f"{path}: {error.read().decode()[:2000]}") from error

    def knows(self, dag: str) -> bool:
        """Tell whether a DAG was read."""
        found = self.ask("/api/v2/dags?limit=100")["dags"]
        return dag in {entry["dag_id"] for entry in found}

    def unpause(self, dag: str) -> None:
        """Let a DAG start; one with a schedule starts at once."""
        self.ask(f"/api/v2/dags/{dag}", {"is_paused": False}, "PATCH")

    def trigger(self, dag: str, **conf: str) -> str:
        """Start a DAG by hand and return the name that Airflow gave."""
        body = {"logical_date": None, "conf": conf}
        return self.ask(f"/api/v2/dags/{dag}/dagRuns", body, "POST")["dag_run_id"]

    def runs(self, dag: str) -> list[Answer]:
        """Return all starts of a DAG."""
        return self.ask(f"/api/v2/dags/{dag}/dagRuns?limit=100")["dag_runs"]

    def states(self, dag: str, run: str) -> dict[str, str | None]:
        """Return the state of each task."""
        at = f"/api/v2/dags/{dag}/dagRuns/{run}/taskInstances?limit=100"
        return {t["task_id"]: t["state"] for t in self.ask(at)["task_instances"]}

    def finished(self, dag: str, run: str, timeout: int = 600) -> dict[str, str | None]:
        """Wait for the end of a start and return the state of each task."""
        at = f"/api/v2/dags/{dag}/dagRuns/{run}"
        wait_for(
            lambda: self.ask(at)["state"] in ("success", "failed"),
            f"{dag} {run}",
            timeout,
        )
        return self.states(dag, run)

    def clear(self, dag: str, run: str, task: str) -> None:
        """Clear a task and those after it."""
        self.ask(
            f"/api/v2/dags/{dag}/clearTaskInstances",
            {
                "dry_run": False,
                "dag_run_id": run,
                "task_ids": [task],
                "include_downstream": True,
                "only_failed": False,
            },
            "POST",
        )

    def log(self, dag: str, run: str, task: str) -> str:
        """Return the log of the first try of a task."""
        at = f"/api/v2/dags/{dag}/dagRuns/{run}/taskInstances/{task}/logs/1"
        return json.dumps(self.ask(at))


def _settings(home: Path, dags: Path, url: str) -> dict[str, str]:
    """Return Airflow's settings; the address stands in three places, or tasks do not find it."""
    values = {
        "CORE__LOAD_EXAMPLES": "False",
        "CORE__DAGS_FOLDER": str(dags),
        "CORE__PARALLELISM": "2",
        "CORE__EXECUTION_API_SERVER_URL": f"{url}/execution/",
        "CORE__SIMPLE_AUTH_MANAGER_ALL_ADMINS": "True",
        "API__HOST": "127.0.0.1",
        "API__PORT": url.rpartition(":")[2],
        "API__BASE_URL": url,
        "API__WORKERS": "1",
        "API__SECRET_KEY": secrets.token_hex(16),
        "API_AUTH__JWT_SECRET": secrets.token_hex(32),
        "SCHEDULER__ENABLE_HEALTH_CHECK": "False",
        "USAGE_DATA_COLLECTION__ENABLED": "False",
    }
    return {
        "AIRFLOW_HOME": str(home),
        **{f"AIRFLOW__{name}": value for name, value in values.items()},
    }


def free_port() -> int:
    with socket.socket() as at:
        at.bind(("127.0.0.1", 0))
        return at.getsockname()[1]


def wait_for(is_there: Callable[[], Any], what: str, timeout: int) -> None:
    """Wait until something is true."""
    end = time.monotonic() + timeout
    while not is_there():
        assert time.monotonic() < end, f"waited {timeout} s for {what}"
        time.sleep(0.5)
