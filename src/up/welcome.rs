//! What `up` says when everything is there.

use std::io::Write as _;
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
///
/// # Errors
/// - if nobody reads it.
pub fn print(endpoints: &Endpoints, data: &Path, new_passwords: &Passwords) -> Result<(), Fault> {
    let mut out = std::io::stdout().lock();
    out.write_all(text(endpoints, data, new_passwords).as_bytes())?;
    Ok(out.flush()?)
}

fn text(endpoints: &Endpoints, data: &Path, new_passwords: &Passwords) -> String {
    let Endpoints { gateway, admin, cloud, idp } = endpoints;
    let passwords = if new_passwords.is_empty() {
        String::new()
    } else {
        let lines: Vec<_> =
            new_passwords.iter().map(|(login, password)| format!("  {login:<6} {password}")).collect();
        let lines = lines.join("\n");
        format!("These users are new. Their passwords are printed this once:\n\n{lines}\n\n")
    };
    format!(
        "kombify is up. Its data is in {data}. Ctrl-C ends it.

  gateway            {gateway}   JSON and gRPC, everything public
  admin              {admin}
  cloud              {cloud}
  identity provider  {idp}   for development only

{passwords}Next, in another shell:

  export TOKEN=$(target/debug/kombify token alice)
  curl -s -H \"authorization: Bearer $TOKEN\" {gateway}/v1/whoami
  curl -s -H \"authorization: Bearer $TOKEN\" {gateway}/v1/users/me
  curl -s -H \"authorization: Bearer $TOKEN\" -H 'content-type: application/json' \\
       -d '{{\"slug\": \"home\", \"name\": \"Home\"}}' {gateway}/v1/tenants
",
        data = data.display()
    )
}
