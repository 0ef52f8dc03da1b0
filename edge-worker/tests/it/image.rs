//! The container image and the Kubernetes Deployment, read from `deploy/` and held against a process that runs as they say.
//!
//! No container runtime is needed: a mount namespace holds the image's files on a read-only root, and `setpriv` takes the
//! capabilities away, as a runtime does.

use std::{
    fs,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    process::Command,
};

use rustix::process::Signal;
use serde_json::Value;
use split_core::Digest;
use split_tests::client::Client;
use tempfile::TempDir;

use crate::{
    deploy::deployed,
    process::Program,
    support::{http, within},
};

/// What the last stage of a Dockerfile says.
struct Image {
    user: String,
    entrypoint: Vec<String>,
    environment: Vec<(String, String)>,
    /// Paths in the build stage and in the image.
    copies: Vec<(PathBuf, PathBuf)>,
    exposed: Vec<String>,
}

impl Image {
    fn read(file: &str) -> Self {
        let mut image = Self {
            user: String::new(),
            entrypoint: Vec::new(),
            environment: Vec::new(),
            copies: Vec::new(),
            exposed: Vec::new(),
        };
        let text = deployed(file).replace("\\\n", " ");
        let stage = text.rsplit_once("\nFROM ").unwrap().1;
        for line in stage.lines().skip(1) {
            let Some((instruction, rest)) = line.split_once(' ') else {
                continue;
            };
            let words = || rest.split_whitespace().map(str::to_owned);
            match instruction {
                "#" => {}
                "USER" => image.user = rest.trim().into(),
                "ENTRYPOINT" => image.entrypoint = serde_json::from_str(rest).unwrap(),
                "ENV" => {
                    let variables = words().map(|it| it.split_once('=').map(|it| (it.0.into(), it.1.into())).unwrap());
                    image.environment.extend(variables);
                }
                "EXPOSE" => image.exposed.extend(words()),
                "COPY" => {
                    let words: Vec<_> = words().collect();
                    let [stage, from, to] = &words[..] else {
                        panic!("{line}")
                    };
                    assert_eq!(stage, "--from=build");
                    image.copies.push((from.into(), to.into()));
                }
                other => panic!("{other} is not understood here"),
            }
        }
        image
    }

    fn port(&self, variable: &str) -> &str {
        let value = self.environment.iter().find(|it| it.0 == variable).unwrap();
        value.1.rsplit_once(':').unwrap().1
    }
}

/// The first document of this kind in a file of `deploy/`.
fn kubernetes(file: &str, kind: &str) -> Value {
    let text = deployed(file);
    let mut documents = text
        .split("\n---\n")
        .map(|it| serde_yaml_ng::from_str::<Value>(it).unwrap());
    documents.find(|it| it["kind"] == kind).unwrap()
}

/// Why a kubelet does not start a container whose image names this user, after its own `verifyRunAsNonRoot`.
fn kubelet_refuses(image_user: &str, security: &Value) -> Option<String> {
    if security["runAsNonRoot"] != true {
        return None;
    }
    if let Some(user) = security["runAsUser"].as_u64() {
        return (user == 0).then(|| "runAsUser breaks runAsNonRoot".into());
    }
    let user = image_user.split(':').next().unwrap_or_default();
    match user.parse::<u32>() {
        Ok(0) => Some("the image runs as root".into()),
        Ok(_) => None,
        Err(_) if user.is_empty() => Some("the image runs as root".into()),
        Err(_) => Some(format!("the image has the non-numeric user '{user}'")),
    }
}

#[test]
fn a_kubelet_starts_the_images() {
    let non_root: Value = serde_json::json!({ "runAsNonRoot": true });
    for (user, starts) in [
        ("nonroot", false),
        ("", false),
        ("0:0", false),
        ("root", false),
        ("65532", true),
    ] {
        assert_eq!(kubelet_refuses(user, &non_root).is_none(), starts, "{user}");
    }
    for (dockerfile, manifest, kind) in [
        ("Dockerfile", "kubernetes/deployment.yaml", "Deployment"),
        ("training/Dockerfile", "training/job.yaml", "Job"),
    ] {
        let image = Image::read(dockerfile);
        let pod = &kubernetes(manifest, kind)["spec"]["template"]["spec"];
        let security = &pod["securityContext"];
        assert_eq!(security["runAsNonRoot"], true);
        assert_eq!(kubelet_refuses(&image.user, security), None, "{manifest}");
        // Without the setting of the Deployment, too: the image may run elsewhere.
        assert_eq!(kubelet_refuses(&image.user, &non_root), None, "{dockerfile}");
        let user = image.user.split(':').next().unwrap();
        assert_eq!(security["runAsUser"].to_string(), user, "{manifest}");
    }
}

