"""Routes of the service: POST /sample, /predict, /impute, /score, and GET /openapi.json.

Status codes: 400, the body is not JSON; 408, it came too slowly; 413, it is too large; 415, another media type; 422, it does
not fit the model; 500, the numbers diverged; 503, too many questions wait; 504, the time is over.
"""

import asyncio
import json
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from importlib.metadata import version
from typing import Any

from pydantic import BaseModel, ValidationError
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from jointebm.storage.untrusted import quoted, reason_of
from jointebm.watch.answered import Answered, Service
from jointebm.watch.arrow_bodies import ARROW, stream_of_lists
from jointebm.watch.deadlines import Deadline, within
from jointebm.watch.limits import Limits

__all__ = ["ServiceRoutes"]

JSON = "application/json"
MAX_DEPTH_ERROR = "the JSON is nested too deeply"


class Refusal(Exception):  # noqa: N818  # an answer of HTTP, not an error of this program
    """A request that is answered by a status and one line."""

    def __init__(self, status: int, text: str) -> None:
        super().__init__(text)
        self.status = status


class ServiceRoutes:
    """The questions to one model over HTTP.

    Args:
        service: answers.
        limits: of requests.
    """

    def __init__(self, service: Service, limits: Limits) -> None:
        self._service, self._limits = service, limits
        self._threads = ThreadPoolExecutor(limits.questions, thread_name_prefix="jointebm-service")
        self._num_asked = 0

    @property
    def routes(self) -> list[Route]:
        """For the application."""
        asked = [Route(f"/{question}", self._post, methods=["POST"]) for question in self._service.questions]
        return [*asked, Route("/openapi.json", self._described, methods=["GET"])]

    def close(self) -> None:
        """Waits for the answers that are being made, and gives up all others."""
        self._threads.shutdown(wait=True, cancel_futures=True)

    async def _post(self, request: Request) -> Response:
        question = request.url.path.strip("/").split("/")[-1]
        try:
            wants_arrow = ARROW in request.headers.get("accept", "")
            body = await self._body(request)
            asked = self._read(question, request, body)
            return await self._answer(question, asked, as_arrow=wants_arrow)
        except Refusal as refusal:
            return JSONResponse({"error": str(refusal)}, refusal.status)
        except ClientDisconnect:
            return Response(status_code=400)

    async def _body(self, request: Request) -> bytes:
        """The body, read no further than the limits."""
        too_large = Refusal(413, f"the body is larger than {self._limits.body} bytes; ask about fewer rows at once")
        declared = request.headers.get("content-length", "0")
        if declared.isdigit() and int(declared) > self._limits.body:
            raise too_large
        parts, size = [], 0
        try:
            async with asyncio.timeout(self._limits.body_seconds):
                async for part in request.stream():
                    size += len(part)
                    if size > self._limits.body:
                        raise too_large
                    parts.append(part)
        except TimeoutError:
            raise Refusal(408, f"the body took longer than {self._limits.body_seconds:g} s") from None
        return b"".join(parts)

    def _read(self, question: str, request: Request, body: bytes) -> BaseModel:
        """The fields of a question."""
        media = request.headers.get("content-type", "").partition(";")[0].strip().lower()
        if media == JSON:
            fields = _json_object(body, "the body")
        elif media == ARROW:
            fields = _json_object(request.query_params.get("parameters", "{}").encode(), "parameters")
            try:
                fields |= self._service.read_arrow(body)
            except (ValueError, TypeError) as error:
                raise Refusal(422, _line(error)) from None
            except ImportError as error:
                raise Refusal(415, _line(error)) from None
        else:
            raise Refusal(415, f"content-type {quoted(repr(media))}: expected {JSON} or {ARROW}")
        try:
            return self._service.questions[question].model_validate(fields)
        except ValidationError as error:
            raise Refusal(422, reason_of(error)) from None

    async def _answer(self, question: str, asked: BaseModel, *, as_arrow: bool) -> Response:
        """Answers in a thread; no more than the limits wait for it."""
        if self._num_asked >= self._limits.questions + self._limits.waiting:
            raise Refusal(503, f"{self._limits.waiting} questions wait; ask again later")
        self._num_asked += 1
        try:
            loop = asyncio.get_running_loop()
            return await loop.run_in_executor(self._threads, self._answered, question, asked, as_arrow)
        finally:
            self._num_asked -= 1

    def _answered(self, question: str, asked: BaseModel, as_arrow: bool) -> Response:
        """The answer, made in this thread."""
        try:
            with within(Deadline(self._limits.seconds)):
                answered = self._service.answer(question, asked)
            if as_arrow:
                return Response(self._as_arrow(answered), media_type=ARROW)
            return Response(self._as_json(answered), media_type=JSON)
        except TimeoutError as error:
            raise Refusal(504, _line(error)) from None
        except (ValueError, TypeError) as error:
            raise Refusal(422, _line(error)) from None
        except ImportError as error:
            raise Refusal(415, _line(error)) from None
        except FloatingPointError as error:
            raise Refusal(500, _line(error)) from None
        except (MemoryError, RuntimeError) as error:
            if isinstance(error, RuntimeError) and "allocate memory" not in str(error):
                raise
            raise Refusal(503, "not enough memory; ask for fewer rows") from None

    def _as_json(self, answered: Answered) -> str:
        draws = [self._service.as_json(rows) for rows in answered.draws]
        rows: dict[str, Any] = {"draws": draws} if answered.several else {"values": draws[0]}
        return json.dumps({**rows, **answered.also}, allow_nan=False)

    def _as_arrow(self, answered: Answered) -> bytes:
        """A column per block or column; the draws of an imputation lie one after the other."""
        lists = [self._service.as_json(rows) for rows in answered.draws]
        columns = {name: [each for rows in lists for each in rows[name]] for name in lists[0]}
        return stream_of_lists(columns, answered.also)

    async def _described(self, request: Request) -> Response:  # noqa: ARG002  # as starlette calls it
        return JSONResponse(_description(self._service.questions))


