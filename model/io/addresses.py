"""Addresses such as `s3://bucket/folder?region=eu-west-1`, taken apart and put together as text: nothing is opened.

An address never holds a password, for it is written into pairs.json, into MLflow and into messages. So what is refused
here is refused without being shown.
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
    """What may stand before the path, as a regular expression: no place for a password."""
    options: tuple[str, ...]
    """What may stand behind the question mark: nothing secret."""
    credentials: str


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
    "file": _Scheme("file:///FOLDER", "", (), "nowhere: this machine's files need none"),
}


class Address(NamedTuple):
    """An address in its parts; `str()` gives the text, always the same one for the same parts.

    Attributes:
        scheme: Which kind of file system.
        authority: Bucket or host.
        path: Below it, with neither escapes nor slashes at its ends.
        options: Of the file system, such as the endpoint; sorted.
    """

    scheme: str
    authority: str
    path: str
    options: tuple[tuple[str, str], ...] = ()

    def __str__(self) -> str:
        """Return the address with what is special in names escaped."""
        options = f"?{urlencode(self.options, safe='/:')}" if self.options else ""
        return f"{self.scheme}://{self.authority}/{quote(self.path)}{options}"

    @property
    def root(self) -> "Address":
        """The bucket or host alone, with its options: what one connection serves."""
        return self._replace(path="")

    @property
    def credentials(self) -> str:
        """Where the credentials for such an address belong."""
        return _SCHEMES[self.scheme].credentials

    def inside(self, *names: str) -> "Address":
        """Return the address of what lies below."""
        return self._replace(path="/".join((self.path, *names)).lstrip("/"))


def is_address(text: str) -> bool:
    """Tell an address from a path: it begins with `SCHEME://`."""
    return _PARTS.match(text) is not None


def parse(text: str) -> Address:
    """Take an address apart.

    Raises:
        DataError: The scheme is none of the known, a password stands in it, or the form is wrong.
    """
    match = _PARTS.match(text)
    if not match:
        raise DataError(f"{hide_passwords(text)!r} is no address: write SCHEME://..., for instance s3://BUCKET/FOLDER.")
    scheme, authority = match["scheme"].lower(), match["authority"]
    refuse_password(text)
    if scheme not in _SCHEMES:
        allowed = ", ".join(f"{name}://" for name in _SCHEMES)
        raise DataError(f"{scheme}:// can't be read; give a local folder, kaggle:// or one of {allowed}.")
    known = _SCHEMES[scheme]
    if not re.fullmatch(known.authority, authority, re.ASCII):
        raise DataError(f"The {scheme}:// address has not the form that is needed: write {known.form}.")
    question, _, fragment = match["rest"].partition("#")
    if fragment or match["rest"].endswith("#"):
        raise DataError(f"The {scheme}:// address holds a '#', which ends an address; write %23 if a name has one.")
    options = tuple(sorted(parse_qsl(question.removeprefix("?"), keep_blank_values=True)))
    for name, _ in options:
        if name not in known.options:
            raise DataError(
                f"The {scheme}:// address has an option {name!r}; allowed are: {', '.join(known.options) or 'none'}. "
                f"Credentials belong {known.credentials}."
            )
    return Address(scheme, authority, unquote(match["path"]).strip("/"), options)


def refuse_password(text: str) -> None:
    """Refuse an address, of any scheme, with a user and password in it.

    Raises:
        DataError: There is one, or what looks like one; the message does not show it.
    """
    match = _PARTS.match(text)
    if not match:
        return
    scheme, authority = match["scheme"].lower(), match["authority"]
    known = _SCHEMES.get(scheme)
    if known:
        # Secret keys hold slashes, so that the authority of s3://KEY:SEC/RET@bucket ends in the middle of the secret.
        found = not re.fullmatch(known.authority, authority, re.ASCII) and bool(re.search("[:@]", authority))
        found, where = found or "@" in unquote(match["rest"]), known.credentials
    else:
        found, where = ":" in authority and "@" in text, "in the environment"
    if found:
        raise DataError(
            f"The {scheme}:// address holds a user or a password, which would be written into logs and MLflow: take it "
            f"out; credentials belong {where}."
        )


def hide_passwords(text: str) -> str:
    """Return a text in which whatever may be a user and password of an address is left out."""
    return re.sub(r"://[^\s'\"]*@", "://", text)