#[test]
fn the_deployment_fits_the_image_and_the_settings() {
    let image = Image::read("Dockerfile");
    let deployment = kubernetes("kubernetes/deployment.yaml", "Deployment");
    let pod = &deployment["spec"]["template"]["spec"];
    let container = &pod["containers"][0];
    let ports = [image.port("EDGE_WORKER_LISTEN"), image.port("EDGE_WORKER_ADMIN")];
    assert_eq!(image.exposed, ports);
    let declared: Vec<_> = container["ports"]
        .as_array()
        .unwrap()
        .iter()
        .map(|it| it["containerPort"].to_string())
        .collect();
    assert_eq!(declared, ports);
    // A rollout never has fewer pods than before.
    assert_eq!(deployment["spec"]["strategy"]["rollingUpdate"]["maxUnavailable"], 0);
    let grace = pod["terminationGracePeriodSeconds"].as_u64().unwrap();
    let pre_stop = container["lifecycle"]["preStop"]["sleep"]["seconds"].as_u64().unwrap();
    assert!(
        container["args"]
            .as_array()
            .unwrap()
            .iter()
            .all(|it| it != "--drain-seconds")
    );
    let drain = edge_worker::Limits::default().drain_timeout.as_secs();
    // And as long again for a process that is slow to end.
    assert!(
        pre_stop + 2 * drain <= grace,
        "{pre_stop} s and {drain} s do not fit in {grace} s"
    );
    let ingress = kubernetes("kubernetes/ingress.yaml", "Ingress");
    let host = &ingress["spec"]["rules"][0]["host"];
    assert!(container["args"].as_array().unwrap().contains(host), "--host {host}");
    assert_eq!(
        ingress["metadata"]["annotations"]["nginx.ingress.kubernetes.io/affinity"],
        "cookie"
    );
}

/// A quantity of Kubernetes, in bytes.
fn bytes(quantity: &Value) -> u64 {
    let text = quantity.as_str().unwrap();
    let (number, unit) = text.split_at(text.find(|it: char| !it.is_ascii_digit()).unwrap());
    let shift = match unit {
        "Ki" => 10,
        "Mi" => 20,
        "Gi" => 30,
        other => panic!("{other} is not understood here"),
    };
    number.parse::<u64>().unwrap() << shift
}

/// Lays out the image's files as `COPY` does: they belong to root.
fn lay_out(image: &Image) -> TempDir {
    let root = tempfile::tempdir().unwrap();
    fs::set_permissions(root.path(), fs::Permissions::from_mode(0o755)).unwrap();
    for (from, to) in &image.copies {
        let from = from.strip_prefix("/source").unwrap();
        let from = match from == Path::new("target/release/edge-worker") {
            true => env!("CARGO_BIN_EXE_edge-worker").into(),
            false => Path::new(env!("CARGO_MANIFEST_DIR")).join("..").join(from),
        };
        assert!(
            from.exists(),
            "'{}' is missing: run `cargo xtask build`",
            from.display()
        );
        let to = root.path().join(to.strip_prefix("/").unwrap());
        fs::create_dir_all(to.parent().unwrap()).unwrap();
        let copied = Command::new("cp")
            .args(["--recursive", "--preserve=mode"])
            .args([&from, &to])
            .status();
        assert!(copied.unwrap().success());
    }
    root
}

/// Mounts what the base image and a runtime provide, makes the root read-only, and becomes the user.
const CONTAINER: &str = r#"set -eu
root=$1 user=$2 group=$3
shift 3
mount --bind "$root" "$root"
for it in /lib /lib64 /usr/lib /proc /dev; do
    [ -d "$it" ] || continue
    mkdir -p "$root$it"
    mount --rbind "$it" "$root$it"
done
: >"$root/setpriv"
mount --bind "$(command -v setpriv)" "$root/setpriv"
mount -o remount,bind,ro "$root"
exec chroot "$root" /setpriv --reuid="$user" --regid="$group" --clear-groups --no-new-privs --bounding-set=-all --inh-caps=-all "$@"
"#;

