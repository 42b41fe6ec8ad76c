//! What `up` says when everything is there.

use std::path::Path;
use std::time::Duration;

use crate::Fault;
use crate::data::{Endpoints, Passwords};

/// How long the modules get to become ready.
const READY_TIMEOUT: Duration = Duration::from_secs(20);

/// Waits until every module is ready, and Cloud is in the mesh.
///
/// # Errors
/// - if a module is not ready in time.
pub async fn ready(endpoints: &Endpoints) -> Result<(), Fault> {
    let http = reqwest::Client::builder().timeout(Duration::from_secs(2)).build()?;
    let deadline = tokio::time::Instant::now() + READY_TIMEOUT;
    for (module, url) in [
        ("idp", &endpoints.idp),
        ("admin", &endpoints.admin),
        ("cloud", &endpoints.cloud),
        ("gateway", &endpoints.gateway),
    ] {
        loop {
            let answer = http.get(format!("{url}/ready")).send().await;
            if answer.is_ok_and(|answer| answer.status().is_success()) {
                break;
            }
            if tokio::time::Instant::now() > deadline {
                return Err(format!(
                    "{module} did not become ready within {} s: see the log above",
                    READY_TIMEOUT.as_secs()
                )
                .into());
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }
    Ok(())
}

/// Prints where things are, the passwords where they are new, and what to try.
pub fn print(endpoints: &Endpoints, data: &Path, new_passwords: &Passwords) {
    let Endpoints { gateway, admin, cloud, idp } = endpoints;
    println!("kombify is up. Its data is in {}. Ctrl-C ends it.\n", data.display());
    println!("  gateway            {gateway}   JSON and gRPC, everything public");
    println!("  admin              {admin}");
    println!("  cloud              {cloud}");
    println!("  identity provider  {idp}   for development only\n");
    if !new_passwords.is_empty() {
        println!("These users are new. Their passwords are printed this once:\n");
        for (login, password) in new_passwords {
            println!("  {login:<6} {password}");
        }
        println!();
    }
    println!("Next, in another shell:\n");
    println!("  export TOKEN=$(target/debug/kombify token alice)");
    println!("  curl -s -H \"authorization: Bearer $TOKEN\" {gateway}/v1/whoami");
    println!("  curl -s -H \"authorization: Bearer $TOKEN\" {gateway}/v1/users/me");
    println!("  curl -s -H \"authorization: Bearer $TOKEN\" -H 'content-type: application/json' \\");
    println!("       -d '{{\"slug\": \"home\", \"name\": \"Home\"}}' {gateway}/v1/tenants");
}
