//! Page, manifest and segments over HTTP.

use std::{fs, os::unix::fs::symlink, path::Path};

use split_core::{
    Digest,
    manifest::{File, FileKind, OperatingPoint, Split},
};
use split_tests::toy::{Recipe, Toy};

use crate::support::{Edge, http};

fn write_page(folder: &Path) {
    fs::create_dir_all(folder.join("assets")).unwrap();
    fs::write(folder.join("index.html"), "<!doctype html>").unwrap();
    fs::write(folder.join("assets/app-1234.js"), "let it = 1;\n".repeat(200)).unwrap();
    fs::write(folder.join("assets/core-1234.wasm"), b"\0asm").unwrap();
}

async fn with_page() -> (Edge, tempfile::TempDir) {
    let web = tempfile::tempdir().unwrap();
    write_page(web.path());
    let edge = Edge::with(&Recipe::default(), |it| it.web = Some(web.path().into())).await;
    (edge, web)
}

#[tokio::test]
async fn health_is_told_to_everybody() {
    let edge = Edge::start().await;
    for address in [edge.address, edge.admin] {
        for path in ["/healthz", "/readyz"] {
            assert_eq!(http(address, "GET", path, &[]).await.status, 200, "{path}");
        }
    }
    assert_eq!(edge.get("/metrics", &[]).await.status, 404, "metrics are for operators");
}

#[tokio::test]
async fn the_manifest_is_revalidated_and_compressed() {
    let edge = Edge::start().await;
    for path in ["/v1/manifest.json", "/models/toy/manifest.json"] {
        let plain = edge.get(path, &[]).await;
        assert_eq!((plain.status, &plain.body), (200, &edge.toy.json), "{path}");
        assert_eq!(plain.headers["content-type"], "application/json");
        assert_eq!(plain.headers["cache-control"], "no-cache");
        let etag = plain.headers["etag"].as_str();
        let again = edge.get(path, &[("if-none-match", etag)]).await;
        assert_eq!((again.status, again.body.len()), (304, 0));
        let compressed = edge.get(path, &[("accept-encoding", "gzip, br")]).await;
        assert_eq!(compressed.headers["content-encoding"], "br");
        assert!(compressed.body.len() < plain.body.len() / 2);
    }
}

#[tokio::test]
async fn the_list_says_what_each_series_is_and_which_is_the_default() {
    let edge = Edge::start().await;
    let manifest = &edge.toy.manifest;
    let list: serde_json::Value = serde_json::from_str(&edge.get("/models", &[]).await.text()).unwrap();
    assert_eq!(list["default"], "toy");
    let [toy] = &list["series"].as_array().unwrap()[..] else {
        panic!("one series is expected, not {list}")
    };
    assert_eq!(toy["name"], "toy");
    assert_eq!(toy["classes"], manifest.classes.len());
    assert_eq!(toy["width"], manifest.input.shape.width());
    let downloads = |it: &OperatingPoint| manifest.device_files(it).map(|it| it.bytes).sum::<u64>();
    let downloads: Vec<u64> = manifest.operating_points.iter().map(downloads).collect();
    assert_eq!(downloads.iter().min(), Some(&0), "a point at `input` needs no download");
    assert_eq!(toy["most_bytes"], *downloads.iter().max().unwrap());
    assert_eq!(
        toy["least_bytes"],
        *downloads.iter().filter(|it| **it > 0).min().unwrap()
    );
}

#[tokio::test]
async fn segments_and_codecs_never_change() {
    let edge = Edge::start().await;
    let manifest = &edge.toy.manifest;
    let points = manifest.operating_points.iter();
    let files: Vec<File> = points.flat_map(|it| manifest.device_files(it)).collect();
    let codecs = files.iter().filter(|it| it.kind == FileKind::Codec).count();
    assert!(codecs >= 2 && codecs < files.len(), "{files:?}");
    for file in files {
        for base in ["/v1", "/models/toy"] {
            let path = format!("{base}/{}", file.path());
            let response = edge.get(&path, &[]).await;
            assert_eq!(Digest::of(&response.body), file.sha256, "{path}");
            assert_eq!(response.headers["cache-control"], "public, max-age=31536000, immutable");
            let etag = response.headers["etag"].as_str();
            assert_eq!(edge.get(&path, &[("if-none-match", etag)]).await.status, 304);
        }
    }
    let other = Digest::of(b"other");
    for path in [
        format!("/v1/segments/{other}.nnef.tgz"),
        format!("/v1/codecs/{other}.json"),
    ] {
        assert_eq!(edge.get(&path, &[]).await.status, 404, "{path}");
    }
}

#[tokio::test]
async fn segments_of_tails_are_not_served() {
    let edge = Edge::start().await;
    let mut manifest = edge.toy.manifest.clone();
    manifest.operating_points.retain(|it| it.split != Split::Output);
    fs::write(edge.models.path().join("manifest.json"), manifest.to_json().unwrap()).unwrap();
    edge.server.reload().unwrap();
    let mut statuses = Vec::new();
    for segment in &manifest.variants[0].segments {
        statuses.push(edge.get(&format!("/v1/{}", segment.path()), &[]).await.status);
    }
    assert_eq!(statuses, [200, 200, 404], "no head has the classifier");
}

