//! The pusher: hands what Admin decided to every module, in order, until each has acknowledged it.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use kombify_contracts::kombify::flags::v1::flag_sync_service_client::FlagSyncServiceClient;
use kombify_contracts::kombify::identity::v1::revocation_sync_service_client::RevocationSyncServiceClient;
use kombify_contracts::kombify::tenancy::v1::organisation_sync_service_client::OrganisationSyncServiceClient;
use kombify_contracts::kombify::tenancy::v1::tenant_sync_service_client::TenantSyncServiceClient;
use kombify_core::placed::{Basis, Held, Push};
use kombify_core::sync::{SyncKind, SyncStore, SyncStream};
use kombify_core::{Change, Clock, Error, Ids, OrgId, PlatformStore, Result, ServiceIdentity, TenantId};
use kombify_mesh::client::Peer;
use kombify_mesh::handoff;
use kombify_mesh::identity::service_token::Signer;
use kombify_mesh::status::to_fault;
use tokio::sync::Notify;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::Platform;

/// How often is looked for what nobody told of: retries, changes of another process.
const LOOK_AGAIN: Duration = Duration::from_millis(500);

/// How many pushes are under way at once.
const AT_ONCE: usize = 64;

/// How long the first retry waits, in milliseconds; each further one waits twice as long.
const FIRST_RETRY_MILLIS: u64 = 200;

/// How long a retry waits at most, in milliseconds.
const LONGEST_RETRY_MILLIS: u64 = 10_000;

/// What is pushed to whom: one push of a kind to a module at a time.
type Under = (ServiceIdentity, SyncKind);

/// The modules that were pushed to, each where it was.
type Peers = HashMap<(ServiceIdentity, String), Peer>;

/// The pusher.
#[derive(Clone)]
pub struct Pusher {
    store: Arc<dyn PlatformStore>,
    clock: Arc<dyn Clock>,
    ids: Arc<dyn Ids>,
    signer: Arc<Signer>,
    pushes: Arc<Notify>,
    acknowledgements: Arc<Notify>,
}

impl Pusher {
    /// The pusher of `platform`; it signs with Admin's own key.
    pub fn new(platform: &Platform, signer: Arc<Signer>) -> Self {
        Self {
            store: Arc::clone(&platform.store),
            clock: Arc::clone(&platform.clock),
            ids: Arc::clone(&platform.ids),
            signer,
            pushes: Arc::clone(&platform.pushes),
            acknowledgements: Arc::clone(&platform.acknowledgements),
        }
    }

    /// Pushes until cancelled. A push that is under way then ends or is made again after the next start.
    pub async fn run(self, cancel: CancellationToken) {
        let mut under: HashSet<Under> = HashSet::new();
        let mut running: JoinSet<Under> = JoinSet::new();
        let mut peers = Peers::new();
        loop {
            if let Err(cause) = self.start_due(&mut under, &mut running, &mut peers).await {
                tracing::warn!(%cause, "the hand-off cannot be read");
            }
            tokio::select! {
                () = cancel.cancelled() => break,
                () = self.pushes.notified() => {}
                () = tokio::time::sleep(LOOK_AGAIN) => {}
                Some(ended) = running.join_next(), if !running.is_empty() => match ended {
                    Ok(ended) => {
                        under.remove(&ended);
                    }
                    Err(cause) => {
                        tracing::error!(%cause, "a push ended with a panic");
                        // Whose it was is not known: all are looked at again, and the receiver applies nothing twice.
                        running.shutdown().await;
                        under.clear();
                    }
                },
            }
        }
        running.shutdown().await;
    }

    async fn start_due(
        &self,
        under: &mut HashSet<Under>,
        running: &mut JoinSet<Under>,
        peers: &mut Peers,
    ) -> Result<()> {
        let now = self.clock.now();
        let streams = SyncStore::streams(&*self.store).await?;
        // A module that is gone, or has moved, needs its connection no more.
        peers.retain(|(target, endpoint), _| {
            streams.iter().any(|stream| stream.target == *target && stream.endpoint == *endpoint)
        });
        let mut due: Vec<_> = streams.into_iter().filter(|stream| stream.is_due(now)).collect();
        // Whoever does not answer was tried last: it holds up nobody else.
        due.sort_by_key(|stream| stream.next_attempt_time);
        for stream in due {
            let key = (stream.target.clone(), stream.kind);
            if running.len() >= AT_ONCE || under.contains(&key) {
                continue;
            }
            let peer = match self.peer(peers, &stream) {
                Ok(peer) => peer,
                Err(cause) => {
                    self.put_off(&stream, &cause).await;
                    continue;
                }
            };
            under.insert(key.clone());
            let pusher = self.clone();
            running.spawn(async move {
                pusher.push(peer, stream).await;
                key
            });
        }
        Ok(())
    }

    /// The module of the stream, where it is now.
    fn peer(&self, peers: &mut Peers, stream: &SyncStream) -> Result<Peer> {
        let at = (stream.target.clone(), stream.endpoint.clone());
        if let Some(known) = peers.get(&at) {
            return Ok(known.clone());
        }
        let peer = Peer::new(&audience(&stream.target), &stream.endpoint, Arc::clone(&self.signer))?;
        peers.insert(at, peer.clone());
        Ok(peer)
    }

    async fn push(&self, peer: Peer, stream: SyncStream) {
        let pushed = match stream.kind {
            SyncKind::Flags => self.push_flags(peer, &stream).await,
            SyncKind::Tenants => self.push_tenants(peer, &stream).await,
            SyncKind::Organisations => self.push_organisations(peer, &stream).await,
            SyncKind::Revocations => self.push_revocations(peer, &stream).await,
        };
        match pushed {
            Ok(()) => self.acknowledgements.notify_waiters(),
            Err(cause) => self.put_off(&stream, &cause).await,
        }
    }

