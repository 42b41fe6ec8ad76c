//! Messages to JSON: what every answer of ours looks like. Scalars and empty lists are always written, unset messages
//! never; times have whole seconds.

use std::io::Write as _;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use jiff::Timestamp;
use kombify_core::clock::rfc3339_seconds;
use kombify_core::error::BoxError;
use kombify_core::{Error, Result};
use prost_reflect::{DynamicMessage, Kind, MapKey, ReflectMessage as _, Value};

use crate::field;
use crate::scalar::TIME_SECONDS;

/// Writes a message as a JSON object.
///
/// # Errors
/// - [`Error::Internal`] if the message holds a time that has no RFC 3339 form.
pub fn to_json(message: &DynamicMessage) -> Result<Vec<u8>> {
    let mut out = Vec::with_capacity(1024);
    object(&mut out, message).map_err(Error::internal)?;
    Ok(out)
}

fn object(out: &mut Vec<u8>, message: &DynamicMessage) -> Result<(), BoxError> {
    let mut comma = Comma::default();
    out.push(b'{');
    for field in message.descriptor().fields() {
        if field.supports_presence() && !message.has_field(&field) {
            continue;
        }
        comma.write(out);
        text(out, field.json_name())?;
        out.push(b':');
        value(out, &field.kind(), &message.get_field(&field))?;
    }
    out.push(b'}');
    Ok(())
}

fn value(out: &mut Vec<u8>, kind: &Kind, value: &Value) -> Result<(), BoxError> {
    match value {
        Value::Bool(flag) => write!(out, "{flag}")?,
        Value::I32(number) => write!(out, "{number}")?,
        Value::U32(number) => write!(out, "{number}")?,
        Value::I64(number) => write!(out, "\"{number}\"")?,
        Value::U64(number) => write!(out, "\"{number}\"")?,
        Value::F32(number) if number.is_finite() => serde_json::to_writer(out, number)?,
        Value::F32(number) => not_finite(out, f64::from(*number)),
        Value::F64(number) if number.is_finite() => serde_json::to_writer(out, number)?,
        Value::F64(number) => not_finite(out, *number),
        Value::String(string) => text(out, string)?,
        Value::Bytes(bytes) => text(out, &STANDARD.encode(bytes))?,
        Value::EnumNumber(number) => match kind.as_enum().and_then(|of| of.get_value(*number)) {
            Some(named) => text(out, named.name())?,
            None => write!(out, "{number}")?,
        },
        Value::Message(message) if field::is_timestamp(&message.descriptor()) => time(out, message)?,
        Value::Message(message) => object(out, message)?,
        Value::List(values) => list(out, kind, values)?,
        Value::Map(values) => {
            // A map has no order, an answer has: the same thing always reads the same.
            let mut entries: Vec<_> = values.iter().collect();
            entries.sort_by_key(|(key, _)| *key);
            map(out, kind, &entries)?;
        }
    }
    Ok(())
}

fn list(out: &mut Vec<u8>, kind: &Kind, values: &[Value]) -> Result<(), BoxError> {
    let mut comma = Comma::default();
    out.push(b'[');
    for one in values {
        comma.write(out);
        value(out, kind, one)?;
    }
    out.push(b']');
    Ok(())
}

fn map(out: &mut Vec<u8>, kind: &Kind, entries: &[(&MapKey, &Value)]) -> Result<(), BoxError> {
    let entry = kind.as_message().ok_or("a map whose entries are no messages")?;
    let kind = entry.map_entry_value_field().kind();
    let mut comma = Comma::default();
    out.push(b'{');
    for (key, one) in entries {
        comma.write(out);
        match key {
            MapKey::Bool(key) => write!(out, "\"{key}\"")?,
            MapKey::I32(key) => write!(out, "\"{key}\"")?,
            MapKey::I64(key) => write!(out, "\"{key}\"")?,
            MapKey::U32(key) => write!(out, "\"{key}\"")?,
            MapKey::U64(key) => write!(out, "\"{key}\"")?,
            MapKey::String(key) => text(out, key)?,
        }
        out.push(b':');
        value(out, &kind, one)?;
    }
    out.push(b'}');
    Ok(())
}

fn text(out: &mut Vec<u8>, text: &str) -> Result<(), BoxError> {
    Ok(serde_json::to_writer(out, text)?)
}

fn not_finite(out: &mut Vec<u8>, number: f64) {
    let name: &[u8] = if number.is_nan() {
        b"\"NaN\""
    } else if number > 0.0 {
        b"\"Infinity\""
    } else {
        b"\"-Infinity\""
    };
    out.extend_from_slice(name);
}

fn time(out: &mut Vec<u8>, message: &DynamicMessage) -> Result<(), BoxError> {
    let seconds = message.get_field_by_number(1).and_then(|seconds| seconds.as_i64()).unwrap_or_default();
    if !TIME_SECONDS.contains(&seconds) {
        return Err(format!("{seconds} s is no time of protobuf's").into());
    }
    write!(out, "\"{}\"", rfc3339_seconds(Timestamp::from_second(seconds)?))?;
    Ok(())
}

