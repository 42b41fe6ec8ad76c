//! What must hold for the keys of the mesh.

use super::{Pair, change, code};
use crate::mesh_key::{MAX_KEYS, MeshKey, MeshKeyStore};
use crate::{Code, Result, ServiceIdentity};

fn key(module: &str, instance: &str, kid: &str) -> MeshKey {
    MeshKey {
        kid: kid.to_owned(),
        service: ServiceIdentity { module: module.to_owned(), instance: instance.to_owned() },
        public_key: format!("public key of {kid}"),
    }
}

async fn register(pair: &Pair, key: &MeshKey, replaces: Option<&str>) -> Result<MeshKey> {
    pair.keys().register(&change("mesh.key.registered"), key, replaces).await
}

/// A registered key is there for everybody; the list is ordered by module and instance.
pub async fn a_key_is_found_by_its_service_and_listed_in_order(pair: &Pair) {
    let keys = [key("admin", "b", "k1"), key("cloud", "a", "k2"), key("cloud", "b", "k3")];
    for index in [1, 2, 0] {
        assert_eq!(register(pair, &keys[index], None).await.unwrap(), keys[index]);
    }
    assert_eq!(MeshKeyStore::list(&*pair.b).await.unwrap(), keys);
    assert_eq!(MeshKeyStore::find(&*pair.b, &keys[1].service).await.unwrap(), Some(keys[1].clone()));
    assert_eq!(pair.keys().find(&key("admin", "a", "").service).await.unwrap(), None);
}

/// Who registers the same key again gets it, without an audit row, whatever it is to replace.
pub async fn the_same_key_again_changes_nothing(pair: &Pair) {
    let first = key("cloud", "local", "k1");
    register(pair, &first, None).await.unwrap();
    for replaces in [None, Some("k1"), Some("k0")] {
        assert_eq!(register(pair, &first, replaces).await.unwrap(), first);
    }
    let rows = pair.rows_of("mesh.key.registered").await;
    assert_eq!((rows.len(), rows[0].target.as_str()), (1, "service:cloud/local"));
}

/// Another key needs the id of the one that it replaces, and of no other.
pub async fn a_key_is_replaced_only_in_the_name_of_the_present_one(pair: &Pair) {
    let (first, second) = (key("cloud", "local", "k1"), key("cloud", "local", "k2"));
    assert_eq!(code(register(pair, &first, Some("k0")).await), Code::Conflict);
    register(pair, &first, None).await.unwrap();
    for replaces in [None, Some("k0"), Some("k2")] {
        assert_eq!(code(register(pair, &second, replaces).await), Code::Conflict, "{replaces:?}");
    }
    assert_eq!(register(pair, &second, Some("k1")).await.unwrap(), second);
    assert_eq!(MeshKeyStore::list(&*pair.b).await.unwrap(), [second]);
    assert_eq!(code(register(pair, &first, None).await), Code::Conflict);
}

/// Whose a key is can be told by its id alone.
pub async fn two_services_never_share_a_key(pair: &Pair) {
    register(pair, &key("cloud", "local", "k1"), None).await.unwrap();
    assert_eq!(code(register(pair, &key("admin", "local", "k1"), None).await), Code::Conflict);
    assert_eq!(pair.keys().list().await.unwrap().len(), 1);
}

/// When there are as many keys as there may be, none is added; those that are there can still be replaced.
pub async fn the_mesh_is_bounded(pair: &Pair) {
    for number in 0..MAX_KEYS {
        let name = format!("k{number}");
        register(pair, &key("stack", &name, &name), None).await.unwrap();
    }
    assert_eq!(code(register(pair, &key("stack", "more", "more"), None).await), Code::Conflict);
    register(pair, &key("stack", "k0", "new"), Some("k0")).await.unwrap();
    assert_eq!(u32::try_from(pair.keys().list().await.unwrap().len()).unwrap(), MAX_KEYS);
}
