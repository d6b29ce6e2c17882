"""The pairs and the settings of a training, for all that a workspace may hold and a command line may name."""

import json
import shlex
import shutil

import pytest

from model.errors import ConfigError, DataError
from pipelines.config.loading import load
from pipelines.config.overrides import parse_changes
from pipelines.data import prepared
from pipelines.data.pairs import PairIndex
from pipelines.data.prepare import prepare
from pipelines.data.prepared import PREPARED_FILE, locate, plan, settle
from pipelines.workspace import Workspace
from tests.fixtures.pair_folders import SIDE, flat_maps, side_by_side
from tests.fixtures.project import PROJECT

NETWORK = f"network.image_size={SIDE} network.depth=4"
SAMPLE = f"{NETWORK} data.sample.train=4 data.sample.val=3"


@pytest.fixture
def here(tmp_path, monkeypatch):
    """Work in a folder with two data sets, `mine` and `other`, of which `mine` is prepared at width 24."""
    monkeypatch.chdir(tmp_path)
    side_by_side(tmp_path / "mine", (("train", 5), ("val", 3)))
    side_by_side(tmp_path / "other", (("train", 6), ("val", 4)))
    prepare(load(None, [f"data.source=mine network.width=24 data.direction=map_to_photo {NETWORK}"]))
    return tmp_path


def planned(*settings, file=None):
    """Return the source, the width, whether the pairs are there, and the reason if they are not."""
    found = plan(file, settings)
    if found.pairs is not None:
        assert found.pairs.source == found.config.data.source
    return found.config.data.source, found.config.network.width, found.pairs is not None, found.reason


def test_without_options_the_prepared_pairs_are_used_with_their_settings(here):
    assert planned() == (str(here / "mine"), 24, True, "")
    config = plan(None, []).config
    assert config.data.direction == "map_to_photo" and config.network.image_size == SIDE
    assert config.training == load("few-pairs").training


def test_settings_are_changed_on_top(here):
    config = plan(None, ["training.epochs=5 data.direction=photo_to_map"]).config
    assert (config.training.epochs, config.data.direction, config.network.width) == (5, "photo_to_map", 24)
    assert planned("training.epochs=5 data.direction=photo_to_map")[2]


def test_settings_that_only_go_together_with_those_of_the_pairs_are_accepted(here):
    prepare(load(None, [f"data.source=mine training.batch_size=3 {NETWORK}"]))
    assert plan(None, ["training.workers=3"]).config.training.workers == 3
    with pytest.raises(ConfigError, match="Batch size 3 can't be divided over 2 workers"):
        plan(None, ["training.workers=2"])


@pytest.mark.parametrize(
    ("setting", "reason"),
    [
        ("network.image_size=64", "network.image_size is 64, and those in workspace were prepared with 32"),
        ("data.val_fraction=0.5", "data.val_fraction is 0.5, and those in workspace were prepared with 0.1"),
        ("data.min_good=0", "data.min_good is 0.0, and those in workspace were prepared with 0.9"),
    ],
)
def test_another_setting_of_the_pairs_prepares_them_again(here, setting, reason):
    assert planned(setting) == (str(here / "mine"), 24, False, reason)


def test_settings_of_painted_scenes_do_not_matter_for_a_folder(here):
    assert planned("seed=3 data.sample.train=9")[2]


def test_another_source_is_prepared_with_its_own_configuration_and_what_was_set(here):
    reason = f"those in workspace are of {here / 'mine'}"
    kept = f"data.direction=map_to_photo network.image_size={SIDE} network.width=24 network.depth=4"
    assert planned("data.source=other") == (str(here / "other"), 24, False, f"{reason}; {kept} stay")
    assert plan(None, ["data.source=sample"]).config.training == load("sample").training
    assert planned("data.source=sample network.width=12")[:3] == ("sample", 12, False)
    assert planned("data.source=other", file="sample") == (str(here / "other"), 16, False, reason)


