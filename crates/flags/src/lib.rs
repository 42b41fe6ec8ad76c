//! Floor 2: feature flags in flagd's format: checked when they are written, evaluated where they are asked for.
//!
//! Refuses to know: where sets come from and who asks.

mod check;
mod fractional;

use std::collections::BTreeMap;

use flagd_evaluation_engine::{FlagParser, Operator};
use kombify_core::{Error, Result};
use open_feature::{EvaluationContext, EvaluationContextFieldValue, Value as FieldValue};
use serde_json::Value;

pub use self::check::check_flag;
use self::fractional::Bucketing;

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

/// Why a flag has its value, as flagd says it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reason {
    /// There is no targeting.
    Static,
    /// The targeting chose nothing.
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

/// What is wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ErrorCode {
    /// There is no such flag.
    FlagNotFound,
    /// Its targeting cannot be evaluated.
    ParseError,
    /// Something else.
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
    flags: BTreeMap<String, flagd_evaluation_engine::FeatureFlag>,
    operator: Operator,
}

impl FlagSet {
    /// Reads a set.
    ///
    /// # Errors
    /// - [`Error::Invalid`] if it is none.
    pub fn parse(text: &str) -> Result<Self> {
        let parsed = FlagParser::parse_string(text)
            .map_err(|cause| Error::invalid("definitionsJson", cause.to_string()))?;
        Ok(Self { flags: parsed.flags.into_iter().collect(), operator: Operator::new() })
    }

    /// One flag.
    pub fn evaluate(&self, key: &str, context: &Context, overrides: &BTreeMap<String, Value>) -> Evaluation {
        let answer = |value: Value, variant: &str, reason, error_code| Evaluation {
            key: key.to_owned(),
            value,
            variant: variant.to_owned(),
            reason,
            error_code,
        };
        if let Some(value) = overrides.get(key) {
            return answer(value.clone(), "override", Reason::Static, None);
        }
        let Some(flag) = self.flags.get(key) else {
            return answer(Value::Null, "", Reason::Error, Some(ErrorCode::FlagNotFound));
        };
        if flag.state != "ENABLED" {
            return answer(Value::Null, "", Reason::Disabled, None);
        }
        let targeting = flag.get_targeting();
        if targeting == "{}" {
            let value = flag.variants.get(&flag.default_variant).cloned().unwrap_or_default();
            return answer(value, &flag.default_variant, Reason::Static, None);
        }
        let roles = FieldValue::Array(context.roles.iter().cloned().map(FieldValue::String).collect());
        let engine = EvaluationContext::default()
            .with_targeting_key(context.targeting_key.clone())
            .with_custom_field("plan", context.plan.clone())
            .with_custom_field("orgId", context.org_id.clone())
            .with_custom_field("tenantId", context.tenant_id.clone())
            .with_custom_field("roles", EvaluationContextFieldValue::new_struct(roles));
        let evaluate = |inner: &Value| self.operator.apply(key, &inner.to_string(), &engine).ok().flatten();
        let bucketing = Bucketing { flag: key, targeting_key: &context.targeting_key, evaluate: &evaluate };
        let rule = match serde_json::from_str(&targeting) {
            Ok(rule) => bucketing.settle(&rule),
            Err(_) => return answer(Value::Null, "", Reason::Error, Some(ErrorCode::ParseError)),
        };
        match self.operator.apply(key, &rule.to_string(), &engine) {
            Ok(Some(variant)) => match flag.variants.get(&variant) {
                Some(value) => answer(value.clone(), &variant, Reason::TargetingMatch, None),
                None => answer(Value::Null, "", Reason::Error, Some(ErrorCode::General)),
            },
            Ok(None) => {
                let value = flag.variants.get(&flag.default_variant).cloned().unwrap_or_default();
                answer(value, &flag.default_variant, Reason::Default, None)
            }
            Err(_) => answer(Value::Null, "", Reason::Error, Some(ErrorCode::ParseError)),
        }
    }

    /// Every flag, by key.
    pub fn evaluate_all(&self, context: &Context, overrides: &BTreeMap<String, Value>) -> Vec<Evaluation> {
        self.flags.keys().map(|key| self.evaluate(key, context, overrides)).collect()
    }
}
