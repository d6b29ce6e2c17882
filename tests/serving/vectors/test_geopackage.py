"""GeoPackages that exist already: only the layer `map` is replaced, and what can't be changed is refused."""

import sqlite3
from contextlib import closing

import numpy as np
import pyogrio
import pytest
import shapely

from model.errors import DataError
from serving.vectors import vector_file
from serving.vectors.vector_file import check_vector_file
from serving.vectors.vector_layer import write_vectors
from tests.fixtures.painted_maps import PALETTE, read_layer, town


def add_layer(file, layer, *columns):
    """Write a layer with one square."""
    square = np.array([shapely.to_wkb(shapely.box(0, 0, 1, 1))], object)
    values = [np.array(["x"], object) for _ in columns]
    options = {"layer": layer, "driver": "GPKG", "geometry_type": "Polygon", "crs": "EPSG:32632"}
    pyogrio.raw.write(file, square, values, list(columns), **options)


@pytest.fixture
def project(tmp_path):
    """Return a GeoPackage of a GIS project: layers, a style, a view and a table that is no layer."""
    file = tmp_path / "project.gpkg"
    for layer in ("roads", "map", "parcels"):
        add_layer(file, layer, *(("class", "colour", "area_m2") if layer == "map" else ("name",)))
    with closing(sqlite3.connect(file)) as database, database:
        database.executescript("""
            CREATE TABLE layer_styles (id INTEGER PRIMARY KEY, f_table_name TEXT, styleName TEXT);
            INSERT INTO layer_styles (f_table_name, styleName) VALUES ('map', 'mine'), ('parcels', 'thin');
            CREATE TABLE notes (text TEXT);
            INSERT INTO notes VALUES ('kept');
            CREATE VIEW names AS SELECT name FROM parcels;
        """)
    return file


def content(file):
    """Return the rows of all tables that don't concern the layer `map`, and the order of the layers."""
    with closing(sqlite3.connect(file)) as database:
        names = [name for (name,) in database.execute("SELECT name FROM sqlite_master WHERE type IN ('table', 'view')")]
        own = {"gpkg_contents", "gpkg_ogr_contents", "gpkg_extensions", "gpkg_geometry_columns", "sqlite_sequence"}
        own |= {"gpkg_spatial_ref_sys"}
        kept = sorted(name for name in names if name not in own and name.removeprefix("rtree_").split("_")[0] != "map")
        rows = {name: database.execute(f'SELECT * FROM "{name}"').fetchall() for name in kept}
        return rows, [name for name, _ in pyogrio.list_layers(file) if name != "layer_styles"]


def test_the_layer_is_replaced_and_everything_else_stays(project, paint):
    before = content(project)
    project.chmod(0o600)
    assert before[1][:3] == ["roads", "map", "parcels"] and "rtree_parcels_geom" in before[0]
    for _ in range(2):
        write_vectors(paint(town()), project, PALETTE)
        about, shapes, _ = read_layer_named(project)
        assert len(shapes) == 4 and about["crs"] == "EPSG:32633"
        assert content(project) == before and project.stat().st_mode & 0o777 == 0o600
    assert pyogrio.raw.read(project, layer="parcels", bbox=(0, 0, 2, 2))[3][0].tolist() == ["x"]


def read_layer_named(file):
    about, _, shapes, fields = pyogrio.raw.read(file, layer="map")
    return about, shapely.from_wkb(shapes), fields


OWN = """
    CREATE TABLE gone (fid INTEGER);
    CREATE TRIGGER remember AFTER DELETE ON map BEGIN INSERT INTO gone VALUES (OLD.fid); END;
    CREATE INDEX by_class ON map (class);
    CREATE VIEW parks AS SELECT * FROM map WHERE class = 'park';
    CREATE TABLE visits (id INTEGER PRIMARY KEY, place INTEGER REFERENCES map (fid));
    INSERT INTO visits VALUES (1, 1);
    CREATE TRIGGER rename AFTER INSERT ON visits BEGIN UPDATE map SET class = 'x' WHERE fid = NEW.place; END;
    CREATE TABLE my_styles (f_table_name TEXT, style TEXT);
    INSERT INTO my_styles VALUES ('map', 'mine');
    INSERT INTO gpkg_extensions VALUES ('map', 'class', 'my_extension', 'https://example.org', 'read-write');
    UPDATE gpkg_contents SET identifier = 'Street map', description = 'of a town' WHERE table_name = 'map';
"""


@pytest.mark.filterwarnings("ignore:Layer map relies on the 'my_extension'")
def test_what_belongs_to_the_layer_stays(project, paint):
    with closing(sqlite3.connect(project)) as database, database:
        database.executescript(OWN)

    def parts():
        with closing(sqlite3.connect(project)) as database:
            schema = database.execute("SELECT type, name, sql FROM sqlite_master ORDER BY type, name").fetchall()
            named = [
                database.execute(f"SELECT * FROM {table} WHERE {column} = 'map' ORDER BY 1, 2, 3").fetchall()
                for table, column in (("layer_styles", "f_table_name"), ("gpkg_extensions", "table_name"))
            ]
            about = database.execute("SELECT identifier, description FROM gpkg_contents").fetchall()
            return schema, named, about, database.execute("SELECT * FROM gone").fetchall()

    before = parts()
    # In another coordinate system, and then in the first one.
    for crs in ("EPSG:32632", "EPSG:32633", "EPSG:3857"):
        write_vectors(paint(town(), crs=crs), project, PALETTE)
        about, shapes, fields = read_layer_named(project)
        assert (about["crs"], len(shapes), sorted(fields[0])) == (crs, 4, ["building", "park", "road", "water"])
        assert parts() == before
        with closing(sqlite3.connect(project)) as database:
            assert database.execute("SELECT count(*) FROM parks").fetchone() == (1,)
            assert database.execute("PRAGMA integrity_check").fetchone() == ("ok",)
            (west, south, east, north, count), _ = database.execute(
                "SELECT min_x, min_y, max_x, max_y, feature_count FROM gpkg_contents JOIN gpkg_ogr_contents USING "
                "(table_name) WHERE table_name IN ('map', 'roads') ORDER BY table_name"
            )
        assert ((west, south, east, north), count) == (tuple(shapely.total_bounds(shapes)), 4)
    # The spatial index finds the lake alone.
    assert pyogrio.raw.read(project, layer="map", bbox=(500020, 5539990, 500021, 5539991))[3][0].tolist() == ["water"]


