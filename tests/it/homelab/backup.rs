//! `kombify backup` copies what is in use, and the copy is a homelab again.

use std::fs;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use serde_json::json;
use tokio::task::JoinSet;

use super::{files, stack, tenant};
use crate::house::House;

#[tokio::test(flavor = "multi_thread")]
async fn a_mesh_starts_on_the_copy_of_one_that_goes_on() {
    let mut house = House::fresh().without_limits();
    house.start();
    let carol = house.token("carol");
    tenant(&house, &carol, "carols").await;
    let media = stack(&house, &carol, "media").await.data().clone();

    // Somebody works while the copy is made.
    let (stop, outside) = (Arc::new(AtomicBool::new(false)), house.outside());
    let mut workers = JoinSet::new();
    let (stopped, token) = (Arc::clone(&stop), carol.clone());
    workers.spawn(async move {
        let mut renamed = 0;
        while !stopped.load(Ordering::Relaxed) {
            let made = outside.call("POST", "/v1/stacks").by(&token).json(&json!({"name": "passing"}));
            let path = format!("/v1/stacks/{}", made.send().await.data()["id"].as_str().unwrap());
            outside.call("DELETE", &path).by(&token).send().await;
            renamed += 1;
        }
        renamed
    });
    let copy = house.data().with_file_name("copy");
    let backup = |house: &House| house.run(&["backup", copy.to_str().unwrap()], &[]);
    let done = backup(&house);
    stop.store(true, Ordering::Relaxed);
    assert!(workers.join_all().await[0] > 0);
    assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
    let said = String::from_utf8(done.stdout).unwrap();
    assert!(said.contains("copy: 4 databases, "), "{said}");
    assert!(!house.log().contains("\"level\":\"error\""));
    assert_eq!(files(&copy.join("stack")).len(), 1);

    let again = backup(&house);
    let said = String::from_utf8(again.stderr).unwrap();
    assert!(!again.status.success() && said.contains("is there already"), "{said}");

    // What was made since is not in the copy; everything else is, and everybody is who they were.
    stack(&house, &carol, "later").await.data();
    assert!(house.terminate().success());
    fs::rename(house.data(), house.data().with_file_name("lost")).unwrap();
    fs::rename(&copy, house.data()).unwrap();
    house.start();
    let listed = house.all(&carol, "/v1/stacks").await;
    assert!(listed.contains(&media), "{listed:?}");
    assert!(listed.iter().all(|stack| stack["name"] != "later"), "{listed:?}");
    stack(&house, &house.token("carol"), "new").await.data();
}
