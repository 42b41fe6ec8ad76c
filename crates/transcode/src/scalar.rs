//! Single values: from JSON, from the text of a path or a query, from the key of a map.

use std::borrow::Cow;
use std::fmt::Display;

use base64::alphabet;
use base64::engine::general_purpose::{GeneralPurpose, GeneralPurposeConfig};
use base64::engine::{DecodePaddingMode, Engine as _};
use jiff::Timestamp;
use prost_reflect::{DynamicMessage, EnumDescriptor, Kind, MapKey, MessageDescriptor, Value};

use crate::field;
use crate::json::Json;

/// What must be true of a value, for the one who sent another.
pub(crate) type Wrong = Cow<'static, str>;

/// The seconds of the first and of the last moment that a `google.protobuf.Timestamp` holds: 0001-01-01T00:00:00Z and
/// 9999-12-31T23:59:59Z.
pub(crate) const TIME_SECONDS: std::ops::RangeInclusive<i64> = -62_135_596_800..=253_402_300_799;

const TIME: Wrong = Cow::Borrowed("must be an RFC 3339 time, for example 2026-01-31T12:00:00Z");
const WHOLE: Wrong = Cow::Borrowed("must be a whole number");
const NUMBER: Wrong = Cow::Borrowed("must be a number");
const BASE64: Wrong = Cow::Borrowed("must be base64");

static STANDARD: GeneralPurpose = GeneralPurpose::new(&alphabet::STANDARD, LENIENT);
static URL_SAFE: GeneralPurpose = GeneralPurpose::new(&alphabet::URL_SAFE, LENIENT);
const LENIENT: GeneralPurposeConfig =
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent);

/// Base64 in either alphabet, padded or not.
pub(crate) fn base64(text: &[u8]) -> Option<Vec<u8>> {
    let url_safe = text.iter().any(|byte| matches!(byte, b'-' | b'_'));
    let decoded = if url_safe { URL_SAFE.decode(text) } else { STANDARD.decode(text) };
    decoded.ok()
}

/// The value of that kind that a JSON value stands for; of messages, times only.
pub(crate) fn from_json(kind: &Kind, json: &Json<'_>) -> Result<Value, Wrong> {
    Ok(match kind {
        Kind::Int32 | Kind::Sint32 | Kind::Sfixed32 => Value::I32(ranged(whole(json)?, i32::MIN, i32::MAX)?),
        Kind::Int64 | Kind::Sint64 | Kind::Sfixed64 => Value::I64(ranged(whole(json)?, i64::MIN, i64::MAX)?),
        Kind::Uint32 | Kind::Fixed32 => Value::U32(ranged(whole(json)?, u32::MIN, u32::MAX)?),
        Kind::Uint64 | Kind::Fixed64 => Value::U64(ranged(whole(json)?, u64::MIN, u64::MAX)?),
        Kind::Float => Value::F32(single(float(json)?)?),
        Kind::Double => Value::F64(float(json)?),
        Kind::Bool => {
            let Json::Bool(value) = json else { return Err("must be true or false".into()) };
            Value::Bool(*value)
        }
        Kind::String => Value::String(text(json, "must be a string")?.to_owned()),
        Kind::Bytes => Value::Bytes(base64(text(json, "must be base64")?.as_bytes()).ok_or(BASE64)?.into()),
        Kind::Enum(of) => Value::EnumNumber(match json {
            Json::Text(name) => of.get_value_by_name(name).ok_or_else(|| names(of))?.number(),
            Json::Unsigned(_) | Json::Signed(_) | Json::Float(_) => ranged(whole(json)?, i32::MIN, i32::MAX)?,
            Json::Null | Json::Bool(_) | Json::List(_) | Json::Object(_) | Json::TooDeep => {
                return Err(names(of));
            }
        }),
        Kind::Message(of) if field::is_timestamp(of) => time(of, text(json, &TIME)?)?,
        Kind::Message(_) => return Err("must be an object".into()),
    })
}

