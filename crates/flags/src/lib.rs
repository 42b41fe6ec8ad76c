//! Floor 2: feature flags in flagd's format: checked when they are written, evaluated where they are asked for.
//!
//! Refuses to know: where sets come from, who asks, and what time it is.
//!
//! The official engine parses sets, follows `$ref` and has the operators; variants, defaults, reasons and whatever the
//! engine decides otherwise than flagd are ours (see `logic`). All of it is held against flagd's own evaluator, its Go
//! module, which `tools/flagd-oracle` asks. What stays different:
//!
//! - Rules that do something with each element of an array (`map`, `filter`, `reduce`, `all`, `none`, `some`) are wholly
//!   the engine's. In them `==` and the like fail where the kinds do not go together, and `var` does not look into the
//!   context beyond the element, as flagd's does where the element has no such field. `fractional` is refused there.
//! - A division by zero is an error, where flagd goes on with infinity until a result cannot be written.
//! - A `$ref` is followed wherever it stands in a rule, and nowhere else. flagd replaces it in the text of the set, in
//!   variants too, and does not always see one that stands in another shared rule. One that leads nowhere is refused.
//! - Whole numbers beyond 2^53 are kept as they are written, where flagd makes floats of them.

mod check;
mod fractional;
mod logic;
#[cfg(test)]
mod oracle_tests;
mod path;
mod read;
mod rule;
mod version;

use std::collections::{BTreeMap, BTreeSet};

use flagd_evaluation_engine::{FeatureFlag, FlagParser, Operator};
use jiff::Timestamp;
use kombify_core::{Error, Result};
use open_feature::{EvaluationContext, EvaluationContextFieldValue, StructValue, Value as FieldValue};
use serde_json::Value;

pub use self::check::check_flag;
use self::logic::{Question, Unreadable};
use self::path::{Faults, Path};
pub use self::read::read as read_json;

/// The variant of a value that a user has over the set.
pub const OVERRIDE: &str = "override";

/// Who asks.
#[derive(Clone, Debug)]
pub struct Context {
    /// The user.
    pub targeting_key: String,
    /// The plan that decides.
    pub plan: String,
    /// The organisation.
    pub org_id: String,
    /// The roles.
    pub roles: Vec<String>,
    /// The tenant.
    pub tenant_id: String,
}

impl Context {
    /// As the engine takes it, with what flagd adds: for which flag it is, and when, in seconds of Unix time.
    fn fields(&self, flag: &str, now: Timestamp) -> EvaluationContext {
        let Self { targeting_key, plan, org_id, roles, tenant_id } = self;
        let roles = FieldValue::Array(roles.iter().cloned().map(FieldValue::String).collect());
        let fields = EvaluationContext::default()
            .with_targeting_key(targeting_key.clone())
            .with_custom_field("plan", plan.clone())
            .with_custom_field("orgId", org_id.clone())
            .with_custom_field("tenantId", tenant_id.clone())
            .with_custom_field("roles", EvaluationContextFieldValue::new_struct(roles));
        let own = StructValue::default()
            .with_field("flagKey", FieldValue::String(flag.to_owned()))
            .with_field("timestamp", FieldValue::Int(now.as_second()));
        fields.with_custom_field("$flagd", EvaluationContextFieldValue::new_struct(own))
    }
}

/// Why a flag has its value, as flagd says it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reason {
    /// There is no targeting.
    Static,
    /// The targeting chose nothing; or there is neither targeting nor default.
    Default,
    /// The targeting chose.
    TargetingMatch,
    /// The flag is disabled.
    Disabled,
    /// Something is wrong.
    Error,
}

impl Reason {
    /// The reason as it stands in answers.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Static => "STATIC",
            Self::Default => "DEFAULT",
            Self::TargetingMatch => "TARGETING_MATCH",
            Self::Disabled => "DISABLED",
            Self::Error => "ERROR",
        }
    }
}

/// What is wrong, as flagd says it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ErrorCode {
    /// There is no such flag.
    FlagNotFound,
    /// Its targeting cannot be evaluated.
    ParseError,
    /// Something else: its targeting chose a variant that is not there.
    General,
}

impl ErrorCode {
    /// The code as it stands in answers.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::FlagNotFound => "FLAG_NOT_FOUND",
            Self::ParseError => "PARSE_ERROR",
            Self::General => "GENERAL",
        }
    }
}

/// One flag as it stands for whoever asks.
#[derive(Clone, Debug, PartialEq)]
pub struct Evaluation {
    /// The flag.
    pub key: String,
    /// Its value; null where there is none.
    pub value: Value,
    /// The variant that has the value.
    pub variant: String,
    /// Why.
    pub reason: Reason,
    /// What is wrong.
    pub error_code: Option<ErrorCode>,
}