    async fn put_off(&self, stream: &SyncStream, cause: &Error) {
        let next = self.next_attempt(stream.attempts);
        tracing::warn!(
            %cause, sync.target = %stream.target, sync.kind = stream.kind.as_str(), "not pushed yet"
        );
        let (target, text) = (&stream.target, cause.to_string());
        if let Err(cause) = SyncStore::postpone(&*self.store, target, stream.kind, &text, next).await {
            tracing::warn!(%cause, "a failed push is not written down");
        }
    }

    /// Twice as long each time, up to a bound, and never in step with others.
    fn next_attempt(&self, attempts: u32) -> Timestamp {
        let wait = FIRST_RETRY_MILLIS.saturating_mul(1 << attempts.min(10)).min(LONGEST_RETRY_MILLIS);
        let mut random = [0; 2];
        self.ids.fill(&mut random);
        let jitter = wait / 2 * u64::from(u16::from_be_bytes(random)) / u64::from(u16::MAX);
        let wait = i64::try_from(wait / 2 + jitter).unwrap_or(i64::MAX);
        let now = self.clock.now();
        now.checked_add(SignedDuration::from_millis(wait)).unwrap_or(now)
    }

    async fn acknowledge(
        &self,
        stream: &SyncStream,
        version: u32,
        held: &Held,
        tenants: &[TenantId],
    ) -> Result<()> {
        let now = self.clock.now();
        let change = Change::system("admin", "sync.acknowledged", self.ids.request(now), now);
        SyncStore::acknowledge(&*self.store, &change, &stream.target, stream.kind, version, held, tenants)
            .await
    }

    async fn push_flags(&self, peer: Peer, stream: &SyncStream) -> Result<()> {
        let flags = SyncStore::flags(&*self.store).await?;
        let version = flags.version;
        let answer = FlagSyncServiceClient::new(peer).apply_flags(handoff::flags(flags)).await;
        let held = answer.map_err(|status| to_fault(&status))?.into_inner().data.unwrap_or_default();
        let held = Held { version: u32::try_from(held.version).unwrap_or_default(), ..Held::default() };
        self.acknowledge(stream, version, &held, &[]).await
    }

    async fn push_tenants(&self, peer: Peer, stream: &SyncStream) -> Result<()> {
        let mut client = TenantSyncServiceClient::new(peer);
        let mut pages = Pages::default();
        let (mut tenants, mut refused, mut after) = (Vec::new(), Vec::new(), None);
        loop {
            let push = SyncStore::tenants_for(&*self.store, &stream.target, pages.next, after).await?;
            let Some(push) = push else { return Ok(()) };
            tenants.extend(push.items.iter().map(|tenant| tenant.id));
            after = push.items.last().map(|tenant| tenant.id);
            let (version, done) = (push.version, pages.turn(&push));
            let answer = client.apply_tenants(handoff::tenants(push)).await;
            let answer = answer.map_err(|status| to_fault(&status))?.into_inner();
            let mut held = handoff::read_held_tenants(answer)?;
            refused.append(&mut held.refused);
            if done || held.snapshot_needed {
                held.refused = refused;
                return self.acknowledge(stream, version, &held, &tenants).await;
            }
        }
    }

    async fn push_organisations(&self, peer: Peer, stream: &SyncStream) -> Result<()> {
        let mut client = OrganisationSyncServiceClient::new(peer);
        let mut pages = Pages::default();
        let mut after: Option<OrgId> = None;
        loop {
            let target = &stream.target;
            let push = SyncStore::organisations_for(&*self.store, target, pages.next, after.as_ref()).await?;
            let Some(push) = push else { return Ok(()) };
            after = push.items.last().map(|organisation| organisation.owner.clone());
            let (version, done) = (push.version, pages.turn(&push));
            let answer = client.apply_organisations(handoff::organisations(push)).await;
            let held =
                handoff::read_held_organisations(answer.map_err(|status| to_fault(&status))?.into_inner());
            if done || held.snapshot_needed {
                return self.acknowledge(stream, version, &held, &[]).await;
            }
        }
    }

    async fn push_revocations(&self, peer: Peer, stream: &SyncStream) -> Result<()> {
        let mut client = RevocationSyncServiceClient::new(peer);
        let mut pages = Pages::default();
        let mut after: Option<String> = None;
        loop {
            let (target, now) = (&stream.target, self.clock.now());
            let push =
                SyncStore::revocations_for(&*self.store, target, pages.next, after.as_deref(), now).await?;
            let Some(push) = push else { return Ok(()) };
            after = push.items.last().map(|revocation| revocation.sub.to_string());
            let (version, done) = (push.version, pages.turn(&push));
            let answer = client.apply_revocations(handoff::revocations(push)).await;
            let held =
                handoff::read_held_revocations(answer.map_err(|status| to_fault(&status))?.into_inner());
            if done || held.snapshot_needed {
                return self.acknowledge(stream, version, &held, &[]).await;
            }
        }
    }
}

/// The pages of a push: a change has one, a snapshot as many as it takes.
#[derive(Default)]
struct Pages {
    /// What is asked for next; 0: whatever is due.
    next: u32,
}

impl Pages {
    /// Turns the page; says whether this was the last one.
    fn turn<T>(&mut self, push: &Push<T>) -> bool {
        match push.basis {
            Basis::Change { .. } => true,
            Basis::Snapshot { page, last } => {
                self.next = page + 1;
                last
            }
        }
    }
}

/// How a module is called as the receiver of a service token: a Stack by its instance.
fn audience(target: &ServiceIdentity) -> String {
    match target.module.as_str() {
        "stack" => format!("stack/{}", target.instance),
        module => module.to_owned(),
    }
}
