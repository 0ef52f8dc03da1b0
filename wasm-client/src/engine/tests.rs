//! What the engine does with frames, answers and the loss of either.

use split_core::{
    manifest::Segment,
    wire::{ClientMessage, ErrorCode, InferResult, PROTOCOL_VERSION, ServerMessage, Welcome},
};

use super::*;
use crate::{
    connection::Notice,
    fixture::{self, INPUT, OUTPUT, POOL1},
    goal::Among,
};

fn engine(clock: Clock) -> Engine {
    Engine::new(&fixture::series().manifest.to_json().unwrap(), clock).unwrap()
}

/// An engine with the heads of these operating points.
fn ready(points: &[usize]) -> Engine {
    let mut engine = engine(fixture::clock());
    for &point in points {
        give(&mut engine, point);
    }
    engine
}

/// The same with a connection, over which nothing has been measured.
fn connected(points: &[usize], credit: u8) -> Engine {
    let mut engine = ready(points);
    welcome(&mut engine, credit);
    engine
}

/// The same with a connection that has been measured.
fn measured(points: &[usize]) -> Engine {
    let mut engine = ready(points);
    connect_measured(&mut engine);
    engine
}

fn give(engine: &mut Engine, point: usize) {
    let series = fixture::series();
    for file in engine.device.missing(&engine.manifest, point).unwrap() {
        engine.add_file(file.sha256, series.file(file.sha256)).unwrap();
    }
    engine.prepare(point).unwrap();
}

/// What is to be done next, when everything has been loaded that is wanted; heads that are not given are on their way for ever.
fn next(engine: &mut Engine, waiting: Option<u32>) -> Step {
    loop {
        match engine.next(waiting) {
            Step::Load { .. } => {}
            step => return step,
        }
    }
}

/// Gives the picture that is asked for.
fn shoot(engine: &mut Engine, number: u32) -> Step {
    let picture = engine.picture().expect("a picture is to be taken");
    picture.begin([4, 4]).unwrap();
    picture.push(&fixture::frame(0)).unwrap();
    engine.infer(number, fixture::now(), None)
}

/// Lets a frame go through an operating point, whatever would be chosen.
fn infer(engine: &mut Engine, number: u32, point: usize) -> Step {
    let choice = Choice {
        point,
        automatic: true,
        meets: true,
        ..Choice::default()
    };
    assert_eq!(engine.capture(choice, fixture::now()), Step::Capture);
    match shoot(engine, number) {
        Step::Encode { .. } => engine.infer_image(b"RIFF"),
        step => step,
    }
}

fn chosen(engine: &Engine) -> Option<usize> {
    engine.choose(fixture::now()).map(|it| it.awaited.unwrap_or(it.point))
}

fn answer(engine: &mut Engine, message: ServerMessage) -> Result<Notice, ClientError> {
    let mut bytes = Vec::new();
    message.encode(&mut bytes);
    engine.receive(&bytes, fixture::now())
}

/// The answer that the edge worker's message is for a frame.
fn answered(engine: &mut Engine, message: ServerMessage) -> FrameResult {
    match answer(engine, message).unwrap() {
        Notice::Answered(Some(Step::Answer(result))) => *result,
        other => panic!("an answer is expected, not {other:?}"),
    }
}

/// The answer that a frame got at once.
fn local(step: Step) -> FrameResult {
    match step {
        Step::Answer(result) => *result,
        other => panic!("an answer is expected, not {other:?}"),
    }
}

/// Lets the edge worker answer the frame that was sent last.
fn answer_latest(engine: &mut Engine) -> FrameResult {
    let id = id(engine);
    answered(engine, result(id))
}

fn welcome(engine: &mut Engine, credit: u8) {
    engine.connect(None);
    let welcoming = welcoming(&engine.digest(), credit);
    answer(engine, welcoming).unwrap();
}

fn welcoming(manifest: &Digest, credit: u8) -> ServerMessage {
    ServerMessage::Welcome(Welcome {
        version: PROTOCOL_VERSION,
        manifest: *manifest,
        max_message_bytes: 4096,
        credit,
        messages_per_second: 240,
        bytes_per_second: 8 << 20,
    })
}

