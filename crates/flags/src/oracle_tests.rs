//! Our answers against those of flagd's own evaluator, which `make tools` builds from `tools/flagd-oracle`: case by case
//! the same value, variant, reason and error.

use std::env;
use std::fmt::Write as _;
use std::io::{BufRead as _, BufReader, Write as _};
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::thread;

use serde_json::{Map, json};

use super::*;

/// How many cases are made by chance.
const CASES: usize = 3000;

/// How deep a condition is at most.
const DEPTH: u32 = 3;

/// How many disagreements are shown.
const SHOWN: usize = 8;

/// The variants that rules name; no flag has the last.
const VARIANTS: [&str; 4] = ["one", "two", "three", "four"];

/// Rules that say little, each with one thing in which the engine and flagd could differ.
const CORNERS: &str = r#"
    {"if": [false, "one"]}
    {"if": ["one"]}
    {"if": [null, "one", [], "two"]}
    {"if": ["0", "one", "two"]}
    {"if": [true, true]}
    {"if": [true, "null"]}
    {"if": [true, " one"]}
    {"if": [true, "a&b"]}
    {"if": [true, "quo\"te"]}
    {"if": [true, "tab\t"]}
    {"if": [true, "é"]}
    {"if": [true, ""]}
    {"if": [true, 1.0]}
    {"if": [true, 2.5]}
    {"if": [true, 1e-7]}
    {"if": [true, 0.000001]}
    {"if": [true, 1e21]}
    {"if": [true, 1e20]}
    {"if": [true, [1, 2]]}
    {"if": [true, []]}
    {"if": [true, "one", {"in": [1, "x"]}]}
    {"if": [false, {"in": [1, "x"]}, "one"]}
    {"or": [true, {"in": [1, "x"]}]}
    {"and": [false, {"in": [1, "x"]}]}
    {"and": ["one", {"in": [1, "x"]}]}
    {"or": [0, "", [], null, "one"]}
    {"and": [1, "a", "two"]}
    {"var": "plan"}
    {"var": "roles"}
    {"var": "nothing"}
    {"var": ["nothing", "one"]}
    {"var": ["plan.x", "one"]}
    {"var": ["roles.1", "one"]}
    {"var": ["roles.2", "one"]}
    {"var": "$flagd.flagKey"}
    {"!": [[]]}
    {"!": []}
    {"!": [""]}
    {"!!": {"var": "roles"}}
    {"!": {"var": "nothing"}}
    {"==": [null, 0]}
    {"==": [null, ""]}
    {"==": [null, null]}
    {"==": [null, {"var": "nothing"}]}
    {"!=": [null, false]}
    {"==": ["", 0]}
    {"==": [" ", 0]}
    {"==": [" 1", 1]}
    {"==": ["1", true]}
    {"==": ["true", true]}
    {"==": [1, "x"]}
    {"!=": [1, "x"]}
    {"==": [[1], [1]]}
    {"==": [{"var": "roles"}, "admin"]}
    {"===": [1, 1.0]}
    {"===": [1, "1"]}
    {"!==": [null, null]}
    {"==": ["inf", "Infinity"]}
    {"==": [{"*": [1, 1]}, "1e0"]}
    {"<": ["1e999", 1]}
    {">": ["1e999", 1]}
    {">": ["inf", 1]}
    {"<": ["a", "b"]}
    {"<": ["10", "9"]}
    {"<": ["10", 9]}
    {"<": ["a", 1]}
    {">=": ["a", 1]}
    {"<": [null, 1]}
    {"<=": [null, 0]}
    {"<": [1, 2, 3]}
    {"<=": [1, 1, 0]}
    {"<": ["2024-01-01", "2024-01-01T00:00:00Z"]}
    {"==": ["2024-01-01", "2024-01-01T00:00:00Z"]}
    {"in": ["a", "cat"]}
    {"in": ["", "cat"]}
    {"in": [1, "1"]}
    {"in": [{"var": "nothing"}, "text"]}
    {"in": [1, ["1"]]}
    {"in": ["1", [1]]}
    {"in": [null, [null]]}
    {"in": [1, [null]]}
    {"in": [2, [[1, 3]]]}
    {"in": [2, [[3]]]}
    {"in": ["a", null]}
    {"in": [true, [1, true]]}
    {"cat": ["o", "ne"]}
    {"cat": [" one"]}
    {"cat": [" one", " "]}
    {"cat": ["one", null]}
    {"cat": ["one", true]}
    {"cat": [1]}
    {"cat": [2.5, ""]}
    {"cat": [1e20, ""]}
    {"substr": ["xone", 1]}
    {"substr": ["xonex", 1, 3]}
    {"substr": ["xonex", 1, -1]}
    {"substr": ["xone", -3]}
    {"substr": ["xéox", 1, 2]}
    {"substr": ["one", 9]}
    {"substr": ["one", -9]}
    {"substr": ["one", -9, 1]}
    {"substr": ["one", 3]}
    {"substr": ["one", 0, 9]}
    {"substr": ["one", 0, -2]}
    {"substr": ["one", 2, -2]}
    {"substr": ["one", 0, -9]}
    {"substr": ["one", 0.9, "1.9"]}
    {"substr": ["one", "x"]}
    {"substr": [null, 0]}
    {"substr": [true, 0]}
    {"substr": [2.5, -3]}
    {"substr": ["one", null]}
    {"+": ["1", 0]}
    {"+": ["x", 1]}
    {"+": [true, 1]}
    {"+": [null, 1]}
    {"+": ["1"]}
    {"-": [-1]}
    {"-": [3, 1, 1]}
    {"/": [5, 2]}
    {"%": [7, 3]}
    {"%": [-7, 3]}
    {"%": [5.5, 3]}
    {"*": ["0.5", 2]}
    {"max": [1, "0.5"]}
    {"min": [1, 2.5]}
    {"max": [1, null]}
    {"merge": [1, [2]]}
    {"merge": [[], []]}
    {"missing": ["plan"]}
    {"missing": ["nothing"]}
    {"missing_some": [1, ["plan", "nothing"]]}
    {"missing_some": [2, ["plan", "nothing"]]}
    {"starts_with": [{"var": "nothing"}, "a"]}
    {"starts_with": ["abc", ""]}
    {"ends_with": ["abc", "bc"]}
    {"sem_ver": [{"var": "plan"}, "=", "1.0.0"]}
    {"sem_ver": ["1.2.3+a", "=", "1.2.3+b"]}
    {"sem_ver": ["1.0.0-rc.2", "<", "1.0.0-rc.10"]}
    {"sem_ver": ["1.0.0-rc", "^", "1.9.0"]}
    {"sem_ver": [1, "~", "v1.0.7"]}
    {"fractional": [["one"]]}
    {"fractional": [["one", 0], ["two", 1]]}
    {"fractional": [["one", 0]]}
    {"fractional": [["one", 2147483647], ["two", 1]]}
    {"fractional": ["who", ["one", 1], ["1", 1]]}
    {"fractional": [{"var": "nothing"}, ["one", 1], ["1", 1]]}
    {"fractional": [{"var": "plan"}, ["one", 1], ["1", 1]]}
    {"fractional": [{"+": [1, 2]}, ["one", 1], ["two", 1]]}
    {"fractional": [{"var": "roles"}, ["one", 1]]}
    {"fractional": [[true, 1]]}
    {"fractional": [[null, 1]]}
    {"fractional": [[{"var": "roles"}, 1]]}
    {"fractional": [["one", {"var": "plan"}]]}
    {"fractional": [["one", {"var": "nothing"}]]}
    {"fractional": [["one", {"/": [1, 2]}]]}
    {"fractional": [["two", {"-": [1, 9]}], ["one", 1]]}
    {"fractional": [["two", {"*": [-1e200, 1e100]}], ["one", 1]]}
    {"some": [{"var": "roles"}, {"==": [{"var": ""}, "admin"]}]}
    {"all": [[], {"==": [{"var": ""}, "admin"]}]}
    {"none": [{"var": "nothing"}, {"==": [{"var": ""}, "admin"]}]}
    {"filter": [{"var": "roles"}, {"!=": [{"var": ""}, "admin"]}]}
