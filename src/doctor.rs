//! `kombify doctor`: what stands in the way of `up`, and how to get rid of it. It changes nothing.

use std::fs::{File, TryLockError};
use std::net::SocketAddr;
use std::path::Path;

use kombify_idp::Idp;
use kombify_platform_sqlite::PlatformSqlite;
use kombify_stack_sqlite::StackSqlite;
use tokio::net::TcpListener;

use crate::Fault;
use crate::config::Config;
use crate::data::lock_file;
use crate::run::Which;

/// Below this much free space `up` will soon fail.
const MIN_FREE_BYTES: u64 = 256 * 1024 * 1024;

/// One thing that was looked at.
struct Finding {
    what: String,
    /// What is wrong and what to do; `None` where all is well.
    wrong: Option<String>,
}

/// Looks at everything that `up` needs, and prints a line each.
///
/// # Errors
/// - if something stands in the way.
pub async fn doctor(config: &Config) -> Result<(), Fault> {
    let mut findings = vec![directory(&config.data), space(&config.data), databases(&config.data)];
    for module in Which::ALL {
        let runs = is_locked(&config.data, module);
        findings.push(port(module.name(), module.listens(&config.listen), runs).await);
    }
    findings.push(tools());
    let mut wrong = 0;
    for Finding { what, wrong: problem } in findings {
        match problem {
            None => println!("ok       {what}"),
            Some(problem) => {
                wrong += 1;
                println!("problem  {what}: {problem}");
            }
        }
    }
    if wrong == 0 { Ok(()) } else { Err(format!("{wrong} things stand in the way").into()) }
}

/// Whether a running kombify has the module's data.
fn is_locked(dir: &Path, module: Which) -> bool {
    File::open(lock_file(dir, module))
        .is_ok_and(|lock| matches!(lock.try_lock_shared(), Err(TryLockError::WouldBlock)))
}

fn directory(dir: &Path) -> Finding {
    let what = format!("data in {}", dir.display());
    let parent = dir.ancestors().skip(1).find(|above| above.exists()).unwrap_or(Path::new("."));
    let there = if dir.exists() {
        dir
    } else if parent.as_os_str().is_empty() {
        Path::new(".")
    } else {
        parent
    };
    // Only a try tells: what the mode says, a root or a read-only file system may not keep to.
    let probe = there.join(format!(".kombify-doctor-{}", std::process::id()));
    let written = File::create_new(&probe).and_then(|_| std::fs::remove_file(&probe));
    let wrong = written.err().map(|cause| {
        format!(
            "{} cannot be written ({cause}): choose another directory with KOMBIFY__DATA",
            there.display()
        )
    });
    Finding { what, wrong }
}

fn space(dir: &Path) -> Finding {
    let what = "free space".to_owned();
    let there = if dir.exists() { dir } else { Path::new(".") };
    let wrong = match rustix::fs::statvfs(there) {
        Ok(stat) if stat.f_bavail * stat.f_frsize >= MIN_FREE_BYTES => None,
        Ok(stat) => {
            let free = stat.f_bavail * stat.f_frsize / (1024 * 1024);
            Some(format!("{free} MiB are left: free some, or choose another directory with KOMBIFY__DATA"))
        }
        Err(cause) => Some(cause.to_string()),
    };
    Finding { what, wrong }
}

fn databases(dir: &Path) -> Finding {
    let what = "databases".to_owned();
    let look = |name: &str, look: fn(&Path) -> Result<(), kombify_sqlite::OpenError>| {
        let file = dir.join(name);
        if file.exists() { look(&file).err().map(|cause| cause.to_string()) } else { None }
    };
    let wrong = look("platform.db", PlatformSqlite::look)
        .or_else(|| look("idp.db", Idp::look))
        .or_else(|| look("stack/instance.db", StackSqlite::look));
    Finding { what, wrong }
}

async fn port(module: &str, address: SocketAddr, runs: bool) -> Finding {
    let what = format!("{module} at {address}");
    match TcpListener::bind(address).await {
        Ok(_) => Finding { what, wrong: None },
        Err(_) if runs => Finding { what: format!("{what} (kombify runs)"), wrong: None },
        Err(cause) => {
            let key = module.to_uppercase();
            let wrong =
                format!("{cause}: end what listens there, or set KOMBIFY__LISTEN__{key} to another address");
            Finding { what, wrong: Some(wrong) }
        }
    }
}

/// What the tests need beside Rust: `make tools` installs it.
fn tools() -> Finding {
    let found = Path::new("target/tools/bin/grpcurl").exists();
    let what = if found {
        "tools of the tests"
    } else {
        "tools of the tests are not installed: `make tools` does it"
    };
    Finding { what: what.to_owned(), wrong: None }
}