def _json_object(text: bytes, what: str) -> dict[str, Any]:
    try:
        found = json.loads(text.decode(), parse_constant=_no_constant)
    except RecursionError:
        raise Refusal(400, f"{what}: {MAX_DEPTH_ERROR}") from None
    except ValueError as error:  # UnicodeDecodeError is one
        raise Refusal(400, f"{what}: not JSON: {_line(error)}") from None
    if not isinstance(found, dict):
        raise Refusal(422, f"{what}: got {type(found).__name__}, expected an object of fields")
    return found


def _no_constant(name: str) -> None:
    raise ValueError(f"{name} is not JSON; write null for a missing number")


def _line(error: BaseException) -> str:
    return " ".join(str(error).split())[:1000]


def _description(questions: Mapping[str, type[BaseModel]]) -> dict[str, Any]:
    """The service in OpenAPI 3.1."""
    error = {"type": "object", "properties": {"error": {"type": "string"}}, "required": ["error"]}
    statuses = {
        "400": "the body is not JSON",
        "408": "the body came too slowly",
        "413": "the body is too large",
        "415": "another media type",
        "422": "the question does not fit the model",
        "500": "the numbers diverged",
        "503": "too many questions wait",
        "504": "the time of one question is over",
    }
    failures = {
        status: {"description": text, "content": {JSON: {"schema": error}}} for status, text in statuses.items()
    }
    paths = {}
    for question, fields in questions.items():
        schema = fields.model_json_schema()
        arrow = {"schema": {"type": "string", "format": "binary"}}
        several = {"draws": {"type": "array", "items": {"type": "object"}}}
        rows = several if question == "impute" else {"values": {"type": "object"}}
        answer = {"type": "object", "properties": {**rows, "diagnostics": {"type": "object"}}}
        success = {"description": "the answer", "content": {JSON: {"schema": answer}, ARROW: arrow}}
        parameter = {
            "name": "parameters",
            "in": "query",
            "description": "with an Arrow body: the other fields, as a JSON object",
            "schema": {"type": "string"},
        }
        paths[f"/{question}"] = {
            "post": {
                "operationId": question,
                "summary": schema.pop("description", question),
                "parameters": [parameter],
                "requestBody": {"required": True, "content": {JSON: {"schema": schema}, ARROW: arrow}},
                "responses": {"200": success, **failures},
                "security": [{"token": []}],
            }
        }
    return {
        "openapi": "3.1.0",
        "info": {"title": "jointebm", "version": version("jointebm")},
        "paths": paths,
        "components": {"securitySchemes": {"token": {"type": "http", "scheme": "bearer"}}},
    }