"#;

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

    /// One to so many.
    fn some<T>(&mut self, most: usize, mut make: impl FnMut(&mut Self) -> T) -> Vec<T> {
        (0..=self.below(most)).map(|_| make(self)).collect()
    }
}

/// One question: a set, the flag, and who asks.
struct Case {
    definitions: Value,
    key: String,
    context: Context,
}

impl Case {
    /// The question as the oracle takes it.
    fn asked(&self) -> Value {
        let Context { targeting_key, plan, org_id, roles, tenant_id } = &self.context;
        json!({"definitions": self.definitions.to_string(), "key": self.key, "context": {
            "targetingKey": targeting_key, "plan": plan, "orgId": org_id, "roles": roles, "tenantId": tenant_id,
        }})
    }

    /// Our answer in the oracle's words.
    fn answered(&self) -> Value {
        let set = FlagSet::parse(&self.definitions.to_string())
            .unwrap_or_else(|fault| panic!("{fault:?}: {}", self.definitions));
        let now = Timestamp::from_second(1_800_000_000).unwrap();
        let ours = set.evaluate(&self.key, &self.context, &BTreeMap::new(), now);
        let error = ours.error_code.map_or("", ErrorCode::as_str);
        json!({"value": ours.value, "variant": ours.variant, "reason": ours.reason.as_str(), "error": error})
    }
}

