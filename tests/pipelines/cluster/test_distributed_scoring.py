"""Scoring with a pool of actors: the same maps as without one, and an error if actors are lost again and again."""

import contextlib
import logging
import threading
from pathlib import Path

import psutil
import pytest

from model.bundle import RegisteredModel, TrainedRun
from model.errors import BundleError, ClusterError, ConfigError, DataError, StorageError
from model.io.locations import Location
from pipelines.cluster import resources
from pipelines.cluster.distributed_scoring import Pool, draw_in_pool, score_distributed, size_pool
from pipelines.cluster.scoring_actor import ScoringJob
from serving.inference.scene import SceneReading
from serving.scoring.scorer import score
from serving.scoring.sources import find_photos
from serving.scoring.tasks import ScoreSettings, plan
from tests.fixtures.ray_nodes import drawing_actors
from tests.fixtures.scored_folders import assert_same, draw_noise, leave_draft, maps_in, timeless
from tests.fixtures.surveys import noise_bands, write_survey

LARGE = 800
"""Side in pixels of photos that take some time, because they are drawn in many tiles."""


@pytest.fixture
def photos(tmp_path):
    """Return a folder of five photos and a file that is not a photo."""
    folder = draw_noise(tmp_path / "photos", [f"{name}.png" for name in "abcde"])
    (folder / "broken.jpg").write_bytes(b"no photo")
    return folder


# The pool


@pytest.mark.parametrize(
    ("nodes", "actors", "cpus", "expected"),
    [
        ([1, 1], None, None, Pool(2, 1)),
        ([2], None, None, Pool(1, 2)),
        ([0, 8, 8], None, None, Pool(4, 4)),
        ([2], 2, None, Pool(2, 1)),
        ([8, 8], 2, None, Pool(2, 8)),
        ([8, 8], None, 3, Pool(4, 3)),
        ([8, 8], 1, 2, Pool(1, 2)),
    ],
)
def test_the_pool_fills_the_cluster_by_default(nodes, actors, cpus, expected):
    assert size_pool(nodes, actors=actors, cpus=cpus) == expected


@pytest.mark.parametrize(
    ("nodes", "actors", "cpus", "message"),
    [
        ([1, 1], 3, None, "have 1, 1 CPUs: room for 2 of 3 actors that take 1 each"),
        ([2, 2], None, 3, "have 2, 2 CPUs: room for 0 of 1 actors that take 3 each"),
        ([], None, None, "have no CPUs: room for 0"),
    ],
)
def test_a_pool_that_does_not_fit_is_refused(nodes, actors, cpus, message):
    with pytest.raises(ConfigError, match=f"{message}.*; lower --actors or --cpus-per-actor"):
        size_pool(nodes, actors=actors, cpus=cpus)


# On a local Ray cluster


@pytest.fixture(scope="module")
def ray_here():
    """Start Ray once for all tests of this module."""
    with resources.joined():
        yield


def test_maps_and_manifest_are_the_same_as_without_actors(ray_here, model, photos, tmp_path, capfd):
    local = score(model, [str(photos)], Location(tmp_path / "local"))
    capfd.readouterr()
    outcomes, spread = [], Location(tmp_path / "spread")
    report = score_distributed(model, [str(photos)], spread, actors=1, cpus=1, on_outcome=outcomes.append)
    assert_same(tmp_path / "spread", tmp_path / "local")
    timing = {"out", "manifest", "seconds", "images_per_second"}
    assert report.model_dump(exclude=timing) == local.model_dump(exclude=timing)
    assert report.drawn == 5 and report.images_per_second > 0 and not (tmp_path / "spread/.journal").exists()
    (failed,) = [outcome.row.source for outcome in outcomes if outcome.row.error]
    assert len(outcomes) == 6 and failed == str(photos / "broken.jpg")
    assert capfd.readouterr() == ("", "")


