//! The operating point for the next frame.

use std::time::Duration;

use split_core::selection::{LinkEstimate, Prediction, Unanswered, default_point};

use crate::{
    device::is_local,
    engine::Engine,
    goal::{DEFAULT_LOSS, Goal},
};

/// An answer that is later than expected by this much makes frames run on the device until something is heard again.
const SILENCE: Duration = Duration::from_secs(1);
/// Frames in flight before anything is known of the link: one on its way while the next is computed.
const FIRST_DEPTH: usize = 2;
/// A stage that takes so long is worth keeping free: what waits for it grows visibly older.
const LONG: Duration = Duration::from_millis(50);
/// From this size on, messages are large: while the link's rate is not known, only `FIRST_DEPTH` of them are in flight. Behind a queue of them a small
/// message takes as long as a large one, and the rate could never be measured.
const LARGE_BYTES: f64 = 1024.0;

/// The operating point for the next frame, and why.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Choice {
    /// Its place in the manifest.
    pub point: usize,
    /// Whether it was chosen by measurement, not by hand.
    pub automatic: bool,
    /// Whether it is what the goal asks for; otherwise it is the nearest to it.
    pub meets: bool,
    /// Whether it stays only because the best one is better by too little.
    pub kept: bool,
    /// What it is expected to take; none before the link was measured.
    pub prediction: Option<Prediction>,
    /// The next best.
    pub runner_up: Option<(usize, Prediction)>,
    /// The one that would be chosen if its head were there.
    pub awaited: Option<usize>,
    /// The link, if frames may use it.
    pub link: Option<LinkEstimate>,
}

impl Choice {
    /// Whether frames can go through it at once.
    pub(crate) fn is_ready(&self) -> bool {
        self.awaited != Some(self.point)
    }

    /// How many frames are worth having in flight if each is a message of `message_bytes` bytes: as many as make the labels that are seen least old.
    ///
    /// A frame takes T in all, of which s is its slowest stage. With n in flight, an answer comes T after its picture, or n·s if that is more: they queue before
    /// the slowest stage then, or lie unread while a head runs. The next one comes an n-th of that later, so that a label is half of this older in the mean.
    /// Where no stage is [`LONG`], as many as keep the slowest one busy: what is lost is hardly seen, and more answers tell more of the link.
    pub(crate) fn depth(&self, message_bytes: f64) -> usize {
        let Some(prediction) = &self.prediction else {
            return FIRST_DEPTH;
        };
        let here = prediction.capture + prediction.device;
        let slowest = here.max(prediction.transmission).max(prediction.edge);
        if slowest.is_zero() {
            return FIRST_DEPTH;
        }
        let stages = prediction.total().as_secs_f64() / slowest.as_secs_f64();
        let age = |frames: f64| stages.max(frames) * (1.0 + 0.5 / frames);
        let fit = stages.floor();
        let may_wait = slowest < LONG || age(fit + 1.0) < age(fit);
        let depth = if may_wait { stages.ceil() } else { fit } as usize;
        let is_rate_known = self.link.is_some_and(|it| it.is_rate_known);
        if is_rate_known || message_bytes < LARGE_BYTES {
            depth
        } else {
            depth.min(FIRST_DEPTH)
        }
    }
}

impl Engine {
    /// The operating point for the next frame; none if none is usable.
    ///
    /// Until the link has been measured the one in use stays, at first [`default_point`]. Without a connection, while it is silent,
    /// and while a new one is being measured, only `output` can be chosen, whatever the goal: nothing waits for a dead link. The same
    /// holds while the head of a fixed point cannot be had. While a head is loaded, the best of those that are there stands in.
    pub fn choose(&self, now: Duration) -> Option<Choice> {
        let linked = self.is_linked(now);
        let wants = |it| self.goal.wants(&self.manifest, it);
        let permits = |it| self.goal.permits(&self.manifest, it);
        let is_missed = || !linked || self.points().any(|it| wants(it) && self.heads.is_failing(now, it));
        let choice = self.best(now, linked, wants).or_else(|| {
            let instead = is_missed().then(|| self.best(now, linked, permits)).flatten()?;
            Some(Choice {
                meets: false,
                ..instead
            })
        })?;
        if self.is_ready(choice.point) {
            return Some(choice);
        }
        let awaited = Some(choice.point);
        let stand_in = self.best(now, linked, |it| permits(it) && self.is_ready(it));
        // What a frame would take is not guessed for the sake of a moment.
        let stand_in = stand_in.filter(|it| it.prediction.is_some()).map(|it| Choice {
            meets: it.meets && wants(it.point),
            awaited,
            ..it
        });
        Some(stand_in.unwrap_or(Choice { awaited, ..choice }))
    }

    fn best(&self, now: Duration, linked: bool, allowed: impl Fn(usize) -> bool) -> Option<Choice> {
        let is_local = |it| is_local(&self.manifest, it);
        let usable = |it: usize| allowed(it) && self.heads.may_use(now, it) && (linked || is_local(it));
        let is_fixed = |it| self.goal == Goal::Fixed { point: it };
        let automatic = !matches!(self.goal, Goal::Fixed { .. });
        if linked && self.link().is_none() && self.points().any(|it| usable(it) && !is_local(it)) {
            let used = self.selector.current().filter(|&it| usable(it) && !is_local(it));
            return Some(Choice {
                point: used.or_else(|| default_point(&self.manifest, DEFAULT_LOSS, usable))?,
                automatic,
                meets: true,
                ..Choice::default()
            });
        }
        let missing = |it| {
            let files = usable(it)
                .then(|| self.device.missing(&self.manifest, it).ok())
                .flatten()?;
            Some(files.iter().map(|it| it.bytes).sum())
        };
        let requirement = self.goal.requirement(&self.manifest);
        let selection = self
            .selector
            .select(&self.manifest, now, requirement, self.oldest(now), missing)?;
        Some(Choice {
            point: selection.point,
            automatic,
            meets: selection.meets || is_fixed(selection.point),
            kept: selection.kept,
            prediction: Some(selection.prediction),
            runner_up: selection.runner_up,
            awaited: None,
            link: self.link().filter(|_| linked),
        })
    }