/// A set of flags.
pub struct FlagSet {
    flags: BTreeMap<String, FeatureFlag>,
    operator: Operator,
}

impl FlagSet {
    /// Reads a set: at most 512 KiB, 1,000 flags, and 64 levels from each flag on. Faults are named by their path in the
    /// set, such as `flags.new-ui.defaultVariant`; what is no set at all by `definitionsJson`.
    ///
    /// # Errors
    /// - [`Error::Invalid`] if something in it is wrong.
    pub fn parse(text: &str) -> Result<Self> {
        let mut set = check::read_set(text)?;
        let has_shared = set.contains_key("$evaluators");
        let flags = set.get_mut("flags").and_then(Value::as_object_mut);
        for flag in flags.into_iter().flat_map(|flags| flags.values_mut()) {
            // The engine knows no flag without a default, and no variant has an empty name.
            if flag["defaultVariant"].is_null() {
                flag["defaultVariant"] = "".into();
            }
        }
        let parsed = FlagParser::parse_string(&Value::Object(set).to_string())
            .map_err(|cause| Error::invalid("definitionsJson", cause.to_string()))?;
        let flags = parsed.flags.into_iter().collect();
        if has_shared {
            check_expanded(&flags)?;
        }
        Ok(Self { flags, operator: Operator::new() })
    }

    /// One flag at a time. A value that the user has over the set stands before everything, whatever the set says of
    /// that flag, disabled or absent: its variant is [`OVERRIDE`], its reason that there is no targeting.
    pub fn evaluate(
        &self,
        key: &str,
        context: &Context,
        overrides: &BTreeMap<String, Value>,
        now: Timestamp,
    ) -> Evaluation {
        self.answer(key, context, overrides, now)
    }

    /// Every flag that is in the set or over it, by key, at a time.
    pub fn evaluate_all(
        &self,
        context: &Context,
        overrides: &BTreeMap<String, Value>,
        now: Timestamp,
    ) -> Vec<Evaluation> {
        self.keys(overrides).into_iter().map(|key| self.answer(key, context, overrides, now)).collect()
    }

    fn keys<'a>(&'a self, overrides: &'a BTreeMap<String, Value>) -> BTreeSet<&'a String> {
        self.flags.keys().chain(overrides.keys()).collect()
    }

    fn answer(
        &self,
        key: &str,
        context: &Context,
        overrides: &BTreeMap<String, Value>,
        now: Timestamp,
    ) -> Evaluation {
        let answer = |value: Value, variant: &str, reason, error_code| Evaluation {
            key: key.to_owned(),
            value,
            variant: variant.to_owned(),
            reason,
            error_code,
        };
        let wrong = |error_code| answer(Value::Null, "", Reason::Error, Some(error_code));
        if let Some(value) = overrides.get(key) {
            return answer(value.clone(), OVERRIDE, Reason::Static, None);
        }
        let Some(flag) = self.flags.get(key) else { return wrong(ErrorCode::FlagNotFound) };
        if flag.state != "ENABLED" {
            return answer(Value::Null, "", Reason::Disabled, None);
        }
        let default = |reason| match flag.variants.get(&flag.default_variant) {
            Some(value) => answer(value.clone(), &flag.default_variant, reason, None),
            None => answer(Value::Null, "", Reason::Default, None),
        };
        let is_empty = |targeting: &&Value| targeting.as_object().is_some_and(serde_json::Map::is_empty);
        let Some(targeting) = flag.targeting.as_ref().filter(|targeting| !is_empty(targeting)) else {
            return default(Reason::Static);
        };
        let question = Question {
            flag: key,
            targeting_key: &context.targeting_key,
            context: &context.fields(key, now),
            engine: &self.operator,
        };
        match question.evaluate(targeting) {
            Ok(Value::Null) => default(Reason::Default),
            Ok(result) => {
                let variant = logic::variant(&result);
                match flag.variants.get(&variant) {
                    Some(value) => answer(value.clone(), &variant, Reason::TargetingMatch, None),
                    None => wrong(ErrorCode::General),
                }
            }
            Err(Unreadable) => wrong(ErrorCode::ParseError),
        }
    }
}

