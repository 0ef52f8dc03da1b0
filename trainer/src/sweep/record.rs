//! What is kept of a command that ended: one file each, so that several machines can write to one folder.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::Context;
use serde::{Deserialize, Serialize};
use split_core::Digest;
use tempfile::NamedTempFile;

use super::file::{Job, Sweep};
use crate::files;

/// How a command ended.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Record {
    /// As it could be typed.
    command: String,
    /// How long it took, since it was last begun.
    pub seconds: f64,
    /// When it ended, in milliseconds since 1970.
    ended: u64,
    /// Why it failed, if it did.
    pub error: Option<String>,
}

impl Record {
    /// That of a command that just ended.
    pub fn now(job: &Job, took: Duration, error: Option<String>) -> Self {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        Self {
            command: job.command(),
            seconds: took.as_secs_f64(),
            ended: now.as_millis() as u64,
            error,
        }
    }
}

/// The folder of all records of a sweep.
pub struct Records(PathBuf);

impl Records {
    /// Those in a folder, which need not be there yet.
    pub fn new(folder: &Path) -> Self {
        Self(folder.to_owned())
    }

    /// That of a command with these very arguments, if it has ended. What cannot be read is as if it were not there: the command is given again.
    pub fn of(&self, job: &Job) -> Option<Record> {
        serde_json::from_slice(&fs::read(self.path(job)).ok()?).ok()
    }

    /// Keeps a record in place of an older one.
    pub fn keep(&self, job: &Job, record: &Record) -> anyhow::Result<()> {
        let path = self.path(job);
        files::write_whole(&path, &serde_json::to_vec_pretty(record)?).with_context(|| path.display().to_string())
    }

    /// Whether a command succeeded, its result is still there, and what it needs is not newer.
    pub fn is_finished(&self, sweep: &Sweep, at: usize) -> bool {
        let job = &sweep.jobs[at];
        let Some(record) = self.of(job).filter(|it| it.error.is_none()) else {
            return false;
        };
        let is_older = |it: usize| self.of(&sweep.jobs[it]).is_none_or(|it| it.ended <= record.ended);
        job.result().is_none_or(|it| it.exists()) && sweep.needs(at).all(is_older)
    }

    /// An empty file in the folder; in a container nothing else may be writable.
    pub fn temporary(&self) -> anyhow::Result<NamedTempFile> {
        NamedTempFile::new_in(&self.0).with_context(|| self.0.display().to_string())
    }

    fn path(&self, job: &Job) -> PathBuf {
        let digest = Digest::of(job.command().as_bytes()).to_string();
        self.0.join(format!("{}.json", &digest[..16]))
    }
}