def test_a_unique_index_is_refused(project):
    with closing(sqlite3.connect(project)) as database, database:
        database.execute("CREATE UNIQUE INDEX one_of_each ON map (class)")
    assert refusal(project) == (
        " has the unique index one_of_each, which new features may not fit; drop it, or name another file."
    )


def test_the_layer_is_added_to_a_package_without_one(tmp_path, paint):
    add_layer(tmp_path / "mine.gpkg", "parcels", "name")
    write_vectors(paint(town()), tmp_path / "mine.gpkg", PALETTE)
    assert pyogrio.list_layers(tmp_path / "mine.gpkg")[:, 0].tolist() == ["parcels", "map"]


def test_a_failure_leaves_the_package_as_it_was(project, paint, monkeypatch):
    before = project.read_bytes()

    def fail(file, **_):
        assert pyogrio.list_layers(file)[:, 0].tolist()[:3] == ["roads", "map", "parcels"]
        raise OSError("the disk is full")

    monkeypatch.setattr(vector_file, "read_crs", fail)
    with pytest.raises(DataError, match="can't be written"):
        write_vectors(paint(town()), project, PALETTE)
    assert project.read_bytes() == before
    assert sorted(path.name for path in project.parent.iterdir()) == ["map.tif", "project.gpkg"]


def refusal(file):
    """Check that a file is refused and stays as it is, and return the message."""
    before = file.read_bytes()
    with pytest.raises(DataError) as refused:
        check_vector_file(file)
    assert file.read_bytes() == before
    return str(refused.value).partition(file.name)[2]


@pytest.mark.parametrize(("layer", "columns"), [("map", "name, id"), ("MAP", "name, colour, area_m2")])
def test_a_layer_of_someone_else_is_refused(tmp_path, layer, columns):
    add_layer(tmp_path / "mine.gpkg", layer, *columns.split(", "))
    assert refusal(tmp_path / "mine.gpkg") == (
        f" was not made by sat2map: its columns are {columns}, not class, colour, area_m2. Rename it, or name another "
        "file."
    )


def test_a_table_of_the_layers_name_is_refused(project):
    with closing(sqlite3.connect(project)) as database, database:
        database.executescript("DROP TABLE map; DELETE FROM gpkg_geometry_columns; CREATE VIEW map AS SELECT 1 AS one;")
    assert refusal(project).startswith(" was not made by sat2map: its columns are one, not")


@pytest.mark.parametrize("bytes_", [b"text " * 100, b"SQLite format 3\0" + b"x" * 4000])
def test_other_files_are_refused(tmp_path, bytes_):
    (tmp_path / "mine.gpkg").write_bytes(bytes_)
    assert "is not a GeoPackage, or is broken (file is not a database)" in refusal(tmp_path / "mine.gpkg")


def test_databases_that_are_not_geopackages_and_truncated_packages_are_refused(tmp_path, project):
    with closing(sqlite3.connect(tmp_path / "mine.gpkg")) as database, database:
        database.execute("CREATE TABLE a (b)")
    assert refusal(tmp_path / "mine.gpkg") == " is not a GeoPackage; name another file."
    whole = project.read_bytes()
    project.write_bytes(whole[: len(whole) // 2])
    assert "or is broken (" in refusal(project)


def test_a_package_that_another_program_writes_to_is_refused(project):
    with closing(sqlite3.connect(project, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        assert refusal(project) == " can't be changed: another program is writing to it; wait, or close it there."
    check_vector_file(project)


def test_a_package_that_is_open_in_qgis_is_refused(project):
    with closing(sqlite3.connect(project)) as other, other:
        other.execute("PRAGMA journal_mode = WAL")
        other.execute("INSERT INTO notes VALUES ('new')")
        other.commit()
        assert refusal(project).startswith(" is open in another program, such as QGIS, or was not closed properly")
    check_vector_file(project)


def test_folders_are_refused(tmp_path):
    (tmp_path / "map.gpkg").mkdir()
    with pytest.raises(DataError, match=r"map\.gpkg is a folder; name a file for the polygons\.$"):
        check_vector_file(tmp_path / "map.gpkg")


def test_checking_leaves_nothing(tmp_path):
    check_vector_file(tmp_path / "deep" / "map.gpkg")
    assert list(tmp_path.iterdir()) == []


def test_a_link_to_a_package_stays_a_link(project, paint, tmp_path):
    (tmp_path / "link.gpkg").symlink_to(project)
    write_vectors(paint(town()), tmp_path / "link.gpkg", PALETTE)
    assert (tmp_path / "link.gpkg").is_symlink() and len(read_layer_named(project)[1]) == 4
    write_vectors(paint(town()), tmp_path / "new.gpkg", PALETTE)
    assert len(read_layer(tmp_path / "new.gpkg")[1]) == 4
