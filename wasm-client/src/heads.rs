//! Which heads may be used and asked for.

use std::{
    collections::{BTreeSet, HashMap, HashSet},
    time::Duration,
};

/// How long a head that could not be had is left alone at first; every further failure doubles it…
const FIRST_PAUSE: Duration = Duration::from_secs(2);
/// …up to this.
const LONGEST_PAUSE: Duration = Duration::from_secs(60);

/// What is known of the operating points' heads beside whether they are there.
#[derive(Debug, Default)]
pub(crate) struct Heads {
    /// Operating points that can never be used here.
    excluded: HashSet<usize>,
    failed: HashMap<usize, Failure>,
    loading: BTreeSet<usize>,
}

/// A head that could not be had.
#[derive(Clone, Debug)]
pub(crate) struct Failure {
    /// Kind of the error, and the error for people.
    pub reason: (String, String),
    /// How often in a row, at most five times.
    times: u32,
    /// It is left alone until then.
    until: Duration,
}

impl Heads {
    /// Says that an operating point can never be used here.
    pub fn exclude(&mut self, point: usize) {
        self.excluded.insert(point);
    }

    /// Says that a head is being loaded.
    pub fn load(&mut self, point: usize) {
        self.loading.insert(point);
    }

    /// Says that a head is there.
    pub fn loaded(&mut self, point: usize) {
        self.loading.remove(&point);
        self.failed.remove(&point);
    }

    /// Leaves a head alone that could not be had: for two seconds, and twice as long after every further failure.
    pub fn fail(&mut self, now: Duration, point: usize, code: &str, message: &str) {
        self.loading.remove(&point);
        let times = self.failed.get(&point).map_or(0, |it| it.times);
        let failure = Failure {
            reason: (code.into(), message.into()),
            times: (times + 1).min(5),
            until: now + (FIRST_PAUSE * 2_u32.pow(times)).min(LONGEST_PAUSE),
        };
        self.failed.insert(point, failure);
        // What is whole but no network stays so; everything else may be mended where it comes from, or on the way.
        if code == "segment-invalid" {
            self.exclude(point);
        }
    }

    /// Whether an operating point may be used, and its head asked for.
    pub fn may_use(&self, now: Duration, point: usize) -> bool {
        !self.excluded.contains(&point) && !self.is_failing(now, point)
    }

    /// Whether a head is left alone for now.
    pub fn is_failing(&self, now: Duration, point: usize) -> bool {
        self.failed.get(&point).is_some_and(|it| now < it.until)
    }

    /// Why a head was not there the last time.
    pub fn failure(&self, point: usize) -> Option<&Failure> {
        self.failed.get(&point)
    }

    /// The heads that are being downloaded or prepared.
    pub fn loading(&self) -> &BTreeSet<usize> {
        &self.loading
    }
}
