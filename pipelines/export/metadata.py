"""Metadata inside an ONNX file, so that a file without its bundle explains itself."""

import json

import onnx

from model.bundle import BundleManifest
from model.provenance import software_version


def describe(manifest: BundleManifest, licence: str) -> dict[str, str]:
    """Return the metadata of a bundle's files, by key; they depend on nothing but the model, its data and the code."""
    tensors, resolution = manifest.signature, manifest.resolution
    low, high = manifest.value_range
    given, drawn = manifest.direction.split("_to_")
    side = manifest.network.image_size
    entries = {
        "description": f"Draws a {drawn} of each {given}: {tensors.dtype} RGB (batch, {side}, {side}, 3).",
        "direction": manifest.direction,
        "input": tensors.input,
        "output": tensors.output,
        "value_range": f"{low:g} to {high:g}",
        "resolution": "unknown" if resolution is None else f"{resolution:g} metres per pixel",
        "licence": licence,
        "version": software_version(),
        "data_fingerprint": manifest.data_fingerprint,
    }
    if manifest.palette is not None:
        entries["classes"] = json.dumps(manifest.palette.model_dump(mode="json")["classes"])
    return entries


def put_into(model: onnx.ModelProto, entries: dict[str, str]) -> onnx.ModelProto:
    """Return a copy of a model with this metadata."""
    described = onnx.ModelProto()
    described.CopyFrom(model)
    onnx.helper.set_model_props(described, entries)
    return described
