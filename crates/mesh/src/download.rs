//! Downloads: an answer of raw bytes that is not sent where it is there already, and of which one part may be asked.
//! Over HTTP it is what RFC 9110 and RFC 9530 say; in gRPC the same stands in the metadata.

use std::ops::Range;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use kombify_contracts::google::api::HttpBody;
use kombify_core::{Error, Result, wire};
use tonic::Response;
use tonic::metadata::MetadataMap;

/// A thing to download.
#[derive(Clone, Debug)]
pub struct Download {
    /// The whole thing.
    pub data: Bytes,
    /// Its media type, for example "application/gzip".
    pub content_type: &'static str,
    /// What differs wherever the bytes differ: a strong entity tag with its quotes, for example `"1f8b"`.
    pub etag: String,
    /// The digest of the whole thing, as [`repr_digest`] writes it.
    pub repr_digest: String,
    /// The name under which it is kept, for example "home-1.2.0.tar.gz".
    pub file_name: String,
}

/// The `Repr-Digest` of the thing that has this SHA-256. Source: RFC 9530, 3.
pub fn repr_digest(sha256: &[u8; 32]) -> String {
    format!("sha-256=:{}:", STANDARD.encode(sha256))
}

/// The answer to a request with the metadata `asked`: the thing, the one part of it that `Range` asks for, or, where
/// `If-None-Match` names it, no bytes. It says the HTTP status beside them, in [`wire::HTTP_STATUS`].
///
/// # Errors
/// - [`Error::RangeNotSatisfiable`] if the part lies outside of the thing.
/// - [`Error::Internal`] if something that is said of the thing cannot stand in a header.
pub fn answer(asked: &MetadataMap, download: Download) -> Result<Response<HttpBody>> {
    let Download { data, content_type, etag, repr_digest, file_name } = download;
    let length = data.len();
    let part = decide(&Asked::of(asked), &etag, length)?;
    let mut said = vec![
        ("etag", etag),
        ("repr-digest", repr_digest),
        ("accept-ranges", "bytes".to_owned()),
        // Whoever keeps it asks each time whether it is still that, and whether it is still for them.
        ("cache-control", "private, no-cache".to_owned()),
        ("vary", "Authorization".to_owned()),
    ];
    if part != Part::Nothing {
        said.push(("content-disposition", format!("attachment; filename=\"{}\"", plain(&file_name))));
    }
    let (status, data) = match part {
        Part::Nothing => ("304", Bytes::new()),
        Part::Whole => ("200", data),
        Part::Bytes(range) => {
            said.push(("content-range", format!("bytes {}-{}/{length}", range.start, range.end - 1)));
            ("206", data.slice(range))
        }
    };
    said.push((wire::HTTP_STATUS, status.to_owned()));
    let mut response = Response::new(HttpBody { content_type: content_type.to_owned(), data });
    for (name, value) in said {
        response.metadata_mut().insert(name, value.parse().map_err(Error::internal)?);
    }
    Ok(response)
}

/// What a request says of the thing that it asks for.
#[derive(Debug, Default)]
struct Asked<'a> {
    /// Each value of `If-None-Match`.
    none_match: Vec<&'a str>,
    /// The `Range`.
    range: Option<&'a str>,
    /// The `If-Range`.
    if_range: Option<&'a str>,
}

impl<'a> Asked<'a> {
    fn of(metadata: &'a MetadataMap) -> Self {
        let none_match = metadata.get_all("if-none-match").iter();
        Self {
            none_match: none_match.filter_map(|value| value.to_str().ok()).collect(),
            range: single(metadata, "range"),
            if_range: single(metadata, "if-range"),
        }
    }
}

/// The value of a header that stands once; empty, which says nothing, where it stands twice or is no text.
fn single<'a>(metadata: &'a MetadataMap, name: &str) -> Option<&'a str> {
    let mut values = metadata.get_all(name).iter();
    let first = values.next()?;
    let only = values.next().is_none();
    Some(first.to_str().ok().filter(|_| only).unwrap_or_default())
}

