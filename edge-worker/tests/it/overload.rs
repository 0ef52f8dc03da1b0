//! More requests than the edge worker can serve at once.

use std::time::Duration;

use edge_worker::Config;
use futures_util::{SinkExt, StreamExt, future::join_all};
use split_core::{
    session::Event,
    wire::{ClientMessage, ErrorCode, InferResult, ServerMessage},
};
use split_tests::{
    client::Client,
    toy::{POOL1, Recipe, Toy},
};

use crate::support::{Edge, assert_answers, binary, within};

async fn result(client: &mut Client) -> InferResult {
    match within(client.next()).await.unwrap() {
        Event::Result(result) => result,
        other => panic!("a result is expected, not {other:?}"),
    }
}

/// Sends as many requests as the credit allows and collects the answers in the order of the payloads.
async fn ask_all(client: &mut Client, payloads: &[Vec<u8>]) -> Vec<InferResult> {
    let mut ids = Vec::new();
    for payload in payloads {
        ids.push(client.infer(POOL1, payload).await.unwrap());
    }
    let mut results = Vec::new();
    for _ in payloads {
        results.push(result(client).await);
    }
    results.sort_by_key(|it| ids.iter().position(|id| *id == it.id));
    results
}

#[tokio::test]
async fn requests_that_wait_go_together_and_get_the_answers_of_those_that_do_not() {
    let edge = Edge::start().await;
    let payloads = |client: u64| (0..4).map(move |it| 4 * client + it);
    let payload = |seed| edge.toy.payload(POOL1, seed).unwrap();
    let mut single = Vec::new();
    let mut alone = edge.client().await;
    for seed in (0..8).flat_map(payloads) {
        alone.infer(POOL1, &payload(seed)).await.unwrap();
        single.push(result(&mut alone).await);
    }
    let size = |it: &str| format!(r#"edge_batch_size_{it}{{split="pool1",variant="a"}}"#);
    assert_eq!(edge.metric(&size("sum")).await, 32.0, "no request waited for another");

    let clients = join_all((0..8).map(|_| edge.client())).await;
    let asking = clients.into_iter().zip(0..8).map(|(mut client, index)| async move {
        let payloads: Vec<_> = payloads(index).map(payload).collect();
        ask_all(&mut client, &payloads).await
    });
    let together: Vec<_> = join_all(asking).await.concat();
    for (single, together) in single.iter().zip(&together) {
        assert_eq!(single.top, together.top);
    }
    assert!(
        edge.metric(&size("sum")).await > 64.0,
        "some requests were picked up together"
    );
}

/// Sends so many requests in one go, whatever the credit, and returns all their answers in the order in which they come.
async fn burst(edge: &Edge, requests: u8) -> Vec<ServerMessage> {
    let mut client = edge.client().await;
    let payload = edge.toy.payload(POOL1, 1).unwrap();
    for id in 0..requests {
        let (point, payload) = (POOL1, payload.as_slice());
        client
            .socket
            .feed(binary(&ClientMessage::Infer { id, point, payload }))
            .await
            .unwrap();
    }
    client.socket.flush().await.unwrap();
    let mut answers = Vec::new();
    while answers.len() < usize::from(requests) {
        let message = within(client.socket.next()).await.unwrap().unwrap();
        if message.is_binary() {
            answers.push(ServerMessage::decode(&message.into_data()).unwrap());
        }
    }
    answers
}

fn ids(answers: &[ServerMessage], busy: bool) -> Vec<u8> {
    let id = |it: &ServerMessage| match it {
        ServerMessage::Result(result) if !busy => Some(result.id),
        ServerMessage::Busy { id, retry_ms } if busy => {
            assert!(*retry_ms > 0);
            Some(*id)
        }
        _ => None,
    };
    answers.iter().filter_map(id).collect()
}

#[tokio::test]
async fn beyond_the_credit_the_answer_is_busy_at_once() {
    let edge = Edge::with(&Recipe::slow(), |_| {}).await;
    let answers = burst(&edge, 6).await;
    assert_eq!(ids(&answers, true), [4, 5]);
    assert_eq!(ids(&answers, false), [0, 1, 2, 3]);
    // Refused while the others waited, so told before the last of them.
    assert!(!matches!(answers.last(), Some(ServerMessage::Busy { .. })));
    assert_eq!(edge.metric(r#"edge_busy_total{split="pool1",variant="a"}"#).await, 2.0);
}

#[tokio::test]
async fn a_payload_that_is_too_long_is_refused_on_arrival() {
    let edge = Edge::with(&Recipe::slow(), |_| {}).await;
    let mut client = edge.client().await;
    let payload = edge.toy.payload(POOL1, 1).unwrap();
    for _ in 0..3 {
        client.infer(POOL1, &payload).await.unwrap();
    }
    let long = client.infer(POOL1, &[0; 20_000]).await.unwrap();
    let mut answers = Vec::new();
    for _ in 0..4 {
        answers.push(within(client.next()).await.unwrap());
    }
    let refused = |it: &Event| matches!(it, Event::Failed { id, code: ErrorCode::BadPayload, .. } if *id == long);
    // It does not wait behind the others.
    assert!(answers[..3].iter().any(refused), "{answers:?}");
}

#[tokio::test]
async fn what_would_wait_beyond_the_deadline_is_refused_and_everything_is_answered_once() {
    let impatient = |config: &mut Config| {
        config.limits.deadline = Duration::ZERO;
        config.limits.credit = 255;
    };
    let edge = Edge::with(&Recipe::slow(), impatient).await;
    let answers = burst(&edge, 200).await;
    let [served, busy] = [false, true].map(|it| ids(&answers, it));
    assert!(
        !served.is_empty() && busy.len() > 100,
        "{} served, {} busy",
        served.len(),
        busy.len()
    );
    let mut all = [served, busy].concat();
    all.sort_unstable();
    assert_eq!(all, (0..200).collect::<Vec<_>>());
    let idle = async { while edge.metric("edge_predicted_wait_microseconds").await > 0.0 {} };
    within(idle).await;
    edge.assert_serves().await;
}

#[tokio::test]
async fn one_who_asks_for_much_leaves_room_for_others() {
    let edge = Edge::with(&Recipe::slow(), |_| {}).await;
    let (toy, mut modest): (&Toy, _) = (&edge.toy, edge.client().await);
    let greedy = async {
        for _ in 0..5 {
            burst(&edge, 50).await;
        }
    };
    let modest = async {
        for seed in 0..5 {
            assert_answers(toy, &mut modest, POOL1, seed).await;
        }
    };
    tokio::join!(greedy, modest);
}
