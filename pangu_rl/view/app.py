"""The addresses of the page: `/`, its `/assets/`, what the store keeps under `/media/<hash>`, the `/report` of a
curation, and `/api/` as JSON."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping
from importlib import resources
from typing import Any

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import FileResponse, PlainTextResponse, Response
from starlette.routing import Route

from pangu_rl.errors import ConfigError, RunError, UserError
from pangu_rl.view.access import WRITTEN_PAGE, Guard
from pangu_rl.view.curations import read_curation, report_of
from pangu_rl.view.group import read_group
from pangu_rl.view.media import kept_file
from pangu_rl.view.opened import Opened, Run
from pangu_rl.view.pairs import read_pairs
from pangu_rl.view.pipeline import read_pipeline
from pangu_rl.view.rollouts import SORTS, Asked, table
from pangu_rl.view.series import curves, rows_of
from pangu_rl.view.tokens import read_tokens

TYPES = {"html": "text/html", "css": "text/css", "js": "text/javascript", "svg": "image/svg+xml"}
Answer = Callable[[Opened, Mapping[str, str]], Any]


def make_app(opened: Opened, token: str, port: int) -> Guard:
    """The application, behind its guard."""
    assets = _assets()

    def page(request: Request) -> Response:
        return assets["index.html"]

    def asset(request: Request) -> Response:
        return assets.get(request.path_params["name"]) or _absent()

    def media(request: Request) -> Response:
        folders = [run.folder for run in opened.runs().values()]
        found = kept_file(folders, request.path_params["sha256"])
        return FileResponse(found[0], media_type=found[1]) if found else _absent()

    def report(request: Request) -> Response:
        folder = opened.curations().get(request.query_params.get("name", ""))
        found = report_of(folder) if folder else None
        own_policy = {"content-security-policy": WRITTEN_PAGE}
        return FileResponse(found, media_type="text/html", headers=own_policy) if found else _absent()

    routes = [Route("/", page), Route("/assets/{name}", asset), Route("/media/{sha256}", media)]
    routes += [Route("/report", report)]
    routes += [Route(f"/api/{name}", _endpoint(opened, answer)) for name, answer in ANSWERS.items()]
    return Guard(Starlette(routes=routes), token, port)


def _endpoint(opened: Opened, answer: Answer) -> Callable[[Request], Response]:
    def endpoint(request: Request) -> Response:
        try:
            return _json(answer(opened, request.query_params))
        except (UserError, RunError) as error:
            return _json({"error": str(error)}, 400)

    return endpoint


def _runs(opened: Opened, _: Mapping[str, str]) -> Any:
    return {
        "runs": [_run(run) for run in opened.runs().values()],
        "pipelines": list(opened.pipelines()),
        "curations": list(opened.curations()),
        "sorts": list(SORTS),
    }


def _run(run: Run) -> dict[str, Any]:
    rows = rows_of(run.folder)
    return {
        "name": run.name,
        "step": rows[-1]["step"] if rows else 0,
        "steps": (run.config.get("trainer") or {}).get("steps"),
        "age": run.age,
        "rollouts": run.has_rollouts,
        "pairs": run.pairs is not None,
    }


def _curves(opened: Opened, asked: Mapping[str, str]) -> Any:
    return curves({run.name: run.folder for run in _named(opened, asked)})


def _rollouts(opened: Opened, asked: Mapping[str, str]) -> Any:
    texts = {name: asked[name] for name in ("where", "search", "outcome", "sort") if asked.get(name)}
    folders = {run.name: run.folder for run in _named(opened, asked) if run.has_rollouts}
    return table(folders, Asked(**texts, page=_number(asked, "page")))


def _group(opened: Opened, asked: Mapping[str, str]) -> Any:
    return read_group(opened.run(asked.get("run", "")).folder, _number(asked, "step"), asked.get("group", ""))


def _tokens(opened: Opened, asked: Mapping[str, str]) -> Any:
    return read_tokens(opened.run(asked.get("run", "")), _number(asked, "step"), asked.get("uid", ""))


def _pairs(opened: Opened, asked: Mapping[str, str]) -> Any:
    return read_pairs(opened.run(asked.get("run", "")), _number(asked, "page"))


def _pipeline(opened: Opened, asked: Mapping[str, str]) -> Any:
    name, pipelines = asked.get("name", ""), opened.pipelines()
    if name not in pipelines:
        raise ConfigError(f"no pipeline {name[:80]!r} is open: {', '.join(pipelines) or 'none is'}")
    return read_pipeline(pipelines[name])


def _curations(opened: Opened, _: Mapping[str, str]) -> Any:
    return [{"name": name} | read_curation(folder) for name, folder in opened.curations().items()]


ANSWERS: Mapping[str, Answer] = {
    "runs": _runs,
    "curves": _curves,
    "rollouts": _rollouts,
    "group": _group,
    "tokens": _tokens,
    "pairs": _pairs,
    "pipeline": _pipeline,
    "curations": _curations,
}


def _named(opened: Opened, asked: Mapping[str, str]) -> list[Run]:
    """The runs that `asked` names, a line each; without, all."""
    names = asked.get("runs")
    return [opened.run(name) for name in names.split("\n")] if names else list(opened.runs().values())


def _number(asked: Mapping[str, str], name: str) -> int:
    text = asked.get(name, "0")
    if not text.isascii() or not text.isdigit() or len(text) > 15:
        raise ConfigError(f"{name} is {text[:40]!r}, and is to be a whole number")
    return int(text)


def _json(content: Any, status: int = 200) -> Response:
    return Response(json.dumps(_finite(content), allow_nan=False), status, media_type="application/json")


def _finite(content: Any) -> Any:
    """JSON has no other numbers; what a store or a file of someone else holds of them is null."""
    if isinstance(content, float):
        return content if math.isfinite(content) else None
    if isinstance(content, dict):
        return {name: _finite(value) for name, value in content.items()}
    return [_finite(value) for value in content] if isinstance(content, (list, tuple)) else content


def _absent() -> Response:
    return PlainTextResponse("not here\n", 404)


def _assets() -> dict[str, Response]:
    """All that the page is made of, by name; a request can ask for these alone."""
    files = [file for file in resources.files(__package__).joinpath("page").iterdir() if file.is_file()]
    return {file.name: Response(file.read_bytes(), media_type=TYPES[file.name.rpartition(".")[2]]) for file in files}