fn context(dice: &mut Dice) -> Context {
    let user = format!("{}", 100_000_000_000_000_000 + dice.below(1_000_000));
    let roles = [&[][..], &["user"], &["user", "admin"], &["7"]];
    Context {
        targeting_key: if dice.below(12) == 0 { String::new() } else { user },
        plan: dice.of(&["free", "pro", "enterprise"]).to_owned(),
        org_id: dice.of(&["acme", "umbrella", "user:1", "42", "2024-01-01"]).to_owned(),
        roles: dice.of(&roles).iter().map(|role| (*role).to_owned()).collect(),
        tenant_id: "tenant_01890a5d-ac96-774b-bcce-b302099a8057".to_owned(),
    }
}

/// Something that is a text.
fn text(dice: &mut Dice) -> Value {
    match dice.below(9) {
        0 | 1 => json!({"var": "orgId"}),
        2 => json!({"var": [dice.of(&["nothing", "orgId"]), "pro"]}),
        3 => json!({"var": "$flagd.flagKey"}),
        4 => json!({"cat": [{"var": "plan"}, dice.of(&[" ", "-", ""]), {"var": "orgId"}, dice.below(3)]}),
        5 => json!({"substr": [{"var": "tenantId"}, dice.below(9), dice.below(9) + 1]}),
        6 => json!(dice.of(&["pro", "free", "acme", "flag-0", "pro-acme", "", "42", "2024-01-01T00:00:00Z"])),
        _ => json!({"var": "plan"}),
    }
}

/// Something that is a number or a text in its place.
fn number(dice: &mut Dice, depth: u32) -> Value {
    match dice.below(if depth == 0 { 3 } else { 6 }) {
        0 => json!(dice.below(5)),
        1 => dice.of(&[json!(0.5), json!(-3), json!(1e21), json!("2"), json!("2.5"), json!("much")]),
        2 => json!({"+": dice.some(3, |dice| dice.below(4))}),
        3 => json!({dice.of(&["-", "max", "min"]): dice.some(3, |dice| number(dice, depth - 1))}),
        4 => json!({"*": [number(dice, depth - 1), number(dice, depth - 1)]}),
        // By something that is never zero: see the crate.
        _ => {
            json!({dice.of(&["/", "%"]): [number(dice, depth - 1), dice.of(&[json!(2), json!("4"), json!(-3)])]})
        }
    }
}