/// How much of a thing an answer holds.
#[derive(Debug, PartialEq, Eq)]
enum Part {
    /// Nothing: it is there already.
    Nothing,
    /// The whole thing.
    Whole,
    /// These bytes of it, of which there is at least one.
    Bytes(Range<usize>),
}

/// Which part answers the request, of a thing of that tag and length. Source: RFC 9110, 13.2.2.
fn decide(asked: &Asked<'_>, etag: &str, length: usize) -> Result<Part> {
    if asked.none_match.iter().any(|list| names(list, etag)) {
        return Ok(Part::Nothing);
    }
    // Ours is strong: a weak one, and a date, never equal it.
    let same = asked.if_range.is_none_or(|validator| validator == etag);
    match asked.range.filter(|_| same).and_then(|range| bytes_of(range, length)) {
        None => Ok(Part::Whole),
        Some(range) if range.is_empty() => Err(Error::RangeNotSatisfiable { length_bytes: length }),
        Some(range) => Ok(Part::Bytes(range)),
    }
}

/// Whether a value of `If-None-Match` names the thing of that etag: in a list, weak or strong, or as `*`. What comes after
/// something that is no etag is not read. Source: RFC 9110, 8.8.3 and 13.1.2.
fn names(list: &str, etag: &str) -> bool {
    let opaque = etag.trim_matches('"');
    let mut rest = list.trim();
    if rest == "*" {
        return true;
    }
    loop {
        rest = rest.trim_start_matches([',', ' ', '\t']);
        let quoted = rest.strip_prefix("W/").unwrap_or(rest).strip_prefix('"');
        let Some((named, behind)) = quoted.and_then(|text| text.split_once('"')) else { return false };
        if named == opaque {
            return true;
        }
        rest = behind;
    }
}

/// The bytes that a `Range` asks for, of `length`; none of them where it lies outside. `None` for what a server passes over:
/// several ranges, another unit, what cannot be read, and any part of what is empty. Source: RFC 9110, 14.1.2 and 14.2.
fn bytes_of(range: &str, length: usize) -> Option<Range<usize>> {
    let (unit, ranges) = range.split_once('=')?;
    if length == 0 || !unit.eq_ignore_ascii_case("bytes") {
        return None;
    }
    let mut ranges = ranges.split(',').map(str::trim).filter(|range| !range.is_empty());
    let (only, None) = (ranges.next()?, ranges.next()) else { return None };
    let (first, last) = only.split_once('-')?;
    if first.is_empty() {
        return Some(length.saturating_sub(number(last)?)..length);
    }
    let first = number(first)?;
    let last = if last.is_empty() { usize::MAX } else { number(last)? };
    (first <= last).then(|| first.min(length)..last.saturating_add(1).min(length))
}

/// The number that digits write; the largest where it is larger than every thing.
fn number(digits: &str) -> Option<usize> {
    let written = !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit());
    written.then(|| digits.parse().unwrap_or(usize::MAX))
}

/// A file's name without what means something in a header or in a path.
fn plain(file_name: &str) -> String {
    let fits = |c: char| (c.is_ascii_graphic() || c == ' ') && !matches!(c, '"' | '\\' | '/' | '%');
    file_name.chars().map(|c| if fits(c) { c } else { '_' }).collect()
}

#[cfg(test)]
mod tests {
    use kombify_core::Code;

    use super::*;

    const ETAG: &str = "\"v1,a\"";
    const DATA: &[u8] = b"0123456789";

    /// The headers of a request or of an answer.
    type Headers = [(&'static str, &'static str)];

    fn download() -> Download {
        Download {
            data: Bytes::from_static(DATA),
            content_type: "application/gzip",
            etag: ETAG.to_owned(),
            repr_digest: repr_digest(&[0; 32]),
            file_name: "home-1.2.0.tar.gz".to_owned(),
        }
    }

