"""GeoTIFF files: broken, misleading and oversized ones are refused."""

import struct
from pathlib import Path

import numpy as np
import pytest
import rasterio
import rasterio.shutil
from PIL import Image

from model.errors import DataError
from serving.geo import raster
from serving.geo.gdal import gdal
from serving.geo.imagery import open_imagery
from tests.fixtures.scenes import as_photo, noise, opening_error, read_scene

# Refused files


def test_a_vrt_named_tif_is_refused_before_gdal_sees_it(make_scene, tmp_path):
    make_scene(noise(3))
    vrt = tmp_path / "other.tif"
    rasterio.shutil.copy(tmp_path / "scene.tif", vrt, driver="VRT")
    assert opening_error(vrt).endswith("other.tif is a VRT; convert it to a GeoTIFF (gdal_translate).")


@pytest.mark.parametrize(
    ("content", "kind"),
    [
        (b"", "an empty file"),
        (b"https://example.org/scene.tif", "a web address"),
        (b"/vsicurl/https://example.org/scene.tif", "a web address"),
        (b'<?xml version="1.0"?>\n<VRTDataset>', "a VRT"),
        (b"\xff\xd8\xff\xe0", "a JPEG image"),
        (b"version https://git-lfs.github.com/spec/v1", "a Git LFS pointer"),
        (b"not an image", "of an unknown format"),
    ],
)
def test_other_content_is_refused(tmp_path, content, kind):
    (tmp_path / "other.tif").write_bytes(content)
    assert f"other.tif is {kind};" in opening_error(tmp_path / "other.tif")


def test_addresses_and_sub_datasets_are_refused(make_scene, tmp_path):
    path = make_scene(noise(3))
    assert opening_error(Path(f"/vsizip/{path}")).endswith("names a virtual file of GDAL; choose another folder.")
    for address in (f"GTIFF_DIR:1:{path}", "https://example.org/scene.tif"):
        assert opening_error(Path(address)).endswith("is missing or not a regular file; name a TIFF or JPEG 2000 file.")


def test_sidecar_files_are_ignored(make_scene, tmp_path):
    path = make_scene(noise(3), crs=None, transform=rasterio.Affine.identity())
    (tmp_path / "scene.tfw").write_text("0.5\n0\n0\n-0.5\n500000\n600000\n")
    (tmp_path / "scene.tif.aux.xml").write_text("<PAMDataset><SRS>EPSG:2180</SRS></PAMDataset>")
    *_, imagery = read_scene(path)
    assert imagery.grid.crs is None and imagery.grid.transform.is_identity


