"""Errors in OpenAI's form: a status, and {"error": {"message", "type", "param", "code"}}."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pydantic import BaseModel

from gpt_kit.errors import GPTKitError
from gpt_kit.tokenizers.base import well_formed

_CODES = {
    401: "invalid_api_key", 404: "not_found", 405: "method_not_allowed", 408: "request_timeout", 413: "request_too_large",
    415: "unsupported_media_type", 429: "queue_full", 500: "internal_error", 503: "unavailable",
}  # fmt: skip


class ErrorFacts(BaseModel):
    """What went wrong."""

    message: str
    type: str
    param: str | None
    code: str | None


class ErrorBody(BaseModel):
    """The body of every error."""

    error: ErrorFacts


class ApiError(GPTKitError):
    """A request that is answered by an error. `param` names the setting it is about, `code` is for programs."""

    def __init__(
        self, status: int, message: str, *, param: str | None = None, code: str | None = None, headers: Mapping[str, str] | None = None
    ) -> None:
        super().__init__(message)
        self.status, self.param, self.code, self.headers = status, param, code or _CODES.get(status), dict(headers or {})

    def body(self) -> dict[str, Any]:
        """What the answer holds."""
        kind = "invalid_request_error" if self.status < 500 else "server_error"
        kind = "rate_limit_error" if self.status == 429 else kind
        param = None if self.param is None else well_formed(self.param)
        return {"error": {"message": well_formed(str(self)), "type": kind, "param": param, "code": self.code}}
