"""Files next to a scene: not read, but named with the command that puts them inside."""

import html
import shlex
import shutil
from pathlib import PurePath

import numpy as np
import pytest
import rasterio
import rasterio.shutil
from PIL import Image

from model.io.images import short_name
from serving.geo.photo import read_photo
from tests.fixtures.scenes import HALF_METRE, as_photo, noise, read_scene, write_scene

PLAIN = {"crs": None, "transform": None}
WORLD = "0.5\n0\n0\n-0.5\n500000.25\n599999.75\n"
STATISTICS = '<PAMDataset><PAMRasterBand band="1"><Metadata><MDI key="STATISTICS_MAXIMUM">9</MDI></Metadata>'


def sidecar_warnings(path):
    """Return the warnings about files next to a scene."""
    return [text for text in read_scene(path)[2].warnings if "files next to it" in text]


def run_command(warning, tmp_path):
    """Do what the command in a warning does, with rasterio, and return the file that it writes."""
    program, *options, source, target = shlex.split(warning.rpartition("put them inside with: ")[2])
    assert not (tmp_path / target).exists()
    assert program == "gdal_translate"
    settings, profile = {}, {}
    while options:
        option = options.pop(0)
        if option == "--config":
            settings[options.pop(0)] = options.pop(0)
        else:
            assert option == "-a_srs"
            profile["dst_crs"] = (tmp_path / options.pop(0)).read_text()
    with rasterio.Env(**settings), rasterio.open(source) as scene:
        rasterio.shutil.copy(scene, target, driver="GTiff")
    if profile:
        with rasterio.open(target, "r+") as file:
            file.crs = rasterio.CRS.from_wkt(profile["dst_crs"])
    return target


def test_a_mask_is_named_and_the_command_puts_it_inside(tmp_path):
    path = write_scene(tmp_path / "my scene.tif", noise(3))
    mask = np.full((64, 80), 255, np.uint8)
    mask[:20] = 0
    with rasterio.Env(GDAL_TIFF_INTERNAL_MASK=False), rasterio.open(path, "r+") as file:
        file.write_mask(mask)
    (warning,) = sidecar_warnings(path)
    assert "my scene.tif is drawn without the files next to it: my scene.tif.msk (a mask);" in warning
    inside = run_command(warning, tmp_path)
    (tmp_path / "my scene.tif.msk").unlink()
    assert np.array_equal(read_scene(tmp_path / inside)[1], mask)
    assert sidecar_warnings(tmp_path / inside) == []


@pytest.mark.parametrize("name", ["scene.tfw", "scene.TFW", "scene.tifw", "scene.wld", "scene.Wld"])
def test_a_world_file_is_named_and_the_command_puts_it_inside(tmp_path, name):
    path = write_scene(tmp_path / "scene.tif", noise(3), **PLAIN)
    (tmp_path / name).write_text(WORLD)
    (warning,) = sidecar_warnings(path)
    assert f"{name} (a location without coordinate system);" in warning
    if name == "scene.tfw":
        assert read_scene(tmp_path / run_command(warning, tmp_path))[2].grid.transform == HALF_METRE


def test_a_coordinate_system_is_named_together_with_the_world_file(tmp_path):
    path = write_scene(tmp_path / "scene.tif", noise(3), **PLAIN)
    (tmp_path / "scene.tfw").write_text(WORLD)
    (tmp_path / "scene.prj").write_text(rasterio.CRS.from_epsg(2180).to_wkt(version="WKT1_ESRI"))
    (warning,) = sidecar_warnings(path)
    assert "scene.tfw (a location) and scene.prj (a coordinate system);" in warning
    imagery = read_scene(tmp_path / run_command(warning, tmp_path))[2]
    assert imagery.grid.transform == HALF_METRE and imagery.grid.crs.to_epsg() == 2180


@pytest.mark.parametrize("name", ["scene_RPC.TXT", "scene_rpc.txt", "scene.RPB"])
def test_rational_polynomials_are_named(tmp_path, name):
    path = write_scene(tmp_path / "scene.tif", noise(3), **PLAIN)
    (tmp_path / name).write_text("LINE_OFF: 1\n")
    assert f"{name} (rational polynomial coefficients)" in sidecar_warnings(path)[0]


@pytest.mark.parametrize(
    ("text", "content"),
    [
        ('<PAMDataset><Metadata domain="RPC"><MDI key="LINE_OFF">1</MDI></Metadata>', "a location"),
        ("<PAMDataset><SRS>no system</SRS>", "a location"),
        ("<PAMDataset><SRS>EPSG:3857</SRS>", "a location"),
        ("<PAMDataset><GeoTransform>0, 1, 0, 0, 0, -1</GeoTransform>", "a location"),
        ("<PAMDataset><GCPList></GCPList>", "a location"),
        ('<PAMDataset><PAMRasterBand band="1"><NoDataValue>0</NoDataValue>', "a nodata value"),
        ('<PAMDataset><Metadata><MDI key="NODATA_VALUES">0 0 0</MDI></Metadata>', "a nodata value"),
        ('<PAMDataset><PAMRasterBand band="1"><ColorInterp>Blue</ColorInterp>', "colours"),
        ('<PAMDataset><PAMRasterBand band="1"><Description>Blue</Description>', "band names"),
    ],
)
def test_metadata_of_gdal_are_named_by_what_they_hold(tmp_path, text, content):
    path = write_scene(tmp_path / "scene.tif", noise(3, kind=np.uint16))
    (tmp_path / "scene.tif.aux.xml").write_text(text)
    (warning,) = sidecar_warnings(path)
    assert f"scene.tif.aux.xml ({content});" in warning


