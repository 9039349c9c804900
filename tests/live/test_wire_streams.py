"""Streams over a real socket: what a handler that yields may still use."""

from collections.abc import Iterator

import pytest

from tests.live_servers import until
from tests.wire_servers import Wired, write_files

pytestmark = pytest.mark.live

APP = {
    "functions/app.py": """
        from runtime import UploadFile, http

        given = []

        @http.post("/parts", max_body="5MB")
        async def parts(file: UploadFile):
            given.append(file)
            yield "begun,"
            while part := await file.read(1_000_000):
                yield f"{len(part)},"

        @http.post("/parts-in-a-thread", max_body="5MB")
        def parts_in_a_thread(file: UploadFile):
            given.append(file)
            yield "begun,"
            while part := file.file.read(1_000_000):
                yield f"{len(part)},"

        @http.get("/closed")
        async def closed() -> list[bool]:
            return [file.file.closed for file in given]
        """
}


@pytest.fixture(scope="module")
def server(tmp_path_factory, lane: str) -> Iterator[Wired]:
    wired = Wired(write_files(tmp_path_factory.mktemp("streams"), **APP), lane=lane)
    yield wired
    wired.stop()


@pytest.mark.parametrize("size", [10, 2_500_000], ids=["in memory", "on disk"])
@pytest.mark.parametrize("path", ["parts", "parts-in-a-thread"])
def test_a_stream_reads_its_upload_between_its_parts_and_the_file_is_closed_at_its_end(server: Wired, path: str, size):
    head = b'--b\r\nContent-Disposition: form-data; name="file"; filename="f"\r\n\r\n'
    body = head + bytes(size) + b"\r\n--b--\r\n"
    (answer,) = server.answers(
        f"POST /{path} HTTP/1.1\r\nHost: a\r\nConnection: close\r\nContent-Type: multipart/form-data; boundary=b\r\n"
        f"Content-Length: {len(body)}\r\n\r\n".encode()
        + body
    )
    sizes = [1_000_000] * (size // 1_000_000) + [size % 1_000_000]
    assert (answer.status, answer.body) == (200, ("begun," + "".join(f"{one}," for one in sizes)).encode())
    ask = b"GET /closed HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n"
    until(lambda: b"false" not in server.answers(ask)[0].body)
