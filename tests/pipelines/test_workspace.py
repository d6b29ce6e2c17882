"""The workspace: each verb finds what the one before left, and says which verb is missing otherwise."""

import json
import shutil

import pytest

from model.bundle import Bundle
from model.errors import BundleError, DataError, MissingStepError
from pipelines.config.loading import load
from pipelines.data.pairs import Pair, PairIndex, fingerprint
from pipelines.training.worker import check_seen
from pipelines.workspace import RunFolder, RunRecord, Workspace

RECORD = RunRecord(run_id="1f0c", config=load(None, ["seed=7"]), steps=120, seconds=61.5, images_per_second=7.8)


@pytest.fixture
def workspace(tmp_path):
    return Workspace(tmp_path / "work")


@pytest.fixture
def run(workspace):
    """Return a run whose training has ended, the newest of its workspace."""
    folder = workspace.new_run("1f0c")
    folder.write_record(RECORD)
    workspace.set_latest(folder)
    return folder


def missing(call, *arguments):
    with pytest.raises(MissingStepError) as stopped:
        call(*arguments)
    return str(stopped.value)


def index():
    pairs = tuple(Pair(name=name, files=(f"/data/{name}.png",), sha256=name, size=(32, 32)) for name in "ab")
    return PairIndex(
        source="/data", train=pairs[:1], val=pairs[1:], rejected=(), fingerprint=fingerprint(pairs[:1], pairs[1:])
    )


# Pairs


def test_pairs_are_found_where_prepare_leaves_them(workspace):
    index().save(workspace.pairs_file)
    assert PairIndex.load(workspace.pairs_file) == index()
    assert workspace.pairs_file.parent == workspace.rejected_file.parent == workspace.root


def test_without_pairs_prepare_is_named(workspace):
    assert "run `sat2map prepare` first" in missing(workspace.pairs)


def test_a_run_keeps_the_pairs_it_was_trained_on(workspace, run):
    index().save(run.pairs_file)
    assert PairIndex.load(run.pairs_file) == index() and not workspace.pairs_file.exists()
    shutil.rmtree(run.path)
    assert "prepare" in missing(run.pairs)


# Other nodes


def test_a_node_that_does_not_see_a_folder_is_named_with_it(tmp_path, run):
    pairs = tuple(
        Pair(name=name, files=(f"{tmp_path}/{name}.png", "s3://far/off.png"), sha256=name, size=(32, 32))
        for name in "ab"
    )
    seen = PairIndex(source="", train=pairs[:1], val=pairs[1:], rejected=(), fingerprint="")
    check_seen(run, seen)
    with pytest.raises(DataError, match=r"The worker on \S+ does not see /data; workspace and pairs"):
        check_seen(run, index())
    shutil.rmtree(run.path)
    with pytest.raises(DataError, match=f"does not see {run.path}; .* storage that every node sees"):
        check_seen(run, seen)


# Runs


def test_a_new_run_is_a_folder_named_after_its_id(workspace):
    run = workspace.new_run("1f0c")
    assert run.run_id == "1f0c" and run.path == workspace.root / "runs" / "1f0c" and run.path.is_dir()
    assert workspace.new_run("1f0c") == run
    inside = [run.checkpoints, run.generator, run.bundle, run.evaluation, run.pairs_file]
    assert len({path.name for path in inside}) == 5 and {path.parent for path in inside} == {run.path}


def test_a_run_of_a_relative_workspace_does_not_depend_on_the_place(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "elsewhere").mkdir()
    new = Workspace(type(tmp_path)("work")).new_run("1f0c")
    found = Workspace(type(tmp_path)("work")).run("1f0c")
    monkeypatch.chdir(tmp_path / "elsewhere")
    assert new == found and new.path.is_absolute() and new.path.is_dir()


def test_the_newest_run_is_taken_unless_another_one_is_named(workspace, run):
    other = workspace.new_run("2a3b")
    assert workspace.run() == run and workspace.run("2a3b") == other
    workspace.set_latest(other)
    assert workspace.run() == other and workspace.run("1f0c") == run


def test_the_newest_run_may_be_written_by_hand(workspace, run):
    (workspace.root / "latest").write_text("1f0c\n")
    assert workspace.run() == run


def test_without_a_run_train_is_named(workspace):
    message = f"No trained run in {workspace.root}; run `train` first (or name another workspace)."
    assert missing(workspace.run) == message
    workspace.new_run("1f0c")
    assert missing(workspace.run) == message


def test_an_unknown_run_is_refused_with_the_known_ones(workspace, run):
    assert missing(Workspace(workspace.root / "other").run, "9") == (
        f"No run '9' in {workspace.root / 'other'}; there are: none."
    )
    workspace.new_run("0a")
    (workspace.root / "runs" / "notes.txt").touch()
    assert missing(workspace.run, "9") == f"No run '9' in {workspace.root}; there are: 0a, 1f0c."
    assert "notes.txt" in missing(workspace.run, "notes.txt")


@pytest.mark.parametrize("name", ["", ".", "..", "../runs/1f0c", "1f0c/", "/etc"])
def test_a_run_is_a_name_and_not_a_path(workspace, run, name):
    assert f"No run {name!r}" in missing(workspace.run, name)


def test_a_newest_run_that_was_removed_is_named(workspace, run):
    shutil.rmtree(run.path)
    assert "No run '1f0c'" in missing(workspace.run)


# The record


def test_a_record_comes_back_as_it_was_written(run):
    assert run.record() == RECORD
    assert run.record().config.seed == 7


def test_without_a_record_training_never_ended(workspace):
    run = workspace.new_run("2a3b")
    assert missing(run.record) == f"{run.path} holds no finished training; run `train` first."


@pytest.mark.parametrize("text", [b"", b"{}", b"\xff\xfe", json.dumps({"run_id": "1f0c"}).encode()])
def test_a_record_that_can_not_be_read_is_of_another_version(run, text):
    (run.path / "run.json").write_bytes(text)
    assert missing(run.record) == f"{run.path / 'run.json'} is of another version of sat2map; run `train` again."


def test_a_record_with_a_setting_of_another_version_is_refused(run):
    text = (run.path / "run.json").read_text()
    (run.path / "run.json").write_text(text.replace('"seed"', '"grain"'))
    assert "of another version" in missing(run.record)


# The bundle


def test_the_bundle_of_a_run_is_opened_and_checked(run, make_bundle):
    make_bundle().rename(run.bundle)
    assert run.open_bundle() == Bundle.open(run.bundle)
    run.bundle.joinpath("generator.onnx").write_bytes(b"altered")
    with pytest.raises(BundleError, match="sha256"):
        run.open_bundle().verified()


def test_without_a_bundle_export_is_named(run):
    assert missing(run.open_bundle) == "Run 1f0c has no exported model; run `export` first."


def test_a_run_folder_can_be_moved(run, tmp_path):
    run.path.rename(tmp_path / "moved")
    assert RunFolder(tmp_path / "moved").record() == RECORD
