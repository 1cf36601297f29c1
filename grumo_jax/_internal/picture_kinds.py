"""Picture and video formats that are not supported, by suffix and by content."""

_FILMS = ".3gp .avi .flv .gif .m2ts .m4v .mkv .mov .mp4 .mpeg .mpg .mts .ogv .webm .wmv"
_OF_PHONES_AND_BROWSERS = ".apng .avif .heic .heics .heif .hif .insp .jps .jxl .mpo .svg"
_OF_SENSORS = (
    ".3fr .arw .cr2 .cr3 .crw .dcr .dng .erf .kdc .mrw .nef .nrw .orf .pef .raf .raw .rw2 .sr2 "
    ".srf .srw .x3f"
)
_OF_OTHER_PROGRAMS = (
    ".ai .cur .dds .eps .exr .hdr .icns .ico .j2c .j2k .jp2 .jpc .jpf .jpx .pam .pbm .pcx .pdf "
    ".pfm .pgm .pnm .ppm .ps .psb .psd .qoi .ras .rgb .sgi .tga .wmf .xbm .xcf .xpm"
)
UNREAD = frozenset(
    " ".join((_FILMS, _OF_PHONES_AND_BROWSERS, _OF_SENSORS, _OF_OTHER_PROGRAMS)).split()
)
"""Suffixes of unsupported picture and video formats."""

_SIGNATURES = (
    (4, b"ftypavif", "an AVIF picture"),
    (4, b"ftyphei", "a HEIC picture"),
    (4, b"ftyphev", "a HEIC picture"),
    (4, b"ftypmif1", "a HEIC picture"),
    (4, b"ftypmsf1", "a HEIC picture"),
    (4, b"ftypcrx", "a camera's raw picture"),
    (4, b"ftyp", "a film (MP4 or MOV)"),
    (4, b"moov", "a film (MOV)"),
    (0, b"\x1aE\xdf\xa3", "a film (MKV or WebM)"),
    (8, b"AVI ", "a film (AVI)"),
    (0, b"\x00\x00\x01\xba", "a film (MPEG)"),
    (0, b"FLV\x01", "a film (FLV)"),
    (0, b"GIF8", "a GIF picture"),
    (0, b"\xff\x0a", "a JPEG XL picture"),
    (4, b"JXL ", "a JPEG XL picture"),
    (4, b"jP  ", "a JPEG 2000 picture"),
    (0, b"\xffO\xffQ", "a JPEG 2000 picture"),
    (0, b"8BPS", "a Photoshop picture"),
    (0, b"v/1\x01", "an EXR picture"),
    (0, b"%!PS", "a PostScript file"),
    (0, b"%PDF", "a PDF file"),
    (0, b"<svg", "an SVG picture"),
    (0, b"<?xml", "an SVG picture or other XML file"),
    (0, b"\x89HDF", "an HDF5 file"),
    (0, b"\x93NUMPY", "a numpy file"),
    (0, b"PK\x03\x04", "a zip file"),
)


def name_kind(head: bytes) -> str | None:
    """Name an unsupported format by a file's first bytes, with advice; None if unknown.

    >>> name_kind(b"GIF89a")
    'a GIF picture, which is not read; save it as .png or .jpg'
    """
    for start, mark, kind in _SIGNATURES:
        if head[start : start + len(mark)] == mark:
            return f"{kind}, which is not read; save it as .png or .jpg"
    return None
