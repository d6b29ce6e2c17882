"""The workspace: every verb finds the files of earlier ones, and names the missing verb otherwise."""

import json
import shutil

import pytest

from model.bundle import Bundle
from model.errors import BundleError, DataError, MissingStepError, TrainingError
from model.io.files import this_machine
from pipelines.config.loading import load
from pipelines.data.pairs import Pair, PairIndex, fingerprint
from pipelines.run_record import RunRecord
from pipelines.training.leftovers import remove_leftovers
from pipelines.training.worker import check_shared_storage
from pipelines.workspace import Workspace
from tests.fixtures import runs

RECORD = RunRecord(run_id="1f0c", config=load(None, ["seed=7"]), steps=120, seconds=61.5, images_per_second=7.8)


@pytest.fixture
def workspace(tmp_path):
    return Workspace(tmp_path / "work")


@pytest.fixture
def run(workspace):
    """Return a run whose training has ended, the newest one of its workspace."""
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


def test_prepared_pairs_are_read_back(workspace):
    index().save(workspace.pairs_file)
    assert PairIndex.load(workspace.pairs_file) == index()
    assert workspace.pairs_file.parent == workspace.rejected_file.parent == workspace.root


def test_missing_pairs_name_the_verb_prepare(workspace):
    assert "run `sat2map prepare` first" in missing(PairIndex.load, workspace.pairs_file)


def test_a_run_has_its_own_index_of_pairs(workspace, run):
    index().save(run.pairs_file)
    assert PairIndex.load(run.pairs_file) == index() and not workspace.pairs_file.exists()
    shutil.rmtree(run.path)
    assert "prepare" in missing(PairIndex.load, run.pairs_file)


# Other nodes


def test_a_node_that_does_not_see_a_folder_is_named_with_the_folder(tmp_path, run):
    pairs = tuple(
        Pair(name=name, files=(f"{tmp_path}/{name}.png", "s3://far/off.png"), sha256=name, size=(32, 32))
        for name in "ab"
    )
    seen = PairIndex(source="", train=pairs[:1], val=pairs[1:], rejected=(), fingerprint="")
    check_shared_storage(run, seen)
    with pytest.raises(DataError, match=r"The worker on \S+ does not see /data; on a cluster, workspace and pairs"):
        check_shared_storage(run, index())
    shutil.rmtree(run.path)
    with pytest.raises(DataError, match=f"does not see {run.path}; .* storage that every node sees"):
        check_shared_storage(run, seen)


# Runs


def test_the_folder_of_a_run_is_named_after_its_id(workspace):
    run = workspace.new_run("1f0c")
    assert run.run_id == "1f0c" and run.path == workspace.root / "runs" / "1f0c" and run.path.is_dir()
    assert workspace.new_run("1f0c") == run
    inside = [run.checkpoints, run.generator, run.bundle, run.evaluation, run.pairs_file]
    assert len({path.name for path in inside}) == 5 and {path.parent for path in inside} == {run.path}


def test_a_run_of_a_relative_workspace_has_an_absolute_path(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "elsewhere").mkdir()
    new = Workspace(type(tmp_path)("work")).new_run("1f0c")
    found = Workspace(type(tmp_path)("work")).run("1f0c")
    monkeypatch.chdir(tmp_path / "elsewhere")
    assert new == found and new.path.is_absolute() and new.path.is_dir()


def test_the_newest_run_is_the_default(workspace, run):
    other = workspace.new_run("2a3b")
    assert workspace.run() == run and workspace.run("2a3b") == other
    workspace.set_latest(other)
    assert workspace.run() == other and workspace.run("1f0c") == run


def test_the_newest_run_can_be_set_by_hand(workspace, run):
    (workspace.root / "latest").write_text("1f0c\n")
    assert workspace.run() == run


def test_a_missing_run_names_the_verb_train(workspace):
    message = f"No trained run in {workspace.root}; run `train` first, or choose another workspace."
    assert missing(workspace.run) == message
    workspace.new_run("1f0c")
    assert missing(workspace.run) == message


