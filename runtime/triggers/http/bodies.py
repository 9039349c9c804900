"""Read the body of a request as what it says it is: JSON, a form, or nothing but bytes.

Called by the core once a request may go on. Never holds a file in memory: Starlette's parser puts what is long on disk.
"""

import zlib
from urllib.parse import parse_qsl

from runtime.base.errors import InputError
from runtime.declare.request import Request, too_large
from runtime.invoke.binding import HttpPlan
from runtime.invoke.readers import Form

_MULTIPART = "multipart/form-data"
_URLENCODED = "application/x-www-form-urlencoded"
_GZIP_OR_ZLIB = 47
"""zlib's window bits: 32 finds out which of the two it is, 15 is the widest window."""


async def read_body(request: Request, plan: HttpPlan) -> bytes | Form:
    """The body as `plan` can bind it. InputError (400, 415) for one it cannot, Problem (413) for one too long."""
    if plan.takes_raw:
        return await request.body()
    kind, _, parameters = (request.header(b"content-type") or plan.content_type).partition(";")
    kind = kind.strip().lower()
    if kind == _MULTIPART:
        return await _read_multipart(request)
    if kind == _URLENCODED and not plan.takes_files:
        return _parse_urlencoded(await _inflated(request))
    if plan.takes_files:
        raise InputError(415, f"the body is {kind}; this function takes files: send multipart/form-data")
    if kind != "application/json" and not kind.endswith("+json"):
        raise InputError(415, f"the body is {kind}; this function takes application/json or a form")
    charset = parameters.lower().partition("charset=")[2].partition(";")[0].strip(' "')
    if charset not in ("", "utf-8", "utf8", "us-ascii"):
        raise InputError(415, f"the body is in {charset}; JSON is UTF-8")
    return await _inflated(request)


async def _inflated(request: Request) -> bytes:
    """The body without its content encoding, held to the same limit."""
    encoding = (request.header(b"content-encoding") or "identity").strip().lower()
    if encoding == "identity":
        return await request.body()
    if encoding not in ("gzip", "x-gzip", "deflate"):
        raise InputError(415, f"the body is encoded as {encoding}; send it as it is, or as gzip")
    body = await request.body()
    inflater = zlib.decompressobj(_GZIP_OR_ZLIB)
    try:
        plain = inflater.decompress(body, request.max_body + 1)
    except zlib.error:
        raise InputError(400, f"the body is not {encoding}, which it says it is") from None
    if len(plain) > request.max_body:
        raise too_large(request.max_body)
    if not inflater.eof or inflater.unused_data:
        raise InputError(400, f"the body is not one whole {encoding} stream")
    return plain


def _parse_urlencoded(body: bytes) -> Form:
    try:
        pairs = parse_qsl(body.decode("ascii"), keep_blank_values=True, errors="strict")
    except ValueError:
        raise InputError(400, "the form is not percent-encoded UTF-8") from None
    form: Form = {}
    for name, value in pairs:
        form.setdefault(name, []).append(value)
    return form


async def _read_multipart(request: Request) -> Form:
    if (request.header(b"content-encoding") or "identity").strip().lower() != "identity":
        raise InputError(415, "the body is compressed; send a multipart form as it is")
    # Loaded for the first upload: most functions take none.
    from starlette.datastructures import Headers  # noqa: PLC0415
    from starlette.formparsers import MultiPartException, MultiPartParser  # noqa: PLC0415

    headers = Headers(raw=list(request.headers_raw))
    if "content-type" not in headers:  # it says nothing: fine for nothing at all
        if await request.body():
            raise InputError(
                415, "the body does not say what it is; this function takes files: send multipart/form-data"
            )
        return {}
    try:
        found = await MultiPartParser(headers, request.stream()).parse()
    except MultiPartException as error:
        raise InputError(400, f"the multipart form cannot be read: {error.message}") from None
    form: Form = {}
    for name, value in found.multi_items():
        form.setdefault(name, []).append(value)
    return form


async def close_files(form: Form) -> None:
    """Remove what is on disk of an upload."""
    for values in form.values():
        for value in values:
            if not isinstance(value, str):  # but an UploadFile
                await value.close()
