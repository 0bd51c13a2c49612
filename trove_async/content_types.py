"""The media types of file name extensions: one table, the same on every machine and with every version of Python.

Sources, in this order: the registry of IANA (https://www.iana.org/assignments/media-types/) and the RFCs named below,
the MIME Sniffing and HTML standards of WHATWG, and shared-mime-info of freedesktop.org for what is registered nowhere.
An archive or a compressed file has the type of its last extension: the object consists of the compressed bytes.
"""

from __future__ import annotations

from typing import Final

__all__ = ["CONTENT_TYPES"]

_EXTENSIONS: Final = {
    # Text
    "text/calendar": "ics ifb",  # RFC 5545
    "text/css": "css",
    "text/csv": "csv",  # RFC 4180
    "text/html": "html htm shtml",
    "text/javascript": "js mjs cjs",  # RFC 9239
    "text/markdown": "md markdown",  # RFC 7763
    "text/n3": "n3",
    "text/plain": "txt text log conf cfg ini bat c cc cpp cxx h hh hpp ksh pl go java rs srt diff patch",
    "text/richtext": "rtx",
    "text/tab-separated-values": "tsv",
    "text/turtle": "ttl",
    "text/vcard": "vcf vcard",  # RFC 6350
    "text/vtt": "vtt",
    "text/x-bibtex": "bib",
    "text/x-python": "py pyw pyi",
    "text/x-setext": "etx",
    "text/x-sgml": "sgml sgm",
    "text/xml": "xml",  # RFC 7303
    # Structured data
    "application/atom+xml": "atom",  # RFC 4287
    "application/cbor": "cbor",  # RFC 8949
    "application/dicom": "dcm dicom",  # RFC 3240
    "application/geo+json": "geojson",  # RFC 7946
    "application/gpx+xml": "gpx",
    "application/json": "json map",  # RFC 8259; source maps are JSON
    "application/ld+json": "jsonld",
    "application/manifest+json": "webmanifest",
    "application/n-quads": "nq",
    "application/n-triples": "nt",
    "application/rdf+xml": "rdf",  # RFC 3870
    "application/rss+xml": "rss",
    "application/sql": "sql",  # RFC 6922
    "application/toml": "toml",
    "application/trig": "trig",
    "application/vnd.google-earth.kml+xml": "kml",
    "application/vnd.google-earth.kmz": "kmz",
    "application/vnd.msgpack": "msgpack",
    "application/vnd.sqlite3": "sqlite sqlite3 db3",
    "application/wsdl+xml": "wsdl",
    "application/x-ipynb+json": "ipynb",  # Jupyter's nbformat
    "application/x-ndjson": "ndjson jsonl",  # https://github.com/ndjson/ndjson-spec
    "application/xhtml+xml": "xhtml xht",
    "application/xml": "xsd xpdl",
    "application/xml-dtd": "dtd",
    "application/xslt+xml": "xsl xslt",
    "application/yaml": "yaml yml",  # RFC 9512
    # Tables, arrays and models
    "application/avro": "avro",  # not registered
    "application/geopackage+sqlite3": "gpkg",
    "application/vnd.apache.arrow.file": "arrow feather",
    "application/vnd.apache.arrow.stream": "arrows",
    "application/vnd.apache.orc": "orc",  # not registered
    "application/vnd.apache.parquet": "parquet",
    "application/x-hdf": "hdf hdf4 h4",
    "application/x-hdf5": "h5 hdf5 he5",
    "application/x-netcdf": "nc cdf",
    "model/gltf+json": "gltf",
    "model/gltf-binary": "glb",
    "model/mtl": "mtl",
    "model/obj": "obj",
    "model/stl": "stl",
    "model/vnd.usdz+zip": "usdz",
    # Archives and compressed files
    "application/gzip": "gz tgz taz svgz",  # RFC 6713
    "application/java-archive": "jar war ear",
    "application/vnd.android.package-archive": "apk",
    "application/vnd.debian.binary-package": "deb",
    "application/vnd.ms-cab-compressed": "cab",
    "application/vnd.rar": "rar",
    "application/x-7z-compressed": "7z",
    "application/x-apple-diskimage": "dmg",
    "application/x-brotli": "br",
    "application/x-bzip2": "bz2 tbz tbz2",
    "application/x-cd-image": "iso",
    "application/x-compress": "z",
    "application/x-cpio": "cpio",
    "application/x-bcpio": "bcpio",
    "application/x-gtar": "gtar",
    "application/x-lz4": "lz4",
    "application/x-lzip": "lz",
    "application/x-lzma": "lzma",
    "application/x-rpm": "rpm",
    "application/x-shar": "shar",
    "application/x-snappy-framed": "sz",
    "application/x-sv4cpio": "sv4cpio",
    "application/x-sv4crc": "sv4crc",
    "application/x-tar": "tar",
    "application/x-ustar": "ustar",
    "application/x-xz": "xz txz",
    "application/zip": "zip whl",
    "application/zstd": "zst tzst",  # RFC 8878
    # Documents
    "application/epub+zip": "epub",
    "application/msword": "doc dot wiz",
    "application/oda": "oda",
    "application/pdf": "pdf",  # RFC 8118
    "application/postscript": "ps ai eps",
    "application/rtf": "rtf",
    "application/vnd.ms-excel": "xls xlb xlt",
    "application/vnd.ms-outlook": "msg",
    "application/vnd.ms-powerpoint": "ppt pot ppa pps pwz",
    "application/vnd.oasis.opendocument.graphics": "odg",
    "application/vnd.oasis.opendocument.presentation": "odp",
    "application/vnd.oasis.opendocument.spreadsheet": "ods",
    "application/vnd.oasis.opendocument.text": "odt",
    "application/vnd.openxmlformats-officedocument.presentationml.presentation": "pptx",
    "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet": "xlsx",
    "application/vnd.openxmlformats-officedocument.wordprocessingml.document": "docx",
    "application/x-dvi": "dvi",
    "application/x-latex": "latex",
    "application/x-mif": "mif",
    "application/x-tex": "tex",
    "application/x-texinfo": "texi texinfo",
    "application/x-troff": "roff t tr",
    "application/x-troff-man": "man",
    "application/x-troff-me": "me",
    "application/x-troff-ms": "ms",
    "message/rfc822": "eml mht mhtml nws",
    # Programs, keys and signatures
    "application/pgp-signature": "sig",
    "application/pkcs7-mime": "p7c p7m",
    "application/pkix-cert": "cer",
    "application/vnd.apple.installer+xml": "mpkg",
    "application/wasm": "wasm",
    "application/x-csh": "csh",
    "application/x-pem-file": "pem",
    "application/x-pkcs12": "p12 pfx",
    "application/x-python-code": "pyc pyo",
    "application/x-sh": "sh",
    "application/x-shockwave-flash": "swf",
    "application/x-tcl": "tcl",
    "application/x-wais-source": "src",
    # Fonts: RFC 8081
    "font/collection": "ttc",
    "font/otf": "otf",
    "font/ttf": "ttf",
    "font/woff": "woff",
    "font/woff2": "woff2",
    "application/vnd.ms-fontobject": "eot",
    # Images
    "image/apng": "apng",
    "image/avif": "avif",
    "image/bmp": "bmp dib",  # RFC 7903
    "image/emf": "emf",
    "image/gif": "gif",
    "image/heic": "heic",
    "image/heif": "heif",
    "image/ief": "ief",
    "image/jp2": "jp2",
    "image/jpeg": "jpg jpeg jpe jfif",
    "image/jxl": "jxl",
    "image/ktx2": "ktx2",
    "image/png": "png",
    "image/svg+xml": "svg",
    "image/tiff": "tif tiff",
    "image/vnd.adobe.photoshop": "psd",
    "image/vnd.djvu": "djvu djv",
    "image/vnd.microsoft.icon": "ico cur",
    "image/webp": "webp",  # RFC 9649
    "image/wmf": "wmf",
    "image/x-cmu-raster": "ras",
    "image/x-exr": "exr",
    "image/x-portable-anymap": "pnm",
    "image/x-portable-bitmap": "pbm",
    "image/x-portable-graymap": "pgm",
    "image/x-portable-pixmap": "ppm",
    "image/x-rgb": "rgb",
    "image/x-xbitmap": "xbm",
    "image/x-xpixmap": "xpm",
    "image/x-xwindowdump": "xwd",
    # Sound
    "audio/aac": "aac adts loas",
    "audio/ac3": "ac3",
    "audio/aiff": "aif aiff aifc",
    "audio/amr": "amr",
    "audio/basic": "au snd",
    "audio/flac": "flac",  # RFC 9639
    "audio/matroska": "mka",  # RFC 9559
    "audio/midi": "mid midi",
    "audio/mp4": "m4a m4b",  # RFC 4337
    "audio/mpeg": "mp3 mp2",  # RFC 3003
    "audio/ogg": "ogg oga spx",  # RFC 5334
    "audio/opus": "opus",
    "audio/wav": "wav",
    "audio/x-pn-realaudio": "ra ram",
    "audio/webm": "weba",
    # Films and playlists
    "application/dash+xml": "mpd",
    "application/ogg": "ogx",
    "application/ttml+xml": "ttml",
    "application/vnd.apple.mpegurl": "m3u8 m3u",  # RFC 8216
    "video/3gpp": "3gp 3gpp",
    "video/3gpp2": "3g2 3gpp2",
    "video/matroska": "mkv",  # RFC 9559
    "video/mp2t": "ts m2ts mts",
    "video/mp4": "mp4 m4v mp4v",
    "video/mpeg": "mpeg mpg mpe mpa m1v m2v",
    "video/ogg": "ogv",
    "video/quicktime": "mov qt",
    "video/webm": "webm",
    "video/x-flv": "flv",
    "video/x-ms-wmv": "wmv",
    "video/x-msvideo": "avi",
    "video/x-sgi-movie": "movie",
}

CONTENT_TYPES: Final = {extension: kind for kind, extensions in _EXTENSIONS.items() for extension in extensions.split()}
"""The media type of each extension, which is written in lower case and without its dot."""
