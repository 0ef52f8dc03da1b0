//! The program: its exit codes, its messages, its signals.

use std::{
    collections::HashSet,
    fs::{self, File, OpenOptions},
    net::TcpListener,
    path::Path,
    process::{Command, Output},
};

use rustix::process::Signal;
use split_core::manifest::MANIFEST_FORMAT;
use split_tests::{
    client::Client,
    toy::{POOL1, Recipe, Toy},
};

use crate::{
    process::{Program, command, series},
    support::{assert_answers, http, within},
};

fn check_fails(mut command: Command, expected: &[&str]) {
    let Output { status, stderr, .. } = command.output().unwrap();
    let stderr = String::from_utf8(stderr).unwrap();
    assert_eq!(status.code(), Some(1), "{stderr}");
    assert!(stderr.lines().any(|it| it.starts_with("error: ")), "{stderr}");
    assert!(!stderr.contains("panicked"), "{stderr}");
    assert!(expected.iter().all(|it| stderr.contains(it)), "{stderr}");
    // Every cause is said once.
    let error = stderr.lines().find(|it| it.starts_with("error: ")).unwrap();
    let causes: Vec<&str> = error.split([':', ';']).map(str::trim).collect();
    let unique: HashSet<&str> = causes.iter().copied().collect();
    assert_eq!(unique.len(), causes.len(), "{error}");
}

#[test]
fn a_taken_port_is_named() {
    let (_, models) = series();
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let mut command = command(models.path());
    command.args(["--listen", &address]);
    check_fails(command, &[&address, "taken by another program", "name another address"]);
}

/// The edge worker's command with `files` as the hard limit of open files.
fn limited(files: u32, models: &Path, arguments: &[&str]) -> Command {
    let mut limited = Command::new("sh");
    let run = format!("ulimit -n {files} && exec \"$0\" \"$@\"");
    limited.args(["-c", &run, env!("CARGO_BIN_EXE_edge-worker"), "--models"]);
    limited.arg(models).args(["--listen", "127.0.0.1:0"]).args(arguments);
    limited
}

#[test]
fn more_connections_than_open_files_are_refused_at_start() {
    let (_, models) = series();
    for check in [&[][..], &["--check-config"]] {
        for (files, connections, expected) in [
            (
                1024,
                "2000",
                &[
                    "2000 connections",
                    "allows 1024",
                    "ulimit -Hn",
                    "to 2256",
                    "lower --connections to 768",
                ][..],
            ),
            (256, "1", &["allows 256", "ulimit -Hn", "to 257"]),
        ] {
            let arguments = [&["--connections", connections], check].concat();
            check_fails(limited(files, models.path(), &arguments), expected);
        }
    }
}

#[tokio::test]
async fn without_a_number_as_many_connections_as_fit_are_taken() {
    let (toy, models) = series();
    let log = models.path().join("log");
    let mut command = limited(1024, models.path(), &[]);
    command.stderr(File::create(&log).unwrap());
    let program = Program::start(command);
    let mut client = Client::connect(program.address, toy.digest()).await.unwrap();
    assert_answers(&toy, &mut client, POOL1, 1).await;
    let log = fs::read_to_string(log).unwrap();
    for says in ["WARN", "768 connections", "ulimit -Hn", "to 10256", "--connections 768"] {
        assert!(log.contains(says), "{log}");
    }
}

#[test]
fn settings_that_cannot_be_kept_are_refused_at_start() {
    let (_, models) = series();
    for (arguments, message) in [
        (&["--threads", "100000"][..], "at most 1024"),
        (&["--max-age-seconds", "0"], "--max-age-seconds is 0"),
        (
            &["--bytes-per-second", "1"],
            "--bytes-per-second is 1, too little for a message of 65541 bytes",
        ),
        (&["--bytes-per-second", "32770"], "at least 32771"),
        (
            &["--listen", "127.0.0.1:9", "--admin", "127.0.0.1:9"],
            "name another port",
        ),
        (
            &["--listen", "0.0.0.0:9", "--admin", "127.0.0.1:9"],
            "name another port",
        ),
    ] {
        let mut command = command(models.path());
        command.arg("--check-config").args(arguments);
        check_fails(command, &[message]);
    }
}

#[test]
fn a_damaged_segment_is_named() {
    let (toy, models) = series();
    let path = models.path().join(toy.manifest.variants[0].segments[1].path());
    let mut bytes = fs::read(&path).unwrap();
    bytes[100] ^= 1;
    fs::write(&path, bytes).unwrap();
    check_fails(
        command(models.path()),
        &[path.to_str().unwrap(), "damaged", "copy the series again"],
    );
}

#[test]
fn a_missing_segment_is_named() {
    let (toy, models) = series();
    let path = models.path().join(toy.manifest.variants[0].segments[2].path());
    fs::remove_file(&path).unwrap();
    check_fails(command(models.path()), &[path.to_str().unwrap(), "incomplete"]);
}

#[test]
fn a_damaged_or_missing_codec_is_named() {
    let (toy, models) = series();
    let path = models.path().join(toy.codec(POOL1).unwrap().file().path());
    let mut bytes = fs::read(&path).unwrap();
    bytes[10] ^= 1;
    fs::write(&path, bytes).unwrap();
    check_fails(
        command(models.path()),
        &[path.to_str().unwrap(), "damaged", "copy the series again"],
    );
    fs::remove_file(&path).unwrap();
    check_fails(command(models.path()), &[path.to_str().unwrap(), "incomplete"]);
}

#[test]
fn a_series_whose_name_is_no_part_of_a_url_is_refused() {
    let (toy, models) = series();
    let json = String::from_utf8(toy.json).unwrap();
    fs::write(
        models.path().join("manifest.json"),
        json.replace("\"toy\"", "\"a toy\""),
    )
    .unwrap();
    check_fails(
        command(models.path()),
        &["cannot be named 'a toy'", "use 1 to 64 letters"],
    );
}