fn connect_measured(engine: &mut Engine) {
    welcome(engine, 4);
    answer_probes(engine);
    assert!(engine.link().is_some());
}

/// Lets so many milliseconds pass, one with every look at the clock.
fn pass(milliseconds: u64) {
    (0..milliseconds).for_each(|_| {
        fixture::now();
    });
}

/// Of the message that was sent last.
fn id(engine: &Engine) -> u8 {
    match ClientMessage::decode(engine.message()).unwrap() {
        ClientMessage::Infer { id, .. } | ClientMessage::Probe { id, .. } => id,
        other => panic!("{other:?} has no id"),
    }
}

fn result(id: u8) -> ServerMessage {
    let top = vec![ClassProbability {
        class: 2,
        probability: 1.0,
    }];
    ServerMessage::Result(InferResult {
        id,
        top,
        queue_us: 0,
        decode_us: 100,
        tail_us: 200,
    })
}

/// Answers as many probes as the client sends at once; returns how many.
fn answer_probes(engine: &mut Engine) -> usize {
    let mut count = 0;
    while engine.probe().unwrap() {
        let id = id(engine);
        answer(engine, ServerMessage::ProbeAck { id }).unwrap();
        count += 1;
    }
    count
}

/// The lowest latency, whatever the accuracy.
fn fastest(among: Among) -> Goal {
    Goal::LowestLatency { at_least: 0.0, among }
}

#[test]
fn an_answer_finds_its_frame_and_splits_its_time() {
    let mut engine = connected(&[POOL1], 2);
    assert_eq!(infer(&mut engine, 41, POOL1), Step::Sent);
    let (id, bytes) = (id(&engine), engine.message().len());
    let got = answered(&mut engine, result(id));
    assert_eq!((got.frame, got.point, got.message_bytes), (41, POOL1, bytes));
    assert_eq!((got.top[0].class, got.rgba), (2, fixture::frame(0)));
    assert!(got.since_arrival > got.since_capture);
    assert_eq!(got.stages.tail, Duration::from_micros(200));
}

#[test]
fn the_link_is_not_charged_for_what_an_answer_waits_here() {
    let mut engine = connected(&[POOL1], 2);
    infer(&mut engine, 41, POOL1);
    let mut bytes = Vec::new();
    result(id(&engine)).encode(&mut bytes);
    let at = fixture::now();
    // A head runs meanwhile.
    pass(50);
    let Notice::Answered(Some(Step::Answer(got))) = engine.receive(&bytes, at).unwrap() else {
        panic!("an answer is expected")
    };
    // Of the few milliseconds, one for every look at the clock, the edge needed 0.3.
    assert!(got.stages.network < Duration::from_millis(5), "{:?}", got.stages);
}

#[test]
fn the_link_is_probed_by_one_message_at_a_time() {
    let mut engine = connected(&[], 4);
    for _ in 0..4 {
        assert!(engine.link().is_none());
        assert!(engine.probe().unwrap());
        let id = id(&engine);
        assert!(!engine.probe().unwrap());
        let notice = answer(&mut engine, ServerMessage::ProbeAck { id }).unwrap();
        assert_eq!(notice, Notice::Answered(None));
    }
    assert!(engine.link().is_some());
}

#[test]
fn no_frame_queues_behind_an_answer_that_does_not_come() {
    let mut engine = connected(&[POOL1, OUTPUT], 4);
    answer_probes(&mut engine);
    engine.set_goal(fastest(Among::All)).unwrap();
    let slow = Duration::from_millis(100);
    (0..9).for_each(|_| engine.selector.record_device(OUTPUT, slow));
    infer(&mut engine, 1, POOL1);
    let id = id(&engine);
    pass(500);
    // A head has run all the time: the answer may be there.
    assert_ne!(chosen(&engine), Some(OUTPUT));
    engine.listened();
    assert_eq!(chosen(&engine), Some(OUTPUT));
    answered(&mut engine, result(id));
    assert_ne!(chosen(&engine), Some(OUTPUT));
}