/// The value of that kind that a text of the path or the query stands for.
pub(crate) fn from_text(kind: &Kind, text: &str) -> Result<Value, Wrong> {
    match kind {
        Kind::Bool => match text {
            "true" => Ok(Value::Bool(true)),
            "false" => Ok(Value::Bool(false)),
            _ => Err("must be true or false".into()),
        },
        Kind::Enum(of) => match text.parse::<i32>() {
            Ok(number) => Ok(Value::EnumNumber(number)),
            Err(_) => from_json(kind, &Json::Text(text.into())).map_err(|_| names(of)),
        },
        Kind::Message(of) if !field::is_timestamp(of) => Err("cannot be given as text".into()),
        Kind::Double
        | Kind::Float
        | Kind::Int32
        | Kind::Int64
        | Kind::Uint32
        | Kind::Uint64
        | Kind::Sint32
        | Kind::Sint64
        | Kind::Fixed32
        | Kind::Fixed64
        | Kind::Sfixed32
        | Kind::Sfixed64
        | Kind::String
        | Kind::Bytes
        | Kind::Message(_) => from_json(kind, &Json::Text(text.into())),
    }
}

/// The key of that kind that the key of a JSON object stands for.
pub(crate) fn map_key(kind: &Kind, text: &str) -> Result<MapKey, Wrong> {
    from_text(kind, text)?.into_map_key().ok_or(Cow::Borrowed("cannot be a key"))
}

fn text<'j>(json: &'j Json<'_>, wanted: &str) -> Result<&'j str, Wrong> {
    let Json::Text(text) = json else { return Err(wanted.to_owned().into()) };
    Ok(text)
}

/// A whole number, as number or as text; what is larger than any of our kinds is some number that is too large.
fn whole(json: &Json<'_>) -> Result<i128, Wrong> {
    match json {
        Json::Unsigned(number) => Ok(i128::from(*number)),
        Json::Signed(number) => Ok(i128::from(*number)),
        Json::Float(number) => whole_of(*number).ok_or(WHOLE),
        Json::Text(text) => {
            let digits = text.strip_prefix('-').unwrap_or(text);
            if digits.is_empty() || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
                return Err(WHOLE);
            }
            Ok(text.parse().unwrap_or(i128::MAX))
        }
        Json::Null | Json::Bool(_) | Json::List(_) | Json::Object(_) | Json::TooDeep => Err(WHOLE),
    }
}

#[expect(clippy::cast_possible_truncation, reason = "the number is whole, and an i128 holds it")]
fn whole_of(number: f64) -> Option<i128> {
    (number.fract() == 0.0 && number.abs() < 1e38).then_some(number as i128)
}

fn ranged<T: TryFrom<i128>>(number: i128, min: impl Display, max: impl Display) -> Result<T, Wrong> {
    T::try_from(number).map_err(|_| format!("must be between {min} and {max}").into())
}

#[expect(clippy::cast_precision_loss, reason = "a whole number given for a float becomes the nearest float")]
fn float(json: &Json<'_>) -> Result<f64, Wrong> {
    match json {
        Json::Unsigned(number) => Ok(*number as f64),
        Json::Signed(number) => Ok(*number as f64),
        Json::Float(number) => Ok(*number),
        Json::Text(text) => match &**text {
            "NaN" => Ok(f64::NAN),
            "Infinity" => Ok(f64::INFINITY),
            "-Infinity" => Ok(f64::NEG_INFINITY),
            // Rust reads more spellings than JSON has.
            text if text.starts_with(|c: char| c == '-' || c.is_ascii_digit())
                && !text.contains(['n', 'N']) =>
            {
                text.parse().ok().filter(|number: &f64| number.is_finite()).ok_or(NUMBER)
            }
            _ => Err(NUMBER),
        },
        Json::Null | Json::Bool(_) | Json::List(_) | Json::Object(_) | Json::TooDeep => Err(NUMBER),
    }
}

#[expect(clippy::cast_possible_truncation, reason = "a float is given as the nearest double")]
fn single(number: f64) -> Result<f32, Wrong> {
    let single = number as f32;
    if number.is_finite() && !single.is_finite() {
        return Err(format!("must be between {} and {}", f32::MIN, f32::MAX).into());
    }
    Ok(single)
}

fn names(of: &EnumDescriptor) -> Wrong {
    let names: Vec<_> = of.values().take(20).map(|value| value.name().to_owned()).collect();
    format!("must be one of {}", names.join(", ")).into()
}

fn time(of: &MessageDescriptor, text: &str) -> Result<Value, Wrong> {
    let time: Timestamp = Some(text)
        .filter(|text| is_rfc3339(text))
        .and_then(|text| text.parse::<Timestamp>().ok())
        .ok_or(TIME)?;
    let (mut seconds, mut nanos) = (time.as_second(), time.subsec_nanosecond());
    if nanos < 0 {
        seconds -= 1;
        nanos += 1_000_000_000;
    }
    if !TIME_SECONDS.contains(&seconds) {
        return Err(TIME);
    }
    let mut message = DynamicMessage::new(of.clone());
    message.set_field_by_number(1, Value::I64(seconds));
    message.set_field_by_number(2, Value::I32(nanos));
    Ok(Value::Message(message))
}