#[tokio::test]
async fn the_page_comes_with_its_types_and_security_headers() {
    let (edge, _web) = with_page().await;
    for (path, content_type, cache) in [
        ("/", "text/html; charset=utf-8", "no-cache"),
        ("/index.html", "text/html; charset=utf-8", "no-cache"),
        (
            "/assets/app-1234.js",
            "text/javascript; charset=utf-8",
            "public, max-age=31536000, immutable",
        ),
        (
            "/assets/core-1234.wasm",
            "application/wasm",
            "public, max-age=31536000, immutable",
        ),
    ] {
        let response = edge.get(path, &[]).await;
        assert_eq!(response.status, 200, "{path}");
        assert_eq!(response.headers["content-type"], content_type);
        assert_eq!(response.headers["cache-control"], cache);
        assert_eq!(response.headers["x-content-type-options"], "nosniff");
        assert_eq!(response.headers["cross-origin-opener-policy"], "same-origin");
        assert_eq!(response.headers["cross-origin-embedder-policy"], "require-corp");
        let policy = &response.headers["content-security-policy"];
        assert!(
            policy.contains("'wasm-unsafe-eval'") && !policy.contains("'unsafe-inline'"),
            "{policy}"
        );
        let head = http(edge.address, "HEAD", path, &[]).await;
        assert_eq!((head.status, head.body.len()), (200, 0));
        assert_eq!(head.headers["content-length"], response.body.len().to_string());
    }
    assert_eq!(http(edge.address, "POST", "/", &[]).await.status, 405);
}

#[tokio::test]
async fn no_path_leads_out_of_the_folders() {
    let (edge, web) = with_page().await;
    fs::write(web.path().with_extension("secret"), "secret").unwrap();
    let name = web.path().file_name().unwrap().to_str().unwrap();
    for path in [
        format!("/../{name}.secret"),
        format!("/assets/../../{name}.secret"),
        format!("/%2e%2e/{name}.secret"),
        format!("/..%2f{name}.secret"),
        "//etc/passwd".into(),
        "/v1/segments/../manifest.json".into(),
        "/models/../toy/manifest.json".into(),
        "/assets".into(),
    ] {
        assert_eq!(edge.get(&path, &[]).await.status, 404, "{path}");
    }
    fs::remove_file(web.path().with_extension("secret")).unwrap();
}

#[tokio::test]
async fn without_a_page_the_root_says_so() {
    let response = Edge::start().await.get("/", &[]).await;
    assert_eq!(response.status, 404);
    assert!(response.text().contains("--web"));
}

#[tokio::test]
async fn pages_elsewhere_read_the_series_only_where_they_may_connect() {
    let allow =
        |config: &mut edge_worker::Config| config.allowed_origins = vec!["https://page.example".parse().unwrap()];
    let edge = Edge::with(&Recipe::default(), allow).await;
    for (origin, allowed) in [("https://page.example", true), ("https://other.example", false)] {
        let response = edge.get("/v1/manifest.json", &[("origin", origin)]).await;
        let answer = response.headers.get("access-control-allow-origin");
        assert_eq!(answer.map(String::as_str), allowed.then_some(origin));
    }
}

/// Moves everything in a folder to another one below it.
fn move_below(folder: &Path, name: &str) {
    let below = folder.join(name);
    fs::create_dir_all(&below).unwrap();
    for entry in fs::read_dir(folder).unwrap().map(|it| it.unwrap()) {
        if !entry.file_name().to_str().unwrap().starts_with('.') {
            fs::rename(entry.path(), below.join(entry.file_name())).unwrap();
        }
    }
}

#[tokio::test]
async fn a_series_is_found_as_a_config_map_is_mounted() {
    let edge = Edge::start().await;
    let models = edge.models.path();
    move_below(models, "..2026_01_01_00_00_00.123456789");
    symlink("..2026_01_01_00_00_00.123456789", models.join("..data")).unwrap();
    for name in ["manifest.json", "segments", "codecs"] {
        symlink(Path::new("..data").join(name), models.join(name)).unwrap();
    }
    edge.server.reload().unwrap();
    edge.assert_serves().await;
}

#[tokio::test]
async fn a_revision_and_its_link_are_one_series_as_git_sync_leaves_them() {
    let new = Toy::new(&Recipe {
        seed: 2,
        ..Recipe::default()
    })
    .unwrap();
    let edge = Edge::start().await;
    let models = edge.models.path();
    for entry in fs::read_dir(models).unwrap().map(|it| it.unwrap().path()) {
        if entry.is_dir() {
            fs::remove_dir_all(entry).unwrap()
        } else {
            fs::remove_file(entry).unwrap()
        }
    }
    // Beside the link lie its revision and the one before; those of newer releases are hidden.
    edge.toy.write(&models.join("rev-1")).unwrap();
    new.write(&models.join("rev-2")).unwrap();
    edge.toy.write(&models.join(".worktrees/3")).unwrap();
    symlink("rev-2", models.join("current")).unwrap();
    edge.server.reload().unwrap();
    let list: serde_json::Value = serde_json::from_str(&edge.get("/models", &[]).await.text()).unwrap();
    assert_eq!(list["series"].as_array().map(Vec::len), Some(1));
    assert_eq!(edge.get("/v1/manifest.json", &[]).await.body, new.json);
    fs::remove_file(models.join("current")).unwrap();
    symlink(".worktrees/3", models.join("current")).unwrap();
    edge.server.reload().unwrap();
    assert_eq!(edge.get("/v1/manifest.json", &[]).await.body, edge.toy.json);
    // Without a link, nothing says which of the two is meant.
    fs::remove_file(models.join("current")).unwrap();
    let error = edge.server.reload().unwrap_err().to_string();
    assert!(error.contains("two folders"), "{error}");
}

#[tokio::test]
async fn hidden_files_are_never_served() {
    let (edge, web) = with_page().await;
    fs::write(web.path().join(".env"), "secret").unwrap();
    fs::create_dir(web.path().join(".git")).unwrap();
    fs::write(web.path().join(".git/config"), "secret").unwrap();
    edge.server.reload().unwrap();
    for path in ["/.env", "/.git/config", "/./.env", "/%2eenv"] {
        assert_eq!(edge.get(path, &[]).await.status, 404, "{path}");
    }
}
