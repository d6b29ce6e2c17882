"""Addresses as text: taken apart, put together, and refused without showing what is secret in them."""

import pytest

from model.errors import ConfigError, DataError
from model.io.addresses import Address, hide_passwords, is_address, parse
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
def test_an_address_is_taken_apart_and_written_in_one_way(text, parts, normal):
    address = parse(text)
    assert address == Address(*parts) and str(address) == normal
    assert parse(normal) == address


def test_options_are_kept_for_every_file_below():
    address = parse("s3://bucket/a?scheme=http&endpoint_override=127.0.0.1:5000")
    assert str(address.inside("train", "x #1.png")) == (
        "s3://bucket/a/train/x%20%231.png?endpoint_override=127.0.0.1:5000&scheme=http"
    )
    assert str(address.root) == "s3://bucket/?endpoint_override=127.0.0.1:5000&scheme=http"
    assert address.root == address.inside("x").root
    assert parse(str(address.inside("x?y"))).path == "a/x?y"
    assert str(address.root.inside("a")) == str(address)


@pytest.mark.parametrize("text", ["/data/pairs", "pairs", "~/pairs", "sample", "./a:b", "C:/pairs", "//host/pairs"])
def test_a_path_is_no_address(text):
    assert not is_address(text)
    with pytest.raises(DataError, match="is no address"):
        parse(text)


def refused(text):
    with pytest.raises(DataError) as stopped:
        parse(text)
    return str(stopped.value)


def test_another_scheme_is_told_the_allowed_ones():
    said = refused("ftp://host/pairs")
    assert said == (
        "ftp:// can't be read; give a local folder, kaggle:// or one of s3://, gs://, hdfs://, abfs://, abfss://, "
        "file://."
    )


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("s3:///pairs", "The s3:// address has not the form that is needed: write s3://BUCKET/FOLDER."),
        ("gs://", "The gs:// address has not the form that is needed: write gs://BUCKET/FOLDER"),
        ("file://host/pairs", "The file:// address has not the form that is needed: write file:///FOLDER."),
        ("abfs://account/a", "write abfs://CONTAINER@ACCOUNT.dfs.core.windows.net/FOLDER."),
        ("s3://bucket/a#maps", "holds a '#', which ends an address; write %23 if a name has one."),
        ("s3://bucket/a?regoin=eu", "has an option 'regoin'; allowed are: endpoint_override, region, scheme"),
        ("file:///a?b=c", "has an option 'b'; allowed are: none."),
    ],
)
def test_a_wrong_form_is_told_the_right_one(text, said):
    assert said in refused(text)


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
def test_a_password_is_refused_and_not_shown(text):
    said = refused(text)
    assert SECRET not in said and "redentials belong" in said


@pytest.mark.parametrize("text", [*WITH_PASSWORDS, f"kaggle://user:{SECRET}@owner/name"])
def test_a_configuration_with_a_password_is_refused_before_a_verb_begins(text, tmp_path):
    (tmp_path / "my.yaml").write_text(f"data:\n  source: '{text}'\n")
    for file, overrides in ((None, [f"data.source={text}"]), (tmp_path / "my.yaml", [])):
        with pytest.raises(DataError, match="redentials belong") as stopped:
            load(file, overrides)
        assert SECRET not in str(stopped.value)


@pytest.mark.parametrize(
    "override",
    [
        f"data.source=[s3://KEY:{SECRET}@bucket]",
        f"data.source='s3://KEY:{SECRET}@bucket",
        f"seed=s3://KEY:{SECRET}@bucket",
        f"s3://KEY:{SECRET}@bucket",
    ],
)
def test_a_password_in_a_setting_that_can_not_be_read_is_not_shown_either(override):
    with pytest.raises(ConfigError) as stopped:
        load(None, [override])
    assert SECRET not in str(stopped.value) and "s3://bucket" in str(stopped.value)


def test_other_addresses_pass_the_configuration():
    for text in ("s3://bucket/pairs?region=eu-west-1", "kaggle://owner/name#a@b", "/data/a@b:c", "file:///data"):
        assert load(None, [f"data.source={text}"]).data.source == text


def test_what_may_be_a_password_is_hidden_in_any_text():
    assert hide_passwords(f"see s3://KEY:{SECRET}/x@bucket/a and b@c") == "see s3://bucket/a and b@c"
    assert hide_passwords("s3://bucket/a") == "s3://bucket/a"