def test_the_narrow_network_of_the_sample_is_not_that_of_another_source(here):
    prepare(load(None, [f"{SAMPLE} training.batch_size=2 data.resolution=0.5"]))
    config = plan(None, ["data.source=mine"]).config
    assert config.network == load(None, ["data.source=mine", NETWORK]).network
    length = load("few-pairs").training.length
    assert (config.training.batch_size, config.training.length, config.data.resolution) == (2, length, None)


@pytest.mark.parametrize("spelling", ["mine", "./mine", "other/../mine", "{here}/mine", "file://{here}/mine", "link"])
def test_every_spelling_of_the_prepared_source_names_it(here, spelling):
    (here / "link").symlink_to("mine")
    prepare(load(None, [f"data.source=mine data.resolution=0.5 {NETWORK}"]))
    found = plan(None, [f"data.source={spelling.format(here=here)}"])
    assert found.pairs is not None and (found.config.data.resolution, found.config.network.depth) == (0.5, 4)


def test_the_same_relative_path_in_another_folder_is_another_source(here, monkeypatch):
    side_by_side(here / "deeper" / "mine", (("train", 4), ("val", 3)))
    monkeypatch.chdir(here / "deeper")
    workspace = f"workspace={here}/workspace"
    assert planned(workspace) == (str(here / "mine"), 24, True, "")
    source, _, there, reason = planned(workspace, f"data.source=mine {NETWORK}")
    assert source == str(here / "deeper" / "mine") and not there and str(here / "mine") in reason


def test_a_file_without_a_source_keeps_the_pairs_and_replaces_the_other_settings(here):
    (here / "mine.yaml").write_text(f"network: {{image_size: {SIDE}, depth: 4}}\ntraining: {{epochs: 7}}\n")
    assert planned(file="mine.yaml") == (str(here / "mine"), 64, True, "")
    config = plan("mine.yaml", []).config
    assert (config.training.epochs, config.data.direction) == (7, "map_to_photo")
    assert planned(file="default")[3] == "network.image_size is 256, and those in workspace were prepared with 32"


def test_a_file_with_a_source_prepares_it(here):
    (here / "other.yaml").write_text("data: {source: other}\n")
    assert planned(file="other.yaml")[:3] == (str(here / "other"), 64, False)
    assert planned(file="maps")[0] == load("maps").data.source


