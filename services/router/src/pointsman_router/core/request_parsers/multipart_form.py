"""Finds one field of a `multipart/form-data` body without taking the others apart (RFC 7578).

Bounded: so many parts, so long headers; contents are passed over.
"""

import re

from pointsman_common.errors import BadRequestError

MAX_PARTS = 128
MAX_HEADER_BYTES = 8192

# RFC 2046, section 5.1.1: at most 70 characters.
_BOUNDARY = re.compile(r';\s*boundary=(?:"([^"]{1,70})"|([^\s;"]{1,70})(?=[\s;]|$))', re.IGNORECASE)
_NAME = re.compile(rb';\s*name=(?:"((?:[^"\\]|\\.)*)"|([^\s;"]+))', re.IGNORECASE)
_FILE_NAME = re.compile(rb";\s*filename\*?=", re.IGNORECASE)
_DISPOSITION = re.compile(rb"^content-disposition:(.*)$", re.IGNORECASE | re.MULTILINE)
_LINE_END = re.compile(rb"[ \t]*\r\n")


def boundary_of(content_type: str) -> bytes:
    """The boundary of a form.

    Raises:
        BadRequestError: the content type is not a form's.
    """
    kind = content_type.partition(";")[0].strip().lower()
    found = _BOUNDARY.search(content_type)
    if kind != "multipart/form-data" or found is None:
        raise BadRequestError("the content type must be multipart/form-data with a boundary")
    return (found[1] or found[2]).encode()


def field_place(body: bytes, boundary: bytes, name: str) -> tuple[int, int] | None:
    """Start and end of the value of the field `name`; `None`: there is none.

    Raises:
        BadRequestError: no form, or the field is a file or stands twice.
    """
    wanted, delimiter = name.encode(), b"--" + boundary
    place: tuple[int, int] | None = None
    at = 0 if body.startswith(delimiter) else body.find(b"\r\n" + delimiter) + 2
    if at == 1:
        raise BadRequestError("the form does not begin with its boundary")
    for _ in range(MAX_PARTS):
        at += len(delimiter)
        if body.startswith(b"--", at):
            return place
        line = _LINE_END.match(body, at)
        # The headers may be none: then the empty line is the one that ends the boundary.
        blank = (
            body.find(b"\r\n\r\n", line.end() - 2, line.end() + MAX_HEADER_BYTES) if line else -1
        )
        end = body.find(b"\r\n" + delimiter, blank + 2) if blank >= 0 else -1
        if line is None or end < 0:
            raise BadRequestError("the form ends within a part")
        if _names(body[line.end() : blank], wanted):
            if place is not None:
                raise BadRequestError(f"the field {name} stands twice", param=name)
            place = blank + 4, max(end, blank + 4)
        at = end + 2
    raise BadRequestError(f"the form has more than {MAX_PARTS} parts")


def _names(headers: bytes, wanted: bytes) -> bool:
    disposition = _DISPOSITION.search(headers)
    found = _NAME.search(disposition[1]) if disposition else None
    if disposition is None or found is None or (found[1] or found[2] or b"") != wanted:
        return False
    if _FILE_NAME.search(disposition[1]):
        name = wanted.decode()
        raise BadRequestError(f"the field {name} must be a text, not a file", param=name)
    return True
