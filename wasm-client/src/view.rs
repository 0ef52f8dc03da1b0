//! What JavaScript sees: plain objects in its own spelling, times in milliseconds.

use std::time::Duration;

use serde::Serialize;
use split_core::{
    manifest::{Codec, File, ImageFormat, Manifest, Segment},
    selection::{LinkEstimate, Prediction, default_point},
};

use crate::{
    choice::Choice,
    device::cut,
    engine::{Engine, FrameResult, Step},
    goal::{DEFAULT_LOSS, Goal},
};

/// The most classes in a result.
const TOP: usize = 10;

/// A series, for display and for choosing by hand.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct SeriesView {
    series: String,
    network: String,
    origin: String,
    notice: String,
    digest: String,
    classes: Vec<String>,
    width: usize,
    height: usize,
    unpruned_accuracy: f64,
    unpruned_macs: u64,
    measured_on: String,
    measured_images: usize,
    split_points: Vec<String>,
    points: Vec<PointView>,
    default_point: usize,
    default_goal: Goal,
}

/// One operating point.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct PointView {
    index: usize,
    variant: String,
    split: String,
    codec: String,
    width: usize,
    height: usize,
    accuracy: f64,
    mean_message_bytes: f64,
    p95_message_bytes: f64,
    head_macs: u64,
    tail_macs: u64,
    head_bytes: u64,
    features: [usize; 3],
    layers: Vec<[usize; 3]>,
    head_layers: usize,
    image: Option<ImageView>,
}

/// How the browser encodes a frame for an operating point at `input`.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ImageView {
    #[serde(rename = "type")]
    media_type: &'static str,
    quality: f64,
}

