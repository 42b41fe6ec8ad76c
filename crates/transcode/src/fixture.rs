//! Messages for the tests: those of the contracts, one that has every kind of field, and random ones.

use std::sync::LazyLock;

use kombify_contracts::{Http, Method};
use prost_reflect::prost_types::field_descriptor_proto::{Label, Type};
use prost_reflect::prost_types::{
    DescriptorProto, EnumDescriptorProto, EnumValueDescriptorProto, FieldDescriptorProto,
    FileDescriptorProto, MessageOptions, MethodDescriptorProto, OneofDescriptorProto, ServiceDescriptorProto,
};
use prost_reflect::{
    DescriptorPool, DynamicMessage, FieldDescriptor, Kind, MapKey, MessageDescriptor, Value,
};

use crate::field;
use crate::scalar::TIME_SECONDS;

/// A message of the contracts.
pub(crate) fn contract(name: &str) -> MessageDescriptor {
    kombify_contracts::descriptors().get_message_by_name(name).unwrap()
}

/// A message with every kind of field.
pub(crate) fn everything() -> MessageDescriptor {
    POOL.get_message_by_name("fixture.Everything").unwrap()
}

/// A method of the fixture with an HTTP form: `Whole`, `Stream` (a stream), `Hidden` (its request holds a duration), `Raw`
/// (answers bytes), `TakeRaw` (takes bytes), `RawWithin` (its answer holds bytes of others).
pub(crate) fn exposed(name: &str, verb: &'static str, template: &str, body: Option<&str>) -> &'static Method {
    let service = POOL.get_service_by_name("fixture.Fixture").unwrap();
    let descriptor = service.methods().find(|method| method.name() == name).unwrap();
    Box::leak(Box::new(Method {
        path: format!("/fixture.Fixture/{name}"),
        http: Some(Http { verb, template: template.to_owned(), body: body.map(str::to_owned) }),
        descriptor,
        ..kombify_contracts::methods()[0].clone()
    }))
}

static POOL: LazyLock<DescriptorPool> = LazyLock::new(pool);

const EVERYTHING: &str = ".fixture.Everything";
const HTTP_BODY: &str = ".google.api.HttpBody";
const HTTP_BODY_FILE: &str = "google/api/httpbody.proto";

fn pool() -> DescriptorPool {
    let everything = DescriptorProto {
        name: Some("Everything".into()),
        field: vec![
            scalar("i32", 1, Type::Int32),
            scalar("i64", 2, Type::Sint64),
            scalar("u32", 3, Type::Fixed32),
            scalar("u64", 4, Type::Uint64),
            scalar("f32", 5, Type::Float),
            scalar("f64", 6, Type::Double),
            scalar("flag", 7, Type::Bool),
            scalar("text", 8, Type::String),
            scalar("blob", 9, Type::Bytes),
            typed("color", 10, Type::Enum, ".fixture.Color"),
            repeated(scalar("tags", 11, Type::String)),
            repeated(typed("counts", 12, Type::Message, ".fixture.Everything.CountsEntry")),
            repeated(typed("by_number", 13, Type::Message, ".fixture.Everything.ByNumberEntry")),
            repeated(typed("by_flag", 14, Type::Message, ".fixture.Everything.ByFlagEntry")),
            typed("nested", 15, Type::Message, ".fixture.Everything"),
            FieldDescriptorProto {
                proto3_optional: Some(true),
                oneof_index: Some(1),
                ..scalar("maybe", 16, Type::String)
            },
            FieldDescriptorProto { oneof_index: Some(0), ..scalar("left", 17, Type::String) },
            FieldDescriptorProto { oneof_index: Some(0), ..scalar("right", 18, Type::String) },
            typed("seen_time", 19, Type::Message, ".google.protobuf.Timestamp"),
            repeated(typed("children", 20, Type::Message, ".fixture.Everything")),
            scalar("etag", 21, Type::String),
        ],
        nested_type: vec![
            entry("CountsEntry", Type::String, scalar("value", 2, Type::Int32)),
            entry("ByNumberEntry", Type::Int32, typed("value", 2, Type::Message, ".fixture.Everything")),
            entry("ByFlagEntry", Type::Bool, scalar("value", 2, Type::String)),
        ],
        oneof_decl: ["choice", "_maybe"]
            .map(|name| OneofDescriptorProto { name: Some(name.into()), ..Default::default() })
            .into(),
        ..Default::default()
    };
    let hidden = DescriptorProto {
        name: Some("Hidden".into()),
        field: vec![typed("length", 1, Type::Message, ".google.protobuf.Duration")],
        ..Default::default()
    };
    let raw_within = DescriptorProto {
        name: Some("RawWithin".into()),
        field: vec![typed("body", 1, Type::Message, HTTP_BODY)],
        ..Default::default()
    };
    let method = |name: &str, input: &str, output: &str| MethodDescriptorProto {
        name: Some(name.into()),
        input_type: Some(input.into()),
        output_type: Some(output.into()),
        ..Default::default()
    };
    let value = |name: &str, number| EnumValueDescriptorProto {
        name: Some(name.into()),
        number: Some(number),
        ..Default::default()
    };
    let file = FileDescriptorProto {
        name: Some("fixture.proto".into()),
        package: Some("fixture".into()),
        syntax: Some("proto3".into()),
        dependency: vec![
            HTTP_BODY_FILE.into(),
            "google/protobuf/duration.proto".into(),
            "google/protobuf/timestamp.proto".into(),
        ],
        message_type: vec![everything, hidden, raw_within],
        enum_type: vec![EnumDescriptorProto {
            name: Some("Color".into()),
            value: vec![value("COLOR_UNSPECIFIED", 0), value("COLOR_RED", 1)],
            ..Default::default()
        }],
        service: vec![ServiceDescriptorProto {
            name: Some("Fixture".into()),
            method: vec![
                method("Whole", EVERYTHING, EVERYTHING),
                MethodDescriptorProto {
                    server_streaming: Some(true),
                    ..method("Stream", EVERYTHING, EVERYTHING)
                },
                method("Hidden", ".fixture.Hidden", EVERYTHING),
                method("Raw", EVERYTHING, HTTP_BODY),
                method("TakeRaw", HTTP_BODY, EVERYTHING),
                method("RawWithin", EVERYTHING, ".fixture.RawWithin"),
            ],
            ..Default::default()
        }],
        ..Default::default()
    };
    let http_body = kombify_contracts::descriptors().get_file_by_name(HTTP_BODY_FILE).unwrap();
    let mut pool = DescriptorPool::global();
    pool.add_file_descriptor_protos([http_body.file_descriptor_proto().clone(), file]).unwrap();
    pool
}

fn scalar(name: &str, number: i32, of: Type) -> FieldDescriptorProto {
    FieldDescriptorProto {
        name: Some(name.into()),
        number: Some(number),
        label: Some(Label::Optional as i32),
        r#type: Some(of as i32),
        ..Default::default()
    }
}

fn typed(name: &str, number: i32, of: Type, type_name: &str) -> FieldDescriptorProto {
    FieldDescriptorProto { type_name: Some(type_name.into()), ..scalar(name, number, of) }
}

fn repeated(field: FieldDescriptorProto) -> FieldDescriptorProto {
    FieldDescriptorProto { label: Some(Label::Repeated as i32), ..field }
}

fn entry(name: &str, key: Type, value: FieldDescriptorProto) -> DescriptorProto {
    DescriptorProto {
        name: Some(name.into()),
        field: vec![scalar("key", 1, key), value],
        options: Some(MessageOptions { map_entry: Some(true), ..Default::default() }),
        ..Default::default()
    }
}

/// Random messages, the same in every run.
pub(crate) struct Dice(u64);

impl Dice {
    pub(crate) fn new(seed: &str) -> Self {
        Self(seed.bytes().fold(0x9e37_79b9_7f4a_7c15_u64, |state, byte| {
            (state ^ u64::from(byte)).wrapping_mul(0x100_0000_01b3)
        }))
    }

    /// One of `sides` numbers.
    fn roll(&mut self, sides: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % sides
    }

    /// A random message; messages stand in it at most `depth` deep. Times have whole seconds.
    pub(crate) fn message(&mut self, of: &MessageDescriptor, depth: usize) -> DynamicMessage {
        let mut message = field::empty(of);
        if field::is_timestamp(of) {
            // The last days are left out: what reads times wants room for every time zone at the end.
            let span = u64::try_from(TIME_SECONDS.end() - TIME_SECONDS.start() - 2 * 86_400).unwrap();
            let seconds = TIME_SECONDS.start() + i64::try_from(self.roll(span)).unwrap();
            message.set_field_by_number(1, Value::I64(seconds));
            return message;
        }
        for field in of.fields() {
            let stops = depth == 0 && field.kind().as_message().is_some();
            if !stops && self.roll(3) > 0 {
                let value = self.field(&field, depth);
                message.set_field(&field, value);
            }
        }
        message
    }

    fn field(&mut self, field: &FieldDescriptor, depth: usize) -> Value {
        let count = self.roll(3);
        if field.is_list() {
            return Value::List((0..count).map(|_| self.one(&field.kind(), depth)).collect());
        }
        if !field.is_map() {
            return self.one(&field.kind(), depth);
        }
        let entry = field.kind().as_message().unwrap().clone();
        let (key, value) = (entry.map_entry_key_field().kind(), entry.map_entry_value_field().kind());
        let pairs = (0..count).map(|_| (self.key(&key), self.one(&value, depth)));
        Value::Map(pairs.collect())
    }

    fn key(&mut self, kind: &Kind) -> MapKey {
        self.one(kind, 0).into_map_key().unwrap()
    }

    #[expect(clippy::cast_possible_truncation, clippy::cast_possible_wrap, reason = "any bits will do")]
    fn one(&mut self, kind: &Kind, depth: usize) -> Value {
        let bits = self.roll(u64::MAX) >> self.roll(64);
        match kind {
            Kind::Int32 | Kind::Sint32 | Kind::Sfixed32 => Value::I32(bits as i32),
            Kind::Int64 | Kind::Sint64 | Kind::Sfixed64 => Value::I64(bits as i64),
            Kind::Uint32 | Kind::Fixed32 => Value::U32(bits as u32),
            Kind::Uint64 | Kind::Fixed64 => Value::U64(bits),
            // NaN is not equal to itself.
            Kind::Float => {
                Value::F32(Some(f32::from_bits(bits as u32)).filter(|n| !n.is_nan()).unwrap_or(0.1))
            }
            Kind::Double => Value::F64(Some(f64::from_bits(bits)).filter(|n| !n.is_nan()).unwrap_or(0.1)),
            Kind::Bool => Value::Bool(bits % 2 == 1),
            Kind::String => Value::String(self.text()),
            Kind::Bytes => Value::Bytes(bits.to_le_bytes()[..self.roll(9) as usize].to_vec().into()),
            Kind::Enum(_) => Value::EnumNumber(bits as i32 % 3),
            Kind::Message(of) => Value::Message(self.message(of, depth.saturating_sub(1))),
        }
    }

    #[expect(clippy::cast_possible_truncation, reason = "the number is below that of the letters")]
    fn text(&mut self) -> String {
        let letters =
            ['a', 'Z', '0', ' ', '"', '\\', '/', '\n', '\u{0}', '\u{7f}', 'é', '\u{2028}', '🏠', '.'];
        let length = self.roll(12);
        (0..length).map(|_| letters[self.roll(letters.len() as u64) as usize]).collect()
    }
}
