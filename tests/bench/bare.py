"""The least that Litestar can do: one handler that returns a small value, served as the API is. `bare.py PORT`."""

from __future__ import annotations

import sys

import uvicorn
from litestar import Litestar, get
from msgspec import Struct


class Answer(Struct):
    status: str
    timestamp: str
    version: str


@get("/")
async def bare() -> Answer:
    return Answer("healthy", "2026-01-01T00:00:00Z", "1.0.0")


def create_app() -> Litestar:
    return Litestar([bare], openapi_config=None)


if __name__ == "__main__":
    uvicorn.run(
        create_app(),
        host="127.0.0.1",
        port=int(sys.argv[1]),
        loop="uvloop",
        http="httptools",
        log_config=None,
        access_log=False,
        server_header=False,
        proxy_headers=False,
    )
