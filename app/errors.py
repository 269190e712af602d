"""Every error that this program raises on purpose, and who has to act on it.

TradingError                 something a person or a caller can act on
├── ConfigurationError       the operator corrects a setting; nothing was started
├── InputError               the caller corrects the request or the file; nothing was changed
├── StoreError               the ledger cannot be used; trading stops
│   ├── StoreMissing         a known account without its ledger: mount or restore it
│   ├── StoreForeign         not a ledger of this account: point DATA_DIR elsewhere
│   ├── StoreNewer           written by a newer release: deploy that release
│   ├── StoreDamaged         the hash chain or the fold does not hold: wake a person, restore
│   ├── StoreFull            no space left: free some, then start again
│   └── LeaseLost            another engine took over: this one must not write again
├── LeaseHeld                another engine runs on this account: leave it or stop it
├── Fenced                   the account lives on another machine: leave it there, or restore it here
├── FeedError                a provider misbehaved: asked again later, meanwhile another one answers
│   ├── WrongKey             it does not take our key: the operator corrects it, it is never tried again
│   ├── NotEntitled          our plan does not include this: never asked again, another provider does it
│   ├── OutOfCredits         the plan's credits are used up: asked again once they are renewed
│   └── UnknownInstrument    it does not know this symbol: never asked again, another provider does it
├── ClockSetBack             the clock went back: nothing to mend, the next start is in the present again
├── BrokerError              the venue did not answer as agreed: the order is unknown until asked for
├── NotRunning               the appliance does not answer: start it
├── TimedOut                 the answer did not come in time: ask again before repeating
├── Refused                  understood and denied, with the reason
├── WrongPassword            name or password is wrong, which of them is not told: type them again
├── TooManyTries             one guesses too often: wait as long as it says
└── Halted                   trading is halted; release it first
"""

from __future__ import annotations

from datetime import datetime


class TradingError(Exception):
    """Base of the tree. `code` is stable and public; `exit_code` is what tradectl returns."""

    code = "error"
    exit_code = 1


class ConfigurationError(TradingError):
    code = "configuration"
    exit_code = 4


class InputError(TradingError):
    code = "bad_input"
    exit_code = 2


class StoreError(TradingError):
    code = "store"


class StoreMissing(StoreError):
    code = "store_missing"
    exit_code = 4


class StoreForeign(StoreError):
    code = "store_foreign"
    exit_code = 4


class StoreNewer(StoreError):
    code = "store_newer"
    exit_code = 4


class StoreDamaged(StoreError):
    code = "store_damaged"


class StoreFull(StoreError):
    code = "store_full"


class LeaseLost(StoreError):
    code = "lease_lost"
    exit_code = 6


class LeaseHeld(TradingError):
    code = "lease_held"
    exit_code = 6


class Fenced(TradingError):
    code = "fenced"
    exit_code = 6


class FeedError(TradingError):
    code = "feed"


class WrongKey(FeedError):
    code = "wrong_key"
    exit_code = 4


class NotEntitled(FeedError):
    code = "not_entitled"


class OutOfCredits(FeedError):
    """`until` is when the credits are renewed, None where the provider did not say."""

    code = "out_of_credits"

    def __init__(self, text: str, until: datetime | None = None) -> None:
        super().__init__(text)
        self.until = until


class UnknownInstrument(FeedError):
    code = "unknown_instrument"


class ClockSetBack(TradingError):
    """This machine's clock was set back: what was computed by the later time is of no use, a new start is."""

    code = "clock_set_back"


class BrokerError(TradingError):
    code = "broker"


class NotRunning(TradingError):
    code = "not_running"
    exit_code = 3


class TimedOut(TradingError):
    code = "timed_out"
    exit_code = 5


class Refused(TradingError):
    code = "refused"


class WrongPassword(TradingError):
    code = "wrong_password"


class TooManyTries(TradingError):
    """`seconds` is how long it is until the next try."""

    code = "too_many_tries"

    def __init__(self, text: str, seconds: float = 0.0) -> None:
        super().__init__(text)
        self.seconds = seconds


class Halted(TradingError):
    code = "halted"
    exit_code = 7
