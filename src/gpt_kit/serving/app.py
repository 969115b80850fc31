"""The routes: OpenAI's /v1/…, /tokenize and /detokenize, /health and /metrics.

A route checks, plans, submits and answers; everything it needs is handed over in one `Service`. Errors leave in OpenAI's form, those of
the framework too.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse, Response
from starlette.exceptions import HTTPException

from gpt_kit.serving.answers import ChatForm, CompletionForm
from gpt_kit.serving.errors import ApiError, ErrorBody
from gpt_kit.serving.generating import Generation, answer
from gpt_kit.serving.guard import Traffic
from gpt_kit.serving.metrics import CONTENT_TYPE, Metrics
from gpt_kit.serving.planning import Plan, Planner
from gpt_kit.serving.requests import ChatBody, CompletionBody, DetokenizeBody, TokenizeBody, validation_error
from gpt_kit.serving.worker import Worker
from gpt_kit.version import __version__

_ERRORS: dict[int | str, dict[str, Any]] = {
    "4XX": {"model": ErrorBody, "description": "What was wrong, and with which setting"},
    "5XX": {"model": ErrorBody, "description": "About to stop, or failed"},
}
_STREAM: dict[int | str, dict[str, Any]] = {
    200: {"description": "One object, or with stream a chunk in each event", "content": {"text/event-stream": {}}}
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Service:
    """One model, ready to be asked."""

    name: str
    """What requests call the model."""
    planner: Planner
    worker: Worker
    metrics: Metrics
    traffic: Traffic
    started_at: int = field(default_factory=lambda: int(time.time()))


def create_app(service: Service) -> FastAPI:
    """The application, without its guard. Its lifespan starts and stops the worker."""

    @asynccontextmanager
    async def lifespan(_app: FastAPI) -> AsyncIterator[None]:
        service.worker.start()
        yield
        await service.worker.stop()

    app = FastAPI(
        title="gpt-kit", version=__version__, docs_url=None, redoc_url=None, redirect_slashes=False, lifespan=lifespan, responses=_ERRORS
    )  # the pages of /docs would load scripts from another host
    _add_error_forms(app)
    _add_generation(app, service)
    _add_tokens(app, service)
    _add_facts(app, service)
    service.metrics.watch("running", "Choices in a slot", lambda: service.worker.num_running)
    service.metrics.watch("waiting", "Choices without a slot", lambda: service.worker.num_outstanding - service.worker.num_running)
    service.metrics.watch("active_requests", "Requests whose answer is not whole yet", lambda: service.traffic.num_active)
    return app


def _add_generation(app: FastAPI, service: Service) -> None:
    def begin(plan: Plan) -> Generation:
        return Generation(plan, service.worker.submit(plan.requests), service.worker, service.metrics)

    @app.post("/v1/completions", responses=_STREAM)
    async def completions(body: CompletionBody, request: Request) -> Response:
        """Go on from a text."""
        _check_model(body.model, service)
        generation = begin(await asyncio.to_thread(service.planner.completion, body))
        form = CompletionForm(service.name, service.planner.tokenizer, num_rivals=body.logprobs, has_usage=body.wants_usage_chunk)
        return await answer(request, generation, form, stream=bool(body.stream))

    @app.post("/v1/chat/completions", responses=_STREAM)
    async def chat_completions(body: ChatBody, request: Request) -> Response:
        """Answer in a conversation."""
        _check_model(body.model, service)
        generation = begin(await asyncio.to_thread(service.planner.chat, body))
        num_rivals = (body.top_logprobs or 0) if body.logprobs else None
        form = ChatForm(service.name, service.planner.tokenizer, num_rivals=num_rivals, has_usage=body.wants_usage_chunk)
        return await answer(request, generation, form, stream=bool(body.stream))


def _add_tokens(app: FastAPI, service: Service) -> None:
    planner = service.planner

    @app.post("/tokenize")
    async def tokenize(body: TokenizeBody) -> JSONResponse:
        """Text, or a conversation, as ids."""
        _check_model(body.model, service)
        if body.messages is not None:
            add = body.add_generation_prompt is not False
            ids = await asyncio.to_thread(planner.chat_ids, body.messages, add_generation_prompt=add)
        else:
            ids = await asyncio.to_thread(planner.text_ids, body.prompt or "")
        return JSONResponse({"count": len(ids), "max_model_len": planner.context, "tokens": ids})

    @app.post("/detokenize")
    async def detokenize(body: DetokenizeBody) -> JSONResponse:
        """Ids as text."""
        _check_model(body.model, service)
        return JSONResponse({"prompt": await asyncio.to_thread(planner.text, body.tokens)})


def _add_facts(app: FastAPI, service: Service) -> None:
    model = {
        "id": service.name,
        "object": "model",
        "created": service.started_at,
        "owned_by": "gpt-kit",
        "max_model_len": service.planner.context,
    }

    async def models() -> JSONResponse:
        """The one model."""
        return JSONResponse({"object": "list", "data": [model]})

    async def retrieve_model(model_id: str) -> JSONResponse:
        """The model, if it has this name."""
        _check_model(model_id, service)
        return JSONResponse(model)

    async def health() -> JSONResponse:
        """Whether requests are taken."""
        if service.traffic.is_draining or service.worker.is_broken:
            raise ApiError(503, "the server is about to stop" if service.traffic.is_draining else "the engine has failed")
        return JSONResponse({"status": "ok"})

    async def metrics() -> Response:
        """Figures for Prometheus."""
        return Response(service.metrics.text(), media_type=CONTENT_TYPE)

    _get(app, "/v1/models", models)
    _get(app, "/v1/models/{model_id:path}", retrieve_model)
    _get(app, "/health", health)
    _get(app, "/metrics", metrics, response_class=Response, responses={200: {"content": {"text/plain": {}}}})


def _get(app: FastAPI, path: str, handler: Callable[..., Any], **options: Any) -> None:
    """A route for GET, and for HEAD as HTTP has it."""
    app.add_api_route(path, handler, methods=["GET"], **options)
    app.add_api_route(path, handler, methods=["HEAD"], include_in_schema=False)


def _check_model(name: str | None, service: Service) -> None:
    if name is not None and name != service.name:
        known = f"this server has {service.name!r}"
        raise ApiError(404, f"there is no model {name[:200]!r}; {known}", param="model", code="model_not_found")


def _add_error_forms(app: FastAPI) -> None:
    def told(error: ApiError) -> JSONResponse:
        return JSONResponse(error.body(), status_code=error.status, headers=error.headers)

    @app.exception_handler(ApiError)
    async def _own(_request: Request, error: ApiError) -> JSONResponse:
        return told(error)

    @app.exception_handler(RequestValidationError)
    async def _invalid(_request: Request, error: RequestValidationError) -> JSONResponse:
        return told(validation_error(error.errors()))

    @app.exception_handler(HTTPException)
    async def _of_the_framework(request: Request, error: HTTPException) -> JSONResponse:
        messages = {
            400: "the body could not be read as JSON",
            404: f"there is no route {request.url.path[:200]}",
            405: f"{request.method[:20]} is not a method of {request.url.path[:200]}",
        }
        return told(ApiError(error.status_code, messages.get(error.status_code, str(error.detail)), headers=error.headers))

    @app.exception_handler(Exception)
    async def _unexpected(_request: Request, _error: Exception) -> JSONResponse:
        return told(ApiError(500, "something went wrong in the server; its log says what"))
