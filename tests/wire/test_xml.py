from __future__ import annotations

from contextlib import suppress
from datetime import UTC, datetime, timedelta
from typing import Any
from xml.etree.ElementTree import Element

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from trove_async.errors import BackendError, InvalidKeyError
from trove_async.wire.xml import can_hold, document, number, parse, parse_if_xml, parse_time, required, text

# A busy machine must not fail the test.
BOUNDS = settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.too_slow])

S3 = "http://s3.amazonaws.com/doc/2006-03-01/"

LISTING = f"""<?xml version="1.0" encoding="UTF-8"?>
<ListBucketResult xmlns="{S3}"><Name>assets</Name><Prefix/><IsTruncated>false</IsTruncated>
  <Contents><Key>a &amp; b&#13;&#x1F984;.jpg</Key><ETag>&quot;1&quot;</ETag><Size>5</Size></Contents>
  <Contents><Key> c/ </Key><ETag>"2"</ETag><Size>6</Size></Contents>
</ListBucketResult>"""

# The characters that XML 1.0 permits: https://www.w3.org/TR/xml/#charsets
CHARACTERS = st.characters(
    exclude_categories=["Cs"],
    exclude_characters=[chr(code) for code in range(32) if chr(code) not in "\t\n\r"] + ["\ufffe", "\uffff"],
)
INVALID = [*(chr(code) for code in range(32) if chr(code) not in "\t\n\r"), "\ud800", "\udfff", "\ufffe", "\uffff"]
NAMES = st.from_regex(r"\A[A-Za-z_][A-Za-z0-9_.-]{0,8}\Z")
TREES = st.lists(
    st.recursive(
        st.tuples(NAMES, st.text(CHARACTERS)),
        lambda children: st.tuples(NAMES, st.lists(children, min_size=1, max_size=4)),
        max_leaves=12,
    ),
    max_size=5,
)


def read_back(element: Element) -> list[tuple[str, Any]]:
    return [(child.tag, read_back(child) if len(child) else child.text or "") for child in element]


def nested_entities() -> bytes:
    """Return a document of 1 KB that expands to a gigabyte."""
    lines = ["<!DOCTYPE r [", '<!ENTITY e0 "0123456789">']
    lines += [f'<!ENTITY e{level} "{f"&e{level - 1};" * 10}">' for level in range(1, 9)]
    return "\n".join([*lines, "]><r>&e8;</r>"]).encode()


def test_a_listing_is_read_without_its_namespace() -> None:
    root = parse(LISTING.encode())
    assert root.tag == "ListBucketResult"
    assert [(text(item, "Key"), text(item, "ETag"), text(item, "Size")) for item in root.iterfind("Contents")] == [
        ("a & b\r🦄.jpg", '"1"', "5"),
        (" c/ ", '"2"', "6"),
    ]


def test_text_distinguishes_an_empty_child_from_a_missing_one() -> None:
    root = parse(LISTING.encode())
    assert text(root, "Prefix") == ""
    assert text(root, "Prefix", "default") == ""
    assert text(root, "Marker") is None
    assert text(root, "Marker", "default") == "default"


def test_prefixed_namespaces_are_stripped_too() -> None:
    root = parse(b'<s:Error xmlns:s="urn:a" xmlns="urn:b"><s:Code>1</s:Code><Message xmlns="">2</Message></s:Error>')
    assert root.tag == "Error"
    assert [(child.tag, child.text) for child in root] == [("Code", "1"), ("Message", "2")]


@pytest.mark.parametrize("before", [b" ", b"\n\n", b" " * 10_000, b"\xef\xbb\xbf"])
def test_bytes_that_a_service_sends_before_the_document_are_ignored(before: bytes) -> None:
    assert parse(before + b'<?xml version="1.0"?><Error/>').tag == "Error"


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b" ",
        b"no markup",
        b"{}",
        b"<a>",
        b"<a></b>",
        b"<a/><b/>",
        b"<a>&undefined;</a>",
        b"<a>\x01</a>",
        b"<a>&#1;</a>",
        b"<a>\xff</a>",
        b"<a>\xed\xa0\x80</a>",
        b"<x:a/>",
        "<a/>".encode("utf-16"),
        LISTING.encode()[:-1],
    ],
)
def test_invalid_xml_is_a_backend_error(data: bytes) -> None:
    with pytest.raises(BackendError, match="not XML"):
        parse(data)


@pytest.mark.parametrize(
    "data",
    [
        b"<!DOCTYPE html><html></html>",
        b'<?xml version="1.0"?>\n<!-- c --><!DOCTYPE r SYSTEM "file:///etc/passwd"><r/>',
        b'<!DOCTYPE r [<!ENTITY e SYSTEM "file:///etc/passwd">]><r>&e;</r>',
        nested_entities(),
    ],
)
def test_a_document_type_is_refused_before_expansion(data: bytes) -> None:
    with pytest.raises(BackendError, match="document type"):
        parse(data)


