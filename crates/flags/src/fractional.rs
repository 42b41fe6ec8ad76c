//! `fractional` as flagd's evaluator in Go has it: it hashes the text by which is bucketed. The engine's own hashes an array
//! in CBOR, and would put people into other buckets than every other flagd. So its nodes are settled before the engine
//! sees the rule. Source: <https://flagd.dev/reference/custom-operations/fractional-operation/>.

use murmurhash3::murmurhash3_x86_32;
use serde_json::Value;

/// The name of the operation.
const FRACTIONAL: &str = "fractional";

/// How large the sum of the weights may be.
const WEIGHTS_MAX: u64 = i32::MAX as u64;

/// Who is put into a bucket.
pub(crate) struct Bucketing<'a> {
    /// The flag.
    pub(crate) flag: &'a str,
    /// The user.
    pub(crate) targeting_key: &'a str,
    /// Evaluates what stands inside a node: gives the result as text, `None` where there is none.
    pub(crate) evaluate: &'a dyn Fn(&Value) -> Option<String>,
}

impl Bucketing<'_> {
    /// The rule with each node of the operation replaced by the variant that it chooses.
    pub(crate) fn settle(&self, rule: &Value) -> Value {
        match rule {
            Value::Object(node) => match node.get(FRACTIONAL) {
                Some(Value::Array(arguments)) if node.len() == 1 => {
                    let arguments: Vec<_> = arguments.iter().map(|argument| self.scalars(argument)).collect();
                    self.choose(&arguments).unwrap_or_default()
                }
                Some(_) if node.len() == 1 => Value::Null,
                Some(_) | None => {
                    node.iter().map(|(name, inner)| (name.clone(), self.settle(inner))).collect()
                }
            },
            Value::Array(items) => items.iter().map(|item| self.settle(item)).collect(),
            Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => rule.clone(),
        }
    }

    /// An argument with its operations evaluated.
    fn scalars(&self, argument: &Value) -> Value {
        match argument {
            Value::Array(items) => {
                items.iter().enumerate().map(|(at, item)| self.element(at, item)).collect()
            }
            Value::Object(_) => {
                let settled = self.settle(argument);
                if settled.is_object() { (self.evaluate)(&settled).into() } else { settled }
            }
            Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => argument.clone(),
        }
    }

    /// A part of a distribution: the variant, then the weight, which is a number if an operation made it.
    fn element(&self, at: usize, item: &Value) -> Value {
        match (at, item, self.scalars(item)) {
            (1, Value::Object(_), Value::String(made)) => made.parse().map_or(Value::Null, Value::Number),
            (_, _, settled) => settled,
        }
    }

    /// The variant of the bucket; `None` where there is none.
    fn choose(&self, arguments: &[Value]) -> Option<Value> {
        let own = || {
            let known = !self.targeting_key.is_empty();
            known.then(|| format!("{}{}", self.flag, self.targeting_key))
        };
        let (by, distributions) = match arguments {
            [Value::String(by), rest @ ..] => (by.clone(), rest),
            [Value::Null, rest @ ..] => (own()?, rest),
            all => (own()?, all),
        };
        let mut sum = 0_u64;
        let mut buckets = Vec::with_capacity(distributions.len());
        for distribution in distributions {
            let (variant, weight) = match distribution.as_array()?.as_slice() {
                [variant] => (variant, 1),
                [variant, weight, ..] => (variant, read_weight(weight)?),
                [] => return None,
            };
            sum = sum.checked_add(weight).filter(|sum| *sum <= WEIGHTS_MAX)?;
            buckets.push((variant, sum));
        }
        let bucket = (u64::from(murmurhash3_x86_32(by.as_bytes(), 0)) * sum) >> 32;
        buckets.into_iter().find(|(_, end)| bucket < *end).map(|(variant, _)| variant.clone())
    }
}

/// A whole number; what is less than none is none, and null is one.
fn read_weight(weight: &Value) -> Option<u64> {
    match weight {
        Value::Null => Some(1),
        Value::Number(number) => {
            // A number like 25.0 is a whole one, too.
            let whole: i64 =
                number.as_i64().or_else(|| number.to_string().strip_suffix(".0")?.parse().ok())?;
            Some(u64::try_from(whole).unwrap_or(0))
        }
        Value::Bool(_) | Value::String(_) | Value::Array(_) | Value::Object(_) => None,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn settle(rule: &Value, targeting_key: &str) -> Value {
        let evaluate = |inner: &Value| inner.get("+").map_or(Some("7".to_owned()), |_| Some("3".to_owned()));
        Bucketing { flag: "flag", targeting_key, evaluate: &evaluate }.settle(rule)
    }

    #[test]
    fn a_node_becomes_the_variant_that_it_chooses_wherever_it_stands() {
        let one = json!({"fractional": [["one", 1]]});
        assert_eq!(settle(&one, "ann"), json!("one"));
        let nested = json!({"if": [{"==": [{"var": "plan"}, "pro"]}, one, null]});
        assert_eq!(settle(&nested, "ann"), json!({"if": [{"==": [{"var": "plan"}, "pro"]}, "one", null]}));
        let by = json!({"fractional": [{"cat": ["b", "y"]}, ["one", 0], ["two", 1]]});
        assert_eq!(settle(&by, ""), json!("two"));
        let made = json!({"fractional": [["one", 0], ["two", {"+": [1, 2]}]]});
        assert_eq!(settle(&made, "ann"), json!("two"));
    }

    #[test]
    fn what_is_wrong_chooses_nothing() {
        for wrong in [
            json!({"fractional": []}),
            json!({"fractional": "one"}),
            json!({"fractional": [[]]}),
            json!({"fractional": [["one", "much"]]}),
            json!({"fractional": [["one", 0.5]]}),
            json!({"fractional": [["one", 0]]}),
            json!({"fractional": [["one", -1]]}),
            json!({"fractional": [["one", 2_147_483_647], ["two", 1]]}),
            json!({"fractional": [7, ["one"]]}),
        ] {
            assert_eq!(settle(&wrong, "ann"), Value::Null, "{wrong}");
        }
        assert_eq!(settle(&json!({"fractional": [["one"]]}), ""), Value::Null, "nobody is asking");
    }

    #[test]
    fn people_are_spread_by_the_weights() {
        let rule = json!({"fractional": [["one", 25], ["two", 75]]});
        let ones = (0..4000).filter(|user| settle(&rule, &user.to_string()) == "one").count();
        assert!((850..1150).contains(&ones), "{ones}");
    }
}
