//! The fields of messages, as callers name them.

use prost_reflect::{DynamicMessage, FieldDescriptor, Kind, MessageDescriptor, Value};

use crate::json::MAX_DEPTH;

/// Whether a message is the one that JSON writes as a text.
pub(crate) fn is_timestamp(message: &MessageDescriptor) -> bool {
    message.full_name() == "google.protobuf.Timestamp"
}

/// The field of that JSON name, or of the name that it has in the contract.
pub(crate) fn find(message: &MessageDescriptor, name: &str) -> Option<FieldDescriptor> {
    message.get_field_by_json_name(name).or_else(|| message.get_field_by_name(name))
}

/// What to say of a name that no field has.
pub(crate) fn unknown(message: &MessageDescriptor, name: &str) -> String {
    let said = format!("is not a field of {}", message.name());
    let name = plain(name);
    let near = |field: &FieldDescriptor| {
        let known = plain(field.json_name());
        distance(&name, &known).filter(|distance| *distance <= (known.len() / 4).min(2))
    };
    match message
        .fields()
        .filter_map(|field| Some((near(&field)?, field)))
        .min_by_key(|(distance, _)| *distance)
    {
        Some((_, field)) => format!("{said}; did you mean `{}`?", field.json_name()),
        None => said,
    }
}

/// The field that is set and stands in the same oneof as `field`.
pub(crate) fn rival(message: &DynamicMessage, field: &FieldDescriptor) -> Option<FieldDescriptor> {
    let oneof = field.containing_oneof().filter(|oneof| !oneof.is_synthetic())?;
    oneof.fields().find(|other| other.number() != field.number() && message.has_field(other))
}

/// A name without what people spell in different ways.
fn plain(name: &str) -> String {
    name.chars().filter(|c| !matches!(c, '_' | '-')).map(|c| c.to_ascii_lowercase()).collect()
}

/// How many letters must change to make `known` of `name`; `None` where the lengths alone say "too many".
fn distance(name: &str, known: &str) -> Option<usize> {
    if name.len().abs_diff(known.len()) > 2 {
        return None;
    }
    let mut row: Vec<usize> = (0..=known.len()).collect();
    for (i, a) in name.bytes().enumerate() {
        let mut corner = std::mem::replace(&mut row[0], i + 1);
        for (j, b) in known.bytes().enumerate() {
            let change = corner + usize::from(a != b);
            corner = row[j + 1];
            row[j + 1] = change.min(corner + 1).min(row[j] + 1);
        }
    }
    row.pop()
}

/// A field, and the messages in which it stands: `update.preferences.theme`.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct FieldPath {
    parents: Vec<FieldDescriptor>,
    last: FieldDescriptor,
}

impl FieldPath {
    /// Follows the dots through the fields of `message`; the error says what is wrong with the name.
    pub(crate) fn resolve(message: &MessageDescriptor, dotted: &str) -> Result<Self, String> {
        let mut names = dotted.split('.');
        let mut last = field_of(message, names.next().unwrap_or_default())?;
        let mut parents = Vec::new();
        for name in names {
            if parents.len() + 2 > MAX_DEPTH {
                return Err(format!("nests deeper than {MAX_DEPTH} levels"));
            }
            let Kind::Message(inner) = last.kind() else { return Err(unknown(message, dotted)) };
            if last.is_list() || last.is_map() || is_timestamp(&inner) {
                return Err(unknown(message, dotted));
            }
            let field = field_of(&inner, name)?;
            parents.push(std::mem::replace(&mut last, field));
        }
        Ok(Self { parents, last })
    }

    /// The field itself.
    pub(crate) fn last(&self) -> &FieldDescriptor {
        &self.last
    }

    /// The field, or the outermost message in which it stands.
    pub(crate) fn first(&self) -> &FieldDescriptor {
        self.parents.first().unwrap_or(&self.last)
    }

    /// From the outermost message to the field itself.
    pub(crate) fn steps(&self) -> impl Iterator<Item = &FieldDescriptor> {
        self.parents.iter().chain([&self.last])
    }

    /// The path in JSON names.
    pub(crate) fn json_path(&self) -> String {
        self.steps().map(FieldDescriptor::json_name).collect::<Vec<_>>().join(".")
    }

    /// The value; `None` where a message on the way is not set.
    pub(crate) fn get(&self, message: &DynamicMessage) -> Option<Value> {
        get(message, &self.parents, &self.last)
    }

    /// The message in which the field stands, made where it is not set; the error names what stands against it.
    pub(crate) fn holder<'m>(
        &self,
        mut message: &'m mut DynamicMessage,
    ) -> Result<&'m mut DynamicMessage, String> {
        for parent in &self.parents {
            if let Some(rival) = rival(message, parent) {
                return Err(together(&rival));
            }
            let inner = message.get_field_mut(parent).as_message_mut();
            message = inner.ok_or_else(|| "is not part of a message".to_owned())?;
        }
        match rival(message, &self.last) {
            Some(rival) => Err(together(&rival)),
            None => Ok(message),
        }
    }
}