/// Something of whatever kind, which may not go together with the other side.
fn anything(dice: &mut Dice) -> Value {
    match dice.below(9) {
        0 => {
            dice.of(&[json!(null), json!(true), json!(false), json!([]), json!(["a"]), json!(""), json!(" ")])
        }
        1 => json!({"var": dice.of(&["roles", "nothing", "roles.0", "roles.9", "plan.x", "$flagd.flagKey"])}),
        2 | 3 => number(dice, 1),
        4 => json!({"merge": [dice.of(&[json!("a"), json!([1, 2])]), {"var": "roles"}]}),
        5 => json!({"missing": dice.some(2, |dice| dice.of(&["plan", "nothing", "roles.0"]))}),
        6 => json!({"missing_some": [1, dice.some(2, |dice| dice.of(&["plan", "nothing", "email"]))]}),
        _ => text(dice),
    }
}

/// A question to every role. In it the operators are the engine's, and stay within what it shares with flagd: both sides
/// are texts, and `var` finds the element. See the crate.
fn of_roles(dice: &mut Dice) -> Value {
    let ask = match dice.below(3) {
        0 => json!({"==": [{"var": ""}, dice.of(&["admin", "user"])]}),
        1 => json!({"in": [{"var": ""}, ["admin", "owner"]]}),
        _ => json!({"starts_with": [{"var": ""}, dice.of(&["a", "u"])]}),
    };
    match dice.below(4) {
        0 => json!({"!!": [{"filter": [{"var": "roles"}, ask]}]}),
        1 => json!({"in": ["admin!", {"map": [{"var": "roles"}, {"cat": [{"var": ""}, "!"]}]}]}),
        2 => {
            let count = json!({"reduce": [{"var": "roles"}, {"+": [1, {"var": "accumulator"}]}, 0]});
            json!({">=": [count, dice.below(3)]})
        }
        _ => json!({dice.of(&["some", "all", "none"]): [{"var": "roles"}, ask]}),
    }
}

fn condition(dice: &mut Dice, depth: u32) -> Value {
    match dice.below(if depth == 0 { 13 } else { 18 }) {
        0 | 1 => json!({dice.of(&["==", "===", "!=", "!=="]): [anything(dice), anything(dice)]}),
        2 => json!({dice.of(&["==", "!="]): [text(dice), text(dice)]}),
        3 => json!({"in": [anything(dice), {"var": "roles"}]}),
        4 => {
            let places = [json!(["pro", 2, "acme"]), json!([[1, 3]]), json!("pro acme")];
            json!({"in": [anything(dice), dice.of(&places)]})
        }
        5 => {
            let part = dice.of(&["p", "user:", "acme", "", "e"]);
            json!({dice.of(&["starts_with", "ends_with"]): [text(dice), part]})
        }
        6 => json!({"ends_with": [{"var": dice.of(&["nothing", "roles", "orgId"])}, "e"]}),
        7 => {
            let versions =
                ["1.2.3", "v1.2", "1", "1.3.0", "2.0.0-rc.1", "2.0.0-rc.1+b", "1.2.3+b.7", "0.9.9", "V2.0.0"];
            let range = dice.of(&["=", "!=", "<", "<=", ">=", ">", "^", "~"]);
            json!({"sem_ver": [dice.of(&versions), range, dice.of(&versions)]})
        }
        8 => json!({"sem_ver": [{"var": dice.of(&["plan", "nothing", "orgId", "roles.0"])}, ">", "1.2.3"]}),
        9 | 10 => {
            let mut sides = vec![anything(dice), anything(dice)];
            let operator = dice.of(&["<", "<=", ">", ">="]);
            if operator.starts_with('<') && dice.below(3) == 0 {
                sides.push(number(dice, 1));
            }
            json!({operator: sides})
        }
        11 => json!({">": [{"var": "$flagd.timestamp"}, dice.of(&[0_u64, 1_700_000_000, 9_000_000_000])]}),
        12 => of_roles(dice),
        13 => json!({dice.of(&["!", "!!"]): anything(dice)}),
        14 => json!({"!": [condition(dice, depth - 1)]}),
        15 => json!({"$ref": dice.of(&["of-pro", "of-admins", "never"])}),
        _ => json!({dice.of(&["and", "or"]): dice.some(3, |dice| condition(dice, depth - 1))}),
    }
}

