"""How the API describes itself: the OpenAPI document at /schema, true to what is sent, without others' scripts."""

from __future__ import annotations

from dataclasses import dataclass
from decimal import Decimal
from typing import Any

from litestar.openapi import OpenAPIConfig
from litestar.openapi.plugins import JsonRenderPlugin
from litestar.openapi.spec import Components, OpenAPIType, Operation, RequestBody, Schema, SecurityScheme
from litestar.plugins import OpenAPISchemaPlugin
from litestar.typing import FieldDefinition

from app import __version__

OPENAPI = OpenAPIConfig(
    title="Trading appliance",
    version=__version__,
    path="/schema",
    use_handler_docstrings=True,
    components=Components(
        security_schemes={
            "bearer": SecurityScheme(type="http", scheme="bearer", description="A token; none on the machine itself."),
            "basic": SecurityScheme(type="http", scheme="basic", description="The same token as the password."),
        }
    ),
    security=[{}, {"bearer": []}, {"basic": []}],
    render_plugins=[JsonRenderPlugin(path=["/", "/openapi.json"])],
)


class PlainNumbers(OpenAPISchemaPlugin):
    """Amounts are sent as JSON numbers, not as the texts that a Decimal usually becomes."""

    def is_plugin_supported_field(self, field_definition: FieldDefinition) -> bool:
        return field_definition.annotation is Decimal

    def to_openapi_schema(self, field_definition: FieldDefinition, schema_creator: Any) -> Schema:
        return Schema(type=OpenAPIType.NUMBER)


@dataclass
class BodyOptional(Operation):
    """A call that needs no body."""

    def __post_init__(self) -> None:
        if isinstance(self.request_body, RequestBody):
            self.request_body.required = False