/// Starts the image's command as the Deployment says.
fn container(image: &Image, root: &TempDir, pod: &Value) -> Program {
    let security = &pod["securityContext"];
    let container = &pod["containers"][0];
    let mut command = Command::new("unshare");
    command.args(["--mount", "--propagation", "private", "sh", "-c", CONTAINER, "sh"]);
    command.arg(root.path());
    command.args([&security["runAsUser"], &security["runAsGroup"]].map(|it| it.to_string()));
    command.args(&image.entrypoint);
    command.args(
        container["args"]
            .as_array()
            .unwrap()
            .iter()
            .map(|it| it.as_str().unwrap()),
    );
    command.env_clear().env("PATH", std::env::var_os("PATH").unwrap());
    for (name, value) in &image.environment {
        // The test runs beside others, so that any free port must do.
        let address = value.split_once(':').map(|it| format!("{}:0", it.0));
        command.env(name, address.unwrap_or(value.clone()));
    }
    Program::start(command)
}

/// A field of `/proc/PID/status`.
fn status(program: &Program, field: &str) -> String {
    let text = fs::read_to_string(format!("/proc/{}/status", program.child.id())).unwrap();
    let line = text.lines().find_map(|it| it.strip_prefix(field)?.strip_prefix(':'));
    line.unwrap().trim().into()
}

/// Memory of the process that is in use, in bytes.
fn resident(program: &Program) -> u64 {
    let kib: u64 = status(program, "VmRSS").strip_suffix(" kB").unwrap().parse().unwrap();
    kib << 10
}

#[tokio::test]
#[ignore = "needs root and the built page: cargo xtask build"]
async fn the_images_command_runs_as_the_deployment_says_within_its_memory() {
    let image = Image::read("Dockerfile");
    let pod = &kubernetes("kubernetes/deployment.yaml", "Deployment")["spec"]["template"]["spec"];
    let root = lay_out(&image);
    let program = container(&image, &root, pod);

    let user = pod["securityContext"]["runAsUser"].to_string();
    for (field, expected) in [("Uid", &user), ("Gid", &user)] {
        assert!(
            status(&program, field).split_whitespace().all(|it| it == expected),
            "{field}"
        );
    }
    for field in ["CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb"] {
        assert!(status(&program, field).bytes().all(|it| it == b'0'), "{field}");
    }
    assert_eq!(status(&program, "NoNewPrivs"), "1");
    let mounts = fs::read_to_string(format!("/proc/{}/mountinfo", program.child.id())).unwrap();
    let at_root = mounts
        .lines()
        .map(|it| it.split(' ').collect::<Vec<_>>())
        .find(|it| it[4] == "/")
        .unwrap();
    assert!(at_root[5].split(',').any(|it| it == "ro"), "{at_root:?}");

    assert_eq!(http(program.admin, "GET", "/readyz", &[]).await.status, 200);
    assert_eq!(http(program.address, "GET", "/", &[]).await.status, 200);
    let manifest = http(program.address, "GET", "/v1/manifest.json", &[]).await.body;
    let connect = async || {
        within(Client::connect(program.address, Digest::of(&manifest)))
            .await
            .unwrap()
    };
    let mut clients = vec![connect().await];
    let resources = &pod["containers"][0]["resources"];
    let [request, limit] = ["requests", "limits"].map(|it| bytes(&resources[it]["memory"]));
    let fresh = resident(&program);
    println!("{} MiB resident, {} MiB requested", fresh >> 20, request >> 20);
    // What is requested is what is there from the start, and half as much again for the frames that are served.
    assert!(
        fresh + fresh / 2 <= request,
        "{fresh} bytes are in use, {request} requested"
    );
    // The series of today, two that it replaced, one that is being loaded, and every connection.
    let sockets = edge_worker::Limits::default().connections as u64 * (64 << 10);
    assert!(4 * fresh + sockets <= limit, "{limit} bytes are too few");

    // Each generation has a client that stays.
    for reload in 1..=6 {
        program.signal(Signal::HUP);
        let line = format!("edge_reloads_total {reload}");
        let reloaded = async {
            while !http(program.admin, "GET", "/metrics", &[]).await.text().contains(&line) {
                tokio::task::yield_now().await;
            }
        };
        within(reloaded).await;
        clients.push(connect().await);
    }
    let after = resident(&program);
    println!("{} MiB resident after six reloads", after >> 20);
    assert!(
        after < fresh + fresh / 2,
        "{after} bytes after reloads that changed nothing, {fresh} before"
    );

    drop(clients);
    program.signal(Signal::TERM);
    assert_eq!(program.exit().await.code(), Some(0));
}
