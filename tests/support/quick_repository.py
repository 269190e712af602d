"""A repository of backups that opens quickly: restic makes the key of a new one so dear that each call takes half a
second of a processor, which is right for a password that somebody thought of, and most of the time of a test.

The file of its key is written again with a cheap function. What it locks up is restic's, as all of the repository is.
"""

from __future__ import annotations

import atexit
import hashlib
import json
import os
import shutil
from base64 import b64decode, b64encode
from functools import cache
from pathlib import Path
from tempfile import mkdtemp

from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from cryptography.hazmat.primitives.poly1305 import Poly1305
from support.watched import places

from ops.config import Settings
from ops.restic import Repository

NONCE, TAG = 16, 16  # bytes before and behind what is locked up
CHEAP = {"N": 2, "r": 1, "p": 1}
CLAMP = bytes.fromhex("ffffff0ffcffff0ffcffff0ffcffff0f")  # the bits of r that Poly1305 takes


def begin_quickly(settings: Settings) -> None:
    """Begin the repository that the settings name where none is, with a key of this machine, as a first backup does."""
    repository = Repository(settings)
    assert repository.local is not None
    if repository.local.exists():
        return
    made = _template()
    shutil.copytree(made.backups / "repository", repository.local)
    repository.key.parent.mkdir(parents=True, exist_ok=True)
    shutil.copy2(made.home / repository.key.name, repository.key)


@cache
def _template() -> Settings:
    """Begin one repository for all tests of this process."""
    place = Path(mkdtemp(prefix="repository-"))
    atexit.register(shutil.rmtree, place, ignore_errors=True)
    settings = places(place)
    repository = Repository(settings)
    repository.begin()
    _make_cheap(settings.backups / "repository" / "keys", repository.key.read_text().strip().encode())
    return settings


def _make_cheap(keys: Path, password: bytes) -> None:
    (path,) = keys.iterdir()
    key = json.loads(path.read_bytes())
    cheap = {**key, **CHEAP}
    cheap["data"] = b64encode(_locked(_opened(b64decode(key["data"]), password, key), password, cheap)).decode()
    content = json.dumps(cheap).encode()
    path.unlink()
    (keys / hashlib.sha256(content).hexdigest()).write_bytes(content)


def _opened(locked: bytes, password: bytes, key: dict[str, int | str]) -> bytes:
    nonce, content, tag = locked[:NONCE], locked[NONCE:-TAG], locked[-TAG:]
    secret, own = _derived(password, key)
    assert _tag(own, nonce, content) == tag, "restic locks its keys up in another way than is known here"
    return _crypted(secret, nonce, content)


def _locked(content: bytes, password: bytes, key: dict[str, int | str]) -> bytes:
    nonce = os.urandom(NONCE)
    secret, own = _derived(password, key)
    locked = _crypted(secret, nonce, content)
    return nonce + locked + _tag(own, nonce, locked)


def _derived(password: bytes, key: dict[str, int | str]) -> tuple[bytes, bytes]:
    """Return the key of the cipher, and that of the tag."""
    salt, n, r, p = b64decode(f"{key['salt']}"), int(key["N"]), int(key["r"]), int(key["p"])
    made = hashlib.scrypt(password, salt=salt, n=n, r=r, p=p, maxmem=1 << 30, dklen=64)
    return made[:32], made[32:]


def _crypted(secret: bytes, nonce: bytes, content: bytes) -> bytes:
    return Cipher(algorithms.AES(secret), modes.CTR(nonce)).encryptor().update(content)


def _tag(key: bytes, nonce: bytes, content: bytes) -> bytes:
    """Return the Poly1305-AES tag; `key` is k and r of its paper."""
    once = Cipher(algorithms.AES(key[:16]), modes.ECB()).encryptor().update(nonce)
    r = bytes(one & mask for one, mask in zip(key[16:], CLAMP, strict=True))
    return Poly1305.generate_tag(r + once, content)