def test_an_unknown_run_is_refused_with_the_known_ones(workspace, run):
    assert missing(Workspace(workspace.root / "other").run, "9") == (
        f"No run '9' in {workspace.root / 'other'}; known runs: none."
    )
    workspace.new_run("0a")
    (workspace.root / "runs" / "notes.txt").touch()
    assert missing(workspace.run, "9") == f"No run '9' in {workspace.root}; known runs: 0a, 1f0c."
    assert missing(workspace.run, "1f0").endswith("known runs: 0a, 1f0c. A beginning needs 4 characters.")
    assert "notes.txt" in missing(workspace.run, "notes.txt")


def test_the_beginning_of_an_id_is_enough_if_it_is_unique(workspace):
    for run_id in ("1f0c22", "1f0c77", "2a3b55"):
        workspace.new_run(run_id)
    assert workspace.run("2a3b").run_id == workspace.run("2a3b55").run_id == "2a3b55"
    assert missing(workspace.run, "1f0c") == "'1f0c' is the beginning of several runs: 1f0c22, 1f0c77."
    assert missing(workspace.run, "2a3").startswith("No run '2a3' in ")
    workspace.new_run("1f0c")
    assert workspace.run("1f0c").run_id == "1f0c"


@pytest.mark.parametrize("name", ["", ".", "..", "../runs/1f0c", "1f0c/", "/etc"])
def test_a_run_is_a_name_and_not_a_path(workspace, run, name):
    assert f"No run {name!r}" in missing(workspace.run, name)


def test_a_removed_newest_run_is_named(workspace, run):
    shutil.rmtree(run.path)
    assert "No run '1f0c'" in missing(workspace.run)


# Runs whose training has not ended


@pytest.fixture
def begun(workspace):
    """Return a run whose training has begun, with checkpoints after the steps 40 and 120 and a part of another one."""
    folder = workspace.new_run("2a3b")
    index().save(folder.pairs_file)
    folder.config_file.write_text(RECORD.config.model_dump_json())
    for name in ("step-00000040", "step-00000120", "step-00000160.partial"):
        (folder.checkpoints / name).mkdir(parents=True)
    return folder


def test_a_stopped_training_is_named_with_the_command_that_continues_it(workspace, begun):
    command = f"sat2map train --resume 2a3b --set workspace={workspace.root}"
    message = f"Run 2a3b stopped at step 120; continue it with: {command}"
    assert missing(workspace.run) == missing(begun.record) == workspace.unfinished() == message


def test_a_training_that_stopped_before_its_first_checkpoint_is_to_begin_again(workspace, begun):
    shutil.rmtree(begun.checkpoints)
    assert missing(workspace.run) == "Run 2a3b stopped before its first checkpoint; run `train` again."


def test_a_training_that_runs_is_not_called_stopped(workspace, begun):
    with begun.training():
        assert missing(workspace.run) == "Run 2a3b is still being trained; wait for its end."
    assert "stopped at step 120" in missing(workspace.run)


def test_two_processes_do_not_train_the_same_run(begun):
    with begun.training(), pytest.raises(TrainingError, match="2a3b is being trained by another"), begun.training():
        pass


def test_a_finished_run_that_was_stopped_while_it_trained_further_is_named(workspace, begun):
    begun.write_record(RECORD)
    assert workspace.unfinished() == ""
    begun.config_file.write_text(load(None, ["training.epochs=1000"]).model_dump_json())
    assert workspace.unfinished().startswith("Run 2a3b stopped at step 120; continue it with: ")


def test_a_stopped_search_is_named_with_the_command_that_continues_it(workspace, run, begun):
    (begun.trials / "trial-00001").mkdir(parents=True)
    assert workspace.unfinished() == "The search 2a3b stopped before its first trial; run `tune` again."
    begun.ray.mkdir()
    (begun.ray / "tuner.pkl").touch()
    assert workspace.unfinished().startswith("The search 2a3b stopped; continue it with: sat2map tune --resume 2a3b ")
    begun.search_file.touch()
    assert workspace.unfinished() == begun.unfinished() == run.unfinished() == ""


