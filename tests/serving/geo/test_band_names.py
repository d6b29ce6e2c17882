"""Bands that are chosen by what a file says about them."""

import numpy as np
import pytest
import rasterio
from rasterio.enums import ColorInterp

from tests.fixtures.scenes import noise, read_scene


@pytest.fixture
def choose(make_scene):
    """Return a function that writes bands with descriptions and colours, and returns the chosen ones and warnings."""

    def choose(*descriptions, colours=None, **settings):
        path = make_scene(noise(len(descriptions), kind=np.uint16), photometric="MINISBLACK")
        with rasterio.open(path, "r+") as file:
            file.descriptions = descriptions
            if colours:
                file.colorinterp = [ColorInterp[colour] for colour in colours]
        imagery = read_scene(path, **settings)[2]
        return imagery.colours.bands, imagery.warnings

    return choose


@pytest.mark.parametrize(
    "descriptions",
    [
        ("Blue", "Green", "Red", "NIR"),
        ("BLUE", "green", "rED", "near infrared"),
        ("Band 1 (Blue)", "Band 2 (Green)", "Band 3 (Red)", "Band 4 (Red Edge)"),
        ("blue_band", "green_band", "red_band", "nir_band"),
        ("Blue, 490 nm", "Green, 560 nm", "Red, 665 nm", "NIR, 842 nm"),
        ("b", "g", "r", "n"),
        ("B02", "B03", "B04", "B08"),
        ("B02 (blue)", "B03 (green)", "B04 (red)", "B05 (red edge)"),
        ("Sentinel-2 B02", "Sentinel-2 B03", "Sentinel-2 B04", "Sentinel-2 B08"),
        ("B2, central wavelength 490 nm", "B3, central wavelength 560 nm", "B4, central wavelength 665 nm", "842 nm"),
        ("0.482 um", "0.56 µm", ".655um", "0.865 um"),
    ],
)
def test_described_bands_are_chosen(choose, descriptions):
    assert choose(*descriptions) == ((3, 2, 1), [])


@pytest.mark.parametrize("colours", [("gray", "undefined", "undefined"), ("red", "undefined", "undefined")])
def test_names_that_are_no_colours_are_reported_unless_three_bands_are_marked(choose, colours):
    bands, (warning,) = choose("elevation", "slope", "aspect", colours=colours)
    assert bands == (1, 2, 3) and "(elevation, slope, aspect) are not named red, green and blue" in warning
    assert choose("elevation", "slope", "aspect", colours=("red", "green", "blue")) == ((1, 2, 3), [])


@pytest.mark.parametrize(
    "descriptions",
    [
        ("", "", "", ""),
        ("Band 4", "Band 3", "Band 2", "Band 1"),
        ("Red edge", "Green", "", "NIR"),
    ],
)
def test_the_first_three_are_chosen_if_no_band_has_a_name(choose, descriptions):
    assert choose(*descriptions) == ((1, 2, 3), [])


@pytest.mark.parametrize(
    "descriptions",
    [
        ("Red edge", "Green", "Blue", "NIR"),
        ("infrared", "green", "blue", "infra-red"),
        # Landsat 8 numbers its bands so, but Landsat 7 has infrared in B4.
        ("B2", "B3", "B4", "B1"),
        ("443 nm", "490 nm", "560 nm", "842 nm"),
    ],
)
def test_the_first_three_are_chosen_with_a_warning_if_a_colour_is_not_named(choose, descriptions):
    bands, (warning,) = choose(*descriptions)
    assert bands == (1, 2, 3) and f"({', '.join(descriptions)}) are not named red, green and blue" in warning
    assert choose(*descriptions, bands=(4, 2, 1)) == ((4, 2, 1), [])


def test_of_two_bands_with_one_description_the_first_is_chosen(choose):
    assert choose("Red", "Blue", "Green", "Red")[0] == (1, 3, 2)


def test_marks_come_before_descriptions_and_a_contradiction_is_reported(choose):
    marked = ("red", "green", "blue", "nir")
    bands, (warning,) = choose("Blue", "Green", "Red", "NIR", colours=marked)
    assert bands == (1, 2, 3) and warning.endswith("Give --bands 3,2,1 to draw them as described.")
    assert choose("Blue", "Green", "Red", "NIR", colours=marked, bands=(3, 2, 1)) == ((3, 2, 1), [])
    assert choose("Red", "Green", "Blue", "NIR", colours=marked) == ((1, 2, 3), [])


def test_alpha_is_never_chosen(choose):
    assert choose("", "", "", "", colours=("alpha", "undefined", "undefined", "undefined"))[0] == (2, 3, 4)
    assert choose("", "", colours=("alpha", "gray"))[0] == (2,)


def test_infrared_is_no_colour(choose):
    assert choose("", "", "", colours=("nir", "red", "green"))[0] == (1, 2, 3)
