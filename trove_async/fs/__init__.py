"""Objects as files: `open_file` opens one, as the built-in ``open`` does.

``docs/files.md`` is the guide.
"""

from trove_async.fs.base import AsyncFile
from trove_async.fs.file import open_file
from trove_async.fs.reading import BinaryReader
from trove_async.fs.text import TextReader, TextWriter
from trove_async.fs.writing import BinaryWriter

__all__ = ["AsyncFile", "BinaryReader", "BinaryWriter", "TextReader", "TextWriter", "open_file"]