def test_maps_are_kept_with_and_without_actors(ray_here, model, photos, tmp_path):
    out = tmp_path / "maps"
    score(model, [str(photos)], Location(out))
    before = maps_in(out)
    (out / "b.png").unlink()
    leave_draft(out)
    report = score_distributed(model, [str(photos)], Location(out), actors=1, cpus=1)
    assert (report.drawn, report.kept, len(report.failed)) == (1, 4, 1)
    assert maps_in(out) == before
    again = score(model, [str(photos)], Location(out))
    assert (again.drawn, again.kept) == (0, 5)


def test_settings_reach_the_actors(ray_here, model, photos, tmp_path):
    settings, model = ScoreSettings(format="webp", resize=True), model._replace(origin=RegisteredModel("sat2map", 3))
    score(model, [str(photos)], Location(tmp_path / "local"), settings=settings)
    spread = Location(tmp_path / "spread")
    score_distributed(model, [str(photos)], spread, settings=settings, actors=1, cpus=1)
    assert_same(tmp_path / "spread", tmp_path / "local")
    assert {row.model for row in timeless(tmp_path / "spread")} == {"models:/sat2map/3", None}


def test_scenes_are_the_same_as_without_actors(ray_here, model, tmp_path):
    survey = draw_noise(tmp_path / "survey", ["photo.png"])
    for seed, name in enumerate(("a.tif", "b.tif")):
        write_survey(survey / name, noise_bands(3, 90, 70, seed=seed))
    (survey / "torn.tif").write_bytes((survey / "a.tif").read_bytes()[:9000])
    settings = ScoreSettings(format="tiff", scene=SceneReading(resolution=0.9))
    score(model, [str(survey)], Location(tmp_path / "local"), settings=settings)
    outcomes, options = [], {"settings": settings, "actors": 2, "cpus": 1}
    report = score_distributed(
        model, [str(survey)], Location(tmp_path / "spread"), on_outcome=outcomes.append, **options
    )
    assert (report.drawn, len(report.failed)) == (3, 1) and timeless(tmp_path / "spread") == timeless(
        tmp_path / "local"
    )
    local, spread = maps_in(tmp_path / "local"), maps_in(tmp_path / "spread")
    # The local scorer is called here without `describe`, so it writes no items and manifests.
    assert spread.keys() - local.keys() == {f"{name}.{kind}.json" for name in "ab" for kind in ("stac", "manifest")}
    assert all(spread[name] == local[name] for name in local)
    (torn,) = [outcome.row.error for outcome in outcomes if outcome.row.error]
    assert torn.startswith("survey/torn.tif is truncated")
    assert sorted(warning.partition(",")[0] for outcome in outcomes for warning in outcome.warnings) == [
        f"survey/{name}.tif has pixels of 2 m and is drawn at 0.9 m" for name in "ab"
    ]
    again = score(model, [str(survey)], Location(tmp_path / "spread"), settings=settings)
    assert (again.drawn, again.kept) == (0, 3)


def test_an_unwritable_folder_stops_the_scoring(ray_here, model, tmp_path):
    draw_noise(tmp_path / "photos/deep", ["a.png"])
    draw_noise(tmp_path / "first", ["b.png"])
    out = tmp_path / "maps"
    score(model, [str(tmp_path / "first")], Location(out))
    (out / "deep").write_bytes(b"in the way")
    with pytest.raises(StorageError, match=r"On node .*: .*deep/a.png can't be written .*a file is in the way"):
        score_distributed(model, [f"{tmp_path}/photos/**/*.png"], Location(out), actors=1, cpus=1)
    assert [row.output for row in timeless(out)] == ["b.png"]
    (out / "deep").unlink()
    assert score_distributed(model, [f"{tmp_path}/photos/**/*.png"], Location(out), actors=1, cpus=1).drawn == 1
    assert [row.output for row in timeless(out)] == ["b.png", "deep/a.png"]


def test_it_is_an_error_if_nothing_can_be_drawn(ray_here, model, tmp_path):
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos/a.jpg").write_bytes(b"no photo")
    (tmp_path / "photos/loop.jpg").symlink_to("loop.jpg")
    with pytest.raises(DataError, match=r"None of the photos can be drawn \(2\):\n(.*\n)+.*loop.jpg is a link that"):
        score_distributed(model, [str(tmp_path / "photos")], Location(tmp_path / "maps"), actors=1, cpus=1)


