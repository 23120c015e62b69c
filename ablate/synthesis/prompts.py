"""Prompts as files: what is said to the model, with which parameters; known by the digest of the whole file."""

from __future__ import annotations

import functools
import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml
from jinja2 import StrictUndefined, Template, TemplateError
from jinja2.sandbox import SandboxedEnvironment

from ablate.project import files_of
from ablate.reading import check_file, faults
from ablate.records import UserError

LIMITS = ("max_tokens", "max_completion_tokens")
"""Parameters of which one must be there: without a limit of the answer no budget could be kept."""


@dataclass(frozen=True)
class Prompt:
    """A prompt file: templates of the two messages, parameters of the request, and values that the templates name."""

    system: str
    user: str
    parameters: Mapping[str, Any]
    values: Mapping[str, Any]
    digest: str
    """16 hex digits of SHA-256 of the file."""

    @property
    def most_tokens(self) -> int:
        """The most tokens that an answer may have."""
        return int(next(self.parameters[name] for name in LIMITS if name in self.parameters))

    def messages(self, variables: Mapping[str, Any]) -> list[dict[str, str]]:
        """Return the messages for these variables; raises UserError for a template that names what is not there."""
        given = {**self.values, **variables}
        try:
            texts = [_template(text).render(given).strip() for text in (self.system, self.user)]
        except TemplateError as error:
            raise UserError(f"the prompt cannot be filled ({error}); known: {', '.join(sorted(given))}") from None
        return [{"role": "system", "content": texts[0]}, {"role": "user", "content": texts[1]}]


@functools.cache
def _template(text: str) -> Template:
    environment = SandboxedEnvironment(undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    return environment.from_string(text)


def prompt_file(step: str) -> Path:
    """Return the file of the prompt that a step has by default."""
    return files_of("synthesis")[step]


def read_yaml(path: Path) -> dict[str, Any]:
    """Return the object in a YAML file; raises UserError for anything else."""
    check_file(path)
    with faults(f"{path}: not a readable YAML file", "mend the file"):
        try:
            values = yaml.safe_load(path.read_text(encoding="utf-8"))
        except yaml.YAMLError as error:
            raise ValueError(" ".join(str(error).split())) from None
    if not isinstance(values, dict) or not all(isinstance(name, str) for name in values):
        raise UserError(f"{path} holds no object of named values; see conf/synthesis for examples")
    return values


def read_prompt(path: Path, needed: tuple[str, ...] = ()) -> Prompt:
    """Return the prompt of a file, which must have the values that its step needs; raises UserError for no prompt."""
    values = read_yaml(path)
    for name in ("system", "user"):
        if not isinstance(values.get(name), str) or not values[name].strip():
            raise UserError(f"{path}: {name} is missing or no text; a prompt has system, user and parameters")
    parameters = values.get("parameters")
    if not isinstance(parameters, dict):
        raise UserError(f"{path}: parameters is missing or no object; give at least max_tokens")
    limit = next((parameters[name] for name in LIMITS if name in parameters), None)
    if type(limit) is not int or limit < 1:
        raise UserError(f"{path}: parameters.max_tokens={limit!r}; it (or max_completion_tokens) must be 1 or more")
    fixed = sorted({"model", "messages", "response_format", "stream", "n"} & set(parameters))
    if fixed:
        raise UserError(f"{path}: parameters.{fixed[0]} is set by the command; take it out")
    for name in needed:
        if name not in values:
            raise UserError(f"{path}: {name} is missing; this step needs {', '.join(needed)}")
        named = isinstance(values[name], dict) and values[name] and all(isinstance(key, str) for key in values[name])
        if not named and (type(values[name]) is not int or values[name] < 1):
            raise UserError(f"{path}: {name}={values[name]!r} must be names with their meanings, or a number from 1")
    rest = {name: value for name, value in values.items() if name not in ("system", "user", "parameters")}
    content = hashlib.sha256(path.read_bytes()).hexdigest()[:16]
    return Prompt(values["system"], values["user"], parameters, rest, content)
