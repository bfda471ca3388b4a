"""The routes: completions of every provider, and the control endpoint that shows what was seen and changes the play."""

from __future__ import annotations

from http import HTTPStatus

import msgspec
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from assay.simulate.answers import error
from assay.simulate.behaviour import Behaviour, changed
from assay.simulate.stage import Stage


def application(stage: Stage) -> Starlette:
    """Everything that one process answers."""

    async def providers(_request: Request) -> Response:
        return json(stage.providers)

    async def change(request: Request) -> Response:
        name = request.path_params["provider"]
        try:
            stage.providers[name] = changed(
                stage.behaviour(name) or Behaviour(), await request.body()
            )
        except ValueError as fault:
            return json(error(HTTPStatus.BAD_REQUEST, str(fault)), HTTPStatus.BAD_REQUEST)
        return json(stage.providers[name])

    async def requests(request: Request) -> Response:
        return json(stage.book.of(request.query_params.get("provider")))

    async def forget(_request: Request) -> Response:
        stage.book.forget()
        return json([])

    return Starlette(
        routes=[
            Route("/control/providers", providers),
            Route("/control/providers/{provider}", change, methods=["PATCH"]),
            Route("/control/requests", requests),
            Route("/control/requests", forget, methods=["DELETE"]),
            Route("/{provider}/v1/chat/completions", stage, methods=["POST"]),
        ]
    )


def json(value: object, status: int = HTTPStatus.OK) -> Response:
    """A JSON answer."""
    return Response(msgspec.json.encode(value), status, media_type="application/json")