def test_leftovers_of_killed_trainings_are_removed_unless_they_run(workspace, begun):
    (begun.ray / "4711").mkdir(parents=True)
    draft = begun.path / f".sat2map-{this_machine()}-{2**22 + 1}-abcdefgh.json"
    draft.touch()
    with begun.training():
        remove_leftovers(workspace)
        assert begun.ray.is_dir() and draft.exists() and len(list(begun.checkpoints.iterdir())) == 3
    remove_leftovers(workspace)
    assert not begun.ray.exists() and not draft.exists()
    assert {path.name for path in begun.checkpoints.iterdir()} == {"step-00000040", "step-00000120"}


def test_a_search_keeps_what_it_resumes_from(workspace, begun):
    (begun.ray / "trial").mkdir(parents=True)
    (begun.ray / "tuner.pkl").touch()
    remove_leftovers(workspace)
    assert (begun.ray / "tuner.pkl").exists()


# The record


def test_a_record_is_read_back(run):
    assert run.record() == RECORD
    assert run.record().config.seed == 7


def test_a_missing_record_names_the_verb_train(workspace):
    run = workspace.new_run("2a3b")
    assert missing(run.record) == f"{run.path} contains no finished training; run `train` first."


@pytest.mark.parametrize("text", [b"", b"{}", b"\xff\xfe", json.dumps({"run_id": "1f0c"}).encode()])
def test_an_unreadable_record_is_incompatible(run, text):
    (run.path / "run.json").write_bytes(text)
    assert (
        missing(run.record)
        == f"{run.path / 'run.json'} is incompatible with this version of sat2map; run `train` again."
    )


def test_a_record_with_an_unknown_setting_is_incompatible(run):
    text = (run.path / "run.json").read_text()
    (run.path / "run.json").write_text(text.replace('"seed"', '"grain"'))
    assert "incompatible" in missing(run.record)


# The bundle


def test_the_bundle_of_a_run_is_opened_and_verified(run, make_bundle):
    make_bundle().rename(run.bundle)
    assert run.open_bundle() == Bundle.open(run.bundle)
    run.bundle.joinpath("generator.onnx").write_bytes(b"altered")
    with pytest.raises(BundleError, match="sha256"):
        run.open_bundle().verified()


def test_a_missing_bundle_names_the_verb_export(run):
    assert missing(run.open_bundle) == (
        f"Run 1f0c has no exported model; first run: sat2map export --run 1f0c --set workspace={run.path.parent.parent}"
    )


def test_a_bundle_older_than_the_generator_is_not_opened(tmp_path, make_bundle):
    folder = Workspace(tmp_path).new_run("2a3b")
    runs.train(folder, RECORD.config, b"first")
    make_bundle(generator_sha256=folder.generator_sha256()).rename(folder.bundle)
    assert folder.open_bundle() == Bundle.open(folder.bundle)
    runs.train(folder, RECORD.config, b"second", steps=16)
    assert missing(folder.open_bundle) == (
        "Run 2a3b was trained further after its model was exported; export it again: sat2map export --run 2a3b "
        f"--set workspace={tmp_path}"
    )
    folder.generator.unlink()
    assert folder.open_bundle() == Bundle.open(folder.bundle)


def test_a_generator_that_no_finished_training_wrote_is_refused(tmp_path):
    folder = Workspace(tmp_path).new_run("2a3b")
    assert missing(folder.generator_sha256) == f"{folder.generator} is missing; run `train` first."
    runs.train(folder, RECORD.config, b"first")
    folder.generator.write_bytes(b"second, whose driver was killed")
    assert missing(folder.generator_sha256) == (
        f"{folder.generator} is not the generator of run 2a3b's last finished training; finish it with: "
        f"sat2map train --resume 2a3b --set workspace={tmp_path}"
    )


def test_a_run_folder_can_be_moved(run, tmp_path):
    run.path.rename(tmp_path / "moved")
    assert type(run)(tmp_path / "moved").record() == RECORD