/// Checks the rules once each reference is what it refers to: a shared rule can be right where it stands, and wrong where
/// it is used.
fn check_expanded(flags: &BTreeMap<String, FeatureFlag>) -> Result<()> {
    let mut faults = Faults::default();
    let path = Path::ROOT.name("flags");
    for (key, flag) in flags {
        if let Some(targeting) = &flag.targeting {
            rule::check(targeting, &path.name(key).name("targeting"), &mut faults);
        }
    }
    faults.into_result()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn context() -> Context {
        Context {
            targeting_key: "ann".to_owned(),
            plan: "pro".to_owned(),
            org_id: "acme".to_owned(),
            roles: vec!["admin".to_owned()],
            tenant_id: "tenant_1".to_owned(),
        }
    }

    fn set(flags: &Value) -> FlagSet {
        FlagSet::parse(&json!({"flags": flags}).to_string()).unwrap()
    }

    fn on_off(targeting: &Value) -> Value {
        let variants = json!({"on": true, "off": false});
        json!({"state": "ENABLED", "variants": variants, "defaultVariant": "off", "targeting": targeting})
    }

    fn at(seconds: i64) -> Timestamp {
        Timestamp::from_second(seconds).unwrap()
    }

    #[test]
    fn time_is_an_argument() {
        let rule = json!({"if": [{">=": [{"var": "$flagd.timestamp"}, 1000]}, "on"]});
        let set = set(&json!({"new-ui": on_off(&rule)}));
        for (seconds, value) in [(999, false), (1000, true)] {
            let found = set.evaluate("new-ui", &context(), &BTreeMap::new(), at(seconds));
            assert_eq!(found.value, value, "{seconds}");
            assert_eq!(set.evaluate_all(&context(), &BTreeMap::new(), at(seconds)), [found]);
        }
    }

    #[test]
    fn each_part_of_the_context_can_be_asked_for() {
        for condition in [
            json!({"==": [{"var": "targetingKey"}, "ann"]}),
            json!({"==": [{"var": "plan"}, "pro"]}),
            json!({"==": [{"var": "orgId"}, "acme"]}),
            json!({"==": [{"var": "tenantId"}, "tenant_1"]}),
            json!({"in": ["admin", {"var": "roles"}]}),
            json!({"==": [{"var": "$flagd.flagKey"}, "new-ui"]}),
        ] {
            let set = set(&json!({"new-ui": on_off(&json!({"if": [condition, "on"]}))}));
            let found = set.evaluate("new-ui", &context(), &BTreeMap::new(), at(0));
            assert_eq!((&found.value, found.reason), (&json!(true), Reason::TargetingMatch), "{condition}");
        }
    }

    #[test]
    fn what_a_user_has_over_the_set_stands_before_everything() {
        let mut disabled = on_off(&json!({"if": [true, "off"]}));
        disabled["state"] = "DISABLED".into();
        let set =
            set(&json!({"b": on_off(&json!({"if": [true, "off"]})), "c": disabled, "d": on_off(&json!({}))}));
        let overrides = ["a", "b", "c"].map(|key| (key.to_owned(), json!(true)));
        let found = set.evaluate_all(&context(), &overrides.into(), at(0));
        let said: Vec<_> = found
            .iter()
            .map(|one| (&*one.key, &one.value, &*one.variant, one.reason, one.error_code))
            .collect();
        assert_eq!(
            said,
            [
                ("a", &json!(true), OVERRIDE, Reason::Static, None),
                ("b", &json!(true), OVERRIDE, Reason::Static, None),
                ("c", &json!(true), OVERRIDE, Reason::Static, None),
                ("d", &json!(false), "off", Reason::Static, None),
            ]
        );
    }

    #[test]
    fn nothing_panics_on_what_is_hostile() {
        let nested = |name: &str| (0..30).fold(json!({"var": "plan"}), |inner, _| json!({name: [inner, 1]}));
        let huge =
            [json!(u64::MAX), json!(i64::MIN), json!(1e308), json!(-1e308), json!(5e-324), json!("1e999")];
        let mut rules: Vec<_> =
            ["if", "and", "or", "==", "<", "+", "-", "*", "/", "cat", "merge", "in", "substr"]
                .map(nested)
                .into();
        for one in &huge {
            for other in &huge {
                for name in ["+", "-", "*", "/", "%", "min", "max", "==", "<", "cat", "substr", "in", "merge"]
                {
                    rules.push(json!({name: [one, other]}));
                }
                rules.push(json!({"substr": ["text", one, other]}));
                rules.push(json!({"sem_ver": [{"cat": [one]}, "=", {"cat": [other]}]}));
                rules.push(json!({"fractional": [["on", {"+": [one]}], ["off", {"+": [other]}]]}));
                rules.push(
                    json!({"reduce": [[one, other], {"*": [{"var": "current"}, {"var": "accumulator"}]}, 1]}),
                );
            }
        }
        for rule in rules {
            let set = set(&json!({"f": on_off(&rule)}));
            let found = set.evaluate("f", &context(), &BTreeMap::new(), at(0));
            assert_eq!(found.error_code.is_some(), found.reason == Reason::Error, "{rule}");
        }
    }
}