/// Whether a text has the shape of RFC 3339: the parser of times reads more than that.
fn is_rfc3339(text: &str) -> bool {
    let Some((moment, rest)) = text.split_at_checked(19) else { return false };
    let zone = match rest.strip_prefix('.') {
        Some(fraction) => {
            let zone = fraction.trim_start_matches(|c: char| c.is_ascii_digit());
            if !(1..=9).contains(&(fraction.len() - zone.len())) {
                return false;
            }
            zone
        }
        None => rest,
    };
    let zoned = ["Z", "+00:00", "-00:00"].into_iter().any(|shape| has_shape(zone, shape));
    zoned && has_shape(moment, "0000-00-00T00:00:00")
}

/// Whether a text is the shape, with any digit where the shape has a zero.
fn has_shape(text: &str, shape: &str) -> bool {
    text.len() == shape.len()
        && text.bytes().zip(shape.bytes()).all(|(byte, wanted)| match wanted {
            b'0' => byte.is_ascii_digit(),
            _ => byte.eq_ignore_ascii_case(&wanted),
        })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixture;

    fn kind(field: &str) -> Kind {
        fixture::everything().get_field_by_name(field).unwrap().kind()
    }

    /// Reads one JSON value for a field of the fixture; a time gives its seconds and nanoseconds.
    fn read(field: &str, json: &str) -> Result<Value, String> {
        let value = from_json(&kind(field), &crate::json::parse(json.as_bytes()).unwrap())?;
        let Value::Message(time) = value else { return Ok(value) };
        let part = |number| time.get_field_by_number(number).unwrap().into_owned();
        Ok(Value::List(vec![part(1), part(2)]))
    }

    fn seconds(seconds: i64, nanos: i32) -> Value {
        Value::List(vec![Value::I64(seconds), Value::I32(nanos)])
    }

    #[test]
    fn numbers_are_read_as_numbers_and_as_text_within_their_range() {
        for (field, json, expected) in [
            ("i32", "7", Value::I32(7)),
            ("i32", "\"7\"", Value::I32(7)),
            ("i32", "\"-7\"", Value::I32(-7)),
            ("i32", "7.0", Value::I32(7)),
            ("i32", "1e3", Value::I32(1000)),
            ("i32", "-0", Value::I32(0)),
            ("i32", "-2147483648", Value::I32(i32::MIN)),
            ("i64", "\"9223372036854775807\"", Value::I64(i64::MAX)),
            ("i64", "-9223372036854775808", Value::I64(i64::MIN)),
            ("u32", "4294967295", Value::U32(u32::MAX)),
            ("u64", "18446744073709551615", Value::U64(u64::MAX)),
            ("f32", "1.5", Value::F32(1.5)),
            ("f64", "\"-1.5e3\"", Value::F64(-1500.0)),
            ("f64", "3", Value::F64(3.0)),
            ("f64", "\"-Infinity\"", Value::F64(f64::NEG_INFINITY)),
        ] {
            assert_eq!(read(field, json), Ok(expected), "{field} {json}");
        }
        let Ok(Value::F32(nan)) = read("f32", "\"NaN\"") else { panic!("no float") };
        assert!(nan.is_nan());
        for (field, json, expected) in [
            ("i32", "1.5", "must be a whole number"),
            ("i32", "\"\"", "must be a whole number"),
            ("i32", "\"+7\"", "must be a whole number"),
            ("i32", "\" 7\"", "must be a whole number"),
            ("i32", "true", "must be a whole number"),
            ("i32", "2147483648", "must be between -2147483648 and 2147483647"),
            ("i32", "1e30", "must be between -2147483648 and 2147483647"),
            ("u32", "-1", "must be between 0 and 4294967295"),
            ("u64", "18446744073709551616", "must be between 0 and 18446744073709551615"),
            ("i64", "9223372036854775808", "must be between -9223372036854775808 and 9223372036854775807"),
            ("f64", "\"inf\"", "must be a number"),
            ("f64", "\"-inf\"", "must be a number"),
            ("f64", "\"-nan\"", "must be a number"),
            ("f64", "\"1e999\"", "must be a number"),
            ("f64", "{}", "must be a number"),
        ] {
            assert_eq!(read(field, json), Err(expected.to_owned()), "{field} {json}");
        }
        assert!(read("f32", "1e39").unwrap_err().starts_with("must be between -340282"));
    }

    #[test]
    fn the_other_scalars_are_read_strictly() {
        for (field, json, expected) in [
            ("flag", "true", Value::Bool(true)),
            ("text", "\"\\u00e9\"", Value::String("é".into())),
            ("blob", "\"-_8\"", Value::Bytes(vec![0xfb, 0xff].into())),
            ("blob", "\"+/8=\"", Value::Bytes(vec![0xfb, 0xff].into())),
            ("color", "\"COLOR_RED\"", Value::EnumNumber(1)),
            ("color", "1", Value::EnumNumber(1)),
            ("color", "77", Value::EnumNumber(77)),
        ] {
            assert_eq!(read(field, json), Ok(expected), "{field} {json}");
        }
        for (field, json, expected) in [
            ("flag", "\"true\"", "must be true or false"),
            ("flag", "1", "must be true or false"),
            ("text", "7", "must be a string"),
            ("text", "[]", "must be a string"),
            ("blob", "\"a\"", "must be base64"),
            ("blob", "\"+_==\"", "must be base64"),
            ("color", "\"RED\"", "must be one of COLOR_UNSPECIFIED, COLOR_RED"),
            ("color", "true", "must be one of COLOR_UNSPECIFIED, COLOR_RED"),
            ("color", "1.5", "must be a whole number"),
            ("nested", "\"x\"", "must be an object"),
        ] {
            assert_eq!(read(field, json), Err(expected.to_owned()), "{field} {json}");
        }
    }

    #[test]
    fn times_are_rfc_3339_and_nothing_else() {
        for (json, expected) in [
            ("\"1970-01-01T00:00:00Z\"", seconds(0, 0)),
            ("\"1970-01-01t00:00:00z\"", seconds(0, 0)),
            ("\"1970-01-01T01:00:00.5+01:00\"", seconds(0, 500_000_000)),
            ("\"1969-12-31T23:59:59.75-00:00\"", seconds(-1, 750_000_000)),
            ("\"0001-01-01T00:00:00Z\"", seconds(*TIME_SECONDS.start(), 0)),
        ] {
            assert_eq!(read("seen_time", json), Ok(expected), "{json}");
        }
        for json in [
            "0",
            "\"\"",
            "\"2026-01-31\"",
            "\"2026-01-31 12:00:00Z\"",
            "\"2026-01-31T12:00:00\"",
            "\"2026-01-31T12:00Z\"",
            "\"20260131T120000Z\"",
            "\"2026-01-31T12:00:00.Z\"",
            "\"2026-01-31T12:00:00.1234567890Z\"",
            "\"2026-01-31T12:00:00+0100\"",
            "\"2026-01-31T12:00:00Z[UTC]\"",
            "\"2026-02-30T12:00:00Z\"",
            "\"0000-12-31T23:59:59Z\"",
            "\"éééééééééééé\"",
        ] {
            assert_eq!(read("seen_time", json), Err(TIME.into_owned()), "{json}");
        }
    }

    #[test]
    fn texts_of_paths_queries_and_keys_become_what_the_field_is() {
        for (field, text, expected) in [
            ("flag", "true", Ok(Value::Bool(true))),
            ("flag", "1", Err("must be true or false")),
            ("i32", "12", Ok(Value::I32(12))),
            ("i32", "", Err("must be a whole number")),
            ("text", "12", Ok(Value::String("12".into()))),
            ("color", "1", Ok(Value::EnumNumber(1))),
            ("color", "COLOR_RED", Ok(Value::EnumNumber(1))),
            ("color", "red", Err("must be one of COLOR_UNSPECIFIED, COLOR_RED")),
            ("nested", "x", Err("cannot be given as text")),
        ] {
            assert_eq!(
                from_text(&kind(field), text).map_err(Cow::into_owned),
                expected.map_err(str::to_owned)
            );
        }
        assert_eq!(map_key(&Kind::Int32, "-1"), Ok(MapKey::I32(-1)));
        assert_eq!(map_key(&Kind::Bool, "false"), Ok(MapKey::Bool(false)));
        assert_eq!(map_key(&Kind::String, "k"), Ok(MapKey::String("k".into())));
        assert!(map_key(&Kind::Uint32, "x").is_err());
    }
}
