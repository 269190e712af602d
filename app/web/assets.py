"""What a page is drawn with: style, scripts and icon, read once, sent compressed, kept by browsers for ever.

A file's address carries a hash of its content, so that a new release is a new address and nothing is asked for twice.
The JavaScript of others is not in the repository: `make` brings what package-lock.json pins to
static/brought.
"""

from __future__ import annotations

import gzip
from collections.abc import Mapping
from hashlib import sha256
from pathlib import Path

from litestar import Response, get
from litestar.params import FromPath
from msgspec import Struct

from app.api.call import Call
from app.api.problems import NotFound
from app.errors import ConfigurationError

PLACE = Path(__file__).parent / "static"
KINDS = {".css": "text/css", ".js": "text/javascript", ".svg": "image/svg+xml"}
BROUGHT = ("htmx.js", "charts.js")
FOR_EVER = "public, max-age=31536000, immutable"
HASH_LENGTH = 12


class Asset(Struct, frozen=True):
    """A file as it is sent: its address, its kind, and its content as it is and compressed."""

    address: str
    kind: str
    plain: bytes
    packed: bytes
    mark: str


def read_assets(place: Path = PLACE) -> dict[str, Asset]:
    """Return every file by its name. Raise ConfigurationError if what `make` brings is not there."""
    files = [path for path in place.glob("*.*") if path.suffix in KINDS]
    brought = [place / "brought" / name for name in BROUGHT]
    missing = [path for path in brought if not path.is_file()]
    if missing:
        raise ConfigurationError(
            f"the page's JavaScript is not here ({missing[0]}); `make install` brings it, a release has it with it"
        )
    return {path.name: _asset(path) for path in sorted([*files, *brought])}


def _asset(path: Path) -> Asset:
    data = path.read_bytes()
    mark = sha256(data).hexdigest()[:HASH_LENGTH]
    kind = KINDS[path.suffix]
    return Asset(f"/static/{path.stem}-{mark}{path.suffix}", kind, data, gzip.compress(data, 9, mtime=0), f'"{mark}"')


def by_address(assets: Mapping[str, Asset]) -> dict[str, Asset]:
    return {asset.address: asset for asset in assets.values()}


@get("/static/{name:str}", include_in_schema=False, sync_to_thread=False)
def static(request: Call, name: FromPath[str]) -> Response[bytes]:
    """Give a file of the page; a browser that has it already hears only that."""
    asset = request.app.state.page.served.get(f"/static/{name}")
    if asset is None:
        raise NotFound(f"there is no file {name[:80]!r} in this release; load the page again")
    headers = {"Cache-Control": FOR_EVER, "ETag": asset.mark, "Vary": "Accept-Encoding"}
    if request.headers.get("if-none-match") == asset.mark:
        return Response(b"", status_code=304, media_type=asset.kind, headers=headers)
    if "gzip" in request.headers.get("accept-encoding", ""):
        return Response(asset.packed, media_type=asset.kind, headers={**headers, "Content-Encoding": "gzip"})
    return Response(asset.plain, media_type=asset.kind, headers=headers)
