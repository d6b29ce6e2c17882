"""Maps from a pool of actors: the same as without, whatever is killed in the meantime."""

import contextlib
import json
import logging
import os
import signal
import subprocess
import sys
import threading
from dataclasses import replace
from pathlib import Path

import numpy as np
import psutil
import pytest
import rasterio
from affine import Affine
from PIL import Image
from ray_nodes import Cluster, drawing_actors, kill_family, wait_until
from stores import BUCKET, Store, s3_credentials

from model.bundle import Bundle
from model.errors import BundleError, ClusterError, ConfigError, DataError
from model.places import PlaceError
from pipelines import cluster
from pipelines.distributed import Pool, draw_in_pool, score_distributed, size_pool
from pipelines.drawing_actor import Job
from serving.image_scorer import ScoreSettings, plan
from serving.scene import SceneReading
from serving.score_manifest import read_rows
from serving.scorer import score
from serving.sources import find_photos

PROJECT = Path(__file__).resolve().parent.parent
SIDE, LARGE, COUNT = 32, 800, 40
"""Of the network, of photos that take a while, for they are drawn in many tiles, and how many there are of these."""
PROGRAM = """
import sys
from pathlib import Path
from model.bundle import Bundle
from pipelines.distributed import score_distributed
bundle, photos, out = sys.argv[1:]
print(score_distributed(Bundle.open(Path(bundle)), [photos], out, cpus=1).model_dump_json())
"""


