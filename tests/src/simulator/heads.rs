//! What of the network is on the device, and what is on its way.

use std::collections::HashSet;

use split_core::{Digest, Manifest, manifest::File, selection::default_point};

use super::{FRAME, is_local};
use crate::trace::Conditions;

/// Accuracy that the client gives away at most where it starts, in percentage points.
const DEFAULT_LOSS: f64 = 1.5;

/// The parts of the network that are on the device.
pub(super) struct Heads<'a> {
    manifest: &'a Manifest,
    there: HashSet<Digest>,
    /// Where frames go without a link.
    pub refuge: Option<usize>,
    /// The point whose head is on its way, and the bytes that have still to come.
    coming: Option<(usize, f64)>,
}

impl<'a> Heads<'a> {
    /// At the start of a visit, the point to start with and the refuge are there.
    pub fn new(manifest: &'a Manifest) -> Self {
        let (points, default) = (
            &manifest.operating_points,
            default_point(manifest, DEFAULT_LOSS, |_| true),
        );
        let local = || (0..points.len()).filter(|&it| is_local(manifest, it));
        let like_default =
            local().find(|&it| default.is_some_and(|default| points[it].variant == points[default].variant));
        let refuge = like_default.or_else(|| local().next());
        let mut heads = Self {
            manifest,
            there: HashSet::new(),
            refuge,
            coming: None,
        };
        [default, refuge].into_iter().flatten().for_each(|it| heads.add(it));
        heads
    }

    fn add(&mut self, point: usize) {
        self.there.extend(self.files(point).map(|it| it.sha256));
    }

    fn files(&self, point: usize) -> impl Iterator<Item = File> + use<'a> {
        self.manifest.device_files(&self.manifest.operating_points[point])
    }

    /// Bytes of a point's files that are not there.
    pub fn missing(&self, point: usize) -> u64 {
        let missing = self.files(point).filter(|it| !self.there.contains(&it.sha256));
        missing.map(|it| it.bytes).sum()
    }

    /// Goes on with what is on its way, or begins with the first that is missing; downlinks are as fast as uplinks here.
    pub fn download(&mut self, mut wanted: impl Iterator<Item = usize>, conditions: &Conditions) {
        self.coming = self.coming.or_else(|| {
            let point = wanted.find(|&it| self.missing(it) > 0)?;
            Some((
                point,
                self.missing(point) as f64 + conditions.rate * conditions.round_trip,
            ))
        });
        let Some((point, bytes)) = &mut self.coming else {
            return;
        };
        *bytes -= conditions.rate * FRAME.as_secs_f64();
        if *bytes <= 0.0 {
            let point = *point;
            self.coming = None;
            self.add(point);
        }
    }
}