/// What to say of a field beside its rival.
pub(crate) fn together(rival: &FieldDescriptor) -> String {
    format!("must not be given together with {}", rival.json_name())
}

fn field_of(message: &MessageDescriptor, name: &str) -> Result<FieldDescriptor, String> {
    find(message, name).ok_or_else(|| unknown(message, name))
}

fn get(message: &DynamicMessage, parents: &[FieldDescriptor], last: &FieldDescriptor) -> Option<Value> {
    let [parent, rest @ ..] = parents else { return Some(message.get_field(last).into_owned()) };
    if !message.has_field(parent) {
        return None;
    }
    get(message.get_field(parent).as_message()?, rest, last)
}

/// The `etag` of a message, where it has one as text.
pub(crate) fn etag(message: &MessageDescriptor) -> Option<FieldDescriptor> {
    message.get_field_by_name("etag").filter(|field| field.kind() == Kind::String && !field.is_list())
}

/// The `data.etag` of an answer's message, where it has one as text.
pub(crate) fn data_etag(message: &MessageDescriptor) -> Option<FieldPath> {
    let data = message.get_field_by_name("data").filter(|data| !data.is_list() && !data.is_map())?;
    let last = etag(data.kind().as_message()?)?;
    Some(FieldPath { parents: vec![data], last })
}

/// An unset message of that type.
pub(crate) fn empty(message: &MessageDescriptor) -> DynamicMessage {
    DynamicMessage::new(message.clone())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixture;

    #[test]
    fn a_name_that_is_nearly_right_is_put_right() {
        let update = fixture::contract("kombify.users.v1.UserUpdate");
        for (name, said) in [
            ("DisplayName", "is not a field of UserUpdate; did you mean `displayName`?"),
            ("display-name", "is not a field of UserUpdate; did you mean `displayName`?"),
            ("avatarURI", "is not a field of UserUpdate; did you mean `avatarUrl`?"),
            ("preference", "is not a field of UserUpdate; did you mean `preferences`?"),
            ("nickname", "is not a field of UserUpdate"),
            ("", "is not a field of UserUpdate"),
        ] {
            assert_eq!(unknown(&update, name), said, "{name}");
        }
        assert_eq!(find(&update, "displayName"), find(&update, "display_name"));
    }

    #[test]
    fn the_distance_counts_letters() {
        for (a, b, expected) in
            [("abc", "abc", Some(0)), ("abc", "abd", Some(1)), ("ab", "abc", Some(1)), ("a", "abcd", None)]
        {
            assert_eq!(distance(a, b), expected, "{a} {b}");
        }
    }

    #[test]
    fn a_dotted_name_leads_to_the_field_and_no_further() {
        let update = fixture::contract("kombify.users.v1.UpdateUserRequest");
        let path = FieldPath::resolve(&update, "update.preferences.email_notices").unwrap();
        assert_eq!(path.json_path(), "update.preferences.emailNotices");
        assert_eq!(path.first().name(), "update");
        let mut message = empty(&update);
        assert_eq!(path.get(&message), None);
        path.holder(&mut message).unwrap().set_field(path.last(), Value::Bool(true));
        assert_eq!(path.get(&message), Some(Value::Bool(true)));
        for wrong in ["", ".", "update.", "update.nothing", "etag.x", "sub.preferences"] {
            assert!(FieldPath::resolve(&update, wrong).is_err(), "{wrong}");
        }
        let everything = fixture::everything();
        assert!(FieldPath::resolve(&everything, &["nested"; 32].join(".")).is_ok());
        assert!(FieldPath::resolve(&everything, &["nested"; 33].join(".")).is_err());
        assert!(FieldPath::resolve(&everything, "seenTime.seconds").is_err());
        assert!(FieldPath::resolve(&everything, "children.text").is_err());
    }

    #[test]
    fn of_a_oneof_only_one_is_given() {
        let everything = fixture::everything();
        let mut message = empty(&everything);
        let left = FieldPath::resolve(&everything, "left").unwrap();
        let right = FieldPath::resolve(&everything, "right").unwrap();
        let maybe = FieldPath::resolve(&everything, "maybe").unwrap();
        left.holder(&mut message).unwrap().set_field(left.last(), Value::String(String::new()));
        assert_eq!(right.holder(&mut message).unwrap_err(), "must not be given together with left");
        assert!(left.holder(&mut message).is_ok() && maybe.holder(&mut message).is_ok());
    }

    #[test]
    fn an_answer_knows_its_etag() {
        let one = fixture::contract("kombify.users.v1.GetUserResponse");
        assert_eq!(data_etag(&one).unwrap().json_path(), "data.etag");
        let list = fixture::contract("kombify.users.v1.ListUsersResponse");
        assert_eq!(data_etag(&list), None);
    }
}
