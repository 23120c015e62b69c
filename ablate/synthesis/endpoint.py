"""An endpoint that speaks OpenAI's protocol, through the package `openai`, without retries of its own."""

from __future__ import annotations

import datetime
import email.utils
import math
import os
import re
from collections.abc import Mapping
from typing import Any, Literal

from ablate.records import UserError
from ablate.secrets import REMOVED, scrub
from ablate.synthesis.answers import Reply
from ablate.synthesis.asking import NoAnswer, Response, Task
from ablate.synthesis.prompts import Prompt

CONNECT_S = 10.0
Form = Literal["schema", "object", "words"]
"""How structured output is asked for: by schema, as any JSON object, or by the words of the prompt alone."""


class Endpoint:
    """A model behind an address; raises UserError where the package or the key is missing, or the address is none."""

    def __init__(self, model: str, *, address: str, key_name: str, timeout_s: float, form: Form) -> None:
        if not re.match(r"https?://[^/\s]+", address):
            raise UserError(f"--endpoint {address!r} is no address; give one such as https://host/v1")
        if "?" in address or "#" in address:
            raise UserError("--endpoint has a query in it, which may hold a key; give the address without it")
        if "@" in address.split("//", 1)[1].split("/", 1)[0]:
            raise UserError("--endpoint has a user or password in it; give keys in the environment (--key-env)")
        try:
            import httpx2
            import openai
        except ModuleNotFoundError as error:
            raise UserError(
                f'--engine openai needs the package {error.name}, which is not installed: pip install -e ".[synthesis]"'
            ) from None
        secret = os.environ.get(key_name, "").strip()
        if not secret:
            raise UserError(
                f"the environment variable {key_name} is not set; put the key there (any word if none is needed)"
            )
        if scrub({key_name: secret})[key_name] != REMOVED:
            raise UserError(
                f"--key-env {key_name}: its name does not say that it is a secret, so it could not be kept out of "
                f"files; name it like OPENAI_API_KEY"
            )
        self.model, self.place = model, address.rstrip("/")
        self._form = form
        timeout = httpx2.Timeout(timeout_s, connect=CONNECT_S)
        self._client = openai.AsyncOpenAI(api_key=secret, base_url=self.place, max_retries=0, timeout=timeout)

    def body(self, messages: list[dict[str, str]], schema: type[Reply], prompt: Prompt, task: Task) -> dict[str, Any]:
        """Return the fields of a chat completion."""
        body: dict[str, Any] = {"model": self.model, "messages": messages, **prompt.parameters}
        if self._form == "object":
            body["response_format"] = {"type": "json_object"}
        elif self._form == "schema":
            named = {"name": schema.__name__, "strict": True, "schema": schema.model_json_schema()}
            body["response_format"] = {"type": "json_schema", "json_schema": named}
        return body

    async def send(self, body: dict[str, Any], ask: int) -> Response:
        """Return the response, whatever its status; raises NoAnswer where no whole one came."""
        import httpx2
        import openai

        known = ("model", "messages", "response_format")
        more = {name: value for name, value in body.items() if name not in known}
        fields = {name: body[name] for name in known if name in body}
        try:
            raw = await self._client.chat.completions.with_raw_response.create(**fields, extra_body=more)
            return Response(raw.http_response.status_code, raw.http_response.text)
        except openai.APIStatusError as error:
            return Response(error.status_code, error.response.text, retry_after(error.response.headers))
        except openai.APIConnectionError as error:
            cause = error.__cause__
            unreached = (httpx2.ConnectError, httpx2.ConnectTimeout, httpx2.PoolTimeout, httpx2.UnsupportedProtocol)
            words = f"no whole answer ({type(cause or error).__name__})"
            raise NoAnswer(words, reached=not isinstance(cause, unreached)) from None

    async def close(self) -> None:
        """Close the connections."""
        await self._client.close()


def retry_after(headers: Mapping[str, str]) -> float | None:
    """Return the seconds that the headers ask to wait, as number or date, or None where they do not say it."""
    for name, factor in (("retry-after-ms", 0.001), ("retry-after", 1.0)):
        text = headers.get(name, "")
        try:
            seconds = float(text) * factor
        except ValueError:
            try:
                when = email.utils.parsedate_to_datetime(text)
            except ValueError:
                continue
            at = when if when.tzinfo else when.replace(tzinfo=datetime.UTC)
            seconds = (at - datetime.datetime.now(datetime.UTC)).total_seconds()
        if math.isfinite(seconds):
            return max(0.0, seconds)
    return None
