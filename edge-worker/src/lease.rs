//! How long a connection may go on with what it began with.

use std::time::Duration;

use tokio::time::sleep;
use tokio_util::sync::CancellationToken;

use crate::session::around;

/// Comes with a series or a token: once that is replaced, its connections end after a grace time.
#[derive(Clone, Default)]
pub(crate) struct Lease {
    replaced: CancellationToken,
    over: CancellationToken,
}

impl Lease {
    /// Lets connections end after the grace time.
    pub(crate) fn replace(&self) {
        self.replaced.cancel();
    }

    /// Lets connections end at once.
    pub(crate) fn end(&self) {
        self.replaced.cancel();
        self.over.cancel();
    }

    /// Completes when a connection with this lease is to end: within the grace time, not all at once.
    pub(crate) async fn ended(&self, grace: Duration) {
        self.replaced.cancelled().await;
        tokio::select! {
            () = sleep(around(grace.mul_f64(0.8))) => {}
            () = self.over.cancelled() => {}
        }
    }
}
