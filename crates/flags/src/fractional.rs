//! `fractional` as flagd's evaluator in Go has it: it hashes the text by which is bucketed. The engine's own hashes that
//! in CBOR, and would put people into other buckets than every other flagd. Source:
//! <https://flagd.dev/reference/custom-operations/fractional-operation/>.

use murmurhash3::murmurhash3_x86_32;
use serde_json::Value;

/// How large a weight, and the sum of them, may be.
const WEIGHTS_MAX: i32 = i32::MAX;

/// The variant of the bucket that somebody falls into, `(murmur3_32(who) * weights) >> 32`; nothing where a part of the
/// operation, each already evaluated, is not as it must be. Who is the first part, if it is a text, else the user in
/// this flag.
pub(crate) fn choose(parts: &[Value], flag: &str, targeting_key: &str) -> Option<Value> {
    let own = || (!targeting_key.is_empty()).then(|| format!("{flag}{targeting_key}"));
    let (who, distributions) = match parts {
        [Value::String(who), distributions @ ..] => (who.clone(), distributions),
        [Value::Null, distributions @ ..] | distributions => (own()?, distributions),
    };
    let mut sum = 0_i32;
    let mut buckets = Vec::with_capacity(distributions.len());
    for distribution in distributions {
        let (variant, weight) = match distribution.as_array()?.as_slice() {
            [] => return None,
            [variant] | [variant, Value::Null, ..] => (variant, 1),
            [variant, weight, ..] => (variant, read_weight(weight)?),
        };
        if variant.is_array() || variant.is_object() {
            return None;
        }
        sum = sum.checked_add(weight)?;
        buckets.push((variant, sum));
    }
    let bucket = (i64::from(murmurhash3_x86_32(who.as_bytes(), 0)) * i64::from(sum)) >> 32;
    buckets.into_iter().find(|(_, end)| bucket < i64::from(*end)).map(|(variant, _)| variant.clone())
}

/// A whole number, whether it is written as one or not; one below none is none.
fn read_weight(weight: &Value) -> Option<i32> {
    let weight =
        weight.as_f64().filter(|weight| weight.fract() == 0.0 && *weight <= f64::from(WEIGHTS_MAX))?;
    // flagd reads no number that is beyond all whole ones.
    if weight < 0.0 { (weight >= -(2_f64.powi(63))).then_some(0) } else { weight.to_string().parse().ok() }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn chosen(parts: &Value, targeting_key: &str) -> Value {
        choose(parts.as_array().unwrap(), "flag", targeting_key).unwrap_or_default()
    }

    #[test]
    fn the_bucket_is_that_of_the_hash() {
        let own = (u64::from(murmurhash3_x86_32(b"flaguser", 0)) * 1_000_000) >> 32;
        for (end, variant) in [(own, "above"), (own + 1, "below")] {
            let parts = json!([["below", end], ["above", 1_000_000 - end]]);
            assert_eq!(chosen(&parts, "user"), variant);
            assert_eq!(chosen(&json!(["flaguser", parts[0], parts[1]]), ""), variant);
            assert_eq!(chosen(&json!([null, parts[0], parts[1]]), "user"), variant);
        }
    }

    #[test]
    fn what_is_wrong_chooses_nothing() {
        for wrong in [
            json!([]),
            json!(["who"]),
            json!([[]]),
            json!([["one", "much"]]),
            json!([["one", 0.5]]),
            json!([["one", 1e300]]),
            json!([["none", -1e300], ["one", 1]]),
            json!([["one", 0]]),
            json!([["one", -1]]),
            json!([["one", 2_147_483_648_u32]]),
            json!([["one", 2_147_483_647], ["two", 1]]),
            json!([[["one"], 1]]),
            json!([7, ["one"]]),
        ] {
            assert_eq!(chosen(&wrong, "ann"), Value::Null, "{wrong}");
        }
        assert_eq!(chosen(&json!([["one"]]), ""), Value::Null, "nobody is asking");
        assert_eq!(chosen(&json!([["one"]]), "ann"), "one");
        assert_eq!(chosen(&json!([["none", -5], ["one", null], ["none", 0.0]]), "ann"), "one");
        assert_eq!(chosen(&json!([["one", 2_147_483_647]]), "ann"), "one");
    }

    #[test]
    fn people_are_spread_by_the_weights() {
        let parts = json!([["one", 25], ["two", 75.0]]);
        let ones = (0..4000).filter(|user| chosen(&parts, &user.to_string()) == "one").count();
        assert!((850..1150).contains(&ones), "{ones}");
    }
}