    fn metadata(headers: &Headers) -> MetadataMap {
        let mut metadata = MetadataMap::new();
        for (name, value) in headers {
            metadata.append(*name, value.parse().unwrap());
        }
        metadata
    }

    /// The status, the bytes and the `Content-Range` of the answer to a request with those headers.
    fn told(headers: &Headers) -> (String, Bytes, String) {
        let answer = answer(&metadata(headers), download()).unwrap();
        let said = |name: &str| {
            let value = answer.metadata().get(name);
            value.map(|value| value.to_str().unwrap().to_owned()).unwrap_or_default()
        };
        (said(wire::HTTP_STATUS), answer.get_ref().data.clone(), said("content-range"))
    }

    #[test]
    fn a_range_is_answered_by_its_bytes() {
        for (range, bytes, content_range) in [
            ("bytes=0-0", "0", "bytes 0-0/10"),
            ("bytes=2-4", "234", "bytes 2-4/10"),
            ("bytes=7-", "789", "bytes 7-9/10"),
            ("bytes=0-", "0123456789", "bytes 0-9/10"),
            ("bytes=8-99", "89", "bytes 8-9/10"),
            ("bytes=9-99999999999999999999999", "9", "bytes 9-9/10"),
            ("bytes=-3", "789", "bytes 7-9/10"),
            ("bytes=-99", "0123456789", "bytes 0-9/10"),
            ("Bytes=02-04", "234", "bytes 2-4/10"),
            ("bytes= 2-4 ,", "234", "bytes 2-4/10"),
        ] {
            let (status, data, said) = told(&[("range", range)]);
            assert_eq!((status.as_str(), said.as_str()), ("206", content_range), "{range}");
            assert_eq!(data, bytes.as_bytes(), "{range}");
        }
    }

    #[test]
    fn what_is_no_single_range_of_bytes_is_passed_over() {
        for range in [
            "",
            "bytes",
            "bytes=",
            "bytes=,",
            "bytes=-",
            "bytes=2",
            "bytes=4-2",
            "bytes=+2-4",
            "bytes=2-+4",
            "bytes=--4",
            "bytes=2-4-6",
            "bytes=2 - 4",
            "bytes=a-b",
            "bytes =2-4",
            "bytes=0-1,3-4",
            "bytes=0-1,-1",
            "items=0-1",
            "2-4",
        ] {
            assert_eq!(told(&[("range", range)]), ("200".into(), DATA.into(), String::new()), "{range:?}");
        }
        let twice = told(&[("range", "bytes=0-1"), ("range", "bytes=0-1")]);
        assert_eq!(twice, ("200".into(), DATA.into(), String::new()));
    }

    #[test]
    fn a_range_that_lies_outside_is_refused_with_the_length() {
        for range in ["bytes=10-", "bytes=10-12", "bytes=99999999999999999999999-", "bytes=-0"] {
            let fault = answer(&metadata(&[("range", range)]), download()).unwrap_err();
            assert_eq!(fault.code(), Code::RangeNotSatisfiable, "{range}");
            assert_eq!(fault.details().pairs["lengthBytes"], "10", "{range}");
        }
    }

    #[test]
    fn an_empty_thing_has_no_parts() {
        for range in ["bytes=0-", "bytes=-1", "bytes=-0", "bytes=5-6"] {
            let asked = Asked { range: Some(range), ..Asked::default() };
            assert_eq!(decide(&asked, ETAG, 0).unwrap(), Part::Whole, "{range}");
        }
    }

