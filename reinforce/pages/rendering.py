"""Templates -> a page. What comes from a store is text, never markup: the environment escapes every value."""

from __future__ import annotations

import functools
import math

from jinja2 import ChoiceLoader, Environment, PackageLoader, StrictUndefined

MAX_TEXT = 160
"""Characters of a foreign text that are shown; a key or a reason may be of any length."""


def render(template: str, *, package: str = __package__, **content: object) -> bytes:
    """The page of a template in a package's folder `templates`, UTF-8; it may extend those of this package.

    Lone surrogates, which keys of undecodable file names hold, are written as `\\udcff`.
    """
    text = _environment(package).get_template(template).render(**content)
    return text.encode("utf-8", "backslashreplace")


@functools.cache
def _environment(package: str) -> Environment:
    environment = Environment(
        loader=ChoiceLoader([PackageLoader(package), PackageLoader(__package__)]),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {"percent": percent, "number": number, "short": shorten, "count": count}
    return environment


def percent(share: float) -> str:
    """0.123 -> "12.3 %"."""
    if 0 < share < 0.0005:
        return "< 0.1 %"
    return "> 99.9 %" if 0.9995 <= share < 1 else f"{100 * share:.1f} %"


def number(value: object) -> str:
    """Three digits of a measurement; other values as they are."""
    if isinstance(value, bool) or not isinstance(value, float) or not math.isfinite(value):
        return str(value)
    if value and not 1e-3 <= abs(value) < 1e5:
        digits, exponent = f"{value:.2e}".split("e")
        return f"{digits} × {power_of_ten(int(exponent))}"
    return f"{value:.3g}" if abs(value) < 1000 else f"{value:.0f}"


def power_of_ten(exponent: int) -> str:
    """-5 -> "10⁻⁵"."""
    return "10" + str(exponent).translate(_SUPERSCRIPTS)


def count(value: int) -> str:
    """1234567 -> "1,234,567"."""
    return f"{value:,}"


def shorten(text: object, limit: int = MAX_TEXT) -> str:
    """At most `limit` characters, of which the middle is left out: a path's two ends say most."""
    whole = str(text)
    if len(whole) <= limit:
        return whole
    head = (limit - 1) // 2
    return f"{whole[:head]}…{whole[len(whole) - (limit - 1 - head) :]}"


_SUPERSCRIPTS = str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹")
