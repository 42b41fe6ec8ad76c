//! The tenants' files: each is opened when it is used, and closed when nobody uses it any more.
//!
//! At most so many are open as there are places. Whoever uses a file has a turn, which all who use the same file share;
//! there are as many turns as places. So whoever has a turn, and finds every place taken, finds a file that nobody uses
//! and takes its place. Nobody holds two turns at once.

use std::collections::HashMap;
use std::fs;
use std::future::ready;
use std::io;
use std::ops::Deref;
use std::path::{Path, PathBuf};
use std::pin::pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use kombify_core::{Error, Result, TenantId};
use kombify_sqlite::{Database, Migration, OpenError};
use rusqlite::{Connection, OpenFlags, OptionalExtension as _};
use tokio::sync::{Mutex as Gate, Notify, OwnedMutexGuard, OwnedSemaphorePermit, Semaphore};
use tokio::task::{spawn_blocking, unconstrained};
use tokio::time::{Instant, timeout};

/// Every step of the schema of a tenant's file. One that was released is never changed; the next one goes below.
pub(crate) const MIGRATIONS: &[Migration] = &[Migration {
    version: 1,
    name: "ground",
    sql: include_str!("../../../migrations/tenant/0001_ground.sql"),
}];

/// How long a call waits for its turn.
const WAIT: Duration = Duration::from_secs(5);

/// When to try again where a turn did not come: turns are short.
const SOON: Duration = Duration::from_secs(1);

/// When to try again where a file cannot be opened: somebody has to mend it first.
const AFTER_REPAIR: Duration = Duration::from_secs(30);

/// One at a time in something of one tenant. Clones are the same turn.
pub(crate) type Alone = Arc<OwnedMutexGuard<()>>;

/// How a tenant's file is used: little of everything, since there are many.
pub(crate) fn options() -> kombify_sqlite::Options {
    kombify_sqlite::Options { readers: 1, ..kombify_sqlite::Options::default() }
}

/// The files of the tenants that are served.
pub(crate) struct Files {
    dir: PathBuf,
    idle: Duration,
    turns: Arc<Semaphore>,
    places: Arc<Semaphore>,
    // Held for a few instructions only: never while a file is opened or closed.
    slots: Mutex<HashMap<TenantId, Slot>>,
}

/// One tenant that is served.
struct Slot {
    /// Whoever opens the file, or takes the tenant out.
    gate: Arc<Gate<()>>,
    /// Whoever changes the members.
    members: Arc<Gate<()>>,
    /// The file has one handle at a time: the next one waits until the one before is closed.
    handle: Arc<Semaphore>,
    file: Option<File>,
    users: usize,
    turn: Option<OwnedSemaphorePermit>,
    last_use: Instant,
    /// Nobody comes in any more.
    barred: bool,
    left: Arc<Notify>,
}

/// An open file. It is closed before it gives back what it holds.
struct File {
    db: Database,
    _place: OwnedSemaphorePermit,
    _handle: OwnedSemaphorePermit,
}

/// Somebody uses the file.
struct InUse;

/// A tenant's file in use: it stays open.
pub(crate) struct Using {
    db: Database,
    _turn: Turn,
}

impl Deref for Using {
    type Target = Database;

    fn deref(&self) -> &Database {
        &self.db
    }
}

/// One of those who use a tenant's file.
struct Turn {
    files: Arc<Files>,
    tenant: TenantId,
}

impl Drop for Turn {
    fn drop(&mut self) {
        if let Some(slot) = self.files.slots().get_mut(&self.tenant) {
            slot.users = slot.users.saturating_sub(1);
            slot.last_use = Instant::now();
            if slot.users == 0 {
                slot.turn = None;
                slot.left.notify_waiters();
            }
        }
    }
}

impl Files {
    /// The files in `dir`, of which at most `places` are open; one that was not used for `idle` may be closed.
    pub(crate) fn new(dir: PathBuf, places: usize, idle: Duration) -> Self {
        let places = places.clamp(1, Semaphore::MAX_PERMITS);
        Self {
            dir,
            idle,
            turns: Arc::new(Semaphore::new(places)),
            places: Arc::new(Semaphore::new(places)),
            slots: Mutex::default(),
        }
    }

    /// Where the tenant's file is. No name that anybody chose becomes a part of a path.
    pub(crate) fn path(&self, tenant: TenantId) -> PathBuf {
        path(&self.dir, tenant)
    }

    /// The tenant is served from now on.
    pub(crate) fn admit(&self, tenant: TenantId) {
        let slot = || Slot {
            gate: Arc::default(),
            members: Arc::default(),
            handle: Arc::new(Semaphore::new(1)),
            file: None,
            users: 0,
            turn: None,
            last_use: Instant::now(),
            barred: false,
            left: Arc::default(),
        };
        self.slots().entry(tenant).or_insert_with(slot).barred = false;
    }