#[test]
fn nothing_waits_for_a_dead_link() {
    let mut engine = measured(&[POOL1, OUTPUT]);
    engine.set_goal(Goal::Fixed { point: POOL1 }).unwrap();
    assert_eq!(next(&mut engine, Some(7)), Step::Capture);
    assert_eq!(shoot(&mut engine, 7), Step::Sent);
    engine.disconnect("gone");
    // The frame that was on its way, and the next one.
    for number in [7, 8] {
        let mut step = next(&mut engine, Some(8));
        if step == Step::Capture {
            step = shoot(&mut engine, 8);
        }
        let local = local(step);
        assert_eq!((local.frame, local.point, local.message_bytes), (number, OUTPUT, 0));
        assert_eq!(local.top.len(), 3);
    }
    connect_measured(&mut engine);
    assert_eq!(chosen(&engine), Some(POOL1));
}

#[test]
fn a_frame_whose_connection_ends_while_it_is_prepared_goes_elsewhere() {
    let mut engine = measured(&[OUTPUT]);
    engine.set_goal(Goal::Fixed { point: INPUT }).unwrap();
    assert_eq!(next(&mut engine, Some(1)), Step::Capture);
    let Step::Encode {
        frame: 1, point: INPUT, ..
    } = shoot(&mut engine, 1)
    else {
        panic!("an image is expected")
    };
    engine.disconnect("gone");
    assert_eq!(engine.infer_image(b"RIFF"), Step::Wait(Duration::ZERO));
    let local = local(next(&mut engine, None));
    assert_eq!((local.frame, local.point), (1, OUTPUT));
}

#[test]
fn what_can_go_nowhere_is_dropped_with_its_reason() {
    let mut engine = measured(&[]);
    infer(&mut engine, 1, INPUT);
    engine.disconnect("the cable is cut");
    engine.exclude_format(ImageFormat::Webp);
    for point in [POOL1, OUTPUT] {
        engine.fail(point, "download-failed", "404");
    }
    assert_eq!(
        next(&mut engine, Some(2)),
        dropped(1, "connection-lost", "the cable is cut")
    );
    let obstacle = next(&mut engine, Some(2));
    assert_eq!(
        obstacle,
        dropped(2, "no-usable-point", "no operating point meets the goal here")
    );
    engine.set_goal(Goal::Fixed { point: POOL1 }).unwrap();
    assert_eq!(next(&mut engine, Some(3)), dropped(3, "download-failed", "404"));
}

#[test]
fn frames_stay_on_the_device_until_a_new_link_is_measured_and_while_it_is_silent() {
    for goal in [Goal::Fixed { point: POOL1 }, fastest(Among::Split)] {
        let mut engine = ready(&[POOL1, OUTPUT]);
        engine.set_goal(goal).unwrap();
        welcome(&mut engine, 4);
        assert_eq!(chosen(&engine), Some(OUTPUT), "{goal:?}");
        assert!(!engine.choose(fixture::now()).unwrap().meets);
        answer_probes(&mut engine);
        assert_eq!(chosen(&engine), Some(POOL1), "{goal:?}");
        assert!(engine.choose(fixture::now()).unwrap().meets);
        infer(&mut engine, 1, POOL1);
        let id = id(&engine);
        pass(1200);
        engine.listened();
        assert_eq!(chosen(&engine), Some(OUTPUT), "{goal:?}");
        assert_eq!(engine.choose(fixture::now()).unwrap().link, None);
        answered(&mut engine, result(id));
        assert_eq!(chosen(&engine), Some(POOL1), "{goal:?}");
    }
}

#[test]
fn a_probe_leaves_the_last_request_to_the_frame_that_is_being_prepared() {
    let mut engine = connected(&[], 1);
    engine.set_goal(Goal::Fixed { point: INPUT }).unwrap();
    assert_eq!(next(&mut engine, Some(1)), Step::Capture);
    assert!(!engine.probe().unwrap());
    shoot(&mut engine, 1);
    assert!(!engine.probe().unwrap());
    assert_eq!(engine.infer_image(b"RIFF"), Step::Sent);
    answer_latest(&mut engine);
    assert!(engine.probe().unwrap());
}

