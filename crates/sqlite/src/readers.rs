//! The connections that only read: a bounded pool.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use kombify_core::{Error, Result};
use rusqlite::{Connection, TransactionBehavior};
use tokio::sync::Semaphore;
use tokio::task::spawn_blocking;
use tracing::Span;

use crate::fault::{SOON, catch, internal};

pub(crate) struct Readers {
    idle: Mutex<Vec<Connection>>,
    turns: Arc<Semaphore>,
    wait: Duration,
}

impl Readers {
    pub(crate) fn new(connections: Vec<Connection>, wait: Duration) -> Self {
        let turns = Arc::new(Semaphore::new(connections.len()));
        Self { idle: Mutex::new(connections), turns, wait }
    }

    pub(crate) async fn run<T: Send + 'static>(
        self: &Arc<Self>,
        f: impl FnOnce(&Connection) -> Result<T> + Send + 'static,
    ) -> Result<T> {
        let turn = tokio::time::timeout(self.wait, Arc::clone(&self.turns).acquire_owned())
            .await
            .map_err(|_| Error::unavailable("the database is busy with other reads", SOON))?
            .map_err(Error::internal)?;
        let readers = Arc::clone(self);
        let span = Span::current();
        spawn_blocking(move || {
            let _turn = turn;
            let mut connection = readers.take().ok_or_else(|| Error::internal("a turn without a reader"))?;
            let result = span.in_scope(|| read(&mut connection, f));
            readers.give_back(connection);
            result
        })
        .await
        .map_err(Error::internal)?
    }

    fn take(&self) -> Option<Connection> {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner).pop()
    }

    fn give_back(&self, connection: Connection) {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner).push(connection);
    }
}

fn read<T>(connection: &mut Connection, f: impl FnOnce(&Connection) -> Result<T>) -> Result<T> {
    catch(|| {
        let snapshot =
            connection.transaction_with_behavior(TransactionBehavior::Deferred).map_err(internal)?;
        f(&snapshot)
    })
}
