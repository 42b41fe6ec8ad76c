//! Every contract keeps to our rules, and every rule can fail.

use std::collections::BTreeSet;

use prost_reflect::DescriptorPool;

use crate::contract_rules::{
    Contracts, Findings, access, answers, bounds, comments, json, names, patches, paths,
};
use crate::descriptors;

type Rule = fn(&Contracts) -> Findings;

#[track_caller]
fn assert_kept(rule: Rule) {
    let contracts = Contracts { pool: descriptors().clone(), prefix: "kombify." };
    assert_eq!(rule(&contracts), Findings::new());
}

#[test]
fn every_method_says_who_may_call_it() {
    assert_kept(access);
}

#[test]
fn every_field_of_a_request_has_its_bound() {
    assert_kept(bounds);
}

#[test]
fn what_is_exposed_is_json_that_every_transcoder_renders_alike() {
    assert_kept(json);
}

#[test]
fn every_path_is_of_the_one_shape() {
    assert_kept(paths);
}

#[test]
fn lists_answer_data_and_meta_and_single_things_data() {
    assert_kept(answers);
}

#[test]
fn every_method_has_a_request_and_a_response_of_its_own() {
    assert_kept(names);
}

#[test]
fn a_partial_update_can_tell_absent_from_empty() {
    assert_kept(patches);
}

#[test]
fn everything_has_a_comment() {
    assert_kept(comments);
}

/// What `breach.proto` does wrong, rule by rule.
const BREACHES: [(Rule, &[&str]); 8] = [
    (
        access,
        &[
            "BareService.Silent",
            "BreachService.NoAccess",
            "BreachService.NoDoor",
            "BreachService.NoPlatformRole",
            "BreachService.NoRate",
            "BreachService.NoRole",
            "BreachService.NoService",
            "BreachService.OddRate",
            "BreachService.StrayTenant",
        ],
    ),
    (
        bounds,
        &[
            "Deep.text",
            "UnboundedRequest.endless",
            "UnboundedRequest.ignored",
            "UnboundedRequest.items",
            "UnboundedRequest.keys",
            "UnboundedRequest.loose",
            "UnboundedRequest.number",
            "UnboundedRequest.pairs",
            "UnboundedRequest.raw",
            "UnboundedRequest.text",
            "UnboundedRequest.texts",
            "UnboundedRequest.values",
            "UnboundedRequest.wide",
            "google.api.HttpBody.content_type",
            "google.api.HttpBody.data",
        ],
    ),
    (
        json,
        &[
            "OddThing.by_number",
            "OddThing.end_time",
            "OddThing.kind",
            "OddThing.left",
            "OddThing.length",
            "OddThing.maybe",
            "OddThing.raw",
            "OddThing.right",
            "OddThing.start",
            "OddThing.unsigned",
            "OddThing.wide",
            "OddThing.wides",
            "RawThing.body",
            "google.api.HttpBody.data",
        ],
    ),
    (
        paths,
        &[
            "BreachService.TwiceAgain",
            "BreachService.WrongBody",
            "BreachService.WrongBodyField",
            "BreachService.WrongGet",
            "BreachService.WrongRoot",
            "BreachService.WrongSegment",
            "BreachService.WrongVariable",
            "BreachService.WrongVerb",
        ],
    ),
    (
        answers,
        &[
            "BreachService.BareText",
            "BreachService.Extra",
            "BreachService.ListSingle",
            "BreachService.OddMeta",
        ],
    ),
    (
        names,
        &[
            "BreachService.Borrow",
            "BreachService.InternalRaw",
            "BreachService.TakeRaw",
            "WrongRootRequest",
            "google.api.HttpBody",
        ],
    ),
    (patches, &["BreachService.PatchNothing", "InnerUpdate.deep", "ThingUpdate.flags", "ThingUpdate.name"]),
    (comments, &["BareService.Silent", "Uncommented", "Uncommented.field"]),
];

#[test]
fn every_rule_finds_what_breaks_it_and_nothing_else() {
    let encoded: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/fixture/kombify.bin"));
    let contracts = Contracts { pool: DescriptorPool::decode(encoded).unwrap(), prefix: "kombify.breach." };
    for (rule, expected) in BREACHES {
        let findings = rule(&contracts);
        let found: BTreeSet<&str> = findings
            .iter()
            .map(|(element, _)| element.strip_prefix("kombify.breach.v1.").unwrap_or(element))
            .collect();
        assert_eq!(found.into_iter().collect::<Vec<_>>(), expected, "{findings:#?}");
    }
}