#[test]
fn a_client_without_frames_measures_nothing() {
    let mut engine = measured(&[]);
    pass(1000);
    assert!(!engine.probe().unwrap());
    infer(&mut engine, 1, INPUT);
    answer_latest(&mut engine);
    pass(1000);
    assert!(engine.probe().unwrap());
}

#[test]
fn nothing_leaves_a_device_that_is_to_compute_everything() {
    let only_here = fastest(Among::Device);
    for goal in [only_here, Goal::Fixed { point: OUTPUT }] {
        let mut engine = connected(&[POOL1], 4);
        infer(&mut engine, 1, POOL1);
        engine.moved();
        // While one is being prepared, of which nothing is to leave either.
        engine.set_goal(Goal::Fixed { point: INPUT }).unwrap();
        welcome(&mut engine, 4);
        engine.set_goal(goal).unwrap();
        assert!(!engine.resend());
        assert!(!engine.probe().unwrap());
        for point in [POOL1, INPUT] {
            assert_eq!(infer(&mut engine, 2, point), Step::Wait(Duration::ZERO));
        }
        give(&mut engine, OUTPUT);
        for number in [1, 2, 2] {
            let local = local(next(&mut engine, None));
            assert_eq!((local.frame, local.point), (number, OUTPUT));
        }
    }
}

#[test]
fn a_head_that_cannot_be_had_is_left_alone_longer_and_longer() {
    let mut engine = measured(&[OUTPUT]);
    engine.set_goal(Goal::Fixed { point: POOL1 }).unwrap();
    for seconds in [2, 4, 8, 16, 32, 60, 60] {
        assert!(matches!(engine.next(None), Step::Load { point: POOL1, .. }));
        engine.fail(POOL1, "download-failed", "404");
        pass(seconds * 1000 - 100);
        assert!(
            engine
                .wanted(fixture::now(), engine.choose(fixture::now()).as_ref())
                .is_none(),
            "after {seconds} s"
        );
        assert_eq!(chosen(&engine), Some(OUTPUT));
        pass(100);
    }
}

#[test]
fn while_a_head_is_loaded_the_best_of_the_others_stands_in() {
    let mut engine = measured(&[OUTPUT]);
    engine.set_goal(Goal::Fixed { point: POOL1 }).unwrap();
    let step = engine.next(Some(1));
    let Step::Load { point: POOL1, files } = step else {
        panic!("{step:?}")
    };
    assert_eq!(files.len(), 1, "the codec: the head is a part of the whole network");
    assert_eq!(engine.next(Some(1)), Step::Capture);
    let local = local(shoot(&mut engine, 1));
    assert_eq!(local.point, OUTPUT);
    let told = engine.take_news().unwrap();
    assert_eq!((told.point, told.awaited, told.meets), (OUTPUT, Some(POOL1), false));
    assert!(told.prediction.is_some());
    // What was used is what is kept, not what was chosen.
    assert_eq!(engine.selector.current(), Some(OUTPUT));
    give(&mut engine, POOL1);
    assert_eq!(next(&mut engine, Some(2)), Step::Capture);
    assert_eq!(shoot(&mut engine, 2), Step::Sent);
    let told = engine.take_news().unwrap();
    assert_eq!((told.point, told.awaited, told.meets), (POOL1, None, true));
}

#[test]
fn while_a_head_is_loaded_that_splits_no_picture_is_sent_instead() {
    for goal in [fastest(Among::Split), Goal::Fixed { point: POOL1 }] {
        let mut engine = measured(&[]);
        engine.set_goal(goal).unwrap();
        assert_eq!(next(&mut engine, Some(1)), Step::Wait(LONGEST_WAIT), "{goal:?}");
        give(&mut engine, POOL1);
        assert_eq!(next(&mut engine, Some(1)), Step::Capture);
        assert_eq!(shoot(&mut engine, 1), Step::Sent);
    }
    // Where pictures may be sent, they are.
    let mut engine = measured(&[]);
    engine.set_goal(fastest(Among::All)).unwrap();
    assert_eq!(next(&mut engine, Some(1)), Step::Capture);
}

