"""All settings, frozen, in one place: from the environment, a `.env` file, and systemd credentials.

The environment wins over `.env`, a credential over both. A key in `.env` that is not known here refuses to start, and
so does a `RISK_…` or `FEED_…` of the environment, since a misspelt limit is no limit. The comment beside each field is
its documentation; `.env.example` lists them all.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from datetime import timedelta
from decimal import Decimal
from difflib import get_close_matches
from math import isfinite
from pathlib import Path
from typing import Any, Literal, get_args, get_origin
from urllib.parse import urlsplit

import msgspec
from dotenv.parser import Binding, parse_stream
from msgspec import Struct

from app.errors import ConfigurationError, InputError
from app.limits import Limits
from app.model import Symbol, parse_symbol
from app.secret import Secret

CREDENTIALS = "CREDENTIALS_DIRECTORY"  # set by systemd: one file per secret
ENV_FILE = "ENV_FILE"  # names the file to read in place of .env; on the appliance none counts, wherever one types
ADDRESSES = {  # of providers, and the scheme of each; the plain one is for a stand-in on this machine
    "finnhub_url": "https",
    "finnhub_ws_url": "wss",
    "twelvedata_url": "https",
    "twelvedata_ws_url": "wss",
}
REDIS_URLS = ("redis://", "rediss://", "unix://")
OTHERS = ("OPS_",)  # prefixes of settings that belong to other parts of the appliance
OWNED = ("RISK_", "FEED_")  # prefixes that are ours wherever they are found
SIMULATED_BAR, LIVE_BAR = timedelta(seconds=15), timedelta(minutes=1)


class Settings(Struct, frozen=True, forbid_unknown_fields=True):
    """What the operator decided. Every field is the environment variable of the same name in upper case."""

    target_symbols: str = "AAPL,MSFT,NVDA,SPY,BTC/USD,ETH/USD"
    strategies: str = "sma_cross:fast=20:slow=60,rsi_reversion,donchian:entry=40:exit=20,bollinger,momentum"
    trading_mode: Literal["paper", "live"] = "paper"
    market_data: Literal["", "live", "simulated"] = ""  # empty: live when a provider's key is set, else simulated
    initial_capital: Decimal = Decimal(1000)  # of a new account only; an existing one keeps its own
    allocation: Decimal = Decimal("0.1")  # fraction of equity that one entry spends

    finnhub_api_key: Secret = Secret("")
    twelvedata_api_key: Secret = Secret("")
    finnhub_url: str = "https://finnhub.io/api/v1"
    finnhub_ws_url: str = "wss://ws.finnhub.io"
    twelvedata_url: str = "https://api.twelvedata.com"
    twelvedata_ws_url: str = "wss://ws.twelvedata.com/v1/quotes/price"
    alpaca_url: str = "https://paper-api.alpaca.markets"
    alpaca_stream_url: str = "wss://paper-api.alpaca.markets/stream"
    heartbeat_url: str = ""
    httpx_pool_connections: int = 20
    httpx_pool_maxsize: int = 50

    feed_providers: str = "finnhub,twelvedata"  # in order: the first with a key is the primary, the next its backup
    feed_routes: str = ""  # other orders for single symbols: EUR/USD=twelvedata:finnhub,…
    finnhub_limits: str = "30/second,60/minute"
    finnhub_stream_symbols: int = 50  # what its socket may carry; 0: no socket
    twelvedata_limits: str = "8/minute,800/day"
    twelvedata_stream_symbols: int = 8
    quota_dir: str = ""  # where the credits of keys are counted; empty: DATA_DIR. Accounts with the same keys share it
    feed_silence: float = 10.0  # seconds without a word from a socket until the provider is asked
    feed_lost: float = 30.0  # seconds without any word until another provider takes over
    feed_return: float = 60.0  # seconds that a better provider has to be well before it is used again
    feed_poll: float = 15.0  # seconds between two questions for the same price
    feed_spike: float | None = 0.05  # fraction of the price: a tick further away has to be confirmed
    feed_divergence: float | None = 0.02  # fraction: two providers' prices further apart block entries
    feed_tape: str = ""  # directory to write down everything that providers send; empty: none
    feed_tape_mb: int = 500  # the most that the tape may take, in MiB; the oldest of it goes first

    data_dir: str = "data"
    users_dir: str = ""  # who may sign in, and who is; empty: DATA_DIR
    ops_data_dir: str = ""  # what the watcher leaves for readers; empty: DATA_DIR/ops
    ops_asked_dir: str = ""  # where the page leaves what it asks of the watcher; empty: OPS_DATA_DIR/asked
    ledger_expected: bool = False  # true: never begin a new account, a missing ledger is an error
    redis_url: str = ""  # empty: the supervisor starts one of its own
    redis_password: Secret = Secret("")  # of the user in REDIS_URL (unix://user@/path), or of Redis' default user
    api_host: str = "127.0.0.1"
    api_port: int = 8000
    api_workers: int = 1
    allowed_hosts: str = ""  # host names, besides the loopback ones, under which the API may be called
    api_tokens: Secret = Secret("")  # name:scope+scope:sha256hex,… of callers from outside; see `tradectl token`
    log_level: Literal["debug", "info", "warning", "error"] = "info"
    memory_minutes: float = 10.0  # how often kept memory is given back and what is held is logged; 0: never

    bar_seconds: int = 0  # length of a bar; 0: 15 on the simulated market, else 60
    warmup_bars: int = 240
    simulation_seed: int = 7
    simulation_tick_ms: int = 1000  # time between two quotes of a symbol
    mark_seconds: int = 60  # how often the account is marked to market in the ledger
    snapshot_every: int = 1000  # entries between two snapshots
    strategy_budget_ms: int = 500  # a strategy that thinks longer about one bar is quarantined; 0: no limit
    paper_fee: Decimal = Decimal("0.0002")  # fraction of notional
    paper_slippage: Decimal = Decimal("0.0001")  # fraction of price
    paper_spread: Decimal = Decimal(0)  # fraction of price, where a quote has no bid and ask
    record: str = ""  # file to write every event to, for `tradectl replay`

    risk_max_position: Decimal | None = Decimal("0.3")
    risk_max_gross_exposure: Decimal | None = Decimal("1.0")
    risk_max_order_notional: Decimal | None = None
    risk_min_order_notional: Decimal | None = Decimal(1)
    risk_max_orders_per_minute: int | None = 60
    risk_price_collar: Decimal | None = Decimal("0.05")
    risk_daily_loss: Decimal | None = Decimal("0.05")
    risk_daily_loss_amount: Decimal | None = Decimal(50)
    risk_max_drawdown: Decimal | None = Decimal("0.2")
    risk_losses_in_a_row: int | None = 5
    risk_cooldown_minutes: int = 15
    risk_stop_loss: Decimal | None = Decimal("0.03")
    risk_trailing_stop: Decimal | None = None
    risk_take_profit: Decimal | None = None
    risk_max_quote_age: float | None = 60.0  # seconds
    risk_max_clock_offset: float | None = 2.0  # seconds

    @property
    def directory(self) -> Path:
        return Path(self.data_dir).expanduser()

    @property
    def users(self) -> Path:
        """Where it stands who may sign in."""
        return Path(self.users_dir).expanduser() if self.users_dir else self.directory

    @property
    def watched(self) -> Path:
        """Where the watcher keeps what it knows."""
        return Path(self.ops_data_dir).expanduser() if self.ops_data_dir else self.directory / "ops"

    @property
    def asked(self) -> Path:
        """Where the page leaves what it asks of the watcher."""
        return Path(self.ops_asked_dir).expanduser() if self.ops_asked_dir else self.watched / "asked"

    @property
    def symbols(self) -> list[Symbol]:
        """The symbols to trade. Raise ConfigurationError for one that cannot be read."""
        try:
            return [parse_symbol(text) for text in self.target_symbols.split(",") if text.strip()]
        except InputError as fault:
            raise ConfigurationError(f"TARGET_SYMBOLS: {fault}") from fault

    @property
    def simulated(self) -> bool:
        return self.market_data == "simulated" or (not self.market_data and not self.keys)

    @property
    def bar_interval(self) -> timedelta:
        chosen = timedelta(seconds=self.bar_seconds)
        return chosen or (SIMULATED_BAR if self.simulated else LIVE_BAR)

    @property
    def keys(self) -> dict[str, Secret]:
        """The providers' keys that are set, by the provider's name."""
        known = {"finnhub": self.finnhub_api_key, "twelvedata": self.twelvedata_api_key}
        return {name: key for name, key in known.items() if key}

    @property
    def limits(self) -> Limits:
        return Limits(
            max_position=self.risk_max_position,
            max_gross_exposure=self.risk_max_gross_exposure,
            max_order_notional=self.risk_max_order_notional,
            min_order_notional=self.risk_min_order_notional,
            max_orders_per_minute=self.risk_max_orders_per_minute,
            price_collar=self.risk_price_collar,
            daily_loss=self.risk_daily_loss,
            daily_loss_amount=self.risk_daily_loss_amount,
            max_drawdown=self.risk_max_drawdown,
            losses_in_a_row=self.risk_losses_in_a_row,
            cooldown=timedelta(minutes=self.risk_cooldown_minutes),
            stop_loss=self.risk_stop_loss,
            trailing_stop=self.risk_trailing_stop,
            take_profit=self.risk_take_profit,
            max_quote_age=_seconds(self.risk_max_quote_age),
            max_clock_offset=_seconds(self.risk_max_clock_offset),
        )


def public_settings(settings: Settings) -> dict[str, str]:
    """Return every setting as text, under its name in the environment; no secrets, no addresses: they may hold one."""
    hidden = (*SECRETS, "_URL")
    shown = {key: getattr(settings, field) for key, field in FIELDS.items() if not key.endswith(hidden)}
    return {key: "" if value is None else f"{value}" for key, value in shown.items()}


def place_of(address: str) -> str:
    """Return an address without user, password, path and query, which may hold secrets."""
    parts = urlsplit(address)
    if parts.scheme == "unix":
        return f"unix://{parts.path}"
    port = f":{parts.port}" if parts.port else ""
    return f"{parts.scheme}://{parts.hostname}{port}" if parts.hostname else ""


def secrets_of(settings: Settings) -> list[Secret]:
    """Return every secret, set or not, for the log to star out."""
    return [getattr(settings, FIELDS[name]) for name in SECRETS]


class StrategyPlan(Struct, frozen=True):
    """A strategy to run on every symbol, with the parameters that were given."""

    name: str
    parameters: dict[str, str]


SHARE = (0, 1)  # a fraction of something: 0.05 is five percent
SHARE_OF_EQUITY = (0, 2)  # what is meant as percent (30) must not pass for a fraction
CASH = (0, 10**12)
RANGES: dict[str, tuple[float | Decimal, float | Decimal]] = {
    "initial_capital": (Decimal("0.01"), 10**12),
    "allocation": (Decimal("0.0001"), 1),
    "httpx_pool_connections": (1, 10_000),
    "httpx_pool_maxsize": (1, 10_000),
    "api_port": (1, 65_535),
    "api_workers": (1, 64),
    "memory_minutes": (0, 1440),
    "bar_seconds": (0, 86_400),
    "finnhub_stream_symbols": (0, 100_000),
    "twelvedata_stream_symbols": (0, 100_000),
    "feed_silence": (1, 3600),
    "feed_lost": (1, 3600),
    "feed_return": (0, 86_400),
    "feed_poll": (1, 3600),
    "feed_spike": SHARE,
    "feed_divergence": SHARE,
    "feed_tape_mb": (1, 10_000_000),
    "warmup_bars": (1, 100_000),
    "simulation_tick_ms": (1, 3_600_000),
    "mark_seconds": (1, 86_400),
    "snapshot_every": (1, 10**9),
    "strategy_budget_ms": (0, 600_000),
    "paper_fee": (0, Decimal("0.5")),
    "paper_slippage": (0, Decimal("0.5")),
    "paper_spread": (0, Decimal("0.5")),
    "risk_max_position": SHARE_OF_EQUITY,
    "risk_max_gross_exposure": SHARE_OF_EQUITY,
    "risk_max_order_notional": CASH,
    "risk_min_order_notional": CASH,
    "risk_max_orders_per_minute": (0, 1_000_000),
    "risk_price_collar": SHARE,
    "risk_daily_loss": SHARE,
    "risk_daily_loss_amount": CASH,
    "risk_max_drawdown": SHARE,
    "risk_losses_in_a_row": (1, 1_000_000),
    "risk_cooldown_minutes": (0, 100_000),
    "risk_stop_loss": SHARE,
    "risk_trailing_stop": SHARE,
    "risk_take_profit": (0, 100),
    "risk_max_quote_age": (0, 86_400),
    "risk_max_clock_offset": (0, 86_400),
}
WORDS = {int: "a whole number", float: "a number", Decimal: "a number", bool: "true or false"}
FIELDS = {field.upper(): field for field in Settings.__struct_fields__}
SECRETS = ("FINNHUB_API_KEY", "TWELVEDATA_API_KEY", "API_TOKENS", "REDIS_PASSWORD")


def load(environment: Mapping[str, str] = os.environ, env_file: Path | None = None) -> Settings:
    """Read the settings. Raise ConfigurationError naming the key, its value and what it should be."""
    merged = (
        _from_file(env_file or _env_file(environment)) | _from_environment(environment) | _from_credentials(environment)
    )
    values: dict[str, Any] = {}
    for key, text in merged.items():
        values[FIELDS[key]] = Secret(text.strip()) if key in SECRETS else _value(key, text)
    settings = Settings(**values)
    _check(settings)
    return settings


def _env_file(environment: Mapping[str, str]) -> Path:
    return Path(environment.get(ENV_FILE) or ".env")


def of_others(environment: Mapping[str, str] = os.environ) -> dict[str, str]:
    """Return the settings of a `.env` that belong to other parts of the appliance, for whoever starts them here."""
    path = _env_file(environment)
    if not path.exists():
        return {}
    return {line.key: line.value or "" for line in _lines(path) if line.key and line.key.startswith(OTHERS)}


def strategy_plans(text: str) -> list[StrategyPlan]:
    """Read `name:key=value:key=value,name…`. Raise ConfigurationError for what does not read so."""
    plans = []
    for part in filter(None, (piece.strip() for piece in text.split(","))):
        name, *settings = part.split(":")
        if not all("=" in setting for setting in settings):
            raise ConfigurationError(f"STRATEGIES: {part!r} does not read as name:key=value:key=value")
        plans.append(StrategyPlan(name, dict(tuple(s.split("=", 1)) for s in settings)))  # type: ignore[misc]
    if len({plan.name for plan in plans}) < len(plans):
        raise ConfigurationError(f"STRATEGIES names a strategy twice: {text}")
    return plans


def _from_file(path: Path) -> dict[str, str]:
    """Read `KEY=value` lines. Raise ConfigurationError for a line or a key that is not one of ours."""
    if not path.exists():
        return {}
    found: dict[str, str] = {}
    for line in _lines(path):
        if line.error or (line.key and line.value is None):
            raise ConfigurationError(
                f"{path}, line {line.original.line}: does not read as KEY=value; mend or delete it"
            )
        if line.key and (line.key in FIELDS or not line.key.startswith(OTHERS)):
            found[_known(line.key, f"{path}, line {line.original.line}")] = line.value or ""
    return found


def _lines(path: Path) -> list[Binding]:
    try:
        with path.open(encoding="utf-8-sig") as stream:
            return list(parse_stream(stream))
    except (OSError, UnicodeDecodeError) as fault:
        raise ConfigurationError(
            f"{path} cannot be read ({fault}); make it a text file that this user may read"
        ) from fault


def _from_environment(environment: Mapping[str, str]) -> dict[str, str]:
    for key in environment:
        if key.startswith(OWNED):
            _known(key, "the environment")
    return {key: value for key, value in environment.items() if key in FIELDS}


def _known(key: str, where: str) -> str:
    if key not in FIELDS:
        close = get_close_matches(key, FIELDS, n=1)
        hint = f"did you mean {close[0]}?" if close else "see .env.example for those that exist"
        raise ConfigurationError(f"{where}: there is no setting {key}; {hint}")
    return key


def _from_credentials(environment: Mapping[str, str]) -> dict[str, str]:
    """Read the files of our secrets; one that is empty or not there says nothing."""
    directory = environment.get(CREDENTIALS)
    if not directory:
        return {}
    found = {name: _credential(Path(directory) / name) for name in SECRETS}
    return {name: text for name, text in found.items() if text}


def _credential(path: Path) -> str:
    try:
        return path.read_text().strip()
    except FileNotFoundError:
        return ""
    except (OSError, UnicodeDecodeError) as fault:
        what = fault.strerror if isinstance(fault, OSError) else "it is no text"
        raise ConfigurationError(f"the credential {path} cannot be read: {what}; mend or remove it") from None


def _value(key: str, text: str) -> Any:
    """Convert a text to the type of its field; an empty text turns an optional limit off."""
    kind = _TYPES[FIELDS[key]]
    text = text.strip()
    if kind is str:
        return text
    if not text and type(None) in get_args(kind):
        return None
    try:
        value = msgspec.convert(text, kind, strict=False)
    except msgspec.ValidationError as fault:
        raise ConfigurationError(f"{key}={text!r} cannot be used; write {_wanted(kind)}") from fault
    if value is None or (isinstance(value, float | Decimal) and not _is_finite(value)):
        raise ConfigurationError(f"{key}={text!r} cannot be used; write {_wanted(kind)}")
    return value


def _is_finite(number: float | Decimal) -> bool:
    return number.is_finite() if isinstance(number, Decimal) else isfinite(number)


def _wanted(kind: Any) -> str:
    """Say in words what a field takes."""
    options = [option for option in get_args(kind) if option is not type(None)]
    if get_origin(kind) is Literal:
        return f"one of {', '.join(option or 'nothing' for option in options)}"
    off = ", or leave it empty to turn it off" if len(options) < len(get_args(kind)) else ""
    return WORDS[options[0] if options else kind] + off


def _check(settings: Settings) -> None:
    """Refuse what is well-formed but makes no sense."""
    for field, (least, most) in RANGES.items():
        value = getattr(settings, field)
        if value is not None and not least <= value <= most:
            off = ", or leave it empty to turn it off" if type(None) in get_args(_TYPES[field]) else ""
            raise ConfigurationError(f"{field.upper()}={value} is out of range; use {least} to {most}{off}")
    for field in ("data_dir", "api_host"):
        if not getattr(settings, field):
            raise ConfigurationError(f"{field.upper()} is empty; name one, or remove the line for the usual one")
    if settings.redis_url and not settings.redis_url.startswith(REDIS_URLS):
        raise ConfigurationError(
            f"REDIS_URL does not begin with one of {', '.join(REDIS_URLS)}; correct it, or leave it empty"
        )
    if settings.redis_password and _holds_password(settings.redis_url):
        raise ConfigurationError("REDIS_URL has a password in it and REDIS_PASSWORD is set as well; keep one of them")
    for field, scheme in ADDRESSES.items():
        if not _is_address(getattr(settings, field), scheme):
            raise ConfigurationError(
                f"{field.upper()} does not read as {scheme}://host or {scheme[:-1]}://host:port; correct it, or remove "
                "the line for the usual one"
            )
    names = [symbol.name for symbol in settings.symbols]
    if not names:
        raise ConfigurationError("TARGET_SYMBOLS is empty; name at least one, as AAPL or BTC/USD")
    if twice := {name for name in names if names.count(name) > 1}:
        raise ConfigurationError(
            f"TARGET_SYMBOLS={settings.target_symbols} names {', '.join(twice)} twice; once is enough"
        )
    strategy_plans(settings.strategies)


def _holds_password(url: str) -> bool:
    parts = urlsplit(url)
    return bool(parts.password) or "password=" in parts.query


def _is_address(url: str, scheme: str) -> bool:
    """Say whether an outside address can be asked at all."""
    try:
        parts = urlsplit(url)
        host, port = (parts.hostname or "").encode("idna"), parts.port
    except ValueError:
        return False
    return parts.scheme in (scheme, scheme[:-1]) and bool(host) and port != 0 and not parts.fragment


def _seconds(number: float | None) -> timedelta | None:
    return None if number is None else timedelta(seconds=number)


_TYPES = {field.name: field.type for field in msgspec.structs.fields(Settings)}
