"""Shapes of bodies as pydantic models: they check what comes in and describe it in the OpenAPI
document, with error texts in the manner of the decoder that clients know.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, TypeVar

from pydantic import BaseModel, ConfigDict, TypeAdapter, ValidationError, model_validator

from h2q.server.refusal import Refusal

_KINDS = {dict: "object", list: "array", str: "string", bool: "bool", type(None): "null"}
_WANTED = {
    "string_type": "string",
    "bool_type": "bool",
    "int_type": "int",
    "float_type": "float",
    "list_type": "array",
    "dict_type": "object",
    "model_type": "object",
}


class Wire(BaseModel):
    """Base of what comes in: types are strict, null is as if absent, unknown fields are passed
    over.
    """

    model_config = ConfigDict(strict=True, extra="ignore", protected_namespaces=())

    @model_validator(mode="before")
    @classmethod
    def _without_nulls(cls, data: Any) -> Any:
        if type(data) is dict and None in data.values():
            return {name: value for name, value in data.items() if value is not None}
        return data


class Told(BaseModel):
    """Base of what goes out: it describes, and is never made. A field with a default may be
    missing; there are no others than these.
    """

    model_config = ConfigDict(extra="forbid", protected_namespaces=())


@dataclass(frozen=True)
class Like:
    """Says in the documentation what a value looks like that is read by hand, for its errors'
    sake: `Annotated[list[Any], Like(list[ChatMessage])]`.
    """

    shape: Any

    def __get_pydantic_json_schema__(self, schema: Any, handler: Any) -> Any:
        return handler(TypeAdapter(self.shape).core_schema)


def needs(*fields: str) -> ConfigDict:
    """Says in the documentation which fields must be there; their absence is told by hand."""
    return ConfigDict(json_schema_extra={"required": list(fields)})


Shape = TypeVar("Shape", bound=Wire)


def checked(shape: type[Shape], document: Any) -> Shape:
    """A document as its shape. Raises Refusal (400) that names the first field that does not
    fit.
    """
    try:
        return shape.model_validate(document)
    except ValidationError as error:
        raise _refused(error) from None
    except RecursionError:
        raise Refusal(400, "the request's JSON is nested too deep") from None


def _refused(error: ValidationError) -> Refusal:
    first = error.errors(include_url=False, include_context=False)[0]
    path = ".".join(str(part) for part in first["loc"] if not _is_tag(part))
    if first["type"] == "missing":
        return Refusal(400, f"{path} is required", param=path)
    if wanted := _WANTED.get(first["type"]):
        kind = _KINDS.get(type(first["input"]), "number")
        place = f"field {path}" if path else "the request"
        return Refusal(
            400, f"json: cannot unmarshal {kind} into {place} of type {wanted}", param=path
        )
    return Refusal(400, f"{path}: {first['msg']}" if path else first["msg"], param=path)


def _is_tag(part: int | str) -> bool:
    """Pydantic names the branch of a union it tried, like `str` or `list[str]`."""
    return isinstance(part, str) and (part in {"str", "int", "float", "bool"} or "[" in part)
