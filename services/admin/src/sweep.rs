//! What time alone brings about: deleted tenants whose time of grace is over are erased, and the silence of a module becomes
//! a part of its history.

use std::time::Duration;

use kombify_core::Change;
use kombify_core::health::HealthStore;
use kombify_core::tenant::TenantStore;
use tokio_util::sync::CancellationToken;

use crate::Platform;

/// How often is looked for modules that do not report any more.
const LISTEN_AGAIN: Duration = Duration::from_secs(5);

/// Keeps in the history that a module has become unreachable, until cancelled.
pub async fn note_silences(platform: Platform, cancel: CancellationToken) {
    loop {
        if let Err(cause) = HealthStore::note_silences(&*platform.store, platform.clock.now()).await {
            tracing::warn!(%cause, "silences not noted yet");
        }
        tokio::select! {
            () = cancel.cancelled() => return,
            () = tokio::time::sleep(LISTEN_AGAIN) => {}
        }
    }
}

/// Erases what is due every `interval`, until cancelled.
pub async fn sweep(platform: Platform, interval: Duration, cancel: CancellationToken) {
    loop {
        let now = platform.clock.now();
        let change = Change::system("admin", "tenant.erasing", platform.ids.request(now), now);
        match TenantStore::erase_expired(&*platform.store, &change).await {
            Ok(0) => {}
            Ok(count) => {
                tracing::info!(count, "deleted tenants are erased: their time of grace is over");
                platform.pushes.notify_one();
            }
            Err(cause) => tracing::warn!(%cause, "deleted tenants not erased yet"),
        }
        tokio::select! {
            () = cancel.cancelled() => return,
            () = tokio::time::sleep(interval) => {}
        }
    }
}
