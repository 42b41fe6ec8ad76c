//! The one connection that writes, on a thread of its own, fed by a bounded queue.

use std::io;
use std::thread::{self, JoinHandle};
use std::time::Duration;

use kombify_core::{Error, Result};
use rusqlite::{Connection, Transaction, TransactionBehavior};
use tokio::sync::{mpsc, oneshot};
use tracing::Span;

use crate::failpoint;
use crate::fault::{SOON, catch, internal};

/// How long the last checkpoint waits for readers of other handles, at most.
const FAREWELL: Duration = Duration::from_secs(1);

type Job = Box<dyn FnOnce(&mut Connection) + Send>;

pub(crate) struct Writer {
    // Dropped before the thread is waited for: the end of the queue is what ends the thread.
    jobs: mpsc::Sender<Job>,
    thread: Thread,
    wait: Duration,
}

impl Writer {
    pub(crate) fn start(connection: Connection, queue: usize, wait: Duration) -> io::Result<Self> {
        let (jobs, waiting) = mpsc::channel(queue.max(1));
        let thread =
            thread::Builder::new().name("sqlite-writer".into()).spawn(|| serve(connection, waiting))?;
        Ok(Self { jobs, thread: Thread(Some(thread)), wait })
    }

    /// Whether writes find somebody who does them.
    pub(crate) fn lives(&self) -> bool {
        self.thread.0.as_ref().is_some_and(|thread| !thread.is_finished())
    }

    pub(crate) async fn run<T: Send + 'static>(
        &self,
        name: &'static str,
        f: impl FnOnce(&Transaction<'_>) -> Result<T> + Send + 'static,
    ) -> Result<T> {
        let (turn, mut my_turn) = oneshot::channel();
        let (answer, my_answer) = oneshot::channel();
        let span = Span::current();
        let job: Job = Box::new(move |connection| {
            // Whoever gave up, or went away, was told that nothing happened: so nothing happens.
            if turn.send(()).is_ok() {
                let _ = answer.send(span.in_scope(|| transact(connection, name, f)));
            }
        });
        self.jobs.try_send(job).map_err(|refused| match refused {
            mpsc::error::TrySendError::Full(_) => {
                Error::unavailable("too many writes wait for the database", SOON)
            }
            mpsc::error::TrySendError::Closed(_) => Error::internal("the writer of the database is gone"),
        })?;
        if tokio::time::timeout(self.wait, &mut my_turn).await.is_err() {
            my_turn.close();
            // The turn may have come between the timeout and the closing.
            if my_turn.try_recv().is_err() {
                return Err(Error::unavailable("the database is busy with other writes", SOON));
            }
        }
        my_answer.await.map_err(|_| Error::internal("the writer of the database is gone"))?
    }
}

/// Ended and waited for with the last handle, so that the file is whole by itself when the handle is gone.
struct Thread(Option<JoinHandle<()>>);

impl Drop for Thread {
    fn drop(&mut self) {
        if let Some(thread) = self.0.take()
            // A write that held the last handle drops it here: the thread cannot wait for itself.
            && thread.thread().id() != thread::current().id()
            && thread.join().is_err()
        {
            tracing::error!("the writer of a database ended with a panic");
        }
    }
}

fn serve(mut connection: Connection, mut waiting: mpsc::Receiver<Job>) {
    while let Some(job) = waiting.blocking_recv() {
        job(&mut connection);
    }
    let emptied = connection
        .busy_timeout(FAREWELL)
        .and_then(|()| connection.query_row("PRAGMA wal_checkpoint(TRUNCATE)", (), |_| Ok(())));
    if let Err(cause) = emptied.and_then(|()| connection.close().map_err(|(_, cause)| cause)) {
        tracing::warn!(%cause, "a database was closed without its last checkpoint");
    }
}

fn transact<T>(
    connection: &mut Connection,
    name: &str,
    f: impl FnOnce(&Transaction<'_>) -> Result<T>,
) -> Result<T> {
    let result = catch(|| {
        let transaction =
            connection.transaction_with_behavior(TransactionBehavior::Immediate).map_err(internal)?;
        let value = f(&transaction)?;
        failpoint::hit(name, "before-commit");
        transaction.commit().map_err(internal)?;
        failpoint::hit(name, "after-commit");
        Ok(value)
    });
    // Dropping a transaction rolls it back, and hides if that failed; the next write must not begin inside it.
    if !connection.is_autocommit()
        && let Err(cause) = connection.execute_batch("ROLLBACK")
    {
        tracing::error!(%cause, write = name, "a transaction could not be rolled back");
    }
    result
}
