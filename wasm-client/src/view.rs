//! What JavaScript sees: plain objects in its own spelling, times in milliseconds; `types.ts` and `steps.ts` of the package describe them.

use std::time::Duration;

use serde_json::{Value, json};
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

/// The engine's series, for display and for choosing by hand.
pub(crate) fn series(engine: &Engine) -> Value {
    let manifest = engine.manifest();
    let points = 0..manifest.operating_points.len();
    json!({
        "series": manifest.series,
        "network": manifest.source.network,
        "origin": manifest.source.origin,
        "notice": manifest.source.notice,
        "digest": engine.digest().to_string(),
        "classes": manifest.classes,
        "width": manifest.input.shape.width(),
        "height": manifest.input.shape.height(),
        "unprunedAccuracy": manifest.unpruned.accuracy,
        "unprunedMacs": manifest.unpruned.macs,
        "measuredOn": manifest.measured_on.name,
        "measuredImages": manifest.measured_on.images,
        "splitPoints": manifest.split_points,
        "points": points.filter_map(|it| point(manifest, it)).collect::<Vec<_>>(),
        "defaultPoint": default_point(manifest, DEFAULT_LOSS, |_| true).unwrap_or_default(),
        "defaultGoal": Goal::default_for(manifest),
    })
}

fn point(manifest: &Manifest, index: usize) -> Option<Value> {
    let point = manifest.operating_points.get(index)?;
    let cut = cut(manifest, index).ok()?;
    let macs = |it: &[Segment]| it.iter().map(|it| it.macs).sum::<u64>();
    let image = match point.codec {
        Codec::Image { format, quality } => {
            Some(json!({ "type": media_type(format), "quality": f64::from(quality) / 100.0 }))
        }
        _ => None,
    };
    Some(json!({
        "index": index,
        "variant": point.variant,
        "split": point.split.to_string(),
        "codec": point.codec.to_string(),
        "width": cut.input.shape.width(),
        "height": cut.input.shape.height(),
        "accuracy": point.accuracy,
        "meanMessageBytes": point.mean_message_bytes,
        "p95MessageBytes": point.p95_message_bytes,
        "headMacs": macs(cut.head),
        "tailMacs": macs(cut.tail),
        "headBytes": manifest.device_files(point).map(|it| it.bytes).sum::<u64>(),
        "features": <[usize; 3]>::from(cut.features),
        "layers": cut.variant.segments.iter().map(|it| it.output.into()).collect::<Vec<[usize; 3]>>(),
        "headLayers": cut.head.len(),
        "image": image,
    }))
}

/// A choice of the engine's, with its reason.
pub(crate) fn selection(choice: &Choice) -> Value {
    json!({
        "point": choice.point,
        "automatic": choice.automatic,
        "meets": choice.meets,
        "kept": choice.kept,
        "predicted": choice.prediction.as_ref().map(prediction),
        "runnerUp": choice.runner_up.map(|it| json!({ "point": it.0, "predicted": prediction(&it.1) })),
        "awaited": choice.awaited,
        "link": choice.link.map(link),
    })
}

/// What is to be done, or what became of a frame. Pixels are added to it later: JSON would be a detour.
pub(crate) fn step(manifest: &Manifest, step: &Step) -> Value {
    match step {
        Step::Load { point, files } => {
            json!({ "type": "load", "point": point, "files": files.iter().map(file).collect::<Vec<_>>() })
        }
        Step::Prepare { point } => json!({ "type": "prepare", "point": point }),
        Step::Capture => json!({ "type": "capture" }),
        Step::Encode { frame, point, .. } => json!({ "type": "encode", "frame": frame, "point": point }),
        Step::Sent => json!({ "type": "sent" }),
        Step::Answer(it) => json!({ "type": "answer", "result": result(manifest, it) }),
        Step::Drop { frame, code, why } => json!({ "type": "dropped", "frame": frame, "code": code, "message": why }),
        Step::Free => json!({ "type": "free" }),
        Step::Wait(time) => json!({ "type": "wait", "milliseconds": milliseconds(*time) }),
    }
}

fn link(link: LinkEstimate) -> Value {
    json!({
        "rateBytesPerSecond": link.is_rate_known.then_some(link.rate_bytes_per_second),
        "roundTripMs": milliseconds(link.round_trip),
    })
}

fn prediction(prediction: &Prediction) -> Value {
    json!({
        "capture": milliseconds(prediction.capture),
        "device": milliseconds(prediction.device),
        "transmission": milliseconds(prediction.transmission),
        "roundTrip": milliseconds(prediction.round_trip),
        "edge": milliseconds(prediction.edge),
        "download": milliseconds(prediction.download),
        "total": milliseconds(prediction.total()),
    })
}

fn file(file: &File) -> Value {
    json!({ "path": file.path(), "sha256": file.sha256.to_string(), "bytes": file.bytes })
}

fn result(manifest: &Manifest, result: &FrameResult) -> Value {
    let stages = &result.stages;
    let label = |class: u16| manifest.classes.get(usize::from(class)).cloned().unwrap_or_default();
    let classes = result.top.iter().take(TOP);
    let top: Vec<_> = classes
        .map(|it| json!({ "class": it.class, "label": label(it.class), "probability": it.probability }))
        .collect();
    let best = result.top.first();
    json!({
        "frame": result.frame,
        "label": best.map(|it| label(it.class)).unwrap_or_default(),
        "probability": best.map_or(0.0, |it| it.probability),
        "top": top,
        "point": result.point,
        "messageBytes": result.message_bytes,
        "timings": {
            "normalize": milliseconds(stages.device.normalize),
            "head": milliseconds(stages.device.head),
            "encode": milliseconds(stages.device.encode),
            "network": milliseconds(stages.network),
            "queue": milliseconds(stages.queue),
            "decode": milliseconds(stages.decode),
            "tail": milliseconds(stages.tail),
        },
        "sinceArrival": milliseconds(result.since_arrival),
        "sinceCapture": milliseconds(result.since_capture),
    })
}

/// The media type by which browsers know an image format.
fn media_type(format: ImageFormat) -> &'static str {
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
    use serde_json::Map;

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
        let view = super::prediction(&prediction);
        let sum = |it: &Map<String, _>| it.values().filter_map(Value::as_f64).sum::<f64>();
        // The total is one of the values.
        assert_eq!(view.as_object().map(sum), Some(126.0));
        assert_eq!(view["total"], 63.0);
    }

    #[test]
    fn a_series_as_javascript_sees_it() {
        let series = fixture::series();
        let engine = Engine::new(&series.manifest.to_json().unwrap(), fixture::clock()).unwrap();
        let view = super::series(&engine);
        assert_eq!(view["defaultPoint"], fixture::POOL1);
        assert_eq!(view["defaultGoal"]["kind"], "lowestLatency");
        assert_eq!(view["points"][0]["image"]["type"], "image/webp");
        assert_eq!(view["points"][1]["split"], "pool1");
        assert_eq!(view["points"][1]["features"], serde_json::json!([2, 2, 2]));
        assert_eq!(view["points"][2]["headLayers"], 2);
    }
}