#[test]
fn the_refuge_is_loaded_once_nothing_else_is() {
    let mut engine = connected(&[], 4);
    assert!(matches!(engine.next(None), Step::Load { point: POOL1, .. }));
    assert_eq!(engine.next(None), Step::Wait(LONGEST_WAIT));
    give(&mut engine, POOL1);
    assert!(matches!(engine.next(None), Step::Load { point: OUTPUT, .. }));
    assert_eq!(engine.next(None), Step::Free);
}

#[test]
fn a_head_is_prepared_once_a_frame_was_answered() {
    let mut engine = measured(&[]);
    engine.set_goal(fastest(Among::All)).unwrap();
    let Step::Load { point, files } = engine.next(None) else {
        panic!("a head is to be loaded")
    };
    for file in files {
        engine
            .add_file(file.sha256, fixture::series().file(file.sha256))
            .unwrap();
    }
    // The first frame may come at any moment; if none does, nothing is lost by preparing the head.
    assert!(matches!(engine.next(None), Step::Wait(_)));
    let (clock, later) = (engine.clock.clone(), engine.clock.now() + FIRST_FRAME);
    engine.clock = Clock::new(move || later);
    assert_eq!(engine.next(None), Step::Prepare { point });
    engine.clock = clock;
    // The picture can be sent at once, and nothing would be read while the head is prepared.
    assert_eq!(next(&mut engine, Some(1)), Step::Capture);
    shoot(&mut engine, 1);
    assert_eq!(engine.infer_image(b"RIFF"), Step::Sent);
    assert_ne!(next(&mut engine, None), Step::Prepare { point });
    answer_latest(&mut engine);
    assert_eq!(next(&mut engine, Some(2)), Step::Prepare { point });
    // Without frames, at once.
    assert_eq!(next(&mut engine, None), Step::Prepare { point });
    engine.prepare(point).unwrap();
    assert_eq!(next(&mut engine, Some(2)), Step::Capture);
}

#[test]
fn a_frame_goes_only_where_it_would_not_wait() {
    let mut engine = connected(&[], 4);
    engine.set_goal(Goal::Fixed { point: INPUT }).unwrap();
    for number in [1, 2] {
        assert_eq!(next(&mut engine, Some(number)), Step::Capture);
        shoot(&mut engine, number);
        engine.infer_image(b"RIFF");
    }
    let id = id(&engine);
    assert_eq!(next(&mut engine, None), Step::Wait(LONGEST_WAIT));
    assert_eq!(next(&mut engine, Some(3)), Step::Wait(LONGEST_WAIT));
    answered(&mut engine, result(id));
    assert_eq!(next(&mut engine, None), Step::Free);
}

#[test]
fn looking_for_a_point_uses_none() {
    let mut engine = ready(&[OUTPUT]);
    assert_eq!(chosen(&engine), Some(OUTPUT));
    assert_eq!(engine.selector.current(), None);
    infer(&mut engine, 1, OUTPUT);
    assert_eq!(engine.selector.current(), Some(OUTPUT));
}

#[test]
fn what_taking_a_picture_takes_is_learnt_and_expected() {
    let mut engine = ready(&[OUTPUT]);
    let capture = |engine: &Engine| engine.choose(fixture::now()).unwrap().prediction.unwrap().capture;
    assert_eq!(capture(&engine), Duration::ZERO);
    for number in 0..9 {
        assert_eq!(next(&mut engine, Some(number)), Step::Capture);
        let picture = engine.picture().unwrap();
        picture.begin([4, 4]).unwrap();
        picture.push(&fixture::frame(0)).unwrap();
        pass(4);
        engine.infer(number, fixture::now(), Some(Duration::from_millis(3)));
    }
    // And one for the look at the clock.
    assert!(
        (8..=10).contains(&capture(&engine).as_millis()),
        "{:?}",
        capture(&engine)
    );
}

