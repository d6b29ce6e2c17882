"""References to registered versions, as users write them."""

import re
from typing import NamedTuple

from model.errors import ConfigError

SCHEME = "models:"
FORMS = "models:/NAME@ALIAS or models:/NAME/VERSION"
_URI = re.compile(r"models:/(?P<name>[^/@]+)(?:@(?P<alias>[^/@]+)|/(?P<version>\d+))")


class Reference(NamedTuple):
    """A version of a registered model, named by its number or by an alias."""

    name: str
    which: str


def parse_uri(text: str) -> Reference:
    """Parse models:/NAME@ALIAS or models:/NAME/VERSION.

    Raises:
        ConfigError: The text has neither form.
    """
    match = _URI.fullmatch(text)
    if not match:
        raise ConfigError(f"{text!r} is not a model; write {FORMS}.")
    return Reference(match["name"], match["alias"] or match["version"])


def parse(text: str | int, *, name: str) -> Reference:
    """Parse a version number or an alias of the model `name`, or a URI, which names the model itself.

    Raises:
        ConfigError: The text begins like a URI but is not one.
    """
    return parse_uri(text) if isinstance(text, str) and text.startswith(SCHEME) else Reference(name, str(text))
