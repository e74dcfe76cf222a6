"""Delivery dates, broken on purpose: the carrier never answers, and a template asks it."""

from __future__ import annotations

import datetime as dt
from dataclasses import dataclass


class CarrierSilent(RuntimeError):
    """The carrier gave no collection date."""


@dataclass(frozen=True)
class Delivery:
    """One parcel on its way, as a template sees it."""

    carrier: str

    @property
    def arrives_on(self) -> dt.date:
        """The day of arrival; the template that reads it fails."""
        return next_collection(self.carrier) + dt.timedelta(days=2)


def next_collection(carrier: str) -> dt.date:
    """Return the carrier's next collection day, or raise CarrierSilent."""
    raise CarrierSilent(f"{carrier} has no collection date")
