"""A document and its fields as a multipart body that is read from its source piece by piece."""

from __future__ import annotations

import os
import secrets
import stat
from collections.abc import Callable, Iterator, Mapping
from io import BytesIO
from pathlib import Path
from typing import BinaryIO

Source = str | os.PathLike[str] | bytes | BinaryIO
"""A path, the contents, or a file opened for reading bytes, which is sent from where it stands."""

OnUpload = Callable[[int, int | None], None]
"""Called with the bytes handed to the connection and the bytes in all, None where nobody knows, of the whole body.

As long as the first is less than the second, the server cannot have accepted the document."""

PIECE = 64 * 1024
"""Bytes read at once."""

_QUOTED = str.maketrans({chr(code): f"%{code:02X}" for code in (*range(32), 34, 127)})
"""How a form names a file: `"`, CR and LF as the WHATWG's HTML standard says, and no other control character raw."""


class Upload:
    """One request body. It can be sent again as long as its source can be read again."""

    def __init__(
        self, source: Source, filename: str | None, form: Mapping[str, str], on_upload: OnUpload | None = None
    ) -> None:
        """ValueError where there is no file name to be had: the server checks the contents against its extension."""
        self._source = source
        self._start = source.tell() if not isinstance(source, (str, os.PathLike, bytes)) and source.seekable() else None
        self._consumed = False
        self._on_upload = on_upload
        self._sent = 0
        boundary = secrets.token_hex(16)
        parts = [_part(boundary, f'name="{name}"') + value.encode() + b"\r\n" for name, value in form.items()]
        named = (filename or _name(source)).translate(_QUOTED)
        parts.append(_part(boundary, f'name="file"; filename="{named}"', "application/octet-stream"))
        self._head = b"".join(parts)
        self._tail = f"\r\n--{boundary}--\r\n".encode()
        self._size = _size(source, self._start)
        self.content_type = f"multipart/form-data; boundary={boundary}"
        self.length = None if self._size is None else len(self._head) + self._size + len(self._tail)
        """Bytes of the body; None for a source whose end nobody knows."""

    @property
    def repeatable(self) -> bool:
        """Whether the body can be sent (again): not after a pipe was read from."""
        return not self._consumed or self._start is not None or isinstance(self._source, (str, os.PathLike, bytes))

    def pieces(self) -> Iterator[bytes]:
        """The body. Reads files: not to be iterated in an event loop."""
        self._sent = 0
        yield self._head
        if isinstance(self._source, bytes):
            yield from _read(BytesIO(self._source), self._size)
        elif isinstance(self._source, (str, os.PathLike)):
            with Path(self._source).open("rb") as file:
                yield from _read(file, self._size)
        else:
            if self._consumed and self._start is not None:
                self._source.seek(self._start)
            self._consumed = True
            yield from _read(self._source, self._size)
        yield self._tail

    def refused(self) -> None:
        """Tell the caller that the server has taken nothing of it."""
        self._tell(0)

    def sent(self, piece: bytes) -> None:
        """Tell the caller that one more piece goes out."""
        self._tell(self._sent + len(piece))

    def _tell(self, sent: int) -> None:
        self._sent = sent
        if self._on_upload is not None:
            self._on_upload(self._sent, self.length)


def _part(boundary: str, disposition: str, media_type: str | None = None) -> bytes:
    typed = f"Content-Type: {media_type}\r\n" if media_type else ""
    # A file name that is not valid UTF-8 on disk is for display only: a `?` will do.
    return f"--{boundary}\r\nContent-Disposition: form-data; {disposition}\r\n{typed}\r\n".encode(errors="replace")


def _name(source: Source) -> str:
    named = source if isinstance(source, (str, os.PathLike)) else getattr(source, "name", None)
    name = Path(named).name if isinstance(named, (str, os.PathLike)) else ""
    if not name:
        raise ValueError("give the document's `filename`: the server checks the contents against its extension")
    return name


def _size(source: Source, start: int | None) -> int | None:
    if isinstance(source, bytes):
        return len(source)
    if isinstance(source, (str, os.PathLike)):
        info = Path(source).stat()
        return info.st_size if stat.S_ISREG(info.st_mode) else None
    if start is None:
        return None
    end = source.seek(0, os.SEEK_END)
    source.seek(start)
    return end - start


def _read(file: BinaryIO, size: int | None) -> Iterator[bytes]:
    """As many bytes as were announced; OSError where the file does not have them any more."""
    left = size
    while left is None or left > 0:
        piece = file.read(PIECE if left is None else min(PIECE, left))
        if not piece:
            if left:
                raise OSError("the file became shorter while it was being sent")
            return
        left = None if left is None else left - len(piece)
        yield piece
