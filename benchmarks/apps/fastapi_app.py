"""The three endpoints on FastAPI, as its tutorial would write them."""

from fastapi import FastAPI
from pydantic import BaseModel

app = FastAPI()


class Numbers(BaseModel):
    x: float
    y: float


@app.get("/hello")
async def hello(name: str = "world") -> dict[str, str]:
    return {"message": f"Hello {name}"}


@app.get("/hello-sync")
def hello_sync(name: str = "world") -> dict[str, str]:
    return {"message": f"Hello {name}"}


@app.post("/sum")
async def add(numbers: Numbers) -> dict[str, float]:
    return {"result": numbers.x + numbers.y}
