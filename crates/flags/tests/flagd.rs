//! The engine against flagd's own evaluator, which `make tools` builds from `tools/flagd-oracle`: case by case the same
//! value, variant, reason and error.
#![expect(clippy::unwrap_used, reason = "a failed step is a failed test")]

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::io::{BufRead as _, BufReader, Write as _};
use std::path::PathBuf;
use std::process::{Command, Stdio};

use kombify_flags::{Context, Evaluation, FlagSet};
use serde_json::{Value, json};

/// How many cases are made.
const CASES: usize = 3000;

/// How deep a condition is at most.
const DEPTH: u32 = 3;

/// Makes the same cases in every run.
struct Dice(u64);

impl Dice {
    fn below(&mut self, bound: usize) -> usize {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        usize::try_from(self.0 >> 33).unwrap() % bound
    }

    fn of<T: Clone>(&mut self, these: &[T]) -> T {
        these[self.below(these.len())].clone()
    }
}

fn context(dice: &mut Dice) -> Context {
    Context {
        targeting_key: format!("{}", 100_000_000_000_000_000_u64 + dice.below(1_000_000) as u64),
        plan: dice.of(&["free", "pro", "enterprise"]).to_owned(),
        org_id: dice.of(&["acme", "umbrella", "user:1"]).to_owned(),
        roles: dice.of(&[vec![], vec!["user".to_owned()], vec!["user".to_owned(), "admin".to_owned()]]),
        tenant_id: "tenant_01890a5d-ac96-774b-bcce-b302099a8057".to_owned(),
    }
}

/// Something that a comparison can have on a side.
fn operand(dice: &mut Dice) -> Value {
    match dice.below(8) {
        0 => json!({"var": "orgId"}),
        1 => json!({"var": ["nothing", "pro"]}),
        2 => json!({"var": "$flagd.flagKey"}),
        3 => json!({"cat": [{"var": "plan"}, "-", {"var": "orgId"}]}),
        4 => json!(dice.of(&["pro", "free", "acme", "flag", "pro-acme"])),
        5 => json!({"var": "tenantId"}),
        _ => json!({"var": "plan"}),
    }
}

fn condition(dice: &mut Dice, depth: u32) -> Value {
    let choice = dice.below(if depth == 0 { 10 } else { 14 });
    match choice {
        0 | 1 => {
            let operator = dice.of(&["==", "===", "!=", "!=="]);
            json!({operator: [operand(dice), operand(dice)]})
        }
        2 => json!({"in": [operand(dice), ["pro", "enterprise", "acme"]]}),
        3 => json!({"in": [dice.of(&["admin", "user", "owner"]), {"var": "roles"}]}),
        4 => json!({"in": [dice.of(&["ac", "user:", "p"]), operand(dice)]}),
        5 => json!({"starts_with": [operand(dice), dice.of(&["p", "user:", "acme"])]}),
        6 => json!({"ends_with": [operand(dice), dice.of(&["o", "e", "acme"])]}),
        7 => {
            // Without a leading v: flagd takes one, and the engine does not.
            let version = dice.of(&["1.2.3", "1.3.0", "2.0.0-rc.1", "0.9.9"]);
            let operator = dice.of(&["=", "!=", "<", "<=", ">=", ">", "^", "~"]);
            json!({"sem_ver": [version, operator, dice.of(&["1.2.3", "1.2.0", "2.0.0"])]})
        }
        8 => {
            let operator = dice.of(&["<", "<=", ">", ">="]);
            json!({operator: [dice.below(4), dice.below(4)]})
        }
        9 => json!({">": [{"var": "$flagd.timestamp"}, dice.of(&[0_u64, 1_700_000_000, 9_000_000_000])]}),
        10 => json!({"and": [condition(dice, depth - 1), condition(dice, depth - 1)]}),
        11 => json!({"or": [condition(dice, depth - 1), condition(dice, depth - 1)]}),
        12 => json!({"!": [condition(dice, depth - 1)]}),
        _ => json!({"!!": [condition(dice, depth - 1)]}),
    }
}

/// A rule; now and then it names a variant that is not there.
fn rule(dice: &mut Dice) -> Value {
    let variants = ["one", "two", "three", "four"];
    match dice.below(7) {
        0 => json!({"fractional": [["one", 25], ["two", 25], ["three", 50]]}),
        1 => json!({"fractional": [["one"], ["two"]]}),
        2 => {
            let by =
                json!({"cat": [{"var": "$flagd.flagKey"}, {"var": dice.of(&["targetingKey", "orgId"])}]});
            json!({"fractional": [by, ["one", dice.below(50) + 1], ["two", dice.below(50)]]})
        }
        3 => {
            let by =
                dice.of(&[json!({"var": "plan"}), json!({"var": "nothing"}), json!({"var": "targetingKey"})]);
            let variant = json!({"if": [condition(dice, 1), "one", "two"]});
            json!({"fractional": [by, [variant, {"+": [1, 2]}], ["three", dice.below(9)]]})
        }
        4 => {
            let inner = json!({"fractional": [["one", 10], ["three", 90]]});
            json!({"if": [condition(dice, DEPTH), dice.of(&variants), inner]})
        }
        5 => {
            json!({"if": [
                condition(dice, DEPTH), dice.of(&variants), condition(dice, DEPTH), dice.of(&variants), null,
            ]})
        }
        _ => json!({"if": [condition(dice, DEPTH), dice.of(&variants), dice.of(&variants)]}),
    }
}

