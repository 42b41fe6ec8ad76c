//! The archive of a kit: the same for ever, in whole, in part, or not at all where it is there already.

use std::io::Read as _;

use aws_lc_rs::digest;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use kombify_kit::{Digest, Files};
use serde_json::json;

use super::ours;
use crate::house::{House, Module};

const PATH: &str = "/v1/stackkits/dns/download";

fn sha256(bytes: &[u8]) -> Vec<u8> {
    digest::digest(&digest::SHA256, bytes).as_ref().to_vec()
}

#[tokio::test(flavor = "multi_thread")]
async fn an_archive_is_the_same_at_every_door_and_is_what_its_digests_say() {
    let house = House::up();
    let alice = house.token("alice");
    let kit = house.call("GET", "/v1/stackkits/dns").by(&alice).send().await;
    let whole = house.call("GET", PATH).by(&alice).send().await;
    assert_eq!((whole.status, whole.header("content-type")), (200, "application/gzip"));
    assert_eq!(whole.header("content-length"), whole.bytes.len().to_string());
    assert_eq!(whole.header("accept-ranges"), "bytes");
    assert_eq!(whole.header("content-disposition"), "attachment; filename=\"dns-1.0.0.tar.gz\"");
    let repr = format!("sha-256=:{}:", STANDARD.encode(sha256(&whole.bytes)));
    assert_eq!(whole.header("repr-digest"), repr);
    assert!(whole.header("etag").starts_with("\"sha256-"), "{:?}", whole.headers);
    assert!(!whole.header("x-ratelimit-remaining").is_empty());

    // What it holds is the directory that we ship, and its digest is that of the uncompressed archive.
    let read = Files::from_tar_gz(whole.bytes.as_slice()).unwrap();
    assert_eq!(read, Files::from_directory(&ours().join("dns")).unwrap());
    let mut tar = Vec::new();
    flate2::read::GzDecoder::new(whole.bytes.as_slice()).read_to_end(&mut tar).unwrap();
    assert_eq!(kit.data()["digest"], Digest::of(&tar).to_string());

    let at_kits = house.call_at(Module::Kits, "GET", PATH).by(&alice).send().await;
    assert_eq!((&at_kits.bytes, at_kits.header("etag")), (&whole.bytes, whole.header("etag")));
    for module in [Module::Gateway, Module::Kits] {
        let method = "kombify.kits.v1.KitService/DownloadKit";
        let body = house.rpc(module, Some(&alice), method, &json!({"id": "dns"})).json();
        assert_eq!(body["contentType"], "application/gzip");
        assert_eq!(STANDARD.decode(body["data"].as_str().unwrap()).unwrap(), whole.bytes);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_there_is_not_sent_again_and_a_part_is_only_that_part() {
    let house = House::up();
    let alice = house.token("alice");
    for module in [Module::Gateway, Module::Kits] {
        let get = |headers: &[(&str, &str)]| {
            let call = house.call_at(module, "GET", PATH).by(&alice);
            headers.iter().fold(call, |call, (name, value)| call.header(name, value))
        };
        let whole = get(&[]).send().await;
        let (etag, length) = (whole.header("etag").to_owned(), whole.bytes.len());

        for tag in [etag.clone(), format!("\"other\", {etag}"), format!("W/{etag}"), "*".to_owned()] {
            let same = get(&[("if-none-match", &tag)]).send().await;
            assert_eq!(
                (same.status, same.bytes.len(), same.header("etag")),
                (304, 0, etag.as_str()),
                "{tag}"
            );
            assert_eq!(same.header("content-type"), "");
        }
        assert_eq!(get(&[("if-none-match", "\"other\"")]).send().await.status, 200);

        for (range, expected) in [
            ("bytes=0-9", 0..10),
            ("bytes=10-", 10..length),
            ("bytes=-7", length - 7..length),
            ("bytes=5-999999999", 5..length),
        ] {
            let part = get(&[("range", range)]).send().await;
            let said = format!("bytes {}-{}/{length}", expected.start, expected.end - 1);
            assert_eq!((part.status, part.header("content-range")), (206, said.as_str()), "{range}");
            assert_eq!(part.bytes, whole.bytes[expected], "{range}");
            assert_eq!(part.header("repr-digest"), whole.header("repr-digest"), "of the whole: RFC 9530");
        }
        // Two halves are the whole; what was interrupted goes on only where it is still the same.
        let half = format!("bytes={}-", length / 2);
        let rest = get(&[("range", &half), ("if-range", &etag)]).send().await;
        assert_eq!([&whole.bytes[..length / 2], &rest.bytes].concat(), whole.bytes);
        let other = get(&[("range", &half), ("if-range", "\"other\"")]).send().await;
        assert_eq!((other.status, other.bytes.len()), (200, length));

        let beyond = get(&[("range", &format!("bytes={length}-"))]).send().await;
        beyond.refused(416, "RANGE_NOT_SATISFIABLE");
        assert_eq!(beyond.header("content-range"), format!("bytes */{length}"));
        for odd in ["bytes=0-1,4-5", "lines=0-1", "bytes=9-1", "bytes=x"] {
            assert_eq!(get(&[("range", odd)]).send().await.status, 200, "{odd}");
        }
    }
    // The same in gRPC.
    let tag = house.call("GET", PATH).by(&alice).send().await.header("etag").to_owned();
    let (credential, header) = (format!("authorization: Bearer {alice}"), format!("if-none-match: {tag}"));
    let flags = ["-d", "{\"id\": \"dns\"}", "-H", &credential, "-H", &header];
    let same = house.grpcurl(Module::Gateway, &flags, &["kombify.kits.v1.KitService/DownloadKit"]).json();
    assert_eq!(same["data"], "", "{same}");
    let flags = ["-d", "{\"id\": \"dns\"}", "-H", &credential, "-H", "range: bytes=0-1"];
    let part = house.grpcurl(Module::Gateway, &flags, &["kombify.kits.v1.KitService/DownloadKit"]).json();
    assert_eq!(part["data"], STANDARD.encode([0x1f, 0x8b]));
}