def test_without_prepared_pairs_the_named_source_or_the_sample_is_prepared(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert planned() == ("sample", 16, False, "none are prepared yet")
    assert planned("data.source=other") == (str(tmp_path / "other"), 32, False, "none are prepared yet")


def test_painted_scenes_are_followed_and_painted_again_for_another_seed(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    prepare(load(None, [SAMPLE]))
    assert planned() == ("sample", 16, True, "")
    assert planned("seed=4")[3] == "seed is 4, and those in workspace were prepared with 0"
    assert planned("data.sample.val=4")[3].startswith("data.sample.val is 4, and those")
    assert planned("data.val_fraction=0.5")[2]


def test_pairs_of_an_earlier_version_are_prepared_again_from_their_source(here):
    (here / "workspace" / PREPARED_FILE).unlink()
    source, width, there, reason = planned(NETWORK)
    assert (source, width, there) == (str(here / "mine"), 32, False) and "no record of their settings" in reason


def test_pairs_of_version_0_1_0_are_read_and_prepared_again(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    shutil.copytree(PROJECT / "tests/fixtures/made_by_0_1_0/workspace", "workspace")
    assert len(PairIndex.load(tmp_path / "workspace/pairs.json").train) == 8
    assert planned()[:3] == ("sample", 16, False)


@pytest.mark.parametrize("spoil", ["write", "replace"])
def test_a_record_of_other_pairs_is_not_believed(here, spoil):
    file = here / "workspace" / PREPARED_FILE
    if spoil == "write":
        file.write_text("{}")
    else:
        content = file.read_bytes()
        prepare(load(None, [f"data.source=other {NETWORK}"]))
        file.write_bytes(content)
    assert not planned()[2]


def test_altered_pairs_are_refused(here):
    index = Workspace(here / "workspace").pairs_file
    index.write_text(index.read_text().replace("train/train0", "train/trainX"))
    with pytest.raises(DataError, match="was altered"):
        plan(None, [])


# Settings chosen for the pairs


@pytest.fixture
def settled(here, caplog):
    """Return a function that prepares a folder and chooses its settings; it returns them and the line about them."""

    def run(*settings):
        config = locate(load(None, settings))
        pairs = prepare(config)
        caplog.clear()
        return settle(config, pairs, parse_changes(settings)), caplog.text

    return run


def test_losses_of_colours_need_flat_colours(here, settled):
    colours = [(255, 255, 255), (170, 211, 223), (242, 239, 233), (200, 230, 180)]
    flat_maps(here / "flat", colours)
    config, line = settled(f"data.source=flat {NETWORK}")
    assert config == locate(load(None, [f"data.source=flat {NETWORK}"]))
    length = config.training.length_text()
    assert f"4 pairs: configuration few-pairs, {length}. Pin it with: --config few-pairs\n" in line
    config, line = settled(f"data.source=mine {NETWORK}")
    assert (config.training.colour_weight, config.training.rare_weight) == (0, 1)
    assert "; no losses of colours, because the maps have no flat colours. Pin" in line
    pinned = shlex.split(line.partition("Pin it with: ")[2])
    assert pinned[:3] == ["--config", "few-pairs", "--set"]
    again = load("few-pairs", [f"data.source=mine {NETWORK}", *pinned[3:]])
    assert again.training == config.training
    # What was chosen for these pairs does not stay for others; what was set does.
    assert plan(None, ["data.source=flat"]).config.training.colour_weight > 0
    config, _ = settled(f"data.source=mine training.colour_weight=2 {NETWORK}")
    assert config.training.colour_weight == 2
    assert plan(None, ["data.source=flat"]).config.training.colour_weight == 2


def test_enough_pairs_give_the_best_checkpoint(settled, monkeypatch):
    assert settled(f"data.source=mine {NETWORK}")[0].training.result == "last"
    monkeypatch.setattr(prepared, "ENOUGH", 5)
    config, line = settled(f"data.source=mine {NETWORK}")
    assert config.training.result == "best" and "; the best checkpoint is the result; " in line
    assert settled(f"data.source=mine training.result=last {NETWORK}")[0].training.result == "last"


def test_nothing_is_chosen_for_a_named_configuration_or_painted_scenes(here):
    config = load("few-pairs", [f"data.source=mine {NETWORK}"])
    pairs = prepare(config)
    assert settle(config, pairs, None) == config
    painted = load(None, [SAMPLE])
    assert settle(painted, prepare(painted), {}) == painted


# From the command line


@pytest.mark.parametrize("verb", ["train", "tune"])
def test_a_source_that_does_not_exist_stops_before_anything_is_written(here, run_here, verb):
    before = PairIndex.load(here / "workspace" / "pairs.json")
    done = run_here(verb, "--set", "data.source=/does/not/exist")
    assert (done.returncode, done.stdout) == (2, "")
    first, second = done.stderr.splitlines()
    assert first.startswith(f"Preparing pairs of /does/not/exist first: those in workspace are of {here / 'mine'}; ")
    assert second == "Error: There is no folder /does/not/exist; check the spelling."
    assert PairIndex.load(here / "workspace" / "pairs.json") == before and not (here / "workspace/runs").exists()


def test_train_prepares_another_source_before_it_trains(here, run_here, monkeypatch):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{here}/mlflow.db")
    done = run_here("train", "--set", f"data.source=other {NETWORK} training.batch_size=50")
    assert done.returncode == 2 and "6 training pairs don't fill one batch of 50" in done.stderr
    assert done.stderr.startswith(f"Preparing pairs of {here / 'other'} first: ")
    assert PairIndex.load(here / "workspace" / "pairs.json").source == str(here / "other")
    recorded = json.loads((here / "workspace" / "prepared.json").read_text())
    assert recorded["config"]["data"]["source"] == str(here / "other")