#[test]
fn a_moved_connection_loses_no_frame() {
    let mut engine = connected(&[POOL1], 3);
    let mut sent = Vec::new();
    for number in [1, 2, 3] {
        infer(&mut engine, number, POOL1);
        sent.push((id(&engine), engine.message().to_vec()));
    }
    answered(&mut engine, result(sent[0].0));
    assert!(engine.probe().unwrap());
    engine.moved();
    assert!(!engine.resend(), "there is no connection yet");
    // The next edge worker grants less.
    welcome(&mut engine, 1);
    engine.set_goal(Goal::Fixed { point: POOL1 }).unwrap();
    let wait = next(&mut engine, Some(4));
    assert_eq!(wait, Step::Wait(LONGEST_WAIT), "newer frames go behind");
    for number in [2, 3] {
        assert!(engine.resend());
        assert!(!engine.resend());
        assert_eq!(engine.message()[2..], sent[number - 1].1[2..]);
        assert_eq!(answer_latest(&mut engine).frame as usize, number);
    }
    assert!(!engine.resend());
    assert_eq!(next(&mut engine, Some(4)), Step::Capture);
}

#[test]
fn frames_of_a_moved_connection_go_elsewhere_when_the_next_one_fails() {
    let mut engine = connected(&[POOL1, OUTPUT], 2);
    infer(&mut engine, 7, POOL1);
    engine.moved();
    engine.connect(None);
    engine.disconnect("gone");
    let local = local(next(&mut engine, None));
    assert_eq!((local.frame, local.point), (7, OUTPUT));
}

#[test]
fn frames_of_connections_that_are_moved_again_and_again_go_elsewhere() {
    let mut engine = connected(&[POOL1, OUTPUT], 2);
    infer(&mut engine, 7, POOL1);
    engine.moved();
    next(&mut engine, None);
    assert_eq!(engine.unsent.len(), 1, "it may still be sent again");
    let later = engine.clock.now() + Duration::from_secs(2);
    engine.clock = Clock::new(move || later);
    let local = local(next(&mut engine, None));
    assert_eq!((local.frame, local.point), (7, OUTPUT));
}

#[test]
fn frames_keep_to_the_rates_of_the_welcome() {
    let mut engine = connected(&[], 4);
    engine.set_goal(Goal::Fixed { point: INPUT }).unwrap();
    let (began, mut sent) = (fixture::now(), 0);
    // A page that tries as often as it can: the clock ticks a millisecond with every look.
    while fixture::now() < began + Duration::from_secs(20) {
        if next(&mut engine, Some(sent)) == Step::Capture {
            // Done in no time.
            let now = engine.clock.clone();
            let at = now.now();
            engine.clock = Clock::new(move || at);
            shoot(&mut engine, sent);
            engine.infer_image(b"RIFF");
            answer_latest(&mut engine);
            engine.clock = now;
            sent += 1;
        }
    }
    assert!(
        (1000..=5000).contains(&sent),
        "{sent} in 20 s, of 240 a second and a burst"
    );
}

#[test]
fn no_frame_goes_out_before_a_busy_edge_worker_expects_it() {
    let mut engine = connected(&[], 2);
    engine.set_goal(Goal::Fixed { point: INPUT }).unwrap();
    infer(&mut engine, 1, INPUT);
    let busy = |engine: &mut Engine, retry_ms| {
        let id = id(engine);
        let notice = answer(engine, ServerMessage::Busy { id, retry_ms }).unwrap();
        let Notice::Answered(Some(Step::Drop { code, .. })) = notice else {
            panic!("{notice:?}")
        };
        assert_eq!(code, "busy");
    };
    busy(&mut engine, 150);
    let Step::Wait(pause) = next(&mut engine, Some(2)) else {
        panic!("a pause is expected")
    };
    assert!((100..=150).contains(&pause.as_millis()), "{pause:?}");
    pass(150);
    assert_eq!(next(&mut engine, Some(2)), Step::Capture);
    // One that has gone mad is asked again all the same.
    infer(&mut engine, 2, INPUT);
    busy(&mut engine, u32::MAX);
    pass(5000);
    assert_eq!(next(&mut engine, Some(3)), Step::Capture);
}

#[test]
fn a_frame_that_is_refused_for_want_of_capacity_goes_elsewhere() {
    let mut engine = measured(&[POOL1, OUTPUT]);
    engine.set_goal(fastest(Among::All)).unwrap();
    infer(&mut engine, 1, POOL1);
    let id = id(&engine);
    let notice = answer(&mut engine, ServerMessage::Busy { id, retry_ms: 2 }).unwrap();
    assert_eq!(notice, Notice::Answered(None));
    let local = local(next(&mut engine, None));
    assert_eq!((local.frame, local.point), (1, OUTPUT));
}

