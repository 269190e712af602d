"""`tradectl token`: what it prints opens the door, once its line is in API_TOKENS, and nothing keeps it."""

from __future__ import annotations

import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import httpx
from support.running import appliance
from support.tradectl import tradectl

from app.secret import Secret
from app.tokens import find, read_tokens


class Proxy:
    """Forwards what it is asked, saying for whom, as nginx does."""

    def __init__(self, url: str) -> None:
        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                self.forward(b"")

            def do_POST(self) -> None:
                self.forward(self.rfile.read(int(self.headers["Content-Length"])))

            def forward(self, body: bytes) -> None:
                headers = {**dict(self.headers), "X-Forwarded-For": "203.0.113.9"}
                answer = httpx.request(
                    self.command, url + self.path, headers=headers, content=body, timeout=20, trust_env=False
                )
                self.send_response(answer.status_code)
                self.send_header("Content-Type", answer.headers["content-type"])
                self.end_headers()
                self.wfile.write(answer.content)

            def log_message(self, *_: object) -> None: ...

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)

    def __enter__(self) -> str:
        threading.Thread(target=self._server.serve_forever, daemon=True).start()
        return f"http://127.0.0.1:{self._server.server_port}"

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()


def test_the_token_is_shown_once_with_the_line_that_knows_it(tmp_path: Path) -> None:
    said = tradectl("token", "laptop", "--scope", "trade", cwd=tmp_path)
    assert said.code == 0, said.err
    shown = said.out.splitlines()
    token, line = shown[1].strip(), shown[3].strip()
    assert token.startswith("ta_")
    assert "trading_secrets.API_TOKENS" in shown[2]
    found = find(read_tokens(Secret(line)), token)
    assert found is not None
    assert (found.name, found.scopes) == ("laptop", {"read", "trade"})
    assert not list(tmp_path.iterdir())


def test_tradectl_itself_uses_it_from_elsewhere(tmp_path: Path) -> None:
    made = tradectl("token", "laptop", "--scope", "read", "--scope", "trade", "--json", cwd=tmp_path).json
    assert made["name"] == "laptop"
    assert made["entry"].startswith("laptop:read+trade:")
    with appliance(tmp_path, redis=False, API_TOKENS=made["entry"]) as running:
        with Proxy(running.url) as url:
            refused = tradectl("status", "--url", url, cwd=tmp_path)
            assert refused.code == 1
            assert "without a token" in refused.err
            given = {"TRADING_URL": url, "TRADING_TOKEN": made["token"]}
            assert tradectl("status", cwd=tmp_path, **given).code == 0
            assert tradectl("stop", "--who", "ann", cwd=tmp_path, **given).code == 0
        entry = running.get("/api/v1/trading/audit", newest="true", limit=1)["items"][0]
        assert (entry["who"], entry["origin"]) == ("ann", "laptop@203.0.113.9")


def test_bad_usage_is_exit_code_2(tmp_path: Path) -> None:
    for words in (["a b", "--scope", "read"], ["laptop"], ["laptop", "--scope", "root"]):
        said = tradectl("token", *words, cwd=tmp_path)
        assert (said.code, said.out) == (2, "")
