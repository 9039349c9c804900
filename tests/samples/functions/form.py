"""Forms and uploads."""

import msgspec

from runtime import UploadFile, fn, http


class Person(msgspec.Struct):
    name: str
    age: int
    tags: list[str] = []


@http.post("/form")
async def form(name: str, age: int = 1, ratio: float = 0.5, tags: list[str] = []) -> dict:  # noqa: B006
    return {"name": name, "age": age, "ratio": ratio, "tags": tags}


class Measured(msgspec.Struct):
    height: float = 1.0
    weights: list[float] = []


@http.post("/form/measured")
async def measured(measured: Measured) -> Measured:
    return measured


@http.post("/form/person")
async def person(person: Person) -> Person:
    return person


@http.post("/form/upload", max_body="5MB")
async def upload(title: str, file: UploadFile, more: list[UploadFile] | None = None) -> dict:
    content = await file.read()
    on_disk = bool(getattr(file.file, "_rolled", False))
    return {
        "title": title,
        "name": file.filename,
        "type": file.content_type,
        "size": len(content),
        "on_disk": on_disk,
        "more": [one.filename for one in more or []],
    }


@http.post("/form/optional")
def optional(file: UploadFile | None = None) -> str:
    return file.file.read().decode(errors="replace") if file else "none"


@fn()
async def by_name(n: int, file: UploadFile | None = None) -> int:
    return n
