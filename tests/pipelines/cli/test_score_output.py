"""The warnings of many photos, as they are printed."""

from pipelines.cli.score_output import OutcomePrinter
from serving.scoring.manifest import Row
from serving.scoring.tasks import Outcome
from tests.fixtures.scored_folders import draw, rows
from tests.fixtures.surveys import noise_bands, write_survey

PLAIN = "in/{}.tif has no coordinate system, and its map has none either."
SIDECAR = "in/{0}.tif is drawn without the files next to it: {0}.tfw (a location); put them inside with: x /in/{0}.tif"
MORE = "The manifest and --json have all of them."


def print_all(capsys, outcomes, report=()):
    printer, warnings = OutcomePrinter(), []
    for name, found in outcomes:
        printer.print_outcome(Outcome(Row(source=f"/in/{name}.tif"), warnings=tuple(found)))
        warnings += found
    printer.finish([*warnings, *report])
    return [line.removeprefix("Warning: ") for line in capsys.readouterr().err.splitlines()]


def test_warnings_that_differ_in_names_and_numbers_are_summarised(capsys):
    names = ["a", "b2", "c", "tif", "has"]
    outcomes = [(name, [PLAIN.format(name), SIDECAR.format(name), f"Off by {len(name)}.5 pixels."]) for name in names]
    lines = print_all(capsys, [*outcomes, ("other", ["in/other.tif has several pages."])], ["2 photos are large."])
    assert lines == [
        *outcomes[0][1],
        "in/other.tif has several pages.",
        f"4 other photos have a warning like that of in/a.tif: in/b2.tif, in/c.tif, in/tif.tif and 1 more. {MORE}",
        f"4 other photos have a warning like that of in/a.tif: in/b2.tif, in/c.tif, in/tif.tif and 1 more. {MORE}",
        f"4 other photos have a warning like that of in/a.tif: in/b2.tif, in/c.tif, in/tif.tif and 1 more. {MORE}",
        "2 photos are large.",
    ]


def test_two_warnings_are_printed_as_they_are(capsys):
    assert print_all(capsys, [(name, [PLAIN.format(name)]) for name in "ab"]) == [PLAIN.format("a"), PLAIN.format("b")]


def test_the_manifest_has_the_warnings_of_every_map(bundle, tmp_path):
    for name in ("a", "b"):
        write_survey(tmp_path / "in" / f"{name}.tif", noise_bands(3, 20, 30), crs=None)
        (tmp_path / "in" / f"{name}.tif.msk").touch()
    for _ in range(2):
        draw(bundle, tmp_path / "in", tmp_path / "maps", format="tiff")
        found = rows(tmp_path / "maps")
        for name in ("a.tif", "b.tif"):
            plain, sidecar = found[name]["warnings"].split(" | ")
            assert plain == f"in/{name} has no coordinate system, and its map has none either."
            assert sidecar.startswith(f"in/{name} is drawn without the files next to it: {name}.msk (a mask)")