def test_files_that_change_nothing_are_not_named(tmp_path):
    path = write_scene(tmp_path / "scene.tif", noise(3), photometric="RGB", nodata=0)
    (tmp_path / "scene.tfw").write_text(WORLD)
    (tmp_path / "scene.prj").write_text("LOCAL_CS[]")
    with rasterio.open(path) as file:
        system = file.crs.to_wkt().replace('"', "&quot;")
        grid = ", ".join(map(repr, file.transform.to_gdal()))
    (tmp_path / "scene.tif.aux.xml").write_text(
        f"{STATISTICS}<NoDataValue>0</NoDataValue><SRS>{system}</SRS><GeoTransform>{grid}</GeoTransform>"
    )
    (tmp_path / "other.tif.msk").write_text("")
    (tmp_path / "scene.txt").write_text("")
    assert read_scene(path)[2].warnings == []


MARKED = {"photometric": "RGB", "nodata": 0}


def bands_text(*contents):
    """Return GDAL's metadata of bands with the given contents."""
    return "".join(f'<PAMRasterBand band="{band}">{text}</PAMRasterBand>' for band, text in enumerate(contents, 1))


@pytest.mark.parametrize(
    ("text", "content"),
    [
        (bands_text(*(f"<ColorInterp>{name}</ColorInterp>" for name in ("Blue", "Green", "Red"))), "colours"),
        (bands_text("", "<ColorTable></ColorTable>"), "colours"),
        (bands_text(*(f"<Description>{name}</Description>" for name in ("B02", "B03", "B04"))), "band names"),
        (bands_text("<NoDataValue>7</NoDataValue>"), "a nodata value"),
    ],
)
def test_metadata_that_contradict_the_file_are_named(tmp_path, text, content):
    path = write_scene(tmp_path / "scene.tif", noise(3), **MARKED)
    (tmp_path / "scene.tif.aux.xml").write_text(text)
    assert f"scene.tif.aux.xml ({content});" in sidecar_warnings(path)[0]


@pytest.mark.parametrize(
    "text",
    [
        bands_text(*(f"<ColorInterp>{name}</ColorInterp>" for name in ("Red", "Green", "Blue"))),
        bands_text("<ColorInterp>Undefined</ColorInterp>", "<Description>Band 2</Description>"),
        bands_text(*(f"<Description>{name}</Description>" for name in ("B04", "B03", "B02"))),
        bands_text("<NoDataValue>0.0</NoDataValue>"),
    ],
)
def test_metadata_that_repeat_the_file_are_not_named(tmp_path, text):
    path = write_scene(tmp_path / "scene.tif", noise(3), **MARKED)
    (tmp_path / "scene.tif.aux.xml").write_text(text)
    assert sidecar_warnings(path) == []


ROTATED = rasterio.CRS.from_proj4("+proj=ob_tran +o_proj=longlat +o_lon_p=0 +o_lat_p=39.25 +lon_0=18 +R=6371229")


def test_a_system_that_a_tiff_cannot_hold_is_warped(tmp_path):
    path = write_scene(tmp_path / "scene.tif", noise(3), **PLAIN)
    (tmp_path / "scene.tif.aux.xml").write_text(
        f"<PAMDataset><SRS>{html.escape(ROTATED.to_wkt(version='WKT2_2019'))}</SRS>"
        "<GeoTransform>0, 0.1, 0, 0, 0, -0.1</GeoTransform>"
    )
    (warning,) = sidecar_warnings(path)
    inside = tmp_path / "scene_inside.tif"
    assert warning.endswith(
        "scene.tif.aux.xml (a location); a TIFF can't hold that coordinate system, so warp it to another: "
        f"gdalwarp -t_srs EPSG:CODE {path} {inside}"
    )


def test_the_name_of_the_file_with_everything_inside_is_new(tmp_path):
    for name, expected in (("scene", "scene_inside"), ("scene_inside", "scene_inside2")):
        path = write_scene(tmp_path / f"{name}.tif", noise(3), **PLAIN)
        path.with_suffix(".tfw").write_text(WORLD)
        assert sidecar_warnings(path)[0].endswith(f" {tmp_path / expected}.tif")


@pytest.mark.parametrize(
    ("photo", "sidecar", "content"),
    [
        ("x.png", "x.pgw", "a location without coordinate system"),
        ("x.png", "x.PNGW", "a location without coordinate system"),
        ("x.JPG", "x.jgw", "a location without coordinate system"),
        ("x.webp", "x.wld", "a location without coordinate system"),
        ("x.jpg", "x.jpg.aux.xml", "a location, a nodata value"),
        ("x.png", "x.png.msk", "a mask"),
    ],
)
def test_files_next_to_an_image_are_named(tmp_path, photo, sidecar, content):
    path = tmp_path / photo
    Image.fromarray(as_photo(noise(3))).save(path)
    (tmp_path / sidecar).write_text(
        "<PAMDataset><SRS>EPSG:3857</SRS><GeoTransform>0,1,0,0,0,-1</GeoTransform>"
        f"{bands_text('<NoDataValue>3</NoDataValue>')}"
    )
    expected = f"{short_name(path)} is drawn without the files next to it: {sidecar} ({content}); put them inside with:"
    assert [text.startswith(expected) for text in read_photo(path.read_bytes(), path, located=True).warnings] == [True]
    located = "location," not in content and "location" in content
    assert (read_photo(path.read_bytes(), path).warnings == ()) == located


def test_a_photo_names_them_too_if_it_has_a_path_on_a_disk(tmp_path):
    path = write_scene(tmp_path / "scene.tif", noise(3))
    shutil.copy(path, tmp_path / "scene.tif.msk")
    assert "scene.tif.msk (a mask)" in read_photo(path.read_bytes(), path).warnings[0]
    assert read_photo(path.read_bytes(), PurePath("bucket/scene.tif")).warnings == ()
