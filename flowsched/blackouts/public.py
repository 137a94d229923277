"""Public holidays, as the optional package `holidays` knows them; it is imported when they are asked for."""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING, Any

from flowsched.errors import Refused, quoted
from flowsched.near import did_you_mean

if TYPE_CHECKING:
    from datetime import date

    from flowsched.model import Holidays

_COUNTRY = "the two letters of a country, such as DE"
_MOST_NAMES = 30


def check_holidays(holidays: Holidays) -> None:
    """Raise Refused where the package is not there, or does not know the country or its subdivision."""
    package = _package()
    known = package.list_supported_countries(include_aliases=True)
    country, subdivision = holidays.country, holidays.subdivision
    if country not in known:
        raise Refused(f"there are no holidays of {quoted(country)}{did_you_mean(country, known)}", _COUNTRY)
    if subdivision is not None and subdivision not in known[country]:
        hint = did_you_mean(subdivision, known[country])
        raise Refused(f"{country} has no subdivision {quoted(subdivision)}{hint}", _listed(known[country]))


def holidays_version() -> str:
    """Return the version of the package. Raises Refused where it is not there."""
    version: str = _package().__version__
    return version


@lru_cache(maxsize=1_024)
def holidays_of(holidays: Holidays, year: int) -> tuple[date, ...]:
    """Return the holidays of a year, ascending. Raises Refused."""
    try:
        found = _package().country_holidays(holidays.country, subdiv=holidays.subdivision, years=year)
    except NotImplementedError as error:
        raise Refused(f"there are no such holidays: {error}", _COUNTRY) from None
    return tuple(sorted(day for day in found if day.year == year))


def _package() -> Any:
    try:
        import holidays  # noqa: PLC0415 - optional
    except ImportError:
        how = "a flowsched with that package: pip install 'flowsched[holidays]'"
        raise Refused("holidays need the package holidays, which is not installed", how) from None
    return holidays


def _listed(names: list[str]) -> str:
    if not names:
        return "no subdivision: the country has none"
    return ", ".join(names[:_MOST_NAMES]) + (", ..." if len(names) > _MOST_NAMES else "")
