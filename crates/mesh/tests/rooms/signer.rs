//! The key of a module: made once, kept for its owner, good for short tokens and for proofs.

use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use kombify_core::Code;
use kombify_mesh::identity::service_token::{
    LIFETIME_SECONDS, Signer, ephemeral, key_id, proof_holds, published,
};
use kombify_mesh::identity::verifier::Verified;
use serde_json::{Value, json};

use crate::mint::{House, base64};
use crate::support::{Counted, Manual, service};

fn signer(clock: &Arc<Manual>) -> Signer {
    ephemeral(service("cloud"), clock.clone(), &Counted::default()).unwrap()
}

/// The header or the claims of a token.
fn part(token: &str, index: usize) -> Value {
    serde_json::from_slice(&URL_SAFE_NO_PAD.decode(token.split('.').nth(index).unwrap()).unwrap()).unwrap()
}

#[test]
fn a_token_says_who_calls_whom_and_for_how_long() {
    let house = House::new();
    let signer = signer(&house.clock);
    let token = signer.token("service:admin").unwrap();
    assert_eq!(part(&token, 0)["kid"], signer.public().kid);
    assert_eq!(part(&token, 0)["alg"], "EdDSA");
    let now = house.now();
    let claims = json!({
        "iss": "kombify-mesh",
        "sub": "service:cloud/local",
        "aud": "service:admin",
        "iat": now,
        "exp": now + LIFETIME_SECONDS,
    });
    assert_eq!(part(&token, 1), claims);
}

#[tokio::test]
async fn a_token_is_good_where_the_key_is_registered() {
    let house = House::new();
    let signer = signer(&house.clock);
    let token = signer.token("service:admin").unwrap();
    let key = published(signer.public()).unwrap();
    house.mesh.publish_all(vec![(serde_json::to_value(&key.jwk).unwrap(), key.owner)]);
    let Verified::Service(found) = house.verifier.verify(&token).await.unwrap() else { panic!("a user") };
    assert_eq!(*found, service("cloud"));
}

#[test]
fn a_token_is_used_again_only_while_it_is_good_for_a_while() {
    let clock = Manual::new();
    let signer = signer(&clock);
    let first = signer.token("service:admin").unwrap();
    let other = signer.token("service:stack").unwrap();
    assert_ne!(first, other, "a token is for one module");
    clock.advance(39);
    assert_eq!(signer.token("service:admin").unwrap(), first);
    assert_eq!(signer.token("service:stack").unwrap(), other);
    clock.advance(1);
    let second = signer.token("service:admin").unwrap();
    assert_ne!(second, first);
    assert_eq!(part(&second, 1)["iat"], part(&first, 1)["iat"].as_i64().unwrap() + 40);
}

#[test]
fn a_key_is_made_once_and_is_for_its_owner_only() {
    use std::os::unix::fs::PermissionsExt as _;
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("keys").join("cloud.key");
    let open = || Signer::open(&path, service("cloud"), Manual::new());
    let made = open().unwrap().public();
    assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
    assert_eq!(open().unwrap().public(), made, "a restart keeps the key");
    assert_eq!(made.service, service("cloud"));
    assert_eq!(made.kid, key_id(&made.public_key).unwrap());

    std::fs::write(&path, b"not a key").unwrap();
    assert_eq!(open().err().unwrap().code(), Code::InternalError);
    assert_eq!(std::fs::read(&path).unwrap(), b"not a key", "what is not understood is not overwritten");
}

#[test]
fn a_proof_holds_for_its_own_key_service_and_text_only() {
    let clock = Manual::new();
    let ids = Counted::default();
    let signers = ["cloud", "stack"].map(|module| ephemeral(service(module), clock.clone(), &ids).unwrap());
    let [cloud, stack] = signers.each_ref().map(Signer::public);
    let proof = signers[0].prove(&cloud.service, &cloud.public_key);
    assert!(proof_holds(&cloud.public_key, &proof, &cloud.service, &cloud.public_key));
    for (by, proof, service, public_key) in [
        (&stack.public_key, &proof, &cloud.service, &cloud.public_key),
        (&cloud.public_key, &proof, &stack.service, &cloud.public_key),
        (&cloud.public_key, &proof, &cloud.service, &stack.public_key),
        (&cloud.public_key, &String::new(), &cloud.service, &cloud.public_key),
        (&cloud.public_key, &"not base64url!".to_owned(), &cloud.service, &cloud.public_key),
        (&String::new(), &proof, &cloud.service, &cloud.public_key),
    ] {
        assert!(!proof_holds(by, proof, service, public_key), "{by} {proof} {service} {public_key}");
    }

    let replaced = signers[1].prove(&cloud.service, &cloud.public_key);
    assert!(
        proof_holds(&stack.public_key, &replaced, &cloud.service, &cloud.public_key),
        "the old key vouches"
    );
}

#[test]
fn a_key_id_is_the_thumbprint_of_a_whole_key() {
    // Source: RFC 8037, appendix A.3.
    let key = "11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo";
    assert_eq!(key_id(key).unwrap(), "kPrK_qmxVWaYVA9wwBF6Iuo3vVzz7TxHCTwXBygrS4k");
    for wrong in ["", "x", "not base64url!", &base64(&[1; 31]), &base64(&[1; 33]), &format!("{key}=")] {
        assert_eq!(key_id(wrong).unwrap_err().code(), Code::ValidationFailed, "{wrong}");
    }
}