    /// The tenant is not served any more; comes back when its file is closed.
    pub(crate) async fn dismiss(&self, tenant: TenantId) -> Result<()> {
        let Some((gate, handle, left)) = self.bar(tenant) else { return Ok(()) };
        let _alone = gate.lock().await;
        let file = loop {
            let everybody_left = left.notified();
            if let Ok(file) = self.take_unused(tenant) {
                break file;
            }
            everybody_left.await;
        };
        close(file.into_iter().collect()).await?;
        let _closed = handle.acquire_owned().await.map_err(Error::internal)?;
        self.slots().remove(&tenant);
        Ok(())
    }

    /// The tenant's file, which is opened where it is not open.
    pub(crate) async fn open(self: &Arc<Self>, tenant: TenantId) -> Result<Using> {
        self.enter(tenant, false).await
    }

    /// The same for a file that may not be there yet.
    pub(crate) async fn make(self: &Arc<Self>, tenant: TenantId) -> Result<Using> {
        self.enter(tenant, true).await
    }

    /// Whoever changes the tenant's members waits here: one after the other.
    pub(crate) async fn alone(&self, tenant: TenantId) -> Result<Alone> {
        let members = self.with(tenant, |slot| Arc::clone(&slot.members))?;
        timeout(WAIT, members.lock_owned())
            .await
            .map(Arc::new)
            .map_err(|_| Error::unavailable("too many changes of the tenant's members wait", SOON))
    }

    /// Closes what was not used for long. Does not wait for it.
    pub(crate) fn close_idle(&self, now: Instant) {
        let idle = |slot: &mut Slot| {
            if slot.users == 0 && now.saturating_duration_since(slot.last_use) >= self.idle {
                slot.file.take()
            } else {
                None
            }
        };
        let files: Vec<File> = self.slots().values_mut().filter_map(idle).collect();
        if !files.is_empty() {
            tracing::debug!(count = files.len(), "idle tenants closed");
            spawn_blocking(move || drop(files));
        }
    }

    async fn enter(self: &Arc<Self>, tenant: TenantId, make: bool) -> Result<Using> {
        let busy = |_| Error::unavailable("too many tenants are worked on at the same time", SOON);
        if let Some(using) = self.enter_open(tenant)? {
            return Ok(using);
        }
        let gate = self.with(tenant, |slot| Arc::clone(&slot.gate))?;
        let _alone = timeout(WAIT, gate.lock()).await.map_err(busy)?;
        if let Some(using) = self.enter_open(tenant)? {
            return Ok(using);
        }
        let turn = timeout(WAIT, Arc::clone(&self.turns).acquire_owned()).await.map_err(busy)?;
        let (turn, open) = self.begin(tenant, turn.map_err(Error::internal)?)?;
        if let Some(db) = open {
            return Ok(Using { db, _turn: turn });
        }
        let place = self.place().await?;
        let handle = self.with(tenant, |slot| Arc::clone(&slot.handle))?;
        let handle = handle.acquire_owned().await.map_err(Error::internal)?;
        let path = self.path(tenant);
        // The file holds its place from within: whoever asked for it may go away meanwhile.
        let open = move || {
            let db = open_blocking(&path, tenant, make)?;
            Ok(File { db, _place: place, _handle: handle })
        };
        let file =
            spawn_blocking(open).await.map_err(Error::internal)?.map_err(|cause| refused(tenant, &cause))?;
        let db = file.db.clone();
        // It is there even if nobody is let in any more: whoever takes it out waits at the gate.
        if let Some(slot) = self.slots().get_mut(&tenant) {
            slot.file = Some(file);
        }
        Ok(Using { db, _turn: turn })
    }

    /// The file, where it is open and a turn is at hand.
    fn enter_open(self: &Arc<Self>, tenant: TenantId) -> Result<Option<Using>> {
        self.with(tenant, |slot| {
            let db = slot.file.as_ref()?.db.clone();
            if slot.turn.is_none() {
                slot.turn = Some(Arc::clone(&self.turns).try_acquire_owned().ok()?);
            }
            slot.users += 1;
            Some(Using { db, _turn: Turn { files: Arc::clone(self), tenant } })
        })
    }

    /// Begins to use the tenant with a turn, and gives the file where it is open.
    fn begin(
        self: &Arc<Self>,
        tenant: TenantId,
        turn: OwnedSemaphorePermit,
    ) -> Result<(Turn, Option<Database>)> {
        self.with(tenant, |slot| {
            slot.turn.get_or_insert(turn);
            slot.users += 1;
            let db = slot.file.as_ref().map(|file| file.db.clone());
            (Turn { files: Arc::clone(self), tenant }, db)
        })
    }