#[test]
fn starts_with_a_split_and_then_goes_by_measurement() {
    let mut engine = connected(&[POOL1], 8);
    let choice = engine.choose(fixture::now()).unwrap();
    assert_eq!((choice.point, choice.prediction), (POOL1, None));
    give(&mut engine, OUTPUT);
    assert!(answer_probes(&mut engine) >= 2);
    for number in 0..4 {
        infer(&mut engine, number, POOL1);
        answer_latest(&mut engine);
    }
    assert!(engine.link().is_some());
    // The head alone takes as long as the whole toy network: sending cannot pay.
    let choice = engine.choose(fixture::now()).unwrap();
    assert_eq!((choice.point, choice.meets), (OUTPUT, true));
}

#[test]
fn excluded_points_and_kinds_are_not_chosen() {
    let mut engine = connected(&[], 2);
    let edge_only = fastest(Among::Edge);
    engine.set_goal(edge_only).unwrap();
    assert_eq!(chosen(&engine), Some(INPUT));
    engine.exclude_format(ImageFormat::Webp);
    assert_eq!(chosen(&engine), None);
    engine.heads.exclude(OUTPUT);
    for point in [INPUT, OUTPUT] {
        engine.set_goal(Goal::Fixed { point }).unwrap();
        assert_eq!(chosen(&engine), None);
    }
    engine.set_goal(Goal::Fixed { point: POOL1 }).unwrap();
    assert_eq!(chosen(&engine), Some(POOL1));
    let missing = engine.set_goal(Goal::Fixed { point: 99 }).unwrap_err();
    assert_eq!(missing.code(), "no-such-point");
}

#[test]
fn failures_reach_the_frame_they_are_about() {
    let mut engine = connected(&[POOL1], 2);
    infer(&mut engine, 1, POOL1);
    let first = id(&engine);
    infer(&mut engine, 2, POOL1);
    // Without credit, a third one waits.
    assert_eq!(infer(&mut engine, 3, POOL1), Step::Wait(Duration::ZERO));
    let error = ServerMessage::Error {
        id: Some(first),
        code: ErrorCode::BadPayload,
        text: "no".into(),
    };
    let notice = answer(&mut engine, error).unwrap();
    assert_eq!(notice, Notice::Answered(Some(dropped(1, "protocol", "no"))));
}

#[test]
fn short_heads_have_their_time_on_a_coarse_clock_too() {
    let series = fixture::series();
    let mut engine = engine(fixture::coarse_clock());
    give(&mut engine, OUTPUT);
    let work = series.manifest.variants[0].segments.iter().map(Segment::work).sum();
    // A run takes 0.3 ms: three times from one of the clock's calls to the next.
    for frame in 0..200 {
        let micros = engine.profile().predict(work).as_micros();
        assert!((150..=500).contains(&micros), "{micros} µs before frame {frame}");
        infer(&mut engine, frame, OUTPUT);
    }
    assert!(engine.profile().runs(work) >= 4);
}

#[test]
fn a_picture_that_is_not_all_there_is_dropped() {
    let mut engine = ready(&[OUTPUT]);
    assert_eq!(next(&mut engine, Some(1)), Step::Capture);
    let step = engine.infer(1, Duration::ZERO, None);
    assert!(
        matches!(
            step,
            Step::Drop {
                frame: 1,
                code: Cow::Borrowed("frame-size"),
                ..
            }
        ),
        "{step:?}"
    );
    assert_eq!(next(&mut engine, Some(2)), Step::Capture);
    engine.put_down();
    assert!(engine.picture().is_none());
}

#[test]
fn a_silent_edge_is_given_up() {
    let mut engine = connected(&[POOL1], 2);
    assert!(!engine.is_overdue());
    infer(&mut engine, 1, POOL1);
    pass(6000);
    // A head has run all the time: the answer may be there.
    assert!(!engine.is_overdue());
    engine.listened();
    assert!(engine.is_overdue());
}