    #[test]
    fn what_is_there_already_is_not_sent_again() {
        let beside: [&Headers; 3] =
            [&[], &[("range", "bytes=0-1"), ("if-range", ETAG)], &[("range", "bytes=99-")]];
        for (none_match, there) in [
            ("*", true),
            (" * ", true),
            ("\"v1,a\"", true),
            ("W/\"v1,a\"", true),
            ("\"v0\", \"v1,a\"", true),
            ("\"v0\",W/\"v1,a\" , \"v2\"", true),
            (", ,\"v1,a\"", true),
            ("", false),
            ("\"v1\"", false),
            ("\"v1,a", false),
            ("v1,a", false),
            ("w/\"v1,a\"", false),
            ("\"v0\", *", false),
            ("\"V1,A\"", false),
            ("\"\"", false),
            ("\"v0\" \"", false),
        ] {
            for range in beside {
                let headers = [&[("if-none-match", none_match)][..], range].concat();
                let answer = answer(&metadata(&headers), download());
                let unchanged =
                    answer.is_ok_and(|answer| answer.metadata().get(wire::HTTP_STATUS).unwrap() == "304");
                assert_eq!(unchanged, there, "{headers:?}");
            }
        }
        let lines = [("if-none-match", "\"v0\""), ("if-none-match", "\"v1,a\"")];
        assert_eq!(told(&lines), ("304".into(), Bytes::new(), String::new()));
    }

    #[test]
    fn a_part_is_sent_only_of_the_thing_that_if_range_names() {
        for (if_range, part) in [
            ("\"v1,a\"", true),
            ("W/\"v1,a\"", false),
            ("\"v0\"", false),
            ("v1,a", false),
            ("*", false),
            ("\"v1,a\", \"v0\"", false),
            ("Sat, 28 Nov 2026 05:59:00 GMT", false),
            ("", false),
        ] {
            let (status, ..) = told(&[("range", "bytes=2-4"), ("if-range", if_range)]);
            assert_eq!(status, if part { "206" } else { "200" }, "{if_range:?}");
            // Of another thing the range is not looked at.
            let outside = answer(&metadata(&[("range", "bytes=99-"), ("if-range", if_range)]), download());
            assert_eq!(outside.is_err(), part, "{if_range:?}");
            assert_eq!(told(&[("if-range", if_range)]).0, "200", "{if_range:?}");
        }
        let twice = [("range", "bytes=2-4"), ("if-range", ETAG), ("if-range", ETAG)];
        assert_eq!(told(&twice).0, "200");
    }

    #[test]
    fn every_answer_says_what_the_whole_thing_is() {
        let always = [
            ("accept-ranges", "bytes"),
            ("cache-control", "private, no-cache"),
            ("etag", ETAG),
            ("repr-digest", "sha-256=:AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=:"),
            ("vary", "Authorization"),
        ];
        let file = ("content-disposition", "attachment; filename=\"home-1.2.0.tar.gz\"");
        let part = ("content-range", "bytes 2-4/10");
        let cases: [(&Headers, &Headers); 3] = [
            (&[], &[file, (wire::HTTP_STATUS, "200")]),
            (&[("range", "bytes=2-4")], &[file, part, (wire::HTTP_STATUS, "206")]),
            (&[("if-none-match", "*")], &[(wire::HTTP_STATUS, "304")]),
        ];
        for (asked, beside) in cases {
            let answer = answer(&metadata(asked), download()).unwrap();
            for (name, value) in always.iter().chain(beside) {
                assert_eq!(answer.metadata().get(*name).unwrap(), *value, "{asked:?} {name}");
            }
            assert_eq!(answer.metadata().len(), always.len() + beside.len(), "{asked:?}");
            assert_eq!(answer.get_ref().content_type, "application/gzip");
        }
    }

    #[test]
    fn a_file_name_says_nothing_but_a_name() {
        for (name, expected) in [
            ("home-1.2.0.tar.gz", "home-1.2.0.tar.gz"),
            ("my home.tar.gz", "my home.tar.gz"),
            ("../a\\b\"; x=\r\ny%22é", ".._a_b_; x=__y_22_"),
        ] {
            assert_eq!(plain(name), expected);
        }
    }

    #[test]
    fn a_tag_that_no_header_can_hold_is_our_fault() {
        let fault =
            answer(&MetadataMap::new(), Download { etag: "\"a\nb\"".into(), ..download() }).unwrap_err();
        assert_eq!(fault.code(), Code::InternalError);
    }
}
