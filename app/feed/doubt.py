"""Whether the price of a symbol may be believed: a jump has to be confirmed, and two providers have to agree.

While a price is in doubt it marks nothing and fills nothing, and no entry may rest on its symbol.
"""

from __future__ import annotations

from datetime import datetime, timedelta

from app.model import Quote

CONFIRMATIONS = 5  # ticks at the new level …
ALONE = timedelta(seconds=30)  # … over so long are a move and no misprint, where no other provider can be asked
TOGETHER = timedelta(seconds=90)  # where one can, it gets time to say what it sees: some look once a minute
COMPARED = timedelta(minutes=10)  # nobody to compare with for so long, and one provider is believed like an only one
CALM = timedelta(seconds=10)  # after a misprint, before the symbol is believed again


class Doubt:
    """What is known against one symbol's price. `spike` and `divergence` are fractions of the price, None is off.

    `jump` is the newest price that is too far from the ones before, None while there is none; `count` is how many there
    were since `since`. `span` is how long they have to last to be believed. `confirmed` says that one was since it was
    last looked at. `reason` is why the symbol is in doubt, empty while it is not.
    """

    def __init__(self, spike: float | None, divergence: float | None) -> None:
        self._spike, self._divergence = spike, divergence
        self.reference: float | None = None  # the last price that was believed
        self.jump: float | None = None
        self.since: datetime | None = None
        self.span = ALONE
        self.count = 0
        self._calm_at: datetime | None = None
        self._compared: datetime | None = None  # when two providers were last found apart
        self.confirmed = False
        self.reason = self._spiked = self._apart = self._clock = ""

    def passes(self, quote: Quote) -> bool:
        """Say whether a tick may be a price; one that jumps may not, until enough others have confirmed it."""
        reference, limit, price = self.reference, self._spike, quote.price
        if reference is None or limit is None or abs(price - reference) <= limit * reference:
            self.reference = price
            if self.jump is not None:
                self._refute(quote.received)
            return True
        self._suspect(quote, reference, limit)
        return self.jump is None

    def fits(self, quote: Quote) -> bool:
        """Say whether a tick is near what is believed; nothing follows from it."""
        reference, limit = self.reference, self._spike
        return reference is None or limit is None or abs(quote.price - reference) <= limit * reference

    def urgent(self, now: datetime) -> bool:
        """Say whether the next words of another provider decide about a jump."""
        return self.since is not None and now - self.since <= TOGETHER

    def confirm(self) -> None:
        """Believe the jump: another provider sees it too, or it has lasted."""
        self.reference = self.jump
        self.jump, self.since, self.count, self._calm_at, self.confirmed = None, None, 0, None, True
        self._say(spiked="")

    def rest(self) -> None:
        """Let go of what was suspected when the market closed; its opening is another day's matter."""
        if self.jump is not None or self.reason:
            self.jump, self.since, self.count, self._calm_at = None, None, 0, None
            self._say(spiked="", apart="")

    def mind_the_clock(self, reason: str) -> None:
        """Doubt every price while our own clock is wrong, or none any more for that, if there is no reason."""
        self._say(clock=reason)

    def refute(self, now: datetime) -> None:
        """Do not believe the jump: another provider does not see it."""
        self._refute(now)

    def believe(self, price: float, now: datetime) -> None:
        """Start anew from the price of a provider that was just switched to, if it is near what was believed before."""
        if self.jump is not None:
            self._refute(now)
        if self.reference is None or self._spike is None or self.near(price, self.reference):
            self.reference = price

    def compare(self, provider: str, price: float, told: Quote) -> None:
        """Compare the price in use, which is `provider`'s, with what another one told of the same moment."""
        limit = self._divergence
        if limit is None:
            return
        apart, self._compared = abs(price / told.price - 1), told.received
        text = f"{provider} says {price:.10g}, {told.provider} {told.price:.10g}: {apart:.1%} apart (limit {limit:.1%})"
        self._say(apart=text if apart > limit else "")

    def forget(self, now: datetime) -> None:
        """Let go of a misprint after a while of calm, and of a difference that nobody can confirm any more."""
        if self._apart and self._compared is not None and now - self._compared >= COMPARED:
            self._say(apart="")
        if self.jump is None and self._calm_at is not None and now >= self._calm_at:
            self._calm_at = None
            self._say(spiked="")

    def near(self, price: float, other: float) -> bool:
        """Say whether two prices are of the same level."""
        return self._spike is None or abs(price - other) <= self._spike / 2 * other

    def _suspect(self, quote: Quote, reference: float, limit: float) -> None:
        if self.jump is None or not self.near(quote.price, self.jump):
            self.since, self.count = quote.received, 0
        self.jump, self.count = quote.price, self.count + 1
        if self.count >= CONFIRMATIONS and self.since is not None and quote.received - self.since >= self.span:
            self.confirm()
            return
        away = quote.price / reference - 1
        told = f"{quote.provider} jumped from {reference:.10g} to {quote.price:.10g}: {away:+.1%} (limit {limit:.1%})"
        self._say(spiked=told)

    def _refute(self, now: datetime) -> None:
        self.jump, self.since, self.count, self._calm_at = None, None, 0, now + CALM

    def _say(self, *, spiked: str | None = None, apart: str | None = None, clock: str | None = None) -> None:
        self._spiked = self._spiked if spiked is None else spiked
        self._apart = self._apart if apart is None else apart
        self._clock = self._clock if clock is None else clock
        self.reason = "; ".join(filter(None, (self._clock, self._spiked, self._apart)))