fn fractional(dice: &mut Dice) -> Value {
    let weights = [json!(1), json!(25), json!(0), json!(-5), json!({"+": [1, 2]}), json!(3.0)];
    let mut parts = dice.some(3, |dice| match dice.below(5) {
        0 => json!([dice.of(&VARIANTS)]),
        1 => {
            let variant = json!({"if": [condition(dice, 1), dice.of(&VARIANTS), null]});
            json!([variant, dice.of(&weights)])
        }
        _ => json!([dice.of(&VARIANTS), dice.of(&weights)]),
    });
    match dice.below(5) {
        0 => {
            let who = json!({"var": dice.of(&["targetingKey", "orgId"])});
            parts.insert(0, json!({"cat": [{"var": "$flagd.flagKey"}, who]}));
        }
        // A number, such as the time, is no text and thus never hashed.
        1 => {
            let names = ["plan", "nothing", "targetingKey", "roles", "$flagd.timestamp"];
            parts.insert(0, json!({"var": dice.of(&names)}));
        }
        _ => {}
    }
    json!({"fractional": parts})
}

/// A rule; now and then it names a variant that is not there, or makes what is no text.
fn rule(dice: &mut Dice) -> Value {
    match dice.below(12) {
        0..3 => fractional(dice),
        3 => condition(dice, DEPTH),
        4 => {
            let made = anything(dice);
            if made.is_object() { made } else { json!({"if": [condition(dice, 1), made]}) }
        }
        5 => {
            let inner = fractional(dice);
            json!({"if": [condition(dice, DEPTH), dice.of(&VARIANTS), inner]})
        }
        6..9 => json!({"if": [
            condition(dice, DEPTH), dice.of(&VARIANTS), condition(dice, DEPTH), dice.of(&VARIANTS), null,
        ]}),
        9 => {
            let inner = json!({"if": [condition(dice, 1), dice.of(&VARIANTS)]});
            json!({"if": [condition(dice, DEPTH), inner]})
        }
        _ => json!({"if": [condition(dice, DEPTH), dice.of(&VARIANTS), dice.of(&VARIANTS)]}),
    }
}

fn flag(dice: &mut Dice) -> Value {
    let variants = match dice.below(5) {
        0 => json!({"one": true, "two": false, "three": true}),
        1 => json!({"one": 1, "two": 2.5, "three": -3, "1": 100, "1e+21": 7}),
        2 => json!({"one": {"a": [1]}, "two": {}, "three": {"b": null}}),
        3 => json!({"one": "first", "two": "second", "true": "yes", "false": "no", "null": "none"}),
        _ => json!({"one": "first", "two": "second", "three": ""}),
    };
    let mut flag = json!({"state": "ENABLED", "variants": variants, "defaultVariant": "two"});
    match dice.below(8) {
        0 => flag["defaultVariant"] = Value::Null,
        1 => drop(flag.as_object_mut().unwrap().remove("defaultVariant")),
        _ => {}
    }
    match dice.below(20) {
        0 => {}
        1 => flag["targeting"] = json!({}),
        2 => flag["state"] = "DISABLED".into(),
        _ => flag["targeting"] = rule(dice),
    }
    if dice.below(9) == 0 {
        flag["metadata"] = json!({"team": "a", "since": 7, "kept": true});
    }
    flag
}

fn case(dice: &mut Dice) -> Case {
    let flags: Map<_, _> =
        (0..).zip(dice.some(2, flag)).map(|(index, flag): (u8, _)| (format!("flag-{index}"), flag)).collect();
    let evaluators = json!({
        "of-pro": {"==": [{"var": "plan"}, "pro"]},
        "of-admins": {"in": ["admin", {"var": "roles"}]},
        "never": {"===": [1, 2]},
    });
    let key = if dice.below(50) == 0 { "absent" } else { "flag-0" };
    Case {
        definitions: json!({"flags": flags, "$evaluators": evaluators}),
        key: key.to_owned(),
        context: context(dice),
    }
}

