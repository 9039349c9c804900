"""The OpenAPI document of a registry: the document, its operations, what they answer, the schemas of types."""

from runtime.triggers.http.openapi.document import describe

__all__ = ["describe"]