/// Stands between the values of a list or an object.
#[derive(Default)]
struct Comma {
    due: bool,
}

impl Comma {
    fn write(&mut self, out: &mut Vec<u8>) {
        if std::mem::replace(&mut self.due, true) {
            out.push(b',');
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use prost::Message as _;
    use prost_reflect::MessageDescriptor;

    use super::*;
    use crate::fixture::{self, Dice};
    use crate::json_in::from_json;

    fn json(message: &DynamicMessage) -> String {
        String::from_utf8(to_json(message).unwrap()).unwrap()
    }

    #[test]
    fn an_empty_message_shows_its_scalars_and_lists_and_no_messages() {
        assert_eq!(
            json(&field::empty(&fixture::everything())),
            concat!(
                r#"{"i32":0,"i64":"0","u32":0,"u64":"0","f32":0.0,"f64":0.0,"flag":false,"text":"","blob":"","#,
                r#""color":"COLOR_UNSPECIFIED","tags":[],"counts":{},"byNumber":{},"byFlag":{},"children":[],"#,
                r#""etag":""}"#
            )
        );
        let list = field::empty(&fixture::contract("kombify.users.v1.ListUsersResponse"));
        assert_eq!(json(&list), r#"{"data":[]}"#);
    }

    #[test]
    fn every_kind_is_written_as_protobuf_says() {
        let mut message = field::empty(&fixture::everything());
        let keys =
            [(MapKey::String("b\"".into()), Value::I32(2)), (MapKey::String("a".into()), Value::I32(1))];
        for (name, value) in [
            ("i32", Value::I32(-1)),
            ("i64", Value::I64(i64::MIN)),
            ("u64", Value::U64(u64::MAX)),
            ("f32", Value::F32(0.1)),
            ("f64", Value::F64(f64::NEG_INFINITY)),
            ("text", Value::String("\"\n\u{1}é".into())),
            ("blob", Value::Bytes(vec![0xfb, 0xff].into())),
            ("color", Value::EnumNumber(77)),
            ("tags", Value::List(vec![Value::String("x".into())])),
            ("counts", Value::Map(HashMap::from(keys))),
            ("maybe", Value::String(String::new())),
            ("left", Value::String(String::new())),
        ] {
            message.set_field_by_name(name, value);
        }
        assert_eq!(
            json(&message),
            concat!(
                r#"{"i32":-1,"i64":"-9223372036854775808","u32":0,"u64":"18446744073709551615","f32":0.1,"#,
                r#""f64":"-Infinity","flag":false,"text":"\"\n\u0001é","blob":"+/8=","color":77,"tags":["x"],"#,
                r#""counts":{"a":1,"b\"":2},"byNumber":{},"byFlag":{},"maybe":"","left":"","children":[],"etag":""}"#
            )
        );
    }

    #[test]
    fn times_have_whole_seconds_and_are_times() {
        let mut message = field::empty(&fixture::everything());
        let kind = fixture::everything().get_field_by_name("seen_time").unwrap().kind();
        let mut written = |seconds: i64| {
            let mut time = field::empty(kind.as_message().unwrap());
            time.set_field_by_number(1, Value::I64(seconds));
            time.set_field_by_number(2, Value::I32(999_999_999));
            message.set_field_by_name("seen_time", Value::Message(time));
            to_json(&message).map(|json| String::from_utf8(json).unwrap())
        };
        assert!(written(1_769_860_800).unwrap().contains(r#""seenTime":"2026-01-31T12:00:00Z""#));
        assert!(written(-1).unwrap().contains(r#""seenTime":"1969-12-31T23:59:59Z""#));
        assert!(written(*TIME_SECONDS.start()).unwrap().contains(r#""seenTime":"0001-01-01T00:00:00Z""#));
        assert!(matches!(written(TIME_SECONDS.start() - 1), Err(Error::Internal(_))));
        assert!(matches!(written(i64::MAX), Err(Error::Internal(_))));
    }

    /// As it is read from the wire, where a default and nothing are the same.
    fn from_wire(message: &DynamicMessage) -> DynamicMessage {
        DynamicMessage::decode(message.descriptor(), message.encode_to_vec().as_slice()).unwrap()
    }

    #[test]
    fn what_is_written_is_read_as_the_same_message() {
        let mut types: Vec<MessageDescriptor> = kombify_contracts::methods()
            .iter()
            .filter(|method| method.http.is_some())
            .flat_map(|method| [method.descriptor.input(), method.descriptor.output()])
            .collect();
        assert!(types.len() > 20, "{}", types.len());
        types.push(fixture::contract("kombify.audit.v1.ReportRefusalsRequest"));
        types.push(fixture::everything());
        for of in types {
            let mut dice = Dice::new(of.full_name());
            for round in 0..200 {
                let message = dice.message(&of, 4);
                let text = to_json(&message).unwrap();
                let back = from_json(&of, &text).unwrap_or_else(|fault| {
                    panic!("{} round {round}: {fault}: {}", of.full_name(), String::from_utf8_lossy(&text))
                });
                assert_eq!(from_wire(&back), from_wire(&message), "{} round {round}", of.full_name());
            }
        }
    }
}
