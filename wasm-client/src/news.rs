//! When to tell which operating point is in use.

use std::time::Duration;

use crate::choice::Choice;

/// Predictions move a little with every frame: how often that is told.
const PERIOD: Duration = Duration::from_millis(500);

/// The operating point in use: told at once if it or its reason changed, now and then if only figures did.
#[derive(Debug, Default)]
pub(crate) struct News {
    /// What was told last, and when that was.
    told: Option<(Choice, Duration)>,
    untold: Option<Choice>,
}

impl News {
    /// Says what is in use, if anything is.
    pub fn choice(&mut self, now: Duration, choice: Choice) {
        let is_fresh = |at| now.saturating_sub(at) < PERIOD;
        if !self
            .told
            .is_some_and(|(told, at)| is_alike(&told, &choice) && is_fresh(at))
        {
            self.told = Some((choice, now));
            self.untold = Some(choice);
        }
    }

    /// What is to be told, once.
    pub fn take(&mut self) -> Option<Choice> {
        self.untold.take()
    }
}

/// Whether only figures differ.
fn is_alike(a: &Choice, b: &Choice) -> bool {
    let without_figures = |it: &Choice| Choice {
        prediction: it.prediction.map(|_| Default::default()),
        runner_up: it.runner_up.map(|it| (it.0, Default::default())),
        link: None,
        ..*it
    };
    a.link.is_some() == b.link.is_some() && without_figures(a) == without_figures(b)
}

#[cfg(test)]
mod tests {
    use split_core::selection::Prediction;

    use super::*;

    #[test]
    fn figures_are_told_now_and_then_and_reasons_at_once() {
        let (ms, mut news) = (Duration::from_millis, News::default());
        let choice = |device, kept| Choice {
            point: 1,
            automatic: true,
            meets: true,
            kept,
            prediction: Some(Prediction {
                device: ms(device),
                ..Prediction::default()
            }),
            ..Choice::default()
        };
        let mut told = |now, device, kept| {
            news.choice(ms(now), choice(device, kept));
            news.take().is_some()
        };
        let seen = [
            (0, 3, false),
            (100, 4, false),
            (200, 4, true),
            (600, 9, true),
            (700, 9, true),
        ];
        assert_eq!(seen.map(|it| told(it.0, it.1, it.2)), [true, false, true, false, true]);
    }
}