/// What flagd answers to each question.
fn ask(questions: &[Value]) -> Vec<Value> {
    let tools = env::var_os("KOMBIFY_TOOLS").map_or_else(
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
        writeln!(lines, "{question}").unwrap();
    }
    let writer = thread::spawn(move || asked.write_all(lines.as_bytes()));
    let answers: Vec<_> =
        BufReader::new(answers).lines().map(|line| serde_json::from_str(&line.unwrap()).unwrap()).collect();
    writer.join().unwrap().unwrap();
    assert!(child.wait().unwrap().success());
    assert_eq!(answers.len(), questions.len(), "the oracle answers each question");
    answers
}

/// flagd's answer in our words: without a value there is none, whatever Go has in its place, and flagd's servers say
/// DEFAULT where its evaluator says FALLBACK.
fn in_our_words(theirs: &Value) -> Value {
    assert_eq!(theirs["refused"], "", "{theirs}");
    let has_none = theirs["error"] != "" || theirs["reason"] == "DISABLED" || theirs["reason"] == "FALLBACK";
    let reason = if theirs["reason"] == "FALLBACK" { json!("DEFAULT") } else { theirs["reason"].clone() };
    let value = if has_none { Value::Null } else { theirs["value"].clone() };
    json!({"value": value, "variant": theirs["variant"], "reason": reason, "error": theirs["error"]})
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

/// Compares the answers to all cases; gives how often flagd gave each reason and error.
fn compare(cases: &[Case]) -> BTreeMap<String, usize> {
    let theirs = ask(&cases.iter().map(Case::asked).collect::<Vec<_>>());
    let mut seen = BTreeMap::<String, usize>::new();
    let mut disagreements = Vec::new();
    for (case, theirs) in cases.iter().zip(&theirs) {
        let (ours, theirs) = (case.answered(), in_our_words(theirs));
        let kind = format!("{} {}", theirs["reason"].as_str().unwrap(), theirs["error"].as_str().unwrap());
        *seen.entry(kind.trim().to_owned()).or_default() += 1;
        if !same(&ours, &theirs) {
            disagreements.push(format!("{}\n  ours   {ours}\n  flagd  {theirs}", case.asked()));
        }
    }
    assert!(
        disagreements.is_empty(),
        "{} of {}; the first:\n{}",
        disagreements.len(),
        cases.len(),
        disagreements[..disagreements.len().min(SHOWN)].join("\n")
    );
    seen
}

#[test]
fn every_flag_is_evaluated_as_flagd_evaluates_it() {
    let mut dice = Dice(7);
    let cases: Vec<_> = (0..CASES).map(|_| case(&mut dice)).collect();
    let seen = compare(&cases);
    for kind in [
        "STATIC",
        "DEFAULT",
        "TARGETING_MATCH",
        "DISABLED",
        "ERROR FLAG_NOT_FOUND",
        "ERROR PARSE_ERROR",
        "ERROR GENERAL",
    ] {
        assert!(seen.get(kind).is_some_and(|count| *count >= 20), "too few of {kind}: {seen:?}");
    }
}

#[test]
fn corners_are_evaluated_as_flagd_evaluates_them() {
    let names = [
        "one",
        "two",
        "true",
        "false",
        "1",
        "a&b",
        "a\\u0026b",
        "quo\"te",
        "quo\\te",
        "null",
        "[1,2]",
        "1e-7",
        "0.000001",
        "2.5",
        "é",
        "pro",
        " one",
        "1e+21",
        "100000000000000000000",
        "[user,admin]",
        "[]",
        "tab\\t",
        "-1",
        "[nothing]",
        "[user]",
        "o",
        "éo",
    ];
    let variants: Map<_, _> = names.iter().map(|name| ((*name).to_owned(), json!(name))).collect();
    let mut cases = Vec::new();
    for rule in read(CORNERS) {
        for targeting_key in ["user", ""] {
            let flag = json!({
                "state": "ENABLED", "variants": variants, "defaultVariant": "two", "targeting": rule,
            });
            let context = Context {
                targeting_key: targeting_key.to_owned(),
                plan: "pro".to_owned(),
                org_id: "acme".to_owned(),
                roles: vec!["user".to_owned(), "admin".to_owned()],
                tenant_id: "tenant".to_owned(),
            };
            let definitions = json!({"flags": {"flag": flag}});
            cases.push(Case { definitions, key: "flag".to_owned(), context });
        }
    }
    compare(&cases);
}

/// The values that stand in the lines.
fn read(lines: &str) -> Vec<Value> {
    lines.trim().lines().map(|line| line.parse().unwrap_or_else(|cause| panic!("{line}: {cause}"))).collect()
}

#[test]
fn what_flagds_schema_refuses_is_refused() {
    let flags = r#"
        {"state": "on", "variants": {"on": true}}
        {"state": "ENABLED"}
        {"state": "ENABLED", "variants": {}}
        {"state": "ENABLED", "variants": {"off": 1, "on": "yes"}}
        {"state": "ENABLED", "variants": {"off": [1]}}
        {"state": "ENABLED", "variants": {"off": null}}
        {"state": "ENABLED", "variants": {"off": 1, "": 2}}
        {"state": "ENABLED", "variants": {"off": 1}, "defaultVariant": 1}
        {"state": "ENABLED", "variants": {"off": 1}, "metadata": {"a": []}}
        {"state": "ENABLED", "variants": {"off": 1}, "metadata": []}
    "#;
    let rules = r#"
        null
        "on"
        {"iff": []}
        {"if": [true], "or": [true]}
        {"if": []}
        {"if": {"var": "plan"}}
        {"==": [1]}
        {"==": [1, 2, 3]}
        {"<": [1, 2, 3, 4]}
        {"*": [1]}
        {"if": [{"unknown": 1}, "on"]}
        {"if": [{}, "on"]}
        {"var": "$flagd.plan"}
        {"missing": [1]}
        {"missing_some": [["a"], 1]}
        {"starts_with": ["a"]}
        {"starts_with": ["a", 1]}
        {"sem_ver": ["1.2.3", "=", "1.2.x"]}
        {"sem_ver": ["1.2.3", "=>", "1.2.3"]}
        {"reduce": [[1], {"+": [1]}]}
        {"fractional": "on"}
        {"fractional": [["on", 1, 2], ["off", 1]]}
        {"fractional": [["on", "much"], ["off", 1]]}
        {"fractional": [["on", 1], "off"]}
    "#;
    let sets = r#"
        []
        {}
        {"flags": 1}
        {"flags": {"": {"state": "ENABLED", "variants": {"on": true}}}}
        {"flags": {}, "$evaluators": {"": {"!": 1}}}
        {"flags": {}, "$evaluators": {"a": {"iff": []}}}
        {"flags": {}, "$evaluators": []}
        {"flags": {}, "metadata": {"version": null}}
    "#;
    let of_flags = read(flags).into_iter().map(|flag| json!({"flags": {"flag": flag}}));
    let of_rules = read(rules).into_iter().map(|rule| {
        let flag = json!({"state": "ENABLED", "variants": {"on": true, "off": false}, "targeting": rule});
        json!({"flags": {"flag": flag}})
    });
    let wrong: Vec<_> = read(sets).into_iter().chain(of_flags).chain(of_rules).collect();
    let question =
        |definitions: &Value| json!({"definitions": definitions.to_string(), "key": "flag", "context": {}});
    let theirs = ask(&wrong.iter().map(question).collect::<Vec<_>>());
    for (definitions, theirs) in wrong.iter().zip(&theirs) {
        assert_eq!(theirs["valid"], false, "the schema takes {definitions}");
        assert!(FlagSet::parse(&definitions.to_string()).is_err(), "{definitions}");
    }
}