@pytest.mark.parametrize("encoding", ["utf-16", "utf-16-le", "utf-32", "cp037", "utf-7"])
def test_a_document_type_in_another_encoding_is_refused(encoding: str) -> None:
    head = f'<?xml version="1.0" encoding="{encoding}"?>'
    body = '<!DOCTYPE r [<!ENTITY e "expanded">]><r>&e;</r>'
    for data in ((head + body).encode(encoding), head.encode() + body.encode(encoding)):
        with pytest.raises(BackendError):
            parse(data)


@pytest.mark.parametrize("encoding", ["UTF-8", "utf-8", "iso-8859-1", "shift_jis", "no-such-encoding"])
def test_a_document_is_read_as_utf_8_whatever_it_declares(encoding: str) -> None:
    data = f'<?xml version="1.0" encoding="{encoding}"?><r><Key>é</Key></r>'.encode()
    assert text(parse(data), "Key") == "é"


def test_the_words_of_a_document_type_may_occur_in_text() -> None:
    assert text(parse(b"<r><!-- <!DOCTYPE a> --><Key><![CDATA[<!DOCTYPE b>]]></Key></r>"), "Key") == "<!DOCTYPE b>"


@BOUNDS
@given(
    st.one_of(
        st.binary(max_size=200),
        st.text(max_size=100).map(lambda value: f"<a>{value}</a>".encode("utf-8", "surrogatepass")),
    )
)
def test_any_bytes_are_parsed_or_raise_a_backend_error(data: bytes) -> None:
    try:
        root = parse(data)
    except BackendError:
        return
    assert isinstance(root.tag, str)


def test_the_exact_form_of_a_document() -> None:
    built = document(
        "Delete",
        [("Object", [("Key", "a<b>&\"c'\r\n\td")]), ("Quiet", True), ("Part", 7), ("Empty", []), ("Off", False)],
        S3,
    )
    assert built == (
        b'<?xml version="1.0" encoding="UTF-8"?>\n'
        b'<Delete xmlns="http://s3.amazonaws.com/doc/2006-03-01/">'
        b"<Object><Key>a&lt;b&gt;&amp;\"c'&#13;\n\td</Key></Object>"
        b"<Quiet>true</Quiet><Part>7</Part><Empty></Empty><Off>false</Off></Delete>"
    )


def test_a_document_without_a_namespace_declares_none() -> None:
    assert document("a", []) == b'<?xml version="1.0" encoding="UTF-8"?>\n<a></a>'


@BOUNDS
@given(st.text(CHARACTERS))
def test_any_text_that_xml_permits_round_trips(value: str) -> None:
    assert can_hold(value)
    assert text(parse(document("r", [("Key", value)], S3)), "Key") == value


@BOUNDS
@given(TREES)
def test_any_tree_round_trips(tree: list[tuple[str, Any]]) -> None:
    assert read_back(parse(document("r", tree))) == tree


# Expat accepts no closing brace in a namespace: the parser's own notation for names uses it.
@BOUNDS
@given(st.text(CHARACTERS).filter(lambda namespace: "}" not in namespace))
def test_any_namespace_is_escaped_and_stripped(namespace: str) -> None:
    root = parse(document("r", [("a", "1")], namespace))
    assert (root.tag, text(root, "a")) == ("r", "1")


@pytest.mark.parametrize("character", INVALID, ids=ascii)
def test_a_character_that_xml_does_not_permit_is_named(character: str) -> None:
    value = f"before & {character} after"
    assert not can_hold(value)
    with pytest.raises(InvalidKeyError, match=rf"U\+{ord(character):04X}.* Key "):
        document("Delete", [("Object", [("Key", value)])])


def test_each_character_that_xml_does_not_permit_is_named_once() -> None:
    with pytest.raises(InvalidKeyError, match=r"cannot hold U\+0000, U\+001F, which"):
        document("r", [("Key", "\x1f\x00\x1f")])


@BOUNDS
@given(st.text())
def test_can_hold_predicts_whether_a_document_can_be_built(value: str) -> None:
    try:
        document("r", [("Key", value)])
    except InvalidKeyError:
        assert not can_hold(value)
    else:
        assert can_hold(value)


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("2009-10-12T17:50:30.000Z", datetime(2009, 10, 12, 17, 50, 30, tzinfo=UTC)),
        ("2009-10-12T17:50:30Z", datetime(2009, 10, 12, 17, 50, 30, tzinfo=UTC)),
        ("2009-10-12T17:50:30.1234567Z", datetime(2009, 10, 12, 17, 50, 30, 123456, tzinfo=UTC)),
        ("2009-10-12T17:50:30.5", datetime(2009, 10, 12, 17, 50, 30, 500000, tzinfo=UTC)),
        ("2009-10-12T19:50:30+02:00", datetime(2009, 10, 12, 17, 50, 30, tzinfo=UTC)),
        ("2009-10-12T17:50:30+00:00", datetime(2009, 10, 12, 17, 50, 30, tzinfo=UTC)),
    ],
)
def test_times_are_aware_and_in_utc(value: str, expected: datetime) -> None:
    time = parse_time(value)
    assert time == expected
    assert time.tzinfo is UTC