/// A choice, with its reason.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct SelectionView {
    point: usize,
    automatic: bool,
    meets: bool,
    kept: bool,
    predicted: Option<PredictionView>,
    runner_up: Option<RunnerUpView>,
    awaited: Option<usize>,
    link: Option<LinkView>,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct RunnerUpView {
    point: usize,
    predicted: PredictionView,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct PredictionView {
    capture: f64,
    device: f64,
    transmission: f64,
    round_trip: f64,
    edge: f64,
    download: f64,
    total: f64,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct LinkView {
    rate_bytes_per_second: Option<f64>,
    round_trip_ms: f64,
}

/// What is to be done, or what became of a frame. Pixels are added to it: JSON would be a detour.
#[derive(Debug, Serialize)]
#[serde(tag = "type", rename_all = "camelCase")]
pub(crate) enum StepView {
    Load { point: usize, files: Vec<FileView> },
    Capture,
    Encode { frame: u32, point: usize },
    Sent,
    Answer { result: ResultView },
    Dropped { frame: u32, code: String, message: String },
    Free,
    Wait { milliseconds: f64 },
}

/// A file to be downloaded.
#[derive(Debug, Serialize)]
pub(crate) struct FileView {
    path: String,
    sha256: String,
    bytes: u64,
}

/// The answer to one frame.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct ResultView {
    frame: u32,
    label: String,
    probability: f32,
    top: Vec<ClassView>,
    point: usize,
    message_bytes: usize,
    timings: TimingsView,
    since_arrival: f64,
    since_capture: f64,
}

#[derive(Debug, Serialize)]
struct ClassView {
    class: u16,
    label: String,
    probability: f32,
}

#[derive(Debug, Serialize)]
struct TimingsView {
    normalize: f64,
    head: f64,
    encode: f64,
    network: f64,
    queue: f64,
    decode: f64,
    tail: f64,
}

impl SeriesView {
    /// The engine's series.
    pub fn of(engine: &Engine) -> Self {
        let manifest = engine.manifest();
        Self {
            series: manifest.series.clone(),
            network: manifest.source.network.clone(),
            origin: manifest.source.origin.clone(),
            notice: manifest.source.notice.clone(),
            digest: engine.digest().to_string(),
            classes: manifest.classes.clone(),
            width: manifest.input.shape.width(),
            height: manifest.input.shape.height(),
            unpruned_accuracy: manifest.unpruned.accuracy,
            unpruned_macs: manifest.unpruned.macs,
            measured_on: manifest.measured_on.name.clone(),
            measured_images: manifest.measured_on.images,
            split_points: manifest.split_points.clone(),
            points: (0..manifest.operating_points.len())
                .filter_map(|it| PointView::of(manifest, it))
                .collect(),
            default_point: default_point(manifest, DEFAULT_LOSS, |_| true).unwrap_or_default(),
            default_goal: Goal::default_for(manifest),
        }
    }
}

impl PointView {
    fn of(manifest: &Manifest, index: usize) -> Option<Self> {
        let point = manifest.operating_points.get(index)?;
        let cut = cut(manifest, index).ok()?;
        let macs = |it: &[Segment]| it.iter().map(|it| it.macs).sum();
        Some(Self {
            index,
            variant: point.variant.clone(),
            split: point.split.to_string(),
            codec: point.codec.to_string(),
            width: cut.input.shape.width(),
            height: cut.input.shape.height(),
            accuracy: point.accuracy,
            mean_message_bytes: point.mean_message_bytes,
            p95_message_bytes: point.p95_message_bytes,
            head_macs: macs(cut.head),
            tail_macs: macs(cut.tail),
            head_bytes: manifest.device_files(point).map(|it| it.bytes).sum(),
            features: cut.features.into(),
            layers: cut.variant.segments.iter().map(|it| it.output.into()).collect(),
            head_layers: cut.head.len(),
            image: match point.codec {
                Codec::Image { format, quality } => Some(ImageView {
                    media_type: media_type(format),
                    quality: f64::from(quality) / 100.0,
                }),
                _ => None,
            },
        })
    }
}

impl SelectionView {
    /// A choice of the engine's.
    pub fn of(engine: &Engine, choice: &Choice) -> Self {
        Self {
            point: choice.point,
            automatic: choice.automatic,
            meets: choice.meets,
            kept: choice.kept,
            predicted: choice.prediction.as_ref().map(PredictionView::of),
            runner_up: choice.runner_up.map(|it| RunnerUpView {
                point: it.0,
                predicted: PredictionView::of(&it.1),
            }),
            awaited: choice.awaited,
            link: engine.link().map(LinkView::of),
        }
    }
}

impl StepView {
    pub(crate) fn of(manifest: &Manifest, step: &Step) -> Self {
        match step {
            Step::Load { point, files } => Self::Load {
                point: *point,
                files: files.iter().map(FileView::of).collect(),
            },
            Step::Capture => Self::Capture,
            Step::Encode { frame, point, .. } => Self::Encode {
                frame: *frame,
                point: *point,
            },
            Step::Sent => Self::Sent,
            Step::Answer(result) => Self::Answer {
                result: ResultView::of(manifest, result),
            },
            Step::Drop { frame, code, why } => Self::Dropped {
                frame: *frame,
                code: code.to_string(),
                message: why.clone(),
            },
            Step::Free => Self::Free,
            Step::Wait(time) => Self::Wait {
                milliseconds: milliseconds(*time),
            },
        }
    }
}

impl LinkView {
    fn of(link: LinkEstimate) -> Self {
        Self {
            rate_bytes_per_second: link.is_rate_known.then_some(link.rate_bytes_per_second),
            round_trip_ms: milliseconds(link.round_trip),
        }
    }
}

impl PredictionView {
    fn of(prediction: &Prediction) -> Self {
        Self {
            capture: milliseconds(prediction.capture),
            device: milliseconds(prediction.device),
            transmission: milliseconds(prediction.transmission),
            round_trip: milliseconds(prediction.round_trip),
            edge: milliseconds(prediction.edge),
            download: milliseconds(prediction.download),
            total: milliseconds(prediction.total()),
        }
    }
}

impl FileView {
    pub(crate) fn of(file: &File) -> Self {
        Self {
            path: file.path(),
            sha256: file.sha256.to_string(),
            bytes: file.bytes,
        }
    }
}

impl ResultView {
    fn of(manifest: &Manifest, result: &FrameResult) -> Self {
        let stages = &result.stages;
        let label = |class: u16| manifest.classes.get(usize::from(class)).cloned().unwrap_or_default();
        let best = result.top.first();
        Self {
            frame: result.frame,
            label: best.map(|it| label(it.class)).unwrap_or_default(),
            probability: best.map_or(0.0, |it| it.probability),
            top: result
                .top
                .iter()
                .take(TOP)
                .map(|it| ClassView {
                    class: it.class,
                    label: label(it.class),
                    probability: it.probability,
                })
                .collect(),
            point: result.point,
            message_bytes: result.message_bytes,
            timings: TimingsView {
                normalize: milliseconds(stages.device.normalize),
                head: milliseconds(stages.device.head),
                encode: milliseconds(stages.device.encode),
                network: milliseconds(stages.network),
                queue: milliseconds(stages.queue),
                decode: milliseconds(stages.decode),
                tail: milliseconds(stages.tail),
            },
            since_arrival: milliseconds(result.since_arrival),
            since_capture: milliseconds(result.since_capture),
        }
    }
}

/// The media type by which browsers know an image format.
pub(crate) fn media_type(format: ImageFormat) -> &'static str {
    match format {
        ImageFormat::Webp => "image/webp",
        ImageFormat::Jpeg => "image/jpeg",
    }
}

fn milliseconds(duration: Duration) -> f64 {
    duration.as_secs_f64() * 1e3
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixture;

    #[test]
    fn the_parts_of_a_prediction_add_up_to_its_total() {
        let times = [1, 2, 4, 8, 16, 32].map(Duration::from_millis);
        let [capture, device, transmission, round_trip, edge, download] = times;
        let prediction = Prediction {
            capture,
            device,
            transmission,
            round_trip,
            edge,
            download,
        };
        let view = serde_json::to_value(PredictionView::of(&prediction)).unwrap();
        let sum = |it: &serde_json::Map<String, _>| it.values().filter_map(serde_json::Value::as_f64).sum::<f64>();
        // The total is one of the values.
        assert_eq!(view.as_object().map(sum), Some(126.0));
        assert_eq!(view["total"], 63.0);
    }

    #[test]
    fn a_series_as_javascript_sees_it() {
        let series = fixture::series();
        let engine = Engine::new(&series.manifest.to_json().unwrap(), fixture::clock()).unwrap();
        let view = serde_json::to_value(SeriesView::of(&engine)).unwrap();
        assert_eq!(view["defaultPoint"], fixture::POOL1);
        assert_eq!(view["defaultGoal"]["kind"], "lowestLatency");
        assert_eq!(view["points"][0]["image"]["type"], "image/webp");
        assert_eq!(view["points"][1]["split"], "pool1");
        assert_eq!(view["points"][1]["features"], serde_json::json!([2, 2, 2]));
        assert_eq!(view["points"][2]["headLayers"], 2);
    }
}