fn flag(dice: &mut Dice) -> Value {
    let variants = match dice.below(4) {
        0 => json!({"one": true, "two": false, "three": true}),
        1 => json!({"one": 1, "two": 2.5, "three": -3}),
        2 => json!({"one": {"a": [1]}, "two": {}, "three": {"b": null}}),
        _ => json!({"one": "first", "two": "second", "three": ""}),
    };
    let mut flag = json!({"state": "ENABLED", "variants": variants, "defaultVariant": "two"});
    match dice.below(20) {
        0 => {}
        1 => flag["targeting"] = json!({}),
        2 => flag["state"] = "DISABLED".into(),
        _ => flag["targeting"] = rule(dice),
    }
    flag
}

/// What flagd answers to each question.
fn flagd(questions: &[Value]) -> Vec<Value> {
    let tools = std::env::var_os("KOMBIFY_TOOLS").map_or_else(
        || PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../../target/tools")),
        PathBuf::from,
    );
    let oracle = tools.join("bin/flagd-oracle");
    let mut child = Command::new(&oracle)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap_or_else(|cause| panic!("{}: {cause}: run `make tools`", oracle.display()));
    let (mut asked, answers) = (child.stdin.take().unwrap(), child.stdout.take().unwrap());
    let mut lines = String::new();
    for question in questions {
        let _ = writeln!(lines, "{question}");
    }
    let writer = std::thread::spawn(move || asked.write_all(lines.as_bytes()).unwrap());
    let answers =
        BufReader::new(answers).lines().map(|line| serde_json::from_str(&line.unwrap()).unwrap()).collect();
    writer.join().unwrap();
    assert!(child.wait().unwrap().success());
    answers
}

/// Ours in the words of flagd's evaluator.
fn in_its_words(ours: &Evaluation) -> Value {
    let error = ours.error_code.map_or("", |code| code.as_str());
    json!({"value": ours.value, "variant": ours.variant, "reason": ours.reason.as_str(), "error": error})
}

/// The same value, whether a number is written as a whole one or not.
fn same(one: &Value, other: &Value) -> bool {
    match (one, other) {
        (Value::Number(one), Value::Number(other)) => one.as_f64() == other.as_f64(),
        (Value::Array(one), Value::Array(other)) => {
            one.len() == other.len() && one.iter().zip(other).all(|(one, other)| same(one, other))
        }
        (Value::Object(one), Value::Object(other)) => {
            one.len() == other.len()
                && one.iter().all(|(name, value)| other.get(name).is_some_and(|other| same(value, other)))
        }
        _ => one == other,
    }
}

#[test]
fn every_case_is_answered_as_flagd_answers_it() {
    let mut dice = Dice(7);
    let (mut questions, mut ours) = (Vec::new(), Vec::new());
    for case in 0..CASES {
        let (flag, context) = (flag(&mut dice), context(&mut dice));
        let flags = json!({"flags": {"flag": flag}});
        let key = if case % 50 == 0 { "absent" } else { "flag" };
        questions.push(json!({"flags": flags, "key": key, "context": {
            "targetingKey": context.targeting_key, "plan": context.plan, "orgId": context.org_id,
            "roles": context.roles, "tenantId": context.tenant_id,
        }}));
        let set = FlagSet::parse(&flags.to_string()).unwrap();
        ours.push(in_its_words(&set.evaluate(key, &context, &BTreeMap::new())));
    }
    let theirs = flagd(&questions);
    assert_eq!(theirs.len(), CASES);
    let mut seen = BTreeMap::<String, usize>::new();
    let mut differ = Vec::new();
    for ((question, ours), theirs) in questions.iter().zip(&ours).zip(&theirs) {
        *seen.entry(format!("{} {}", theirs["reason"], theirs["error"])).or_default() += 1;
        if !same(ours, theirs) {
            differ.push(format!("{question}\n  ours   {ours}\n  flagd  {theirs}"));
        }
    }
    assert!(
        differ.is_empty(),
        "{} of {CASES} differ:\n{}",
        differ.len(),
        differ[..differ.len().min(10)].join("\n")
    );
    for kind in [
        "\"STATIC\" \"\"",
        "\"DEFAULT\" \"\"",
        "\"TARGETING_MATCH\" \"\"",
        "\"ERROR\" \"FLAG_NOT_FOUND\"",
        "\"DISABLED\" \"\"",
        "\"ERROR\" \"GENERAL\"",
    ] {
        assert!(seen.get(kind).is_some_and(|count| *count >= 20), "too few of {kind}: {seen:?}");
    }
}
