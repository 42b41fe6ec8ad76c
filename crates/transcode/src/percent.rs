//! Percent-encoding, as paths and queries use it.

/// The text behind `text`; `None` for an escape that is none, and for bytes that are not UTF-8. In a query `+` stands
/// for a space.
pub(crate) fn decode(text: &str, plus_is_space: bool) -> Option<String> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        bytes.push(match byte {
            b'%' => (digit(rest.next()?)? << 4) | digit(rest.next()?)?,
            b'+' if plus_is_space => b' ',
            _ => byte,
        });
    }
    String::from_utf8(bytes).ok()
}

fn digit(byte: u8) -> Option<u8> {
    char::from(byte).to_digit(16).and_then(|digit| u8::try_from(digit).ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn escapes_are_read_and_wrong_ones_are_refused() {
        for (text, path, query) in [
            ("", Some(""), Some("")),
            ("a%2Fb", Some("a/b"), Some("a/b")),
            ("a+b%2b", Some("a+b+"), Some("a b+")),
            ("%C3%A9é", Some("éé"), Some("éé")),
            ("%c3", None, None),
            ("%", None, None),
            ("%4", None, None),
            ("%zz", None, None),
            ("%+1", None, None),
        ] {
            assert_eq!(decode(text, false).as_deref(), path, "{text}");
            assert_eq!(decode(text, true).as_deref(), query, "{text}");
        }
    }
}
