"""Middleware of an author's around a real server: what it does not see must not be mended by it."""

import httpx
import pytest

pytestmark = pytest.mark.live

APP = {
    "functions/app.py": """
        from runtime import http

        @http.get("/breaks")
        async def breaks():
            yield "a\\n"
            raise ValueError("broken")

        @http.get("/whole")
        async def whole():
            yield "a\\n"
            yield "b\\n"
        """,
    "functions/_lifespan.py": """
        from starlette.middleware import Middleware
        from starlette.middleware.base import BaseHTTPMiddleware

        async def dispatch(request, call_next):
            return await call_next(request)

        middleware = [Middleware(BaseHTTPMiddleware, dispatch=dispatch)]
        """,
}


def test_a_stream_that_breaks_does_not_look_complete_behind_a_middleware(write_project, start):
    environ = {"FNRUN_HTTP__AUTH": "public", "FNRUN_HTTP__BIND": "127.0.0.1:0"}
    server = start(write_project(**APP), "serve", environ=environ)
    assert httpx.get(f"{server.url}/whole").text == "a\nb\n"
    with pytest.raises(httpx.RemoteProtocolError):
        httpx.get(f"{server.url}/breaks")
    server.stop()
    assert server.output.count("stream failed and was cut") == 1
    assert "failed inside the server" not in server.output
