//! The registry in a browser: what there is, what one is, and a stack made of it.

use crate::house::{House, Module};
use crate::peer::Browser;

#[tokio::test(flavor = "multi_thread")]
async fn a_person_chooses_a_kit_and_makes_a_stack_of_it() {
    let house = House::up();
    let pictures = tempfile::tempdir().unwrap();
    let [cloud, stack] = [Module::Cloud, Module::Stack].map(|module| house.url(module).to_owned());
    let mut browser = Browser::open();
    crate::homelab::browser::sign_up(&mut browser, &house, "Dora New", "dora@example.com");
    browser.fill("Slug", "home");
    browser.fill("Name", "Home");
    browser.press("Create tenant");
    browser.wait_for("#tenants");

    browser.follow("StackKits");
    browser.wait_for("#kits");
    assert_eq!(browser.count("#kits tbody tr"), 6);
    assert_eq!(browser.count("#kits tbody a"), 2, "what is above the plan is no link");
    assert!(browser.text("#kits").contains("pro (above yours)"));
    browser.picture(pictures.path(), "cloud-kits");
    browser.follow("Private DNS");
    browser.wait_for("#readme");
    assert!(browser.text("main").contains("docker.io/adguard/adguardhome"));
    assert_eq!(browser.problems(), [""; 0]);
    assert_eq!(browser.go(&format!("{cloud}/kit?id=media")), 403);
    assert!(browser.text("[role=alert]").contains("the kit media needs the plan pro"));
    assert_eq!(browser.go(&format!("{cloud}/kit?id=no-such-kit")), 404);
    browser.problems();

    assert_eq!(browser.go(&format!("{cloud}/open?tenant=home")), 200);
    browser.wait_for_url(&format!("{stack}/"));
    browser.follow("Choose a StackKit");
    browser.wait_for("#kits");
    browser.follow("Private DNS");
    browser.wait_for("#readme");
    browser.fill("Name", "home-dns");
    browser.fill(
        "Spec (YAML)",
        "name: home-dns\nkit: dns\nversion: ^1.0\nnodes:\n  - {name: pi, ip: 127.0.0.1}\n",
    );
    browser.press("Create stack");
    browser.wait_for("[role=alert]");
    assert!(browser.text("[role=alert]").contains("nodes[0].ip: RESERVED_RANGE at line 5, column 20"));
    browser.picture(pictures.path(), "stack-refused");
    browser.fill(
        "Spec (YAML)",
        "name: home-dns\nkit: dns\nversion: ^1.0\nnodes:\n  - {name: pi, ip: 192.168.1.10}\n",
    );
    browser.press("Create stack");
    browser.wait_for("#stacks");
    assert!(browser.text("#stacks tbody tr").contains("dns 1.0.0"));
    browser.problems();

    // Nobody is shown a kit without a session.
    let answer = house.call_at(Module::Stack, "GET", "/kits").send().await;
    assert_eq!(answer.status, 401);
    let answer = house.call_at(Module::Cloud, "GET", "/kits").send().await;
    assert!(answer.status == 200 && answer.text.contains("Sign in") && !answer.text.contains("Private DNS"));
}