def test_a_single_map_is_refused(model, photos, tmp_path):
    with pytest.raises(DataError, match=r"map.png is a file, but a cluster draws into a folder"):
        score_distributed(model, [str(photos / "a.png")], Location(tmp_path / "map.png"))


@pytest.fixture
def job(bundle, photos, tmp_path):
    """Return a valid job for actors."""
    out = tmp_path / "maps"
    out.mkdir()
    (out / "mark").touch()
    return ScoringJob(
        manifest=bundle.manifest,
        variant="fp32",
        origin=TrainedRun("1f0c"),
        settings=ScoreSettings(),
        out=Location(out),
        mark=Location(out / "mark"),
        photos=(Location(photos / "a.png"),),
    )


def stopped(job, bundle, photos):
    """Draw, check that no map is written, and return the error message."""
    tasks = plan(find_photos([str(photos)]), job.out, [], job.settings)
    with pytest.raises(StorageError) as caught:
        list(draw_in_pool(job, bundle, tasks, Pool(1, 1)))
    assert not list(job.out.path.glob("*.png"))
    return str(caught.value)


NOWHERE = Location(Path("/nowhere/a.png"))


@pytest.mark.parametrize("changes", [{"mark": NOWHERE}, {"photos": (NOWHERE,)}])
def test_an_actor_reports_files_that_it_does_not_see(ray_here, job, bundle, photos, changes):
    message = stopped(job.model_copy(update=changes), bundle, photos)
    assert "/nowhere/" in message and "photos and maps must lie on storage that every node sees" in message


def test_an_unusable_model_is_reported_before_ray_starts(model, photos, tmp_path):
    with pytest.raises(BundleError, match="no variant 'int3'"):
        score_distributed(model, [str(photos)], Location(tmp_path / "maps"), variant="int3")
    assert not (tmp_path / "maps").exists()


def test_an_unexpected_error_shows_its_traceback(ray_here, job, bundle, photos):
    tasks = plan(find_photos([str(photos)]), job.out, [], job.settings)
    broken = job.model_copy(update={"settings": None})
    with pytest.raises(RuntimeError, match=r"(?s)Traceback.*scoring_actor.py.*AttributeError: 'NoneType'"):
        list(draw_in_pool(broken, bundle, tasks, Pool(1, 1)))


@contextlib.contextmanager
def killing_every_actor(out):
    """SIGKILL each actor that draws into a folder, as soon as it has begun its journal."""
    done, seen = threading.Event(), set()

    def kill():
        while not done.wait(0.02):
            journals = set(out.glob(".journal/*.jsonl"))
            if journals - seen:
                seen.update(journals)
                for actor in drawing_actors(psutil.Process()):
                    actor.kill()

    killer = threading.Thread(target=kill)
    killer.start()
    try:
        yield
    finally:
        done.set()
        killer.join()


@contextlib.contextmanager
def keeping_no_records():
    """Remove pytest's handlers from Ray Data's logger: their records keep lost actors, and thus CPUs, alive."""
    logger = logging.getLogger("ray.data")
    before = logger.handlers
    logger.handlers = [handler for handler in before if type(handler).__module__.startswith("ray.")]
    try:
        yield
    finally:
        logger.handlers = before


@pytest.mark.slow
def test_losing_actors_again_and_again_is_an_error(ray_here, job, bundle, tmp_path):
    two = draw_noise(tmp_path / "two", ["a.png", "b.png"], LARGE)
    tasks = plan(find_photos([str(two)]), job.out, [], job.settings)
    message = r"2 photos can't be drawn on this cluster, .*a.png: .*the same command again to continue; more CPUs"
    lost = []
    with keeping_no_records(), killing_every_actor(job.out.path), pytest.raises(ClusterError, match=message):
        list(draw_in_pool(job, bundle, tasks, Pool(1, 1), on_lost=lost.append))
    assert lost == [2, 2]
    assert len(list(draw_in_pool(job, bundle, tasks, Pool(1, 1)))) == 2