#[test]
fn a_manifest_of_another_version_is_refused() {
    let (toy, models) = series();
    let [own, other] = [MANIFEST_FORMAT, 99].map(|it| format!("\"format\": {it}"));
    let json = String::from_utf8(toy.json).unwrap();
    assert!(json.contains(&own));
    fs::write(models.path().join("manifest.json"), json.replace(&own, &other)).unwrap();
    check_fails(command(models.path()), &["format 99", "one release", "trainer export"]);
}

#[test]
fn folders_without_series_or_page_say_what_to_do() {
    let empty = tempfile::tempdir().unwrap();
    check_fails(command(empty.path()), &["holds no series", "--models"]);
    check_fails(command(&empty.path().join("none")), &["cannot read", "--models"]);
    let (_, models) = series();
    let mut command = command(models.path());
    command.arg("--web").arg(empty.path());
    check_fails(command, &["holds no index.html", "npm run build"]);
}

#[test]
fn a_setting_that_cannot_be_is_refused() {
    let (_, models) = series();
    let mut no_credit = command(models.path());
    no_credit.env("EDGE_WORKER_CREDIT", "0");
    check_fails(no_credit, &["at least 1"]);
    let file = models.path().join("edge.toml");
    fs::write(&file, "listen = \"somewhere\"\n").unwrap();
    let mut wrong_file = command(models.path());
    wrong_file.arg("--config").arg(&file);
    check_fails(wrong_file, &["edge.toml", "listen"]);
    let mut wrong_filter = command(models.path());
    wrong_filter.args(["--log-filter", "edge_worker=loud"]);
    check_fails(wrong_filter, &["the log filter", "try 'info'"]);
    let mut no_token = command(models.path());
    no_token.args(["--token-file", "/nowhere"]);
    check_fails(no_token, &["/nowhere"]);
}

#[test]
fn check_config_loads_everything_and_ends() {
    let (toy, models) = series();
    let output = command(models.path()).arg("--check-config").output().unwrap();
    assert!(output.status.success());
    assert!(String::from_utf8(output.stdout).unwrap().contains("sound"));
    fs::write(
        models.path().join(toy.manifest.variants[0].segments[0].path()),
        "damaged",
    )
    .unwrap();
    let mut damaged = command(models.path());
    damaged.arg("--check-config");
    check_fails(damaged, &["damaged"]);
}

#[tokio::test]
async fn sigterm_answers_what_is_in_flight_and_exits_with_zero() {
    let (toy, models) = series();
    let program = Program::start(command(models.path()));
    let mut client = Client::connect(program.address, toy.digest()).await.unwrap();
    assert_answers(&toy, &mut client, POOL1, 1).await;
    program.signal(Signal::TERM);
    // Reading on answers the Close.
    while client.next().await.is_ok() {}
    while let Some(Ok(_)) = futures_util::StreamExt::next(&mut client.socket).await {}
    assert_eq!(program.exit().await.code(), Some(0));
}

#[tokio::test]
async fn sighup_loads_the_new_series_and_survives_a_damaged_one() {
    let (toy, models) = series();
    let program = Program::start(command(models.path()));
    let mut old = Client::connect(program.address, toy.digest()).await.unwrap();
    fs::write(models.path().join("manifest.json"), "{}").unwrap();
    program.signal(Signal::HUP);
    let failed = async {
        while !http(program.admin, "GET", "/metrics", &[])
            .await
            .text()
            .contains("edge_reload_failures_total 1")
        {
            tokio::task::yield_now().await;
        }
    };
    within(failed).await;

    let new = Toy::new(&Recipe {
        seed: 2,
        ..Recipe::default()
    })
    .unwrap();
    new.write(models.path()).unwrap();
    program.signal(Signal::HUP);
    let reloaded = async {
        loop {
            match Client::connect(program.address, new.digest()).await {
                Ok(client) => break client,
                Err(_) => tokio::task::yield_now().await,
            }
        }
    };
    let mut client = within(reloaded).await;
    assert_answers(&new, &mut client, POOL1, 1).await;
    assert_answers(&toy, &mut old, POOL1, 1).await;
}

#[tokio::test]
async fn a_full_disk_for_the_log_hurts_nobody() {
    let (toy, models) = series();
    let mut command = command(models.path());
    let full = || OpenOptions::new().write(true).open("/dev/full").unwrap();
    command.args(["--log-filter", "trace", "--log", "json"]).stderr(full());
    let program = Program::start(command);
    let mut client = Client::connect(program.address, toy.digest()).await.unwrap();
    assert_answers(&toy, &mut client, POOL1, 1).await;
    program.signal(Signal::TERM);
    drop(client);
    assert_eq!(program.exit().await.code(), Some(0));
}

#[tokio::test]
async fn the_log_is_json_and_holds_no_payload() {
    let (toy, models) = series();
    let path = models.path().join("log");
    let mut command = command(models.path());
    command
        .args(["--log-filter", "debug", "--log", "json"])
        .stderr(File::create(&path).unwrap());
    let program = Program::start(command);
    let mut client = Client::connect(program.address, toy.digest()).await.unwrap();
    assert_answers(&toy, &mut client, POOL1, 1).await;
    drop(client);
    program.signal(Signal::TERM);
    assert_eq!(program.exit().await.code(), Some(0));
    let log = fs::read_to_string(path).unwrap();
    assert!(log.contains("series loaded"), "{log}");
    for line in log.lines() {
        assert!(
            line.starts_with('{') && line.ends_with('}') && line.len() < 1000,
            "{line}"
        );
    }
}
