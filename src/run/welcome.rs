//! What `up` says when everything is there.

use std::fmt::Write as _;
use std::io::Write as _;
use std::path::Path;
use std::time::Duration;

use crate::Fault;
use crate::data::{Endpoints, Passwords};
use crate::run::Which;

/// How long the modules get to become ready.
const READY_TIMEOUT: Duration = Duration::from_secs(20);

/// Waits until these modules are ready.
///
/// # Errors
/// - if a module is not ready in time.
pub async fn ready(endpoints: &Endpoints, modules: &[Which]) -> Result<(), Fault> {
    let http = reqwest::Client::builder().timeout(Duration::from_secs(2)).build()?;
    let deadline = tokio::time::Instant::now() + READY_TIMEOUT;
    // Whoever calls others is asked after them.
    for module in modules.iter().rev() {
        let url = module.endpoint(endpoints);
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
pub fn print(
    endpoints: &Endpoints,
    data: &Path,
    modules: &[Which],
    new_passwords: &Passwords,
) -> Result<(), Fault> {
    let mut out = std::io::stdout().lock();
    out.write_all(text(endpoints, data, modules, new_passwords).as_bytes())?;
    Ok(out.flush()?)
}

fn text(endpoints: &Endpoints, data: &Path, modules: &[Which], new_passwords: &Passwords) -> String {
    let mut places = String::new();
    for module in modules {
        let _ = writeln!(
            places,
            "  {:<18} {}   {}",
            title(*module),
            module.endpoint(endpoints),
            purpose(*module)
        );
    }
    let passwords = if new_passwords.is_empty() {
        String::new()
    } else {
        let lines: Vec<_> =
            new_passwords.iter().map(|(login, password)| format!("  {login:<6} {password}")).collect();
        let lines = lines.join("\n");
        format!("These users are new. Their passwords are printed this once:\n\n{lines}\n\n")
    };
    let next = if modules.contains(&Which::Gateway) && modules.contains(&Which::Idp) {
        next(&endpoints.gateway, &endpoints.cloud)
    } else {
        String::new()
    };
    format!(
        "kombify is up. Its data is in {}. Ctrl-C ends it.\n\n{places}\n{passwords}{next}",
        data.display()
    )
}

const fn title(module: Which) -> &'static str {
    match module {
        Which::Gateway => "gateway",
        Which::Admin => "admin",
        Which::Cloud => "cloud",
        Which::Stack => "stack",
        Which::Kits => "kits",
        Which::Idp => "identity provider",
    }
}

const fn purpose(module: Which) -> &'static str {
    match module {
        Which::Gateway => "JSON and gRPC, everything public",
        Which::Admin => "the platform's back end",
        Which::Cloud => "pages: sign in, your tenants",
        Which::Stack => "pages and calls: a tenant's stacks and members",
        Which::Kits => "the registry of StackKits",
        Which::Idp => "for development only",
    }
}

fn next(gateway: &str, cloud: &str) -> String {
    format!(
        "Next, in a browser: {cloud}

Next, in another shell:

  export TOKEN=$(target/debug/kombify token alice)
  curl -s -H \"authorization: Bearer $TOKEN\" {gateway}/v1/whoami
  curl -s -H \"authorization: Bearer $TOKEN\" -H 'content-type: application/json' \\
       -d '{{\"slug\": \"home\", \"name\": \"Home\"}}' {gateway}/v1/tenants
  curl -s -H \"authorization: Bearer $TOKEN\" -H 'content-type: application/json' \\
       -d '{{\"name\": \"media\"}}' {gateway}/v1/stacks
"
    )
}