@BOUNDS
@given(st.datetimes(timezones=st.just(UTC)))
def test_any_time_round_trips(time: datetime) -> None:
    assert parse_time(time.isoformat().replace("+00:00", "Z")) == time
    assert abs(parse_time(time.isoformat(timespec="milliseconds")) - time) < timedelta(milliseconds=1)


@pytest.mark.parametrize(
    "value", ["", "yesterday", "Mon, 42 Oct 2009 17:50:30 GMT", "2009-13-12T17:50:30Z", "0001-01-01T00:00:00+23:59"]
)
def test_an_invalid_time_is_a_backend_error(value: str) -> None:
    with pytest.raises(BackendError, match="as a time"):
        parse_time(value)


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"<a>" * (16 << 20 >> 2), "XML elements"),
        (b"<a>" * 30_000 + b"</a>" * 30_000, "levels"),
        (b"<a>" + b"<b/>" * 600_000 + b"</a>", "XML elements"),
    ],
    ids=["nested without end", "nested", "many"],
)
def test_a_document_beyond_the_limits_is_refused(data: bytes, words: str) -> None:
    with pytest.raises(BackendError, match=words):
        parse(data)


def test_the_largest_page_of_a_service_is_within_the_limits() -> None:
    blob = b"<Blob><Properties>" + b"<P>value</P>" * 40 + b"</Properties></Blob>"
    root = parse(b"<Blobs>" + blob * 5000 + b"</Blobs>")
    assert len(root) == 5000


def test_nesting_below_the_checked_size_does_no_harm() -> None:
    root = parse(b"<a>" * 19_000 + b"</a>" * 19_000)
    assert text(root, "Key") is None
    assert sum(1 for _ in root.iter()) == 19_000


@pytest.mark.parametrize(
    ("value", "seconds"),
    [
        ("2023-01-02 03:04:05", 0),
        ("2023-01-02T05:04:05+02:00", 0),
        ("20230102T030405Z", 0),
        ("Mon, 02 Jan 2023 03:04:05 GMT", 0),
        ("Mon, 02 Jan 2023 05:04:06 +0200", 1),
        ("2 Jan 2023 03:04:05 -0000", 0),
    ],
)
def test_other_forms_of_times_are_parsed(value: str, seconds: int) -> None:
    assert parse_time(value) == datetime(2023, 1, 2, 3, 4, 5 + seconds, tzinfo=UTC)


@pytest.mark.parametrize(
    "value",
    [
        "9999-12-31T23:59:59-23:59",
        "0001-01-01T00:00:00+23:59",
        "Mon, 01 Jan 2001 00:00:00 +99999999999999999999",
        "Fri, 31 Dec 9999 23:59:59 -0100",
        "0, 0",
        "2023-01-02T03:04:05+" + "9" * 5000,
    ],
)
def test_a_time_that_overflows_is_a_backend_error(value: str) -> None:
    with pytest.raises(BackendError, match="time"):
        parse_time(value)


@given(st.text(max_size=60))
@BOUNDS
def test_any_text_is_a_time_or_a_backend_error(value: str) -> None:
    with suppress(BackendError):
        assert parse_time(value).tzinfo is UTC


def test_a_missing_required_child_is_an_error() -> None:
    part = parse(b"<Part><ETag/></Part>")
    assert required(part, "ETag") == ""
    with pytest.raises(BackendError, match="has a <Part> without a <Size>"):
        required(part, "Size")


@pytest.mark.parametrize("value", ["-1", "", "x", "1.5", "9" * 5000])
def test_a_size_that_is_negative_or_not_a_number_is_an_error(value: str) -> None:
    part = parse(f"<Part><PartNumber>7</PartNumber><Size>{value}</Size></Part>".encode())
    assert number(part, "PartNumber") == 7
    with pytest.raises(BackendError, match="has a <Size> that is not a number of bytes or parts"):
        number(part, "Size")


@pytest.mark.parametrize("data", [b"", b"<a>", b"plain text", b'{"error": 1}', b"<!DOCTYPE html><html></html>"])
def test_invalid_xml_has_no_root(data: bytes) -> None:
    assert parse_if_xml(data) is None


@pytest.mark.parametrize("before", [b"", b"\xef\xbb\xbf", b" \r\n"])
def test_the_root_of_a_document_is_found_after_any_prolog(before: bytes) -> None:
    root = parse_if_xml(before + b'<?xml version="1.0"?><Error/>')
    assert root is not None
    assert root.tag == "Error"
