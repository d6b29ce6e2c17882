"""Formats of files, recognised by their first bytes, and what to do with those that can't be read."""

import re
from typing import NamedTuple

BEGIN = 4096
"""Number of bytes at the beginning of a file that `identify` looks at."""


class Format(NamedTuple):
    """A format of files.

    Attributes:
        name: A noun phrase with its article, such as `a GIF image`.
        advice: What to do with such a file; empty if an image program can convert it.
    """

    name: str
    advice: str = ""

    @property
    def short(self) -> str:
        """The name of the format of an image, such as `GIF`."""
        return self.name.split(maxsplit=1)[1].removesuffix(" image")


JPEG = Format("a JPEG image")
PNG = Format("a PNG image")
WEBP = Format("a WebP image")
TIFF = Format("a TIFF image")
JPEG_2000 = Format("a JPEG 2000 image")
UNKNOWN = Format("of an unknown format")

_AGAIN = "copy or download it again"
_EXPORT = "export it as a PNG image"
_GEOTIFF = "convert it to a GeoTIFF (gdal_translate)"
_FRAME = "save one of its frames as an image"
_UNPACK = "unpack it"
_FETCH = "download the image itself"
_XML = rb"(\xef\xbb\xbf)?\s*(<\?xml.*?\?>\s*)?(<!--((?!-->).)*-->\s*)*(<!DOCTYPE (?!html)[^>]*>\s*)?"
"""Pattern of what may stand before the first element: a byte order mark, the declaration, comments and the type."""
# In this order: a format comes before those whose signatures are weaker.
_FORMATS: tuple[tuple[bytes, Format], ...] = (
    (rb"\xff\xd8\xff(\xf7|\xe8..SPIFF)", Format("a JPEG-LS image")),
    (rb"\xff\xd8\xff", JPEG),
    (rb"\x89PNG\r\n\x1a\n", PNG),
    (rb"RIFF.{4}WEBP", WEBP),
    (rb"II[*+]\0|MM\0[*+]", TIFF),
    (rb"\0\0\0\x0cjP  \r\n\x87\n|\xff\x4f\xff\x51", JPEG_2000),
    (rb"\Z", Format("an empty file", _AGAIN)),
    (rb"\0+\Z", Format("a file that begins with zeros", _AGAIN)),
    (rb"GIF8", Format("a GIF image")),
    (rb"BM.{4}\0{4}", Format("a BMP image")),
    (rb".{4}ftyp(avif|avis)", Format("an AVIF image")),
    (rb".{4}ftyp(hei|hev|mif1|msf1)", Format("a HEIC image")),
    (rb"\0\0\0\x0cJXL \r\n\x87\n|\xff\x0a", Format("a JPEG XL image")),
    (rb"II\xbc\x01", Format("a JPEG XR image")),
    (rb"8BPS", Format("a Photoshop file", _EXPORT)),
    (rb"gimp xcf", Format("a GIMP file", _EXPORT)),
    (rb"\0\0\x01\0[^\0]\0", Format("an icon")),
    (rb"DDS ", Format("a DDS image")),
    (rb"v/1\x01", Format("an OpenEXR image")),
    (rb"#\?RADIANCE|#\?RGBE", Format("a Radiance HDR image")),
    (rb"P[1-7fF]\s", Format("a PNM image")),
    (rb"qoif", Format("a QOI image")),
    (rb"FUJIFILMCCD-RAW", Format("a raw photo of a camera")),
    (rb"%PDF-", Format("a PDF document", _EXPORT)),
    (rb"%!PS|\xc5\xd0\xd3\xc6", Format("a PostScript drawing", _EXPORT)),
    (rb"(CDF[\x01\x02\x05])", Format("a NetCDF file", _GEOTIFF)),
    (rb"\x89HDF\r\n\x1a\n|\x0e\x03\x13\x01", Format("an HDF file", _GEOTIFF)),
    (rb"GRIB", Format("a GRIB file", _GEOTIFF)),
    (rb"EHFA_HEADER_TAG", Format("an Erdas Imagine file", _GEOTIFF)),
    (rb"NITF0|NSIF0", Format("a NITF file", _GEOTIFF)),
    (rb"SIMPLE  =", Format("a FITS file", _GEOTIFF)),
    (rb"msid", Format("a MrSID image", _GEOTIFF)),
    (rb"SQLite format 3\0", Format("an SQLite database, such as a GeoPackage", "export the image from it")),
    (rb".{4}ftyp|\x1aE\xdf\xa3|RIFF.{4}AVI |\0\0\x01[\xba\xb3]", Format("a video", _FRAME)),
    (
        rb"PK\x03\x04|\x1f\x8b|BZh|\xfd7zXZ\0|7z\xbc\xaf|Rar!|\x28\xb5\x2f\xfd|.{257}ustar",
        Format("an archive", _UNPACK),
    ),
    (rb"version https://git-lfs\.github\.com/", Format("a Git LFS pointer", "fetch the file itself (git lfs pull)")),
    (rb"/annex/objects/", Format("a git-annex pointer", "fetch the file itself (git annex get)")),
    (rb"\0\x05\x16\x07", Format("a macOS resource file", "copy the image itself, whose name has no '._'")),
    (rb"\x4c\0\0\0\x01\x14\x02\0|\[InternetShortcut\]", Format("a Windows shortcut", "copy the image that it names")),
    (_XML + rb"<VRTDataset", Format("a VRT", _GEOTIFF)),
    (_XML + rb"<([a-z]+:)?svg\b", Format("an SVG drawing", _EXPORT)),
    (rb"(?i)" + _XML + rb"<(!DOCTYPE )?(html|head|body)\b", Format("an HTML page", _FETCH)),
    (_XML + rb"<\??[A-Za-z!]", Format("an XML document", _FETCH)),
    (rb"(\xef\xbb\xbf)?\s*[{\[]", Format("a JSON document", _FETCH)),
    (rb"\s*(https?|ftp|s3|gs)://|\s*/vsi", Format("a web address", _FETCH)),
)
_PATTERNS = tuple((re.compile(pattern, re.DOTALL), format) for pattern, format in _FORMATS)


def identify(begin: bytes) -> Format:
    """Return the format of a file by its first bytes, of which `BEGIN` are enough."""
    begin = begin[:BEGIN]
    return next((format for pattern, format in _PATTERNS if pattern.match(begin)), UNKNOWN)
