"""Addresses: parsed, written as text, and rejected without showing passwords."""

import pytest

from model.errors import ConfigError, DataError
from model.io.addresses import Address, hide_passwords, is_address, one_line, parse
from pipelines.config.loading import load


@pytest.mark.parametrize(
    ("text", "parts", "normal"),
    [
        ("s3://bucket/a/b", ("s3", "bucket", "a/b"), "s3://bucket/a/b"),
        ("S3://bucket/a/b/", ("s3", "bucket", "a/b"), "s3://bucket/a/b"),
        ("s3://bucket", ("s3", "bucket", ""), "s3://bucket/"),
        ("gs://anonymous@bucket/a", ("gs", "anonymous@bucket", "a"), "gs://anonymous@bucket/a"),
        ("hdfs://name-node:8020/a", ("hdfs", "name-node:8020", "a"), "hdfs://name-node:8020/a"),
        ("hdfs:///a", ("hdfs", "", "a"), "hdfs:///a"),
        ("hdfs://name-node:8020/a@b", ("hdfs", "name-node:8020", "a@b"), "hdfs://name-node:8020/a%40b"),
        (
            "abfs://box@account.dfs.core.windows.net/a",
            ("abfs", "box@account.dfs.core.windows.net", "a"),
            "abfs://box@account.dfs.core.windows.net/a",
        ),
        ("file:///my%20pairs", ("file", "", "my pairs"), "file:///my%20pairs"),
        ("s3://bucket/a b/é%23", ("s3", "bucket", "a b/é#"), "s3://bucket/a%20b/%C3%A9%23"),
        ("s3://bucket/100%", ("s3", "bucket", "100%"), "s3://bucket/100%25"),
    ],
)
def test_an_address_is_parsed_and_has_one_text(text, parts, normal):
    address = parse(text)
    assert address == Address(*parts) and str(address) == normal
    assert parse(normal) == address


def test_entries_below_an_address_keep_its_options():
    address = parse("s3://bucket/a?scheme=http&endpoint_override=127.0.0.1:5000")
    assert str(address.inside("train", "x #1.png")) == (
        "s3://bucket/a/train/x%20%231.png?endpoint_override=127.0.0.1:5000&scheme=http"
    )
    assert str(address.root) == "s3://bucket/?endpoint_override=127.0.0.1:5000&scheme=http"
    assert address.root == address.inside("x").root
    assert parse(str(address.inside("x?y"))).path == "a/x?y"
    assert str(address.root.inside("a")) == str(address)


@pytest.mark.parametrize("text", ["/data/pairs", "pairs", "~/pairs", "sample", "./a:b", "C:/pairs", "//host/pairs"])
def test_a_path_is_not_an_address(text):
    assert not is_address(text)
    with pytest.raises(DataError, match="is not an address"):
        parse(text)


def parse_error(text):
    """Parse an address that must be rejected; return the message."""
    with pytest.raises(DataError) as error:
        parse(text)
    return str(error.value)


def test_an_unknown_scheme_is_rejected_with_the_allowed_ones():
    assert parse_error("ftp://host/pairs") == (
        "ftp:// can't be read here; use a local folder, kaggle:// or one of s3://, gs://, hdfs://, abfs://, abfss://, "
        "file://."
    )


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("s3:///pairs", "The s3:// address has the wrong form; write s3://BUCKET/FOLDER."),
        ("gs://", "The gs:// address has the wrong form; write gs://BUCKET/FOLDER"),
        ("file://host/pairs", "The file:// address has the wrong form; write file:///FOLDER."),
        ("abfs://account/a", "write abfs://CONTAINER@ACCOUNT.dfs.core.windows.net/FOLDER."),
        ("s3://bucket/a#maps", "contains a '#', which ends an address; write %23 instead."),
        (
            "s3://bucket/a?regoin=eu",
            "has an unknown option 'regoin'; allowed options: endpoint_override, region",
        ),
        ("file:///a?b=c", "has an unknown option 'b'; allowed options: none."),
    ],
)
def test_an_invalid_address_is_rejected_with_the_allowed_form(text, message):
    assert message in parse_error(text)


SECRET = "hunter2"
WITH_PASSWORDS = [
    f"s3://KEY:{SECRET}@bucket/pairs",
    f"s3://KEY:{SECRET}/with/slashes@bucket/pairs",
    f"s3://KEY:{SECRET}",
    f"s3://{SECRET}@bucket/pairs",
    f"s3://bucket/pairs?secret_key={SECRET}",
    f"s3://bucket/pairs?endpoint_override=user:{SECRET}@host",
    f"s3://bucket/pairs?X-Amz-Signature={SECRET}",
    f"gs://user:{SECRET}@bucket/pairs",
    f"hdfs://user:{SECRET}@host:8020/pairs",
    f"abfs://:{SECRET}@account.dfs.core.windows.net/pairs",
    f"abfs://box@account.dfs.core.windows.net/pairs?account_key={SECRET}",
    f"https://user:{SECRET}@host/pairs",
]


@pytest.mark.parametrize("text", WITH_PASSWORDS)
def test_a_password_is_rejected_and_not_shown(text):
    message = parse_error(text)
    assert SECRET not in message and "redentials belong" in message


@pytest.mark.parametrize("text", [*WITH_PASSWORDS, f"kaggle://user:{SECRET}@owner/name"])
def test_a_configuration_with_a_password_is_rejected_when_it_is_loaded(text, tmp_path):
    (tmp_path / "my.yaml").write_text(f"data:\n  source: '{text}'\n")
    for file, overrides in ((None, [f"data.source={text}"]), (tmp_path / "my.yaml", [])):
        with pytest.raises(DataError, match="redentials belong") as error:
            load(file, overrides)
        assert SECRET not in str(error.value)


@pytest.mark.parametrize(
    "override",
    [
        f"data.source=[s3://KEY:{SECRET}@bucket]",
        f"data.source='s3://KEY:{SECRET}@bucket",
        f"seed=s3://KEY:{SECRET}@bucket",
        f"s3://KEY:{SECRET}@bucket",
    ],
)
def test_a_password_in_an_unreadable_setting_is_not_shown(override):
    with pytest.raises(ConfigError) as error:
        load(None, [override])
    assert SECRET not in str(error.value) and "s3://bucket" in str(error.value)


def test_addresses_without_passwords_are_accepted_by_the_configuration():
    for text in ("s3://bucket/pairs?region=eu-west-1", "kaggle://owner/name#a@b", "/data/a@b:c", "file:///data"):
        assert load(None, [f"data.source={text}"]).data.source == text


def test_possible_passwords_are_hidden_in_any_text():
    assert hide_passwords(f"see s3://KEY:{SECRET}/x@bucket/a and b@c") == "see s3://bucket/a and b@c"
    assert hide_passwords("s3://bucket/a") == "s3://bucket/a"


def test_messages_of_libraries_become_one_line_whose_middle_may_be_missing():
    assert one_line("No route\n  to http://me:secret@host.\n") == "No route to http://host"
    assert one_line(ValueError("begin" + 500 * "-" + "end."), longest=20) == "begin-----...-------end"
