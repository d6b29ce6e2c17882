"""Addresses such as `s3://bucket/folder?region=eu-west-1`, parsed and written as text; nothing is opened.

An address must not contain a password, because it is written into pairs.json, MLflow and messages. Error messages
never show what may be a password.
"""

import re
from typing import NamedTuple
from urllib.parse import parse_qsl, quote, unquote, urlencode

from model.errors import DataError

_HOST = r"[\w.-]+"
_PARTS = re.compile(
    r"(?P<scheme>[A-Za-z][A-Za-z0-9+.-]*)://(?P<authority>[^/?#]*)(?P<path>[^?#]*)(?P<rest>.*)", re.DOTALL
)
_AZURE = "where DefaultAzureCredential looks (AZURE_CLIENT_ID, AZURE_TENANT_ID and AZURE_CLIENT_SECRET, for instance)"


class _Scheme(NamedTuple):
    form: str
    authority: str
    """Regular expression for the part before the path; it matches no password."""
    options: tuple[str, ...]
    """Options allowed after the question mark; none is secret."""
    credentials: str
    """Words that complete the sentence "Credentials belong"."""


_SCHEMES = {
    "s3": _Scheme(
        "s3://BUCKET/FOLDER",
        _HOST,
        ("endpoint_override", "region", "scheme", "tls_ca_file_path"),
        "in AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or in ~/.aws/credentials",
    ),
    "gs": _Scheme(
        "gs://BUCKET/FOLDER (gs://anonymous@BUCKET/FOLDER for a public one)",
        rf"(?:anonymous@)?{_HOST}",
        ("endpoint_override", "project_id", "retry_limit_seconds", "scheme"),
        "in the file that GOOGLE_APPLICATION_CREDENTIALS names",
    ),
    "hdfs": _Scheme(
        "hdfs://HOST:PORT/FOLDER",
        rf"(?:(?:{_HOST}@)?{_HOST}(?::\d+)?)?",
        ("buffer_size", "default_block_size", "kerb_ticket", "replication", "user"),
        "in a Kerberos ticket (kinit)",
    ),
    "abfs": _Scheme("abfs://CONTAINER@ACCOUNT.dfs.core.windows.net/FOLDER", rf"{_HOST}@{_HOST}", (), _AZURE),
    "abfss": _Scheme("abfss://CONTAINER@ACCOUNT.dfs.core.windows.net/FOLDER", rf"{_HOST}@{_HOST}", (), _AZURE),
    "file": _Scheme("file:///FOLDER", "", (), "nowhere: local files need none"),
}


class Address(NamedTuple):
    """An address in its parts; `str()` returns the same text for equal parts.

    Attributes:
        scheme: Kind of file system, in lower case.
        authority: Bucket or host.
        path: Path in the bucket or on the host, unescaped and without slashes at its ends.
        options: Options of the file system, such as the endpoint, sorted by name.
    """

    scheme: str
    authority: str
    path: str
    options: tuple[tuple[str, str], ...] = ()

    def __str__(self) -> str:
        """Return the address as text, with special characters escaped."""
        options = f"?{urlencode(self.options, safe='/:')}" if self.options else ""
        return f"{self.scheme}://{self.authority}/{quote(self.path)}{options}"

    @property
    def root(self) -> "Address":
        """Address of the bucket or host, with the options; one connection serves everything below it."""
        return self._replace(path="")

    @property
    def credentials(self) -> str:
        """Words that complete the sentence "Credentials belong"."""
        return _SCHEMES[self.scheme].credentials

    def inside(self, *names: str) -> "Address":
        """Return the address of an entry below this one."""
        return self._replace(path="/".join((self.path, *names)).lstrip("/"))


def is_address(text: str) -> bool:
    """Return whether a text begins with `SCHEME://`; otherwise it is a path."""
    return _PARTS.match(text) is not None


def parse(text: str) -> Address:
    """Parse an address.

    Raises:
        DataError: The scheme is unknown, the form is wrong, or the address contains a password.
    """
    match = _PARTS.match(text)
    if not match:
        raise DataError(
            f"{hide_passwords(text)!r} is not an address; write SCHEME://..., for instance s3://BUCKET/FOLDER."
        )
    scheme, authority = match["scheme"].lower(), match["authority"]
    refuse_password(text)
    if scheme not in _SCHEMES:
        allowed = ", ".join(f"{name}://" for name in _SCHEMES)
        others = "" if scheme == "kaggle" else "kaggle:// or "
        raise DataError(f"{scheme}:// can't be read here; use a local folder, {others}one of {allowed}.")
    known = _SCHEMES[scheme]
    if not re.fullmatch(known.authority, authority, re.ASCII):
        raise DataError(f"The {scheme}:// address has the wrong form; write {known.form}.")
    question, _, fragment = match["rest"].partition("#")
    if fragment or match["rest"].endswith("#"):
        raise DataError(f"The {scheme}:// address contains a '#', which ends an address; write %23 instead.")
    options = tuple(sorted(parse_qsl(question.removeprefix("?"), keep_blank_values=True)))
    for name, _ in options:
        if name not in known.options:
            allowed = ", ".join(known.options) or "none"
            raise DataError(
                f"The {scheme}:// address has an unknown option {name!r}; allowed options: {allowed}. "
                f"Credentials belong {known.credentials}."
            )
    return Address(scheme, authority, unquote(match["path"]).strip("/"), options)


def refuse_password(text: str) -> None:
    """Raise an error if an address, of any scheme, contains a user and password.

    Raises:
        DataError: It contains them, or what may be them; the message does not show them.
    """
    match = _PARTS.match(text)
    if not match:
        return
    scheme, authority = match["scheme"].lower(), match["authority"]
    known = _SCHEMES.get(scheme)
    if known:
        # Secret keys may contain slashes: the authority of s3://KEY:SEC/RET@bucket ends in the middle of the secret.
        found = not re.fullmatch(known.authority, authority, re.ASCII) and bool(re.search("[:@]", authority))
        found, where = found or "@" in unquote(match["rest"]), known.credentials
    else:
        found, where = ":" in authority and "@" in text, "in the environment"
    if found:
        raise DataError(
            f"The {scheme}:// address contains a user or a password, which would be written into logs and MLflow; "
            f"remove it: credentials belong {where}."
        )


def hide_passwords(text: str) -> str:
    """Return a text without anything that may be the user and password of an address."""
    return re.sub(r"://[^\s'\"]*@", "://", text)


def one_line(message: object, *, longest: int = 300) -> str:
    """Return the text of an error or of a library's message in one line, without passwords and without a full stop.

    The middle of a longer text is left out.
    """
    text = " ".join(hide_passwords(str(message)).split()).rstrip(".")
    return text if len(text) <= longest else f"{text[: longest // 2]}...{text[-longest // 2 :]}"
