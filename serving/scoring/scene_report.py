"""The report on a single scene, with the fields of the report on photos."""

from pathlib import Path
from typing import Self

from serving.scoring.scene_products import SceneManifest
from serving.scoring.scorer import Failure


class SingleSceneReport(SceneManifest):
    """The manifest of a single scene and what a report on photos says; only `model` has the form of the manifest."""

    out: str
    """The map."""
    manifest: str
    """The file with the manifest."""
    drawn: int = 1
    kept: int = 0
    failed: tuple[Failure, ...] = ()
    variant: str
    seconds: float
    images_per_second: float

    @classmethod
    def of(cls, manifest: SceneManifest, out: Path) -> Self:
        """Return the report on a map that was drawn."""
        milliseconds = manifest.scene.milliseconds
        return cls(
            **dict(manifest),
            out=str(out),
            manifest=str(out.with_name(manifest.file)),
            variant=manifest.model.variant,
            seconds=milliseconds / 1000,
            images_per_second=round(1000 / max(1, milliseconds), 2),
        )