    /// Heads to be loaded for this choice and those that may follow it, the most urgent first.
    pub(crate) fn wanted(&self, now: Duration, choice: Option<&Choice>) -> Option<usize> {
        let may_load = |it: &usize| self.heads.may_use(now, *it) && !self.heads.loading().contains(it);
        let urgent = choice.and_then(|it| it.awaited).filter(may_load);
        urgent.or_else(|| {
            let later = [self.refuge(), choice.and_then(|it| it.runner_up).map(|it| it.0)];
            let mut missing = later.into_iter().flatten().filter(|&it| !self.is_ready(it));
            // What cannot be had now must not keep the refuge away.
            missing
                .find(|it| may_load(it))
                .filter(|_| self.heads.loading().is_empty())
        })
    }

    /// Where everything runs on the device: frames go there at once when the connection is lost.
    fn refuge(&self) -> Option<usize> {
        let variant = |it: usize| &self.manifest.operating_points[it].variant;
        let start = default_point(&self.manifest, DEFAULT_LOSS, |_| true);
        let local = || self.points().filter(|&it| is_local(&self.manifest, it));
        let like_start = local().find(|&it| start.is_some_and(|start| variant(start) == variant(it)));
        like_start.or_else(|| local().next())
    }

    /// Whether the device could do everything itself at once.
    pub(crate) fn has_refuge(&self, now: Duration) -> bool {
        let mut local = self.points().filter(|&it| is_local(&self.manifest, it));
        local.any(|it| self.heads.may_use(now, it) && self.is_ready(it))
    }

    /// Whether frames may go over the link: it answers, and either it was measured or nothing else is ready.
    fn is_linked(&self, now: Duration) -> bool {
        let is_known = self.link().is_some() || !self.has_refuge(now);
        self.is_connected() && is_known && !self.is_silent(now)
    }

    /// Whether an answer is so late that it may never come.
    pub(crate) fn is_silent(&self, now: Duration) -> bool {
        let expected = |bytes: usize| self.link().map_or(Duration::ZERO, |it| delay(it, bytes));
        let is_late =
            |it: Unanswered| now.saturating_sub(self.selector.begun(it.sent)) > SILENCE + expected(it.message_bytes);
        self.oldest(now).is_some_and(is_late)
    }

    /// The request that has waited longest. Its answer may have come since messages were last read: that time does not count.
    fn oldest(&self, now: Duration) -> Option<Unanswered> {
        let oldest = self.connection.as_ref()?.oldest()?;
        Some(Unanswered {
            point: oldest.frame.as_ref().map(|it| usize::from(it.point)),
            message_bytes: oldest.message.len(),
            sent: oldest.sent + now.saturating_sub(self.listened),
        })
    }

    pub(crate) fn points(&self) -> impl Iterator<Item = usize> + use<> {
        0..self.manifest.operating_points.len()
    }
}

/// How long an answer to a message of so many bytes takes over this link.
fn delay(link: LinkEstimate, bytes: usize) -> Duration {
    link.round_trip + Duration::from_secs_f64(bytes as f64 / link.rate_bytes_per_second)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_are_in_flight_as_long_as_none_waits_for_another() {
        let depth = |device, round_trip, edge| {
            let choice = Choice {
                prediction: Some(Prediction {
                    device: Duration::from_millis(device),
                    round_trip: Duration::from_millis(round_trip),
                    edge: Duration::from_millis(edge),
                    ..Prediction::default()
                }),
                ..Choice::default()
            };
            choice.depth(100.0)
        };
        // A slow device: while it computes the next head, the answer lies unread.
        assert_eq!(depth(450, 100, 2), 1);
        assert_eq!(depth(450, 290, 2), 1);
        assert_eq!(depth(450, 310, 2), 2);
        // A slow edge worker: the next frame would wait for it.
        assert_eq!(depth(12, 13, 140), 1);
        assert_eq!(depth(12, 100, 140), 2);
        // A long way.
        assert_eq!(depth(60, 300, 2), 6);
        // Short stages are kept busy.
        assert_eq!(depth(20, 8, 2), 2);
    }

    #[test]
    fn large_messages_do_not_queue_on_a_link_whose_rate_is_not_known() {
        let millis = Duration::from_millis;
        let depth = |is_rate_known, message_bytes| {
            let choice = Choice {
                link: Some(LinkEstimate {
                    rate_bytes_per_second: 1e6,
                    is_rate_known,
                    round_trip: millis(100),
                }),
                prediction: Some(Prediction {
                    capture: millis(5),
                    device: millis(20),
                    round_trip: millis(100),
                    ..Prediction::default()
                }),
                ..Choice::default()
            };
            choice.depth(message_bytes)
        };
        assert_eq!([depth(true, 10_000.0), depth(false, 100.0)], [5, 5]);
        assert_eq!(depth(false, 10_000.0), FIRST_DEPTH);
    }
}