    /// A place for one more open file: a free one, or that of the file that was used least lately.
    async fn place(&self) -> Result<OwnedSemaphorePermit> {
        // In the queue before the look: what is being closed meanwhile is for those who wait, and for nobody who comes later.
        let mut place = pin!(unconstrained(Arc::clone(&self.places).acquire_owned()));
        tokio::select! {
            biased;
            place = &mut place => return place.map_err(Error::internal),
            () = ready(()) => {}
        }
        if let Some(file) = self.least_lately_used() {
            close(vec![file]).await?;
        }
        place.await.map_err(Error::internal)
    }

    fn least_lately_used(&self) -> Option<File> {
        self.slots()
            .values_mut()
            .filter(|slot| slot.users == 0 && slot.file.is_some())
            .min_by_key(|slot| slot.last_use)
            .and_then(|slot| slot.file.take())
    }

    /// Lets nobody in any more.
    fn bar(&self, tenant: TenantId) -> Option<(Arc<Gate<()>>, Arc<Semaphore>, Arc<Notify>)> {
        let mut slots = self.slots();
        let slot = slots.get_mut(&tenant)?;
        slot.barred = true;
        Some((Arc::clone(&slot.gate), Arc::clone(&slot.handle), Arc::clone(&slot.left)))
    }

    /// The open file of a tenant that nobody uses, if there is one.
    fn take_unused(&self, tenant: TenantId) -> Result<Option<File>, InUse> {
        match self.slots().get_mut(&tenant) {
            Some(slot) if slot.users > 0 => Err(InUse),
            Some(slot) => Ok(slot.file.take()),
            None => Ok(None),
        }
    }

    fn with<T>(&self, tenant: TenantId, f: impl FnOnce(&mut Slot) -> T) -> Result<T> {
        let mut slots = self.slots();
        let slot = slots.get_mut(&tenant).filter(|slot| !slot.barred);
        slot.map(f).ok_or_else(|| Error::not_found("tenant", tenant))
    }

    fn slots(&self) -> MutexGuard<'_, HashMap<TenantId, Slot>> {
        self.slots.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Where the tenant's file is below `dir`.
pub(crate) fn path(dir: &Path, tenant: TenantId) -> PathBuf {
    dir.join(format!("{tenant}.db"))
}

/// Removes a closed file, and what SQLite keeps beside it. What is not there is removed already.
pub(crate) fn remove(path: &Path) -> io::Result<()> {
    for end in ["", "-wal", "-shm"] {
        let mut name = path.as_os_str().to_owned();
        name.push(end);
        match fs::remove_file(PathBuf::from(name)) {
            Err(cause) if cause.kind() != io::ErrorKind::NotFound => return Err(cause),
            Ok(()) | Err(_) => {}
        }
    }
    Ok(())
}

/// Opens a tenant's file, which is made only where it may. Blocks.
pub(crate) fn open_blocking(path: &Path, tenant: TenantId, make: bool) -> Result<Database, OpenError> {
    if !make && !path.exists() {
        // An empty file in its place would look like a tenant without members.
        return Err(OpenError::Unreachable {
            path: path.to_owned(),
            cause: "it is not there any more".into(),
        });
    }
    let unreadable = |cause: String| OpenError::Damaged { path: path.to_owned(), cause };
    if !make && path.metadata().is_ok_and(|there| there.len() == 0) {
        return Err(unreadable("it is empty".into()));
    }
    let db = Database::open(path, MIGRATIONS, options())?;
    let owner: Option<String> = look_into(path)
        .and_then(|connection| {
            connection.query_row("SELECT tenant_id FROM tenant", (), |row| row.get(0)).optional()
        })
        .map_err(|cause| unreadable(cause.to_string()))?;
    match owner {
        Some(owner) if owner != tenant.to_string() => Err(unreadable(format!("it is the file of {owner}"))),
        None if !make => Err(unreadable("it is the file of no tenant".into())),
        Some(_) | None => Ok(db),
    }
}

/// A connection beside the handle of a file that is open. Blocks.
pub(crate) fn look_into(path: &Path) -> rusqlite::Result<Connection> {
    Connection::open_with_flags(path, OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX)
}

/// What the callers of a tenant see whose file cannot be opened; the log has the way out.
fn refused(tenant: TenantId, cause: &OpenError) -> Error {
    tracing::error!(tenant.id = %tenant, %cause, "a tenant's file cannot be opened");
    Error::unavailable("the data of the tenant cannot be opened", AFTER_REPAIR)
}

/// Closes files, and comes back when they are closed.
async fn close(files: Vec<File>) -> Result<()> {
    spawn_blocking(move || drop(files)).await.map_err(Error::internal)
}