def draw_noise(folder, names, side):
    folder.mkdir(parents=True)
    for seed, name in enumerate(names):
        pixels = np.random.default_rng(seed).integers(0, 256, (side, side, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(folder / name)
    return folder


@pytest.fixture
def bundle(make_bundle):
    """Return a bundle whose maps are the negatives of the photos, 32x32 pixels."""
    return Bundle.open(make_bundle())


@pytest.fixture
def photos(tmp_path):
    """Return a folder of five photos and a file that is none."""
    folder = draw_noise(tmp_path / "photos", [f"{name}.png" for name in "abcde"], SIDE)
    (folder / "broken.jpg").write_bytes(b"no photo")
    return folder


@pytest.fixture
def many(tmp_path):
    """Return a folder of photos that take some seconds."""
    return draw_noise(tmp_path / "many", [f"{number:02d}.png" for number in range(COUNT)], LARGE)


def content(folder):
    """Return every map below a folder with its bytes."""
    files = (path for path in folder.rglob("*") if path.is_file() and not path.name.startswith("manifest."))
    return {str(path.relative_to(folder)): path.read_bytes() for path in files}


def rows(folder):
    """Return the rows of a manifest without what no two runs share."""
    return [replace(row, milliseconds=None) for row in read_rows(str(folder))]


def assert_same(folder, expected):
    assert content(folder) == content(expected)
    assert rows(folder) == rows(expected)


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
def test_the_pool_fills_the_cluster_unless_told_otherwise(nodes, actors, cpus, expected):
    assert size_pool(nodes, actors=actors, cpus=cpus) == expected


@pytest.mark.parametrize(
    ("nodes", "actors", "cpus", "told"),
    [
        ([1, 1], 3, None, "have 1, 1 CPUs: room for 2 of 3 actors that take 1 each"),
        ([2, 2], None, 3, "have 2, 2 CPUs: room for 0 of 1 actors that take 3 each"),
        ([], None, None, "have no CPUs: room for 0"),
    ],
)
def test_a_pool_that_does_not_fit_is_refused(nodes, actors, cpus, told):
    with pytest.raises(ConfigError, match=f"{told}.*; lower --actors or --cpus-per-actor"):
        size_pool(nodes, actors=actors, cpus=cpus)


# On a Ray of this process


@pytest.fixture(scope="module")
def ray_here():
    """Start Ray once for several tests."""
    with cluster.joined():
        yield


def test_maps_and_manifest_are_those_of_the_local_scorer(ray_here, bundle, photos, tmp_path, capfd):
    local = score(bundle, [str(photos)], str(tmp_path / "local"))
    capfd.readouterr()
    report = score_distributed(bundle, [str(photos)], str(tmp_path / "spread"), actors=1, cpus=1)
    assert_same(tmp_path / "spread", tmp_path / "local")
    timing = {"out", "manifest", "seconds", "images_per_second"}
    assert report.model_dump(exclude=timing) == local.model_dump(exclude=timing)
    assert report.drawn == 5 and report.images_per_second > 0 and not (tmp_path / "spread/.journal").exists()
    out, err = capfd.readouterr()
    (told,) = err.splitlines()
    assert out == "" and told.startswith(f"{photos / 'broken.jpg'}: ")


def test_what_is_there_is_kept_whoever_drew_it(ray_here, bundle, photos, tmp_path):
    out = tmp_path / "maps"
    score(bundle, [str(photos)], str(out))
    before = content(out)
    (out / "b.png").unlink()
    report = score_distributed(bundle, [str(photos)], str(out), actors=1, cpus=1)
    assert (report.drawn, report.kept, len(report.failed)) == (1, 4, 1)
    assert content(out) == before
    again = score(bundle, [str(photos)], str(out))
    assert (again.drawn, again.kept) == (0, 5)


def test_settings_reach_the_actors(ray_here, bundle, photos, tmp_path):
    settings = ScoreSettings(format="webp", resize=True)
    score(bundle, [str(photos)], str(tmp_path / "local"), settings=settings, model="models:/sat2map/3")
    score_distributed(
        bundle, [str(photos)], str(tmp_path / "spread"), settings=settings, model="models:/sat2map/3", actors=1, cpus=1
    )
    assert_same(tmp_path / "spread", tmp_path / "local")
    assert {row.model for row in rows(tmp_path / "spread")} == {"models:/sat2map/3", None}


def test_scenes_are_drawn_by_actors_as_here(ray_here, bundle, tmp_path, capfd):
    survey = draw_noise(tmp_path / "survey", ["photo.png"], SIDE)
    for seed, name in enumerate(("a.tif", "b.tif")):
        pixels = np.random.default_rng(seed).integers(1, 256, (3, 90, 70), dtype=np.uint8)
        place = {"crs": "EPSG:32633", "transform": Affine(2, 0, 400_000, 0, -2, 5_800_000), "photometric": "RGB"}
        with rasterio.open(survey / name, "w", "GTiff", 70, 90, 3, dtype="uint8", **place) as file:
            file.write(pixels)
    (survey / "torn.tif").write_bytes((survey / "a.tif").read_bytes()[:9000])
    settings = ScoreSettings(format="tiff", scene=SceneReading(resolution=0.9))
    score(bundle, [str(survey)], str(tmp_path / "local"), settings=settings)
    capfd.readouterr()
    report = score_distributed(bundle, [str(survey)], str(tmp_path / "spread"), settings=settings, actors=2, cpus=1)
    assert (report.drawn, len(report.failed)) == (3, 1) and rows(tmp_path / "spread") == rows(tmp_path / "local")
    local, spread = content(tmp_path / "local"), content(tmp_path / "spread")
    # An item and a manifest beside each map are the command line's.
    assert spread.keys() - local.keys() == {f"{name}.{kind}.json" for name in "ab" for kind in ("stac", "manifest")}
    assert all(spread[name] == local[name] for name in local)
    told = sorted(capfd.readouterr().err.splitlines())
    assert told[0].startswith(f"{survey}/torn.tif: survey/torn.tif is truncated")
    assert [line.partition(",")[0] for line in told[1:]] == [
        f"Warning: survey/{name}.tif has pixels of 2 m; the model was trained on 0.9 m" for name in "ab"
    ]
    again = score(bundle, [str(survey)], str(tmp_path / "spread"), settings=settings)
    assert (again.drawn, again.kept) == (0, 3)


def test_a_place_that_takes_no_maps_stops_it_with_a_sentence(ray_here, bundle, tmp_path):
    draw_noise(tmp_path / "photos/deep", ["a.png"], SIDE)
    draw_noise(tmp_path / "first", ["b.png"], SIDE)
    out = tmp_path / "maps"
    score(bundle, [str(tmp_path / "first")], str(out))
    (out / "deep").write_bytes(b"in the way")
    with pytest.raises(PlaceError, match=r"On node .*: .*deep/a.png can't be written .*a file stands where a folder"):
        score_distributed(bundle, [f"{tmp_path}/photos/**/*.png"], str(out), actors=1, cpus=1)
    assert [row.output for row in rows(out)] == ["b.png"]
    (out / "deep").unlink()
    assert score_distributed(bundle, [f"{tmp_path}/photos/**/*.png"], str(out), actors=1, cpus=1).drawn == 1
    assert [row.output for row in rows(out)] == ["b.png", "deep/a.png"]


def test_nothing_that_can_be_drawn_is_an_error(ray_here, bundle, tmp_path):
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos/a.jpg").write_bytes(b"no photo")
    with pytest.raises(DataError, match=r"None of the photos can be drawn \(1\)"):
        score_distributed(bundle, [str(tmp_path / "photos")], str(tmp_path / "maps"), actors=1, cpus=1)


def test_a_single_map_is_no_task_for_a_cluster(bundle, photos, tmp_path):
    with pytest.raises(DataError, match=r"map.png is a file, and a cluster draws into a folder"):
        score_distributed(bundle, [str(photos / "a.png")], str(tmp_path / "map.png"))


@pytest.fixture
def job(bundle, photos, tmp_path):
    """Return what actors are told, all of it right."""
    out = tmp_path / "maps"
    out.mkdir()
    (out / "mark").touch()
    return Job(
        manifest=bundle.manifest,
        variant="fp32",
        model="runs:/1f0c",
        settings=ScoreSettings(),
        out=str(out),
        mark=str(out / "mark"),
        photos=(str(photos / "a.png"),),
    )


def stopped(job, bundle, photos):
    """Draw, see that it is stopped before anything is written, and return the message."""
    tasks = plan(find_photos([str(photos)]), job.out, [], job.settings)
    with pytest.raises(PlaceError) as caught:
        list(draw_in_pool(job, bundle, tasks, Pool(1, 1)))
    assert not list(Path(job.out).glob("*.png"))
    return str(caught.value)


@pytest.mark.parametrize("changes", [{"mark": "/nowhere/mark"}, {"photos": ("/nowhere/a.png",)}])
def test_an_actor_that_does_not_see_what_the_driver_sees_says_so(ray_here, job, bundle, photos, changes):
    message = stopped(job.model_copy(update=changes), bundle, photos)
    assert "/nowhere/" in message and "photos and maps must lie on storage that every node sees" in message


def test_a_model_that_can_not_be_loaded_is_told_before_ray_starts(bundle, photos, tmp_path):
    with pytest.raises(BundleError, match="no variant 'int3'"):
        score_distributed(bundle, [str(photos)], str(tmp_path / "maps"), variant="int3")
    assert not (tmp_path / "maps").exists()


def test_a_fault_of_ours_shows_its_trace(ray_here, job, bundle, photos):
    tasks = plan(find_photos([str(photos)]), job.out, [], job.settings)
    broken = job.model_copy(update={"settings": None})
    with pytest.raises(RuntimeError, match=r"(?s)Traceback.*drawing_actor.py.*AttributeError: 'NoneType'"):
        list(draw_in_pool(broken, bundle, tasks, Pool(1, 1)))


@contextlib.contextmanager
def killing_every_actor(out):
    """SIGKILL each actor of this process's Ray that draws into a folder, as soon as it has begun its journal."""
    over, seen = threading.Event(), set()

    def kill():
        while not over.wait(0.02):
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
        over.set()
        killer.join()


@contextlib.contextmanager
def keeping_no_records():
    """Take pytest's handlers off Ray Data's logger: their records keep traces, and these lost actors and their CPUs."""
    logger = logging.getLogger("ray.data")
    before = logger.handlers
    logger.handlers = [handler for handler in before if type(handler).__module__.startswith("ray.")]
    try:
        yield
    finally:
        logger.handlers = before


@pytest.mark.slow
def test_actors_that_are_lost_again_and_again_are_given_up(ray_here, job, bundle, tmp_path, capsys):
    two = draw_noise(tmp_path / "two", ["a.png", "b.png"], LARGE)
    tasks = plan(find_photos([str(two)]), job.out, [], job.settings)
    told = r"2 photos can't be drawn on this cluster, .*a.png for one: .*the same again to go on; more CPUs"
    with keeping_no_records(), killing_every_actor(Path(job.out)), pytest.raises(ClusterError, match=told):
        list(draw_in_pool(job, bundle, tasks, Pool(1, 1)))
    assert capsys.readouterr().err.splitlines() == 2 * ["Actors were lost; 2 photos go to others."]
    assert len(list(draw_in_pool(job, bundle, tasks, Pool(1, 1)))) == 2


# On two nodes


@pytest.fixture(scope="module")
def nodes():
    """Start a cluster of two nodes with a CPU each."""
    started = Cluster()
    try:
        started.processes = [started.start(head=True), started.start()]
        yield started
    finally:
        started.stop()


class Running:
    """A driver beside the test."""

    def __init__(self, nodes, bundle, photos, out):
        self.out = out
        environment = os.environ | {
            "RAY_ADDRESS": nodes.ray_address,
            "RAY_AUTH_MODE": "disabled",
            "PYTHONPATH": str(PROJECT),
        }
        words = [sys.executable, "-c", PROGRAM, str(bundle.folder), str(photos), str(out)]
        self.process = subprocess.Popen(words, env=environment, cwd=out.parent, stdout=-1, stderr=-1, text=True)

    def count(self):
        return len(list(self.out.glob("*.png")))

    def wait_for_mid_run(self, nodes):
        """Wait until an actor draws on each node and maps are there, which are not all."""
        actors = []

        def is_there():
            actors[:] = [drawing_actors(node) for node in nodes]
            return (all(actors) and self.count() >= 4) or self.process.poll() is not None

        wait_until(is_there, seconds=120, what="maps and actors")
        assert 4 <= self.count() < COUNT, self.process.communicate()
        assert [len(found) for found in actors] == [1] * len(nodes)
        return [found[0] for found in actors]

    def end(self):
        return self.process.communicate(timeout=200)


@pytest.fixture
def start(nodes):
    """Return a function that starts a driver; at the end none is left."""
    started = []

    def begin(bundle, photos, out):
        started.append(Running(nodes, bundle, photos, out))
        return started[-1]

    yield begin
    for running in started:
        running.process.kill()
        running.process.communicate()


@pytest.fixture
def expected(bundle, many, tmp_path):
    """Return the folder that the local scorer draws."""
    score(bundle, [str(many)], str(tmp_path / "local"))
    return tmp_path / "local"


def test_a_killed_actor_costs_no_photo(nodes, start, bundle, many, expected, tmp_path):
    running = start(bundle, many, tmp_path / "maps")
    running.wait_for_mid_run(nodes.processes)[1].kill()
    said, told = running.end()
    assert running.process.returncode == 0, told
    (lost,) = told.splitlines()
    assert lost.startswith("Actors were lost; ") and lost.endswith(" photos go to others.")
    assert json.loads(said)["drawn"] == COUNT
    assert_same(running.out, expected)


@pytest.mark.slow
def test_a_killed_driver_leaves_no_actor_and_the_next_one_goes_on(nodes, start, bundle, many, expected, tmp_path):
    running = start(bundle, many, tmp_path / "maps")
    running.wait_for_mid_run(nodes.processes)
    running.process.send_signal(signal.SIGINT)
    _, told = running.end()
    assert running.process.returncode != 0 and told.rstrip().endswith("KeyboardInterrupt")
    wait_until(lambda: not any(map(drawing_actors, nodes.processes)), seconds=60, what="the end of the actors")
    there = running.count()
    again = start(bundle, many, tmp_path / "maps")
    said, told = again.end()
    assert again.process.returncode == 0, told
    report = json.loads(said)
    assert there - 4 <= report["kept"] <= there and report["kept"] + report["drawn"] == COUNT
    assert_same(again.out, expected)


@pytest.mark.slow
def test_a_killed_node_costs_no_photo(nodes, start, bundle, many, expected, tmp_path):
    third = nodes.start()
    running = start(bundle, many, tmp_path / "maps")
    running.wait_for_mid_run([*nodes.processes, third])
    kill_family(third)
    said, told = running.end()
    assert running.process.returncode == 0, told
    assert "Actors were lost; " in told and "raylet" not in said + told and "Traceback" not in told
    assert json.loads(said)["drawn"] == COUNT
    assert_same(running.out, expected)
    assert not psutil.pid_exists(third.pid) or third.status() == psutil.STATUS_ZOMBIE


@pytest.fixture
def store():
    """Return a store of files."""
    with s3_credentials():
        started = Store()
        yield started
        started.stop()


@pytest.mark.slow
def test_a_job_on_a_node_that_shares_nothing_but_a_store_draws_the_same(bundle, photos, tmp_path, store, request):
    # The only node with a CPU gets an empty folder in place of that with the model.
    alone = ["unshare", "--mount", "sh", "-c", f'mount -t tmpfs none {tmp_path} && exec "$@"', "sh"]
    if subprocess.run([*alone, "true"], capture_output=True).returncode:
        pytest.skip("no right to give a process a view of the file system of its own (unshare --mount)")
    score(bundle, [str(photos)], str(tmp_path / "local"))
    source, out = store.upload(photos, "in"), store.address("out")
    cluster = Cluster()
    request.addfinalizer(cluster.stop)
    cluster.start(head=True, cpus=0)
    cluster.start(within=alone)
    words = ["submit", "--address", cluster.address, "--", "score", source, out, "--distributed"]
    words += ["--model", str(bundle.folder), "--set", f"workspace={tmp_path}/work"]
    environment = os.environ | {"PYTHONPATH": str(PROJECT), "RAY_AUTH_MODE": "disabled"}
    environment |= {"MLFLOW_TRACKING_URI": "http://127.0.0.1:9"}
    done = subprocess.run(
        [sys.executable, "-m", "pipelines", *words], env=environment, cwd=tmp_path, capture_output=True, text=True
    )
    assert done.returncode == 4, done.stdout + done.stderr
    assert "Maps: 5 drawn" in done.stdout and "1 that can't be drawn" in done.stdout
    drawn = {row.output: row.output_sha256 for row in read_rows(out) if row.output}
    assert drawn == {row.output: row.output_sha256 for row in rows(tmp_path / "local") if row.output}
    for name in drawn:
        stored = store.client.get_object(Bucket=BUCKET, Key=f"out/{name}")["Body"].read()
        assert stored == (tmp_path / "local" / name).read_bytes()