def test_a_truncated_file_is_refused_at_once(make_scene):
    path = make_scene(noise(3, 512, 512), tiled=True, blockxsize=256, blockysize=256)
    content = path.read_bytes()
    path.write_bytes(content[: len(content) // 2])
    assert "scene.tif is truncated: rows from" in opening_error(path)
    path.write_bytes(content[:6])
    assert "scene.tif is broken or truncated (" in opening_error(path)


def test_broken_pixels_are_reported_with_their_rows(make_scene):
    path = make_scene(noise(3, 512, 512), compress="deflate", tiled=True, blockxsize=256, blockysize=256)
    content = bytearray(path.read_bytes())
    content[-60_000:] = bytes(60_000)
    path.write_bytes(content)
    with gdal(), open_imagery(path) as imagery:
        assert imagery.read(0, 0, 256, 256) is not None
        with pytest.raises(DataError, match=r"scene.tif is broken or truncated in rows 256 to 512"):
            imagery.read(256, 256, 256, 256)


def test_a_wrong_byte_in_the_directory_is_harmless_or_refused(make_scene):
    path = make_scene(noise(3, 20, 30), crs="+proj=laea +lat_0=50 +lon_0=15 +datum=WGS84")
    content = path.read_bytes()
    (directory,) = struct.unpack_from("<I", content, 4)
    causes = set()
    for at in range(directory, directory + 540, 3):
        path.write_bytes(content[:at] + b"\xff" + content[at + 1 :])
        try:
            with gdal(), open_imagery(path):
                pass
        except DataError as error:
            causes.add(type(error.__cause__).__name__)
    # GDAL's own error, which has no public class; rasterio's; and that of a coordinate system that is not UTF-8.
    assert {"CPLE_AppDefinedError", "RasterioIOError", "UnicodeDecodeError"} <= causes


def test_mistakes_of_our_own_are_not_taken_for_a_broken_file(make_scene, monkeypatch):
    monkeypatch.setattr("serving.geo.imagery.choose_colours", lambda dataset, opacity, **settings: dataset.colour)
    with pytest.raises(AttributeError), gdal(), open_imagery(make_scene(noise(3))):
        pass


def test_a_scene_of_too_many_pixels_is_refused(make_scene, monkeypatch):
    path = make_scene(noise(3))
    monkeypatch.setattr(raster, "MAX_PIXELS", 5000)
    assert "scene.tif has 80x64 pixels; at most 5000 are allowed" in opening_error(path)


def test_a_map_of_too_many_pixels_is_refused(make_scene, monkeypatch):
    path = make_scene(noise(3))
    monkeypatch.setattr("serving.geo.imagery.MAX_PIXELS", 8000)
    assert "at 0.25 m a pixel would be 160x128 pixels; at most 8000" in opening_error(path, resolution=0.25)


def test_a_huge_block_is_refused(tmp_path):
    path = tmp_path / "bomb.tif"
    shape = {"height": 20_000, "width": 20_000, "count": 1, "dtype": "uint8"}
    layout = {"tiled": True, "blockxsize": 16_400, "blockysize": 16_400, "sparse_ok": True}
    with gdal(), rasterio.open(path, "w", driver="GTiff", **shape, **layout):
        pass
    assert "stored in blocks of 268960000 bytes; at most 268435456 are allowed" in opening_error(path)


def test_the_first_of_several_pages_is_read(tmp_path):
    pages = [Image.fromarray(as_photo(noise(3, seed=seed))) for seed in (1, 2)]
    pages[0].save(tmp_path / "pages.tif", save_all=True, append_images=pages[1:])
    photo, _, imagery = read_scene(tmp_path / "pages.tif")
    assert np.array_equal(photo, np.asarray(pages[0]))
    assert imagery.warnings[1].endswith("pages.tif has 2 pages; the first is drawn.")


def test_file_names_may_have_spaces_and_any_letters(make_scene):
    bands = noise(3)
    assert np.array_equal(read_scene(make_scene(bands, name="zdjęcie łąki #1?.tif"))[0], as_photo(bands))


# Pages


def add_pages(path, *kinds, tag=254):
    """Write pages of 20x16 pixels, but the last of 80x64, with a kind each (NewSubfileType)."""
    bands = noise(1)[0]
    images = [Image.fromarray(bands if kind == kinds[-1] else bands[::4, ::4]) for kind in kinds]
    for image, kind in zip(images, kinds, strict=True):
        image.encoderinfo = {"tiffinfo": {tag: kind}}
    images[0].save(path, "TIFF", save_all=True, append_images=images[1:], tiffinfo={tag: kinds[0]})
    return path


@pytest.mark.parametrize(
    ("kinds", "tag", "page"), [((1, 0), 254, 2), ((1, 4, 0), 254, 3), ((4, 0), 254, 2), ((2, 1), 255, 2)]
)
def test_a_reduced_first_page_is_refused_with_the_command_that_extracts_the_full_one(tmp_path, kinds, tag, page):
    path = add_pages(tmp_path / "pages.tif", *kinds, tag=tag)
    assert opening_error(path).endswith(
        f"pages.tif begins with a reduced image or a mask; extract the full one, page {page} "
        f"(gdal_translate GTIFF_DIR:{page}:IN.tif OUT.tif)."
    )
    with gdal(), rasterio.open(f"GTIFF_DIR:{page}:{path}") as full:
        assert full.shape == (64, 80)
    with gdal(), pytest.raises(DataError, match="reduced"), open_imagery(path, content=path.read_bytes()):
        pass


def test_a_reduced_image_with_the_full_one_in_a_sub_page_is_refused(tmp_path):
    Image.fromarray(noise(1)[0]).save(tmp_path / "raw.tif", tiffinfo={254: 1, 330: 8})
    assert opening_error(tmp_path / "raw.tif").endswith(
        "raw.tif begins with a reduced image or a mask, as raw photos of cameras do; export it as a TIFF in full size."
    )


def test_a_reduced_image_that_is_the_only_one_is_drawn(tmp_path):
    assert read_scene(add_pages(tmp_path / "page.tif", 1))[0].shape == (64, 80, 3)


@pytest.mark.parametrize(("tag", "value"), [(274, 0), (296, 9)])
def test_bad_values_of_tags_that_pixels_do_not_depend_on_are_no_reason_to_refuse_a_file(tmp_path, tag, value):
    Image.fromarray(noise(1)[0]).save(tmp_path / "odd.tif", tiffinfo={tag: 1})
    content = (tmp_path / "odd.tif").read_bytes()
    assert content.count(struct.pack("<HHIH", tag, 3, 1, 1)) == 1
    (tmp_path / "odd.tif").write_bytes(
        content.replace(struct.pack("<HHIH", tag, 3, 1, 1), struct.pack("<HHIH", tag, 3, 1, value))
    )
    assert np.array_equal(read_scene(tmp_path / "odd.tif")[0][..., 0], noise(1)[0])
